"""Means and differences of judges, corrected by people's labels (docs/statistics.md, PPI++)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from promptlab.domain.experiment import Metric
from promptlab.domain.results import CaseKey
from promptlab.labelling.people import FEWEST_LABELS, Counted, by_row, people_say
from promptlab.labelling.values import CorrectedDifference, CorrectedMean
from promptlab.statistics import Moments, labelled_difference, labelled_mean, ppi_difference, ppi_mean

FEW_NEAR_AN_END = 100
"""Below so many labels the interval of a rate near 0 or 1 is too short (docs/statistics.md)."""
_NEAR = 0.1
Values = Mapping[CaseKey, float]
"""The score of each case that has one."""


def _parted(
    rows: Mapping[int, float], people: Mapping[int, float], too: Mapping[int, float]
) -> tuple[Moments, list[float], list[float]]:
    """The rows that only the judge saw, the labels, and the judge's scores of the labelled rows."""
    labelled = sorted(people)
    alone = Moments.of([value for row, value in rows.items() if row not in people])
    return alone, [people[row] for row in labelled], [too[row] for row in labelled]


def _of_random(random: bool) -> Iterable[str]:
    if not random:
        yield "the labelled cases are not known to be a random sample of the run's"


def corrected_mean(metric: Metric, values: Values, counted: Counted) -> CorrectedMean | None:
    """Correct one metric's mean of a run; None below FEWEST_LABELS labelled rows.

    Trials of a row are one: the score of a row is the mean over its trials, and of a labelled one over those
    that are labelled.
    """
    people = {key: value for key, value in people_say(counted, metric).items() if key in values}
    said = by_row(people)
    if metric.bounds is None or len(said) < FEWEST_LABELS:
        return None
    rows = by_row(values)
    alone, labels, too = _parted(rows, said, by_row({key: values[key] for key in people}))
    bounds = metric.bounds
    found = (
        ppi_mean(alone, labels, too, bounds=bounds) if alone.n > 1 else labelled_mean(labels, bounds=bounds)
    )
    low, high = metric.bounds
    scaled = (found.mean - low) / (high - low)
    caveats = [*_of_random(counted.random)]
    if len(said) < FEW_NEAR_AN_END and not _NEAR <= scaled <= 1 - _NEAR:
        caveats.append("so near an end of the scale the interval is too short below 100 labels")
    return CorrectedMean(
        metric=metric.name,
        mean=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        stderr=found.stderr,
        judge_mean=fmean(rows.values()),
        labels=len(said),
        weight=found.weight,
        own=counted.own,
        random=counted.random,
        caveat="; ".join(caveats) or None,
    )


def corrected_difference(
    metric: Metric, values: Sequence[Values], counted: Sequence[Counted]
) -> CorrectedDifference | None:
    """Correct one metric's difference between a base run and another; None where fewer than FEWEST_LABELS
    rows are labelled in both.

    Args:
        metric: the base's.
        values: the base's scores, then the other's, by the same rows.
        counted: their labels, by the same rows.
    """
    if metric.bounds is None:
        return None
    people, too, rows = [], [], []
    for scores, labels in zip(values, counted, strict=True):
        said = {key: value for key, value in people_say(labels, metric).items() if key in scores}
        people.append(by_row(said))
        too.append(by_row({key: scores[key] for key in said}))
        rows.append(by_row(scores))
    both = people[0].keys() & people[1].keys()
    if len(both) < FEWEST_LABELS:
        return None
    reach = metric.bounds[1] - metric.bounds[0]
    shared = rows[0].keys() & rows[1].keys()
    differences = {row: rows[1][row] - rows[0][row] for row in shared}
    alone, labelled, judged = _parted(
        differences,
        {row: people[1][row] - people[0][row] for row in both},
        {row: too[1][row] - too[0][row] for row in both},
    )
    found = (
        ppi_difference(alone, labelled, judged, reach)
        if alone.n > 1
        else labelled_difference(labelled, reach)
    )
    random = all(labels.random for labels in counted)
    proven = not found.low <= 0 <= found.high
    rises = (found.mean > 0) == metric.higher_is_better
    return CorrectedDifference(
        metric=metric.name,
        difference=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        stderr=found.stderr,
        judge_difference=fmean(differences.values()),
        labels=len(both),
        weight=found.weight,
        verdict=("better" if rises else "worse") if proven else "no evidence of a difference",
        own=all(labels.own for labels in counted),
        random=random,
        caveat="; ".join(_of_random(random)) or None,
    )
