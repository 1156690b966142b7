"""Whose labels count for a metric, and what they are worth on its scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from promptlab.domain.experiment import Metric
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey

FEWEST_LABELS = 20
"""Labelled rows below which no mean is corrected."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The labels that count for one metric."""

    labels: Sequence[CaseLabel]
    own: bool
    """Whether they are about this metric; else about the answers as a whole."""
    random: bool
    """Whether their cases are a random sample of the run's."""

    @property
    def by_case(self) -> dict[CaseKey, list[CaseLabel]]:
        """The labels of each case."""
        found: dict[CaseKey, list[CaseLabel]] = {}
        for label in self.labels:
            found.setdefault(label.key, []).append(label)
        return found


def counted_for(metric: Metric, labels: Iterable[CaseLabel]) -> Counted:
    """Choose the labels of a metric: its own where it has some, else those of the answers as a whole; of
    these the ones of a random sample, where they are enough, for a choice of cases is a bias. One of several
    scores of an evaluator (a recall, a consistency) is not what a pass of the whole answer says: it has its
    own labels or none.

    A label that says neither pass nor fail nor a number counts for nothing.
    """
    there = [label for label in labels if worth(label, metric) is not None]
    own = [label for label in there if label.metric == metric.name]
    of_part = metric.part is not None
    chosen = own or [label for label in there if not (label.metric or of_part)]
    sampled = [label for label in chosen if label.random]
    enough = len({label.case for label in sampled}) >= FEWEST_LABELS
    if enough or len(sampled) == len(chosen):
        chosen = sampled
    return Counted(chosen, bool(own) or of_part, bool(chosen) and all(label.random for label in chosen))


def threshold_of(metric: Metric) -> float:
    """The middle of a metric's range, from which on a score is a pass."""
    low, high = metric.bounds or (0.0, 1.0)
    return (low + high) / 2


def is_good(value: float, metric: Metric, threshold: float) -> bool:
    """Whether a score is on the good side of a threshold."""
    return value >= threshold if metric.higher_is_better else value < threshold


def worth(label: CaseLabel, metric: Metric) -> float | None:
    """Return what a label is worth on the metric's scale; None where it says neither pass, fail nor a number.

    A pass is the good end of the scale and a fail the bad one, unless the label is about this metric and has
    a number.
    """
    if metric.bounds is None:
        return None
    low, high = metric.bounds
    if label.score is not None and low <= label.score <= high and (label.metric or label.passed is None):
        return label.score
    if label.passed is None:
        return None
    return high if label.passed == metric.higher_is_better else low


def verdict(labels: Sequence[CaseLabel], metric: Metric, threshold: float) -> bool | None:
    """Return what most raters say of a case; None where as many pass as fail it."""
    said = [verdict_of(label, metric, threshold) for label in labels]
    passed = sum(one is True for one in said)
    failed = sum(one is False for one in said)
    return None if passed == failed else passed > failed


def verdict_of(label: CaseLabel, metric: Metric, threshold: float) -> bool | None:
    """Return what one rater says of a case."""
    if label.passed is not None:
        return label.passed
    value = worth(label, metric)
    return None if value is None else is_good(value, metric, threshold)


def by_row(by_case: Mapping[CaseKey, float]) -> dict[int, float]:
    """The mean of each row over its trials."""
    rows: dict[int, list[float]] = {}
    for key, value in by_case.items():
        rows.setdefault(key.case, []).append(value)
    return {row: fmean(values) for row, values in rows.items()}


def people_say(counted: Counted, metric: Metric) -> dict[CaseKey, float]:
    """Return what each labelled case is worth: the mean of its raters."""
    found = {}
    for key, labels in counted.by_case.items():
        values = [value for label in labels if (value := worth(label, metric)) is not None]
        if values:
            found[key] = fmean(values)
    return found
