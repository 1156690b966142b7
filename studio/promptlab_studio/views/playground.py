"""The playground's form, and the answers beside each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from promptlab.domain.assets import PromptTemplate
from promptlab.domain.messages import read_messages
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.texts import cut
from promptlab.errors import ConfigError
from promptlab_studio.views.chat import ChatMessage, chat_view
from promptlab_studio.views.format import exact, one_line
from promptlab_studio.views.new_run_form import MetricForm, params_of
from promptlab_studio.views.prompt_form import DraftMessage, PromptDraft, draft_from, draft_of
from promptlab_studio.views.room import Beginning
from promptlab_studio.views.state import Query

MOST_MODELS, MOST_ROWS = 4, 10
TRANSCRIPT = "transcript"
"""The column of a transcript that is asked as it is."""
TAG = "playground"
"""The tag of the playground's runs."""
MOST_SAID = 30
"""Messages of an answer that the page shows."""
SHOWN = 8_000
"""Characters of an answer that the page shows."""
ROW_SHOWN = 300


@dataclass(slots=True)
class Asked:
    """What the form holds."""

    draft: PromptDraft | None = None
    """The prompt as it is written; None: the form was not sent."""
    transcript: str = ""
    dataset: str = ""
    rows: str = "0-2"
    row: str = ""
    models: list[tuple[str, str]] = field(default_factory=list)
    """Names, and parameters as JSON."""
    metrics: list[str] = field(default_factory=list)
    max_cost_usd: str = ""

    @property
    def model_fields(self) -> list[tuple[str, str]]:
        """The models of the form, with room for further ones."""
        return [*self.models, *[("", "")] * MOST_MODELS][:MOST_MODELS]

    def prompt(self, name: str) -> PromptTemplate:
        """The template that is written, or the transcript as one.

        Raises:
            ConfigError: parts or tools are not written as they are to be.
            MessageError: the transcript is none.
            ValidationError: it breaks a rule of templates.
        """
        draft = replace(self.draft or draft_from(None, name), name=name, description="Of the playground.")
        if not self.transcript.strip():
            return draft.prompt()
        said = read_messages(self.transcript, "Transcript", refuse_data=True)
        if self.is_whole:
            return replace(draft, messages=(), transcript=TRANSCRIPT).prompt()
        return replace(
            draft, transcript="", messages=[DraftMessage(one.role, one.text) for one in said]
        ).prompt()

    @property
    def is_whole(self) -> bool:
        """Whether there is a transcript of more than texts: it is asked as it is, and is the only row."""
        if not self.transcript.strip():
            return False
        said = read_messages(self.transcript, "Transcript", refuse_data=True)
        return any(not message.is_plain or message.role == "tool" for message in said)

    def typed_row(self) -> dict[str, Any] | None:
        """The row that is written; None where none is.

        Raises:
            ConfigError: it is no JSON object.
        """
        if self.is_whole:
            said = read_messages(self.transcript, "Transcript", refuse_data=True)
            return {TRANSCRIPT: [message.to_json() for message in said]}
        if not self.row.strip():
            return None
        try:
            row = orjson.loads(self.row)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"The row is not valid JSON: {error}.") from None
        if not isinstance(row, dict) or not row:
            raise ConfigError('A row is a JSON object, as in {"question": "2 + 2"}.')
        return row

    def chosen_models(self) -> list[dict[str, Any]]:
        """The models' configurations.

        Raises:
            ConfigError: there is none, or parameters are no JSON object.
        """
        found = []
        for name, text in self.models:
            try:
                more = orjson.loads(text) if text.strip() else {}
            except orjson.JSONDecodeError as error:
                raise ConfigError(f"Parameters of {name} are not valid JSON: {error}.") from None
            if not isinstance(more, dict) or "api_key" in more:
                raise ConfigError(
                    f'Parameters of {name} are a JSON object such as {{"temperature": 0}}, without a key.'
                )
            found.append({"name": name, **more})
        if not found:
            raise ConfigError("Name a model, as in simulated/demo.")
        return found


def asked_of(pairs: Sequence[tuple[str, str]]) -> Asked:
    """Read the posted form."""

    def all_of(name: str) -> list[str]:
        return [value.replace("\r\n", "\n") for key, value in pairs if key == name]

    def one(name: str, default: str = "") -> str:
        return next(iter(all_of(name)), default)

    models = [
        (name.strip(), text)
        for name, text in zip(all_of("model"), all_of("params"), strict=False)
        if name.strip()
    ]
    return Asked(
        draft=draft_of(
            {name: all_of(name) for name, _ in pairs if name != "name"}
            | {"transcript": all_of("transcript_column")}
        ),
        transcript=one("transcript"),
        dataset=one("dataset"),
        rows=one("rows", "0-2"),
        row=one("row"),
        models=models[:MOST_MODELS],
        metrics=all_of("metric"),
        max_cost_usd=one("max_cost_usd"),
    )


