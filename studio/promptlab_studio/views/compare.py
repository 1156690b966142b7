"""Two to four runs beside each other, as values: what differs in their configuration, metrics and cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.queries.compare import MetricComparison, PairRow, Side
from promptlab.queries.compare_sql import Change
from promptlab.queries.query_engine import ComparePage
from promptlab.report import dollars, number
from promptlab_studio.views.cases import case_path
from promptlab_studio.views.format import milliseconds, one_line
from promptlab_studio.views.state import Query
from promptlab_studio.views.text import word_diff

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


def configuration(experiments: Sequence[Experiment]) -> list[tuple[str, list[str]]]:
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


def differences(query: Query, page: ComparePage) -> list[Difference]:
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


def pair_of(runs: Sequence[RunRecord], row: PairRow) -> Pair:
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
