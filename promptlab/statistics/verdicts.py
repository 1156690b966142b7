"""From paired data of each metric to what can be said: interval, p, and one of seven verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from promptlab.statistics.clusters import FEWEST
from promptlab.statistics.intervals import Interval
from promptlab.statistics.paired import Tested, bp_t, clustered_bp_t, mcnemar, paired_t, tango
from promptlab.statistics.power import (
    ALPHA,
    detectable_mean,
    detectable_share,
    rows_for_mean,
    rows_for_share,
)
from promptlab.statistics.several import holm

Kind = Literal["binary", "bounded", "unbounded"]
"""`binary`: every value is 0 or 1, of one trial; `bounded`: within a finite range."""
Verdict = Literal[
    "too few cases",
    "depends on missing scores",
    "better",
    "worse",
    "the same within δ",
    "not worse by more than δ",
    "no evidence of a difference",
]
FEWEST_ROWS = 15
"""Pairs below which nothing is said."""
FEWEST_DISCORDANT = 5
"""Discordant pairs below which the mid-p cannot fall to .05: 4 of 4 gives .0625, 5 of 5 .031."""
GREATEST = 1e150
"""Values beyond it have no sum of squares."""
MARGIN = 0.02
"""The margin δ of shares where none is given; all other metrics have none then."""


class Clusters(NamedTuple):
    """The mean difference over rows that belong together."""

    groups: int
    stderr: float
    """Cluster-robust, of other − base."""
    method: str
    """`CR1` or `CR3`."""
    df: float | None = None
    """Degrees of freedom; G − 1 where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedData:
    """One metric of two runs over the same rows, summed up. Of trials a row's value is their mean."""

    n: int
    """Rows with a value in both."""
    kind: Kind
    base_mean: float | None = None
    """Over these rows; None where there are none."""
    other_mean: float | None = None
    difference: float | None = None
    """The mean of other − base."""
    deviation: float = 0.0
    """The standard deviation of the differences, of n − 1 degrees of freedom."""
    rose: int = 0
    """Rows in which the other run's value is higher."""
    fell: int = 0
    """Rows in which it is lower."""
    higher_is_better: bool = True
    bounds: tuple[float, float] | None = None
    """The range of the values, of a bounded metric; pass/fail has (0, 1)."""
    missing_base: int = 0
    """Rows without a value in the base."""
    missing_other: int = 0
    extremes: tuple[float, float] | None = None
    """The least and the greatest mean difference over all rows, whatever the missing values are; None where
    nothing is missing, or nobody asks."""
    clusters: Clusters | None = None
    fact: bool = False
    """It only measures: its difference has an interval, and no verdict."""
    margin: float | None = None
    """δ, above 0: a difference that does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What two runs say of one metric. Differences are other − base, in the metric's units."""

    n: int
    missing_base: int
    missing_other: int
    base_mean: float | None
    other_mean: float | None
    difference: float | None
    stderr: float | None
    ci_low: float | None
    """The 95% interval of the difference, by itself: it knows of no other metric."""
    ci_high: float | None
    method: str | None
    """`tango`, `bp_t`, `t`; over clusters `CR1 bp_t`, `CR3 bp_t`, `CR1 t`, `CR3 t`."""
    p: float | None
    """Two-sided, of the method's own test; of pass/fail McNemar's mid-p."""
    p_exact: float | None
    """McNemar's exact p, of pass/fail only."""
    p_adjusted: float | None
    """Holm's, over all metrics and runs of the comparison."""
    wins: int
    """Rows in which the other run is better."""
    losses: int
    ties: int
    verdict: Verdict | None
    """None of a metric that only measures."""
    margin: float | None
    """The δ of the verdict."""
    minimum_detectable: float | None
    """The smallest difference that so many rows show with 80% power."""
    rows_needed: int | None
    """The rows that show a difference of δ with 80% power; of too few cases, at least how many are needed."""
    worst_low: float | None
    """The least difference whatever the missing scores are; None where none are missing."""
    worst_high: float | None


def judge(family: Sequence[PairedData], *, tests: int | None = None) -> list[Judgement]:
    """Judge the metrics of a comparison together: Holm's adjustment is over all that have a verdict.

    The verdict, its interval and its p never contradict each other: p ≤ .05 exactly where the interval
    excludes 0, *better* and *worse* only where the adjusted p, and so p, is ≤ .05.

    Args:
        family: every metric of every other run.
        tests: how many tests the family has, where that is more than are given; see `holm`.
    """
    return judge_with(family, (), tests=tests)[0]


