"""Two to four runs beside each other: what differs in their configuration, in their metrics and case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.queries.compare import MetricComparison, PairRow, Side
from promptlab.queries.compare_sql import Change
from promptlab.queries.query_engine import Compared, ComparePage
from promptlab.report import dollars, number
from promptlab_studio.auth import lab_of
from promptlab_studio.pages.cases import case_path
from promptlab_studio.pages.format import milliseconds, one_line
from promptlab_studio.pages.prompts import DiffLine, as_text, text_diff
from promptlab_studio.pages.run import prompt_of
from promptlab_studio.pages.state import Query, whole
from promptlab_studio.pages.text import word_diff
from promptlab_studio.pages.view import queries_of, render, router

SIZE = 25
LETTERS = "ABCD"
CHANGES: tuple[tuple[Change, str], ...] = (
    ("all", "All"),
    ("different", "Different"),
    ("regressed", "Regressed"),
    ("improved", "Improved"),
    ("same", "Same"),
)
TEXT_CHARS = 300
_MOST_INPUTS = 2
_WORDS = {
    "regressed": "regressed",
    "improved": "improved",
    "different": "other label",
    "missing": "scored in one only",
    "same": "same",
}
_SIGNS = {"improved": "▲", "regressed": "▼", "different": "≠", "missing": "?"}

routes = router()


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of the base and one other run."""

    of: MetricComparison
    text: str
    between: str
    low: float
    high: float
    at: float
    """The interval and the difference on a rail of 100, whose middle is no difference."""
    counts: Sequence[tuple[str, str, int, str, bool]]
    """Change, in words, cases, address, whether it is chosen."""


@dataclass(frozen=True, slots=True)
class Half:
    """One run's answer in a row."""

    url: str
    text: Markup
    failed: bool
    scores: Sequence[tuple[str, str]]
    """In words and css: what became worse, what better, what differs otherwise, and the rest."""
    said: str
    """All of the scores, the latency and the cost, as text."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A case in every run."""

    id: str
    inputs: str
    halves: Sequence[Half]


@routes.get("/compare")
async def compare_page(request: Request) -> HTMLResponse:
    """The comparison that the address names: the first run is the base."""
    lab, query = lab_of(request), Query.of("/compare", request.query_params)
    ids = query.all("run")
    if not 2 <= len(ids) <= len(LETTERS):
        return render(request, "compare_none.html", {"count": len(ids)}, status=200 if not ids else 400)
    runs = [await lab.get_run(run_id) for run_id in ids]
    chosen = _chosen(query)
    page = await queries_of(request).compare(
        runs[0],
        runs[1:],
        chosen,
        sort=query.get("sort", "case"),
        descending=query.get("desc") == "1",
        offset=(query.page() - 1) * SIZE,
        limit=SIZE,
        text_chars=TEXT_CHARS,
    )
    experiments = [Experiment.model_validate(r.experiment) for r in runs]
    context: dict[str, Any] = {
        "query": query,
        "runs": [
            (LETTERS[n], run, query.url(run=[run.run_id, *(i for i in ids if i != run.run_id)], other=None))
            for n, run in enumerate(runs)
        ],
        "configuration": _configuration(experiments),
        "prompts": [] if request.headers.get("HX-Request") else await _prompts(request, experiments),
        "differences": _differences(query, page),
        "changes": [(key, text, page.counts[key]) for key, text in CHANGES],
        "metrics": list(dict.fromkeys(m.metric for m in page.metrics)),
        "page": page,
        "pairs": [_pair(runs, row) for row in page.rows],
        "size": SIZE,
        "letters": LETTERS,
    }
    return render(request, "compare.html", context)


def _chosen(query: Query) -> Compared:
    change, other = query.get("change", "all"), query.get("other")
    if change not in dict(CHANGES):
        raise ConfigError(f"change={change!r} is not known: {', '.join(key for key, _ in CHANGES)}.")
    if other and whole(other) is None:
        raise ConfigError(f"other={other!r} is not the place of a run: 0 is the second run.")
    return Compared(change, query.get("metric") or None, whole(other), query.get("q").strip())