def fields_of_runs(runs: Sequence[RunRecord], query: Query) -> Asked:
    """The form as it was for these runs; without any as the address says."""
    if not runs:
        models = [(name, "") for name in query.all("model")[:MOST_MODELS]]
        return Asked(dataset=query.get("dataset"), models=models, metrics=query.all("metric"))
    spec = runs[0].experiment
    used = f"{spec['dataset']['name']}@{spec['dataset']['version']}"
    return Asked(
        dataset=query.get("dataset") or used,
        rows=query.get("rows") or f"0-{runs[0].cases - 1}",
        models=[parameters_of(run) for run in runs],
        metrics=[metric["metric"] for metric in spec.get("evaluation", ())],
        max_cost_usd="" if runs[0].max_cost_usd is None else f"{runs[0].max_cost_usd:g}",
    )


def parameters_of(run: RunRecord) -> tuple[str, str]:
    """A run's model: its name, and the parameters that it was given, as JSON."""
    usual = ModelConfig.model_fields
    given = {
        name: value
        for name, value in run.experiment["model"].items()
        if name != "name" and (name not in usual or usual[name].default != value)
    }
    return run.experiment["model"]["name"], orjson.dumps(given).decode() if given else ""


def row_numbers(text: str) -> list[int]:
    """The rows that a text names: `0, 3, 5-8`.

    Raises:
        ConfigError: it names none, more than MOST_ROWS, or is written otherwise.
    """
    found: set[int] = set()
    for part in re.split(r"[\s,]+", text.strip()[:200]):
        match = re.fullmatch(r"(\d{1,9})(?:[-–](\d{1,9}))?", part)
        if match is None:
            raise ConfigError(f"Rows: {part[:50]!r} is no row. Write numbers from 0, as in 0, 3, 5-8.")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last - first >= MOST_ROWS:
            raise ConfigError(
                f"Rows: {part} are {last - first + 1:,}; the playground asks {MOST_ROWS} at most."
            )
        found |= set(range(first, last + 1))
    if not 0 < len(found) <= MOST_ROWS:
        raise ConfigError(f"Rows: {len(found)} are named; the playground asks 1 to {MOST_ROWS}.")
    return sorted(found)


def metric_of(form: MetricForm) -> dict[str, Any]:
    """A chosen metric, as an experiment has it."""
    mapping = {one.name: one.value for one in form.inputs if one.value}
    return {"metric": form.info.name, "column_mapping": mapping, "params": params_of(form)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model answered for one row."""

    run_id: str
    model: str
    case: int
    text: str | None
    error: str | None
    is_cut: bool
    tokens: int | None
    cost_usd: float | None
    latency_ms: float | None
    scores: Sequence[tuple[str, str, bool | None]]
    """Names, values in words, and whether they passed."""
    waits: bool
    """Whether it is still to come."""
    messages: Sequence[ChatMessage] = ()
    """What was said, where that is more than the text."""


def answers_of(
    runs: Sequence[RunRecord], rows: Sequence[Mapping[str, Any]], cases: Sequence[Sequence[Mapping[str, Any]]]
) -> list[tuple[int, str, list[Answer]]]:
    """Row by row: its number, how it reads, and the answers of all models."""
    by_case = [{case["case"]: case for case in found} for found in cases]
    table = []
    for number, row in enumerate(rows):
        shown = ", ".join(f"{name}: {one_line(value)}" for name, value in list(row.items())[:20])
        beside = [_answer(run, number, found.get(number)) for run, found in zip(runs, by_case, strict=True)]
        table.append((number, cut(shown, ROW_SHOWN), beside))
    return table


def _answer(run: RunRecord, number: int, case: Mapping[str, Any] | None) -> Answer:
    found = case or {}
    text, error = found.get("response"), found.get("error_message")
    read, written = found.get("prompt_tokens"), found.get("completion_tokens")
    return Answer(
        run_id=run.run_id,
        model=run.experiment["model"]["name"],
        case=number,
        text=None if text is None else text[:SHOWN],
        error=None if error is None else error[:SHOWN],
        is_cut=len(text or "") > SHOWN,
        tokens=None if read is None or written is None else read + written,
        cost_usd=found.get("cost_usd"),
        latency_ms=found.get("latency_ms"),
        scores=[_score_words(metric["name"], found) for metric in run.experiment.get("evaluation", ())],
        waits=text is None and error is None and run.status not in FINAL,
        messages=chat_view((found.get("messages") or ())[:MOST_SAID], "said", _begun, lambda part: None),
    )


def _begun(value: Any, of: str) -> Beginning:
    del of
    text = exact(value)
    return Beginning(text[:SHOWN], max(0, len(text) - SHOWN))


def _score_words(name: str, case: Mapping[str, Any]) -> tuple[str, str, bool | None]:
    passed, value, label = (case.get(f"{part}.{name}") for part in ("passed", "score", "label"))
    if passed is not None:
        return name, "pass" if passed else "fail", bool(passed)
    if label is not None:
        return name, str(label)[:100], None
    return name, "–" if value is None else f"{value:.4g}", None