def judge_with(
    family: Sequence[PairedData], p_values: Sequence[float], *, tests: int | None = None
) -> tuple[list[Judgement], list[float]]:
    """Judge the metrics of a comparison together with tests of another kind, as `judge` does; and give the
    adjusted p of these, in their order.

    Args:
        family: every metric of every other run.
        p_values: p of the further tests: of scores of the runs as a whole.
        tests: as of `judge`.
    """
    found = [_tested(data) for data in family]
    counted = [n for n, (data, test) in enumerate(zip(family, found, strict=True)) if test and not data.fact]
    own = [test.p for n in counted if (test := found[n])]
    every = holm([*own, *p_values], tests=tests)
    adjusted = dict(zip(counted, every[: len(own)], strict=True))
    judgements = [
        _judgement(data, test, adjusted.get(n))
        for n, (data, test) in enumerate(zip(family, found, strict=True))
    ]
    return judgements, every[len(own) :]


def verdict_of_score(low: float, high: float, p: float, margin: float | None, higher: bool) -> Verdict:
    """Choose the verdict of a score of a run as a whole, of which only the difference is known: better or
    worse by its p, else by its interval and the margin.

    Args:
        low, high: the 95% interval of other − base.
        p: its p, adjusted where it is one of several.
        margin: δ, above 0; None for none.
        higher: whether more is better.
    """
    if p <= ALPHA:
        return "better" if (low + high > 0) == higher else "worse"
    low, high = (low, high) if higher else (-high, -low)
    if margin is not None and low > -margin:
        return "the same within δ" if high < margin else "not worse by more than δ"
    return "no evidence of a difference"


def _tested(data: PairedData) -> Tested | None:
    """The interval and the p, which agree on 0; None where there is too little for either. No interval of
    bounded values reaches beyond the greatest difference that they can have."""
    test = _found(data)
    if test is None or data.kind == "unbounded" or data.bounds is None:
        return test
    reach = data.bounds[1] - data.bounds[0]
    return test._replace(low=max(test.low, -reach), high=min(test.high, reach))


def _found(data: PairedData) -> Tested | None:
    if data.difference is None or data.n < 1:
        return None
    if data.clusters is not None:
        return _over_clusters(data, data.difference, data.clusters)
    if data.kind == "binary":
        low, high = tango(data.rose, data.fell, data.n)
        return agreed(
            Tested(data.difference, _stderr(data) or 0.0, low, high, mcnemar(data.rose, data.fell).mid_p)
        )
    if data.n < 2:
        return None
    if data.kind == "bounded" and data.bounds is not None:
        return agreed(bp_t(data.difference, data.deviation, data.n, data.bounds[1] - data.bounds[0]))
    return agreed(paired_t(data.difference, _stderr(data) or 0.0, data.n))


def _over_clusters(data: PairedData, difference: float, clusters: Clusters) -> Tested | None:
    if clusters.groups < FEWEST or data.n < 2:
        return None
    df, stderr = clusters.df or clusters.groups - 1.0, clusters.stderr
    if data.kind == "unbounded" or data.bounds is None:
        return agreed(paired_t(difference, stderr, data.n, df=df))
    reach = data.bounds[1] - data.bounds[0]
    return agreed(clustered_bp_t(difference, data.deviation, stderr, data.n, reach, df=df))


def _stderr(data: PairedData) -> float | None:
    return data.deviation / math.sqrt(data.n) if data.n > 1 else None


def agreed(test: Tested) -> Tested:
    """Put the end next to 0 to 0 where p and interval do not agree on it, as those of resamples may not.

    Of pass/fail the mid-p is above .05 in up to 2.7% of null comparisons whose interval excludes 0; the
    other way round never, but for rounding. Coverage only rises.
    """
    if test.p > ALPHA:
        return test._replace(low=min(test.low, 0.0), high=max(test.high, 0.0))
    if test.low < 0 < test.high:
        return test._replace(**({"low": 0.0} if test.estimate > 0 else {"high": 0.0}))
    return test


def _judgement(data: PairedData, test: Tested | None, p_adjusted: float | None) -> Judgement:
    margin = data.margin if data.margin is not None else MARGIN if data.kind == "binary" else None
    up, down = (data.rose, data.fell) if data.higher_is_better else (data.fell, data.rose)
    binary = data.kind == "binary" and data.clusters is None
    method = None
    if test is not None:
        plain = {"binary": "tango" if binary else "bp_t", "bounded": "bp_t", "unbounded": "t"}[data.kind]
        method = f"{data.clusters.method} {plain}" if data.clusters else plain
    least, needed = _power(data, test, margin)
    return Judgement(
        n=data.n,
        missing_base=data.missing_base,
        missing_other=data.missing_other,
        base_mean=data.base_mean,
        other_mean=data.other_mean,
        difference=data.difference,
        stderr=test and test.stderr,
        ci_low=test and test.low,
        ci_high=test and test.high,
        method=method,
        p=test and test.p,
        p_exact=mcnemar(data.rose, data.fell).exact if test and binary else None,
        p_adjusted=p_adjusted,
        wins=up,
        losses=down,
        ties=data.n - up - down,
        verdict=None if data.fact else verdict_of(data, test, p_adjusted, margin),
        margin=None if data.fact else margin,
        minimum_detectable=least,
        rows_needed=None if data.fact else needed,
        worst_low=data.extremes[0] if data.extremes else None,
        worst_high=data.extremes[1] if data.extremes else None,
    )


