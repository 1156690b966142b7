"""A run by the values of a column, as values: one metric by slice, the worst first, and the largest loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from promptlab.domain.experiment import Metric
from promptlab.queries.sliced_scores import METHOD
from promptlab.queries.slices import REST, Slice, SliceDifference, SliceMean, Slices
from promptlab.results.table import Columns
from promptlab_studio.views.compare_words import Scale, Words, judged_words
from promptlab_studio.views.digits import Digits
from promptlab_studio.views.figures import IntervalMark
from promptlab_studio.views.format import run_url
from promptlab_studio.views.state import range_value

LARGEST = 5
"""Losses over all metrics that stand on top."""


@dataclass(frozen=True, slots=True)
class SliceDelta:
    """Another run against the base."""

    said: Words
    between: str
    url: str
    """The cases of the slice in the comparison."""


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice of a metric."""

    value: str | None
    url: str | None
    """Its cases; None of all values together that have no slice."""
    n: str
    missing: bool
    mean: str
    between: str
    bar: IntervalMark | None
    deltas: Sequence[SliceDelta | None]


@dataclass(frozen=True, slots=True)
class Loss:
    """A slice in which another run is worse in a metric."""

    value: str | None
    metric: str
    other: int
    said: Words
    between: str
    url: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the cases of a slice are."""

    run_ids: Sequence[str]
    column: str
    name: str
    """The column's, in the results table."""

    def condition(self, one: Slice) -> tuple[str, str] | None:
        """The parameter of an address that means the slice's rows; None of the rest."""
        if one.bounds is not None:
            return "range", range_value(self.name, *one.bounds)
        if one.value == REST:
            return None
        return "where", f"{self.column}~{one.value or ''}"

    def of_run(self, one: Slice, metric: Metric | None) -> str | None:
        """The slice's cases in the base, those first that count least."""
        condition = self.condition(one)
        if condition is None:
            return None
        pairs: list[tuple[str, Any]] = [condition]
        if metric is not None:
            pairs += [("sort", f"score.{metric.name}")] + ([] if metric.higher_is_better else [("desc", "1")])
        return f"{run_url(self.run_ids[0])}?{urlencode(pairs)}"

    def of_comparison(self, one: Slice, metric: str | None, other: int) -> str:
        """The slice's cases in the comparison, the greatest loss first; of a score of the run as a whole
        by the comparison's own metric, for no case has it."""
        condition = self.condition(one)
        pairs = [("run", run_id) for run_id in self.run_ids]
        pairs += [("metric", metric)] if metric is not None else []
        pairs += [("sort", "difference")]
        pairs += [("other", str(other))] if len(self.run_ids) > 2 else []
        return f"/compare?{urlencode([*pairs, *([condition] if condition else [])])}"


def addresses_of(run_ids: Sequence[str], columns: Columns, column: str) -> Addresses:
    """Where slices by a column lead."""
    return Addresses(run_ids, column, next(name for source, name, _ in columns.inputs if source == column))


def slice_rows(found: Slices, metric: str, spec: Metric | None, addresses: Addresses) -> list[SliceRow]:
    """The slices of one metric, the worst first: by the largest loss, of one run by the mean."""
    shown = [one for one in found.slices if metric in one.means]
    means = [one.means[metric] for one in shown]
    ends = [v for m in means for v in (m.mean, m.ci_low, m.ci_high) if v is not None]
    digits = Digits.of(ends)
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    better = -1 if any(not one.means[metric].higher_is_better for one in shown) else 1
    scale = _scale(shown, metric, spec)
    shown.sort(key=lambda one: _worst_first(one, metric, better))
    return [_row(one, metric, spec, digits, (low, high), scale, addresses) for one in shown]


def what_is_shown(found: Slices, metric: str) -> str:
    """Name the number of a slice: a mean of cases, or a score of the run as a whole."""
    return (
        "value" if any(m.method == METHOD for one in found.slices if (m := one.means.get(metric))) else "mean"
    )


def _scale(shown: Sequence[Slice], metric: str, spec: Metric | None) -> Scale:
    judged = [d[metric].judgement for one in shown for d in one.differences if metric in d]
    return Scale.of(judged, spec.bounds if spec else None)


def _worst_first(one: Slice, metric: str, better: int) -> tuple[bool, float]:
    """A key by which slices are in the order of how bad they are; those that nothing is known of are last."""
    gains = [
        gain * better
        for d in one.differences
        if metric in d and (gain := d[metric].judgement.difference) is not None
    ]
    if one.differences:
        return (not gains, min(gains, default=0.0))
    mean = one.means[metric].mean
    return (mean is None, (mean or 0.0) * better)


def largest_losses(found: Slices, specs: Mapping[str, Metric], addresses: Addresses) -> list[Loss]:
    """The largest losses of shares over all metrics, runs and slices: those that are sure come first."""
    losses = []
    for one in found.slices:
        for other, of_run in enumerate(one.differences):
            for metric, d in of_run.items():
                spec = specs.get(metric)
                if spec is None or spec.is_fact or spec.bounds != (0.0, 1.0) or d.not_comparable:
                    continue
                gain = (d.judgement.difference or 0.0) * (1 if spec.higher_is_better else -1)
                if gain < 0 and d.judgement.verdict != "too few cases":
                    losses.append((d.judgement.verdict != "worse", gain, one, metric, other, d))
    losses.sort(key=lambda loss: loss[:2])
    return [_loss(one, metric, other, d, specs[metric], addresses) for _, _, one, metric, other, d in losses][
        :LARGEST
    ]


def _loss(
    one: Slice, metric: str, other: int, d: SliceDifference, spec: Metric, addresses: Addresses
) -> Loss:
    scale = Scale.of([d.judgement], spec.bounds)
    return Loss(
        one.value,
        metric,
        other,
        judged_words(d.judgement, d.not_comparable, scale),
        scale.between(d.judgement.ci_low, d.judgement.ci_high),
        addresses.of_comparison(one, metric, other),
    )


def _row(
    one: Slice,
    metric: str,
    spec: Metric | None,
    digits: Digits,
    ends: tuple[float, float],
    scale: Scale,
    addresses: Addresses,
) -> SliceRow:
    mean = one.means[metric]
    missing = mean.n < mean.rows
    return SliceRow(
        one.value,
        addresses.of_run(one, spec),
        f"{mean.n:,} of {mean.rows:,}" if missing else f"{mean.n:,}",
        missing,
        digits.show(mean.mean),
        digits.between(mean.ci_low, mean.ci_high),
        _bar(mean, ends),
        [
            _delta(d[metric], scale, addresses.of_comparison(one, metric if spec else None, other))
            if metric in d
            else None
            for other, d in enumerate(one.differences)
        ],
    )


def _bar(mean: SliceMean, ends: tuple[float, float]) -> IntervalMark | None:
    span = (ends[1] - ends[0]) or 1.0

    def at(number: float | None) -> float:
        found = mean.mean if number is None else number
        return round(min(max(((found or 0.0) - ends[0]) / span, 0.0), 1.0) * 100, 1)

    return None if mean.mean is None else IntervalMark(at(mean.mean), at(mean.ci_low), at(mean.ci_high))


def _delta(found: SliceDifference, scale: Scale, url: str) -> SliceDelta:
    judged = found.judgement
    return SliceDelta(
        judged_words(judged, found.not_comparable, scale), scale.between(judged.ci_low, judged.ci_high), url
    )
