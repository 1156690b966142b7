"""The metrics of a run as a whole: a table of scores, the confusion matrix, the picture of reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.run_metrics import RunMetric, RunValue
from promptlab.queries.compare import ComparePage
from promptlab.queries.run_level import RunComparison
from promptlab.queries.verdict_words import score_why, score_words
from promptlab_studio.views.digits import Digits
from promptlab_studio.views.figures import Plot, Tick
from promptlab_studio.views.format import count, percent

SHADES = 5
"""Shades of the cells of a confusion matrix, by their share of the label's cases."""
MOST_LABELS = 30
"""Labels of a matrix that is shown; a larger one is in the API and the JSON."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score of a run."""

    name: str
    value: str
    between: str
    better: str
    said: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of cases in a confusion matrix."""

    text: str
    title: str
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: labels down, answers across."""

    answers: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bin in the picture of reliability; positions in the viewBox."""

    x: float
    width: float
    y: float
    height: float
    middle: float
    dot: float
    title: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """Said probability against the share that is right, by bin."""

    plot: Plot
    bars: Sequence[Bar]
    ticks: Sequence[tuple[Tick, Tick]]
    title: str


@dataclass(frozen=True, slots=True)
class RunMetricCard:
    """One metric of a run as a whole."""

    name: str
    rows: Sequence[ScoreRow]
    facts: Sequence[str]
    matrix: Matrix | None
    reliability: Reliability | None


def run_metric_cards(found: Mapping[str, RunMetric]) -> list[RunMetricCard]:
    """The metrics of a run as a whole, in order."""
    return [_card(name, metric) for name, metric in found.items()]


@dataclass(frozen=True, slots=True)
class RunDelta:
    """One score of a run as a whole against the base run's."""

    value: str
    difference: str
    between: str
    word: str
    css: str
    why: str


def compared_rows(page: ComparePage, others: int) -> list[tuple[str, str, str, list[RunDelta | None]]]:
    """The scores of the runs as a whole: name, better, the base's value, and each other run's."""
    rows = []
    for name in dict.fromkeys(m.metric for m in page.run_metrics):
        found = {m.other: m for m in page.run_metrics if m.metric == name}
        ends = [v for m in found.values() for v in (m.low, m.high, m.difference, m.base_value, m.other_value)]
        digits, first = Digits.of(ends), next(iter(found.values()))
        better = "higher is better" if first.higher_is_better else "lower is better"
        cells = [_compared(found[n], digits) if n in found else None for n in range(others)]
        rows.append((name, better, digits.show(first.base_value), cells))
    return rows


def _compared(m: RunComparison, digits: Digits) -> RunDelta:
    word = "not comparable" if m.not_comparable else score_words(m) if m.verdict else ""
    css = {"better": "good", "worse": "bad", "not comparable": "warn"}.get(word, "muted")
    between = digits.between(m.low, m.high) if m.low is not None and m.high is not None else ""
    return RunDelta(digits.show(m.other_value), digits.signed(m.difference), between, word, css, score_why(m))


def _card(name: str, metric: RunMetric) -> RunMetricCard:
    facts = [f"{count(metric.cases)} cases of {count(metric.rows)} rows"]
    if metric.lost:
        why = f": {metric.lost_why}" if metric.lost_why else ""
        facts.append(f"{count(metric.lost)} cases do not count{why}")
    if metric.method:
        facts.append(metric.method)
    detail = metric.detail
    return RunMetricCard(
        name,
        [_row(score.removeprefix(f"{name}."), one) for score, one in metric.values.items()],
        facts,
        _matrix(detail) if detail.get("kind") == "confusion" else None,
        _reliability(name, detail["bins"]) if detail.get("kind") == "reliability" else None,
    )


def _row(name: str, one: RunValue) -> ScoreRow:
    digits = Digits.of([one.value, one.low, one.high])
    value = one.label if one.value is None and one.label else digits.show(one.value)
    return ScoreRow(
        name,
        value,
        digits.between(one.low, one.high) if one.low is not None and one.high is not None else "",
        "higher is better" if one.higher_is_better else "lower is better",
        one.error or one.reason or "",
        one.error is not None,
    )


def _matrix(detail: Mapping[str, Any]) -> Matrix:
    labels, answers = detail["labels"], detail["answers"]
    if len(labels) > MOST_LABELS:
        return Matrix((), (), f"{len(labels)} labels: the matrix is in the run's JSON.")
    rows = []
    for label, counts in zip(labels, detail["matrix"], strict=True):
        total = sum(counts)
        cells = [
            Cell(
                count(n) if n else "",
                f"{label} answered as {answer}: {count(n)} of {count(total)} ({percent(n, total)})"
                if total
                else "",
                -(-SHADES * n // total) if total else 0,
                answer == label,
            )
            for answer, n in zip(answers, counts, strict=True)
        ]
        rows.append((label, cells))
    return Matrix(answers, rows)


def _reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Reliability:
    plot = Plot((0.0, 1.0), (0.0, 1.0), width=320, height=240, left=40, right=12)
    drawn = []
    for one in bins:
        left, right, top = plot.px(one["low"]), plot.px(one["high"]), plot.py(one["share"])
        base = plot.py(0.0)
        said = (
            f"said {one['low']:.0%} to {one['high']:.0%}: {count(one['n'])} cases, on average "
            f"{one['confidence']:.1%} said, {one['share']:.1%} right"
        )
        width = round(right - left - 1, 1)
        drawn.append(Bar(left, width, top, round(base - top, 1), plot.px(one["confidence"]), top, said))
    marks = [(Tick(plot.px(v), f"{v:.0%}"), Tick(plot.py(v), f"{v:.0%}")) for v in (0, 0.25, 0.5, 0.75, 1.0)]
    return Reliability(plot, drawn, marks, f"Reliability of {name}: the share that is right by what was said")