def verdict_of(
    data: PairedData, test: Tested | None, p_adjusted: float | None, margin: float | None
) -> Verdict:
    """Choose the first verdict that holds, in the order of `Verdict`.

    Missing scores decide where, filled in one way and the other, they turn the sign of a proven difference,
    or carry an unproven one out of its interval.

    Args:
        data: the metric.
        test: its interval and p; None where there is too little for them.
        p_adjusted: Holm's; None likewise.
        margin: δ; None for none.
    """
    binary = data.kind == "binary" and data.clusters is None
    if test is None or p_adjusted is None or data.n < FEWEST_ROWS:
        return "too few cases"
    if binary and data.rose + data.fell < FEWEST_DISCORDANT and not _within(test, margin):
        return "too few cases"
    proven = p_adjusted <= ALPHA and test.estimate != 0
    if data.extremes is not None:
        least, most = data.extremes
        turned = least <= 0 <= most if proven else least < test.low or most > test.high
        if turned:
            return "depends on missing scores"
    if proven:
        return "better" if (test.estimate > 0) == data.higher_is_better else "worse"
    if margin is not None and _within(test, margin):
        return "the same within δ"
    if margin is not None and (test.low > -margin if data.higher_is_better else test.high < margin):
        return "not worse by more than δ"
    return "no evidence of a difference"


def _within(test: Tested, margin: float | None) -> bool:
    return margin is not None and -margin < test.low and test.high < margin


def _power(data: PairedData, test: Tested | None, margin: float | None) -> tuple[float | None, int | None]:
    """The smallest difference that so many rows show, and the rows that show δ."""
    if test is None:
        return None, FEWEST_ROWS if data.n < FEWEST_ROWS else None
    if data.kind == "binary" and data.clusters is None:
        # One pair more on each side, so that no discordant pair among a few does not mean none ever.
        psi = min(1.0, (data.rose + data.fell + 2) / (data.n + 2))
        needed = rows_for_share(margin, psi) if margin else None
        least = detectable_share(data.n, psi)
    else:
        deviation = test.stderr * math.sqrt(data.n)
        needed = rows_for_mean(margin, deviation) if margin else None
        least = detectable_mean(1, test.stderr)
    return least, needed if needed is None else max(needed, FEWEST_ROWS)


def paired_data(
    base: Sequence[float | None],
    other: Sequence[float | None],
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
    margin: float | None = None,
    bounded_by_missing: bool = True,
) -> PairedData:
    """Sum up two runs' values of one metric, row by row.

    Args:
        base, other: the values of the same rows in the same order; None where one is missing.
        bounds: the range of the metric; None for one without.
        higher_is_better: the metric's direction.
        margin: δ.
        bounded_by_missing: whether the range over all rows is to be given where values are missing.

    Raises:
        ValueError: the two are not of the same rows, or a value is no number from −1e150 to 1e150.
    """
    if len(base) != len(other):
        raise ValueError(f"pairs need as many values of both, got {len(base)} and {len(other)}")
    for value in (*base, *other):
        if value is not None and not abs(value) <= GREATEST:
            raise ValueError(f"values must be numbers from -1e150 to 1e150, got {value}")
    both = [(a, b) for a, b in zip(base, other, strict=True) if a is not None and b is not None]
    n, d = len(both), [b - a for a, b in both]
    binary = bounds == (0.0, 1.0) and all(v in (0.0, 1.0) for pair in both for v in pair)
    kind: Kind = "binary" if binary else "bounded" if bounds else "unbounded"
    mean = math.fsum(d) / n if n else None
    data = PairedData(
        n=n,
        kind=kind,
        base_mean=math.fsum(a for a, _ in both) / n if n else None,
        other_mean=math.fsum(b for _, b in both) / n if n else None,
        difference=mean,
        deviation=math.sqrt(math.fsum((x - mean) ** 2 for x in d) / (n - 1))
        if mean is not None and n > 1
        else 0.0,
        rose=sum(x > 0 for x in d),
        fell=sum(x < 0 for x in d),
        higher_is_better=higher_is_better,
        bounds=bounds,
        missing_base=base.count(None),
        missing_other=other.count(None),
        margin=margin,
    )
    if not bounded_by_missing or bounds is None or n == len(base):
        return data
    return replace(data, extremes=_extremes(base, other, bounds))


def _extremes(
    base: Sequence[float | None], other: Sequence[float | None], bounds: tuple[float, float]
) -> Interval:
    low, high = bounds
    pairs = list(zip(base, other, strict=True))
    least = math.fsum((low if b is None else b) - (high if a is None else a) for a, b in pairs)
    most = math.fsum((high if b is None else b) - (low if a is None else a) for a, b in pairs)
    return Interval(least / len(pairs), most / len(pairs))