def _configuration(experiments: Sequence[Experiment]) -> list[tuple[str, list[str]]]:
    """What differs between the experiments, one row a setting."""
    flat = [_settings(e) for e in experiments]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [(name, [settings.get(name, "–") for settings in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _settings(experiment: Experiment) -> dict[str, str]:
    prompt, dataset = experiment.prompt_template, experiment.dataset
    found = {
        "prompt": f"{prompt.name}@{prompt.version}" if prompt else "an agent",
        "dataset": f"{dataset.name}@{dataset.version}",
    }
    found |= {f"model {key}": one_line(value) for key, value in experiment.model.public().items()}
    found["trials"] = str(experiment.trials)
    for metric in experiment.evaluation:
        found[f"metric {metric.name}"] = one_line(
            {"inputs": metric.column_mapping, **({"params": metric.params} if metric.params else {})}
        )
    return found


async def _prompts(request: Request, experiments: Sequence[Experiment]) -> list[tuple[str, list[DiffLine]]]:
    """The prompt of the base against each other one that differs."""
    texts = [(p and as_text(p)) or "" for p in [await prompt_of(lab_of(request), e) for e in experiments]]
    return [
        (f"{LETTERS[0]} → {LETTERS[n]}", text_diff(texts[0], text))
        for n, text in enumerate(texts)
        if n and text != texts[0]
    ]


def _differences(query: Query, page: ComparePage) -> list[Difference]:
    found, tops = [], dict[str, float]()
    for m in page.metrics:
        tops[m.metric] = max(
            [tops.get(m.metric, 0.0), *(abs(v) for v in (m.low, m.high, m.difference) if v is not None)]
        )
    for m in page.metrics:
        span = (tops[m.metric] or 1.0) * 1.25  # one scale for a metric, with room on both sides

        def at(value: float | None, span: float = span) -> float:
            return round(50 + 50 * (value or 0.0) / span, 1)

        counts = [
            (
                change,
                word,
                n,
                query.url(change=change, metric=m.metric, other=m.other),
                (query.get("change"), query.get("metric"), query.get("other"))
                == (change, m.metric, str(m.other)),
            )
            for change, word, n in (
                ("improved", "▲ won", m.improved),
                ("regressed", "▼ lost", m.regressed),
                ("same", "= tied", m.same),
                *(
                    [("different", "≠ differ, in all", m.different)]
                    if m.different > m.improved + m.regressed
                    else []
                ),
            )
        ]
        low, high = (m.difference, m.difference) if m.low is None else (m.low, m.high)
        text = "–" if m.difference is None else f"{m.difference:+.4g}"
        between = f"{number(m.low)} to {number(m.high)}" if m.low is not None else ""
        found.append(Difference(m, text, between, at(low), at(high), at(m.difference), counts))
    return found


def _pair(runs: Sequence[RunRecord], row: PairRow) -> Pair:
    inputs = " · ".join(
        f"{one_line(value)}"
        for value in list(row.inputs.values())[:_MOST_INPUTS]
        if value is not None and one_line(value) != row.id
    )
    halves = [_half(runs[0], row.base, None, {})]
    halves += [
        _half(run, side, row.base, deltas)
        for run, side, deltas in zip(runs[1:], row.others, row.deltas, strict=True)
    ]
    return Pair(row.id + (f" · {row.trial + 1}" if row.trial else ""), inputs, halves)


def _half(run: RunRecord, side: Side, base: Side | None, deltas: Mapping[str, Any]) -> Half:
    if side.error_type:
        text = escape(f"✕ {side.error_type}: {side.error_message or ''}")
    elif base is None or base.error_type:
        text = escape(side.response or "")
    else:
        text = word_diff(base.response or "", side.response or "")[1]
    scores = _scores(side, deltas)
    facts = [milliseconds(side.latency_ms)] * (side.latency_ms is not None) + [dollars(side.cost_usd)] * bool(
        side.cost_usd
    )
    said = " · ".join([*(text for text, _ in scores), *facts])
    return Half(
        case_path(run.run_id, side.case, side.trial),
        text + ("…" if side.cut else ""),
        bool(side.error_type),
        scores,
        said,
    )


def _scores(side: Side, deltas: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {verdict: [] for verdict in _WORDS}
    for name, score in side.scores.items():
        delta = deltas.get(name)
        found[delta.verdict if delta else "same"].append(_score(name, score, delta))
    css = {"regressed": "bad", "improved": "good", "same": "muted"}
    named = {
        verdict: f"{_SIGNS[verdict]} {word}: " if verdict != "same" else ""
        for verdict, word in _WORDS.items()
    }
    return [
        (named[verdict] + ", ".join(scores), css.get(verdict, "warn"))
        for verdict, scores in found.items()
        if scores
    ]


def _score(name: str, score: Mapping[str, Any], delta: Any) -> str:
    passed, value, label = score.get("passed"), score.get("score"), score.get("label")
    shown = (
        "✓ pass"
        if passed
        else "✕ fail"
        if passed is not None
        else one_line(label)
        if label is not None
        else number(value)
    )
    by = f" ({delta.difference:+.3g})" if delta and delta.difference and passed is None else ""
    return f"{name} {shown}{by}"
