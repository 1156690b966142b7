"""A small run with everything that queries meet: odd names, odd texts, failures, labels, trials; and what
Python finds in its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promptlab import Dataset, Evaluator, Model, ModelError, ModelResponse, PromptTemplate, Score
from promptlab.domain.results import RunRecord
from promptlab.queries.filters import Filter
from promptlab.store_lab import StoreLab

QUOTED, LABELS, RATE = 'it\'s "so"; DROP TABLE x; --', "per%cent_\\ 🦊", "rate"
TEXTS = (
    "",
    "plain",
    "it's",
    'a "quote"',
    "100%",
    "under_score",
    "back\\slash",
    "🦊 fox",
    "İstanbul",
    "line\nbreak",
    "x" * 10_000,
    "'; DROP TABLE runs; --",
    "\x1f",
    "NULL",
)
ROWS: list[dict[str, Any]] = [
    {
        "id": f"q-{n}",
        "text": f"{TEXTS[n % len(TEXTS)]} {n}",
        'col"umn': f"{TEXTS[-n % len(TEXTS)]}",
        "Case": n,
        "case": n / 7,
        "nested": {"deep": [n, "Ünïcode"]},
        "flag": n % 2 == 0,
        **({"sometimes": "here"} if n % 3 else {}),
    }
    for n in range(160)
]


class Echo(Model):
    """Answers with the case's text, `suffix` after it; fails for some."""

    suffix = ""
    healthy = False

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        number = int(user_prompt.rsplit(" ", 1)[1])
        if number % 11 == 3 and not self.healthy:
            raise ModelError(
                "no 'answer' in 120 s" if number % 2 else "odd %_ thing",
                type="timeout" if number % 2 else "bad'type",
            )
        return ModelResponse(
            response=f"{user_prompt}{self.suffix}",
            prompt_tokens=number % 13,
            completion_tokens=1,
            latency_ms=100 + (number * 37) % 90,
            cost_usd=number / 1e6,
        )


class Verdict(Evaluator):
    """Pass or fail, by the row's number; fails itself for some."""

    shift = 0

    def evaluate(self, data: dict[str, Any]) -> Score:
        if data["n"] % 17 == 5:
            raise ValueError('cannot judge "this" 100%')
        return Score(passed=(data["n"] + self.shift) % 3 > 0, reason=f"because it's 'n' {data['n']}")


class Tone(Evaluator):
    """A label."""

    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(label=("po'lite", 'ru"de', "🦊")[data["n"] % 3])


class Rate(Evaluator):
    """A number, the lower the better."""

    higher_is_better = False
    shift = 0

    def evaluate(self, data: dict[str, Any]) -> float:
        return round(
            ((data["n"] * 31 + self.shift * ((data["n"] % 4 == 0) - (data["n"] % 4 == 1))) % 100) / 100, 2
        )


def experiment(
    *,
    suffix: str = "",
    shift: int = 0,
    rows: list[dict[str, Any]] | None = None,
    trials: int = 1,
    healthy: bool = False,
) -> dict[str, Any]:
    """An experiment over `rows`; with `healthy`, no call fails."""
    model, verdict, rate = Echo(), Verdict(), Rate()
    model.suffix, model.healthy, verdict.shift, rate.shift = suffix, healthy, shift, shift
    metrics = {QUOTED: verdict, LABELS: Tone(), RATE: rate}
    return {
        "name": "odd",
        "dataset": Dataset(name="odd", rows=rows or ROWS),
        "prompt_template": PromptTemplate(name="odd", template_format="jinja2", user_prompt="{{ text }}"),
        "model": model,
        "trials": trials,
        "evaluation": [
            {"metric": name, "column_mapping": {"n": "Case"}, "evaluator": evaluator}
            for name, evaluator in metrics.items()
        ],
    }


async def run(lab: StoreLab, **changes: Any) -> RunRecord:
    """A whole run of such an experiment."""
    return await lab.run(experiment(**changes))


def _lower(text: str) -> str:
    """As SQL has it: İ is one letter then, in Python two."""
    return text.replace("İ", "i").lower()


def expected(row: Mapping[str, Any], filter: Filter) -> bool:
    """Whether a row of the results table matches, without SQL."""
    error = row["error_type"]
    texts = [
        row[name]
        for name in row
        if name.startswith(("input.", "reason.", "label.", "score_error."))
        or name in ("id", "response", "error_message")
    ]
    checks: list[Callable[[], bool]] = [
        lambda: (
            not filter.text
            or any(_lower(filter.text) in _lower(str(text)) for text in texts if text is not None)
        ),
        lambda: filter.status is None or (error is not None) == (filter.status == "failed"),
        lambda: filter.error_type is None or error == filter.error_type,
        lambda: all(row[f"passed.{metric}"] is passed for metric, passed in filter.passed),
        lambda: all(row[f"label.{metric}"] == label for metric, label in filter.labels),
        lambda: all(row[f"score_error.{metric}"] is not None for metric in filter.unscored),
    ]
    for bounds in filter.ranges:
        value = row[bounds.column]
        low, high = bounds.low, bounds.high
        inside = (
            value is not None
            and (low is None or value >= low)
            and (high is None or value < high or (bounds.closed and value == high))
        )
        checks.append(lambda inside=inside: inside)  # type: ignore[misc]
    return all(check() for check in checks)
