"""A run by the values of a column, as values: a table of slices for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptlab.queries.slices import SliceDifference, SliceMean, Slices
from promptlab.queries.verdict_words import words_of
from promptlab_studio.views.digits import Digits
from promptlab_studio.views.figures import Interval

_CSS = {"better": "good", "worse": "bad", "not comparable": "warn", "depends on missing scores": "warn"}


@dataclass(frozen=True, slots=True)
class SliceDelta:
    """Another run against the base."""

    text: str
    between: str
    verdict: str
    css: str


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice of a metric."""

    value: str | None
    n: str
    missing: bool
    mean: str
    between: str
    bar: Interval | None
    deltas: Sequence[SliceDelta | None]


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One metric by slice."""

    metric: str
    rows: Sequence[SliceRow]


def slice_tables(found: Slices) -> list[SliceTable]:
    """A table for each metric; its bars share a scale."""
    return [
        _table(metric, found) for metric in dict.fromkeys(name for one in found.slices for name in one.means)
    ]


def _table(metric: str, found: Slices) -> SliceTable:
    means = [one.means[metric] for one in found.slices if metric in one.means]
    ends = [v for m in means for v in (m.mean, m.ci_low, m.ci_high) if v is not None]
    digits = Digits.of(ends)
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    rows = [
        _row(one.value, one.means[metric], [d.get(metric) for d in one.differences], digits, (low, high))
        for one in found.slices
        if metric in one.means
    ]
    return SliceTable(metric, rows)


def _row(
    value: str | None,
    mean: SliceMean,
    differences: Sequence[SliceDifference | None],
    digits: Digits,
    scale: tuple[float, float],
) -> SliceRow:
    span = (scale[1] - scale[0]) or 1.0

    def at(number: float | None) -> float:
        found = mean.mean if number is None else number
        return round(min(max(((found or 0.0) - scale[0]) / span, 0.0), 1.0) * 100, 1)

    missing = mean.n < mean.rows
    return SliceRow(
        value,
        f"{mean.n:,} of {mean.rows:,}" if missing else f"{mean.n:,}",
        missing,
        digits.show(mean.mean),
        digits.between(mean.ci_low, mean.ci_high),
        None if mean.mean is None else Interval(at(mean.mean), at(mean.ci_low), at(mean.ci_high)),
        [None if one is None else _delta(one) for one in differences],
    )


def _delta(found: SliceDifference) -> SliceDelta:
    judged = found.judgement
    digits = Digits.of([judged.difference, judged.ci_low, judged.ci_high])
    words = words_of(judged, found.not_comparable)
    return SliceDelta(
        digits.signed(judged.difference),
        digits.between(judged.ci_low, judged.ci_high),
        words,
        _CSS.get(words, "muted"),
    )
