"""Intervals of what is computed from a whole run: the bootstrap over its units (rows, or clusters of rows).

A unit is a sparse vector of sums; a metric is a function of the sum over all units. Equal units are drawn
together, so that the time depends on how many different ones there are.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist, stdev

from promptlab.statistics.distributions import student_two_sided
from promptlab.statistics.intervals import Interval, t_of

Sums = Mapping[str, float]
Values = Mapping[str, float | None]

RESAMPLES, FEWEST_RESAMPLES = 1_000, 200
MOST_WORK = 30_000_000
"""Additions of one bootstrap: about 3 s. Where units are wide, there are fewer resamples, FEWEST_RESAMPLES at
least."""
PAIRED_WORK = 10_000_000
"""The same of a difference, which somebody waits for."""
FEWEST_UNITS = 5
"""Units that an interval needs."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What the resamples say of one value."""

    interval: Interval
    stderr: float
    resamples: int
    p: float = 1.0
    """Two-sided, of a value of 0: the largest p whose interval has no 0 in it (`drawn_p`)."""


def bootstrap(
    units: Sequence[Sums],
    value: Callable[[Sums], Values],
    *,
    seed: int = SEED,
    most_work: int = MOST_WORK,
) -> dict[str, Bootstrapped]:
    """The 95% intervals of values over units: percentiles, corrected for the median's bias and for few units.

    Formula: with z₀ = Φ⁻¹(share of resamples below the estimate), the ends are the quantiles Φ(2z₀ ± e) of
    the resamples (Efron 1981, "Nonparametric standard errors and confidence intervals", §6), with e =
    √(n/(n − 1))·t₀.₉₇₅,ₙ₋₁ in place of 1.96 (Hesterberg, The American Statistician 2015): 2.03 of 50 units.
    Of scores of confusion matrices of 20 to 200 rows 93.7% hold the truth, with 1.96 92.6%.

    Args:
        units: a sparse vector of sums each.
        value: the values of a sum; None where one is not defined.
        seed: of the draws: equal seeds and units give equal intervals.
        most_work: additions at most.

    Returns:
        By name; without those that are not defined in one of twenty resamples, and without any where there
        are fewer than FEWEST_UNITS units.
    """
    if len(units) < FEWEST_UNITS:
        return {}
    patterns, counts = _patterns(units)
    work = max(1, sum(len(pattern) for pattern in patterns))
    many = max(FEWEST_RESAMPLES, min(RESAMPLES, most_work // work))
    found: dict[str, list[float]] = {}
    for sums in _resampled(patterns, counts, len(units), many, seed):
        for name, one in value(sums).items():
            if one is not None:
                found.setdefault(name, []).append(one)
    # Of the patterns, too, so that it does not depend on the order of the units in its last digits.
    estimates = value(_sum(patterns, counts))
    made = {}
    for name, values in found.items():
        estimate = estimates.get(name)
        if estimate is not None and len(values) >= 0.95 * many:
            made[name] = _bootstrapped(estimate, values, many, len(units))
    return made


def _bootstrapped(estimate: float, values: list[float], many: int, units: int) -> Bootstrapped:
    stderr, ends = stdev(values), corrected_interval(estimate, values, units)
    return Bootstrapped(ends, stderr, many, drawn_p(estimate, values, stderr, units))


def _patterns(units: Sequence[Sums]) -> tuple[list[list[tuple[str, float]]], list[int]]:
    found = Counter[Hashable](tuple(sorted(unit.items())) for unit in units)
    # Sorted, so that the draws do not depend on the order in which shards were read.
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    return [list(pattern) for pattern, _ in ordered], [count for _, count in ordered]  # type: ignore[call-overload]


def _resampled(
    patterns: Sequence[Sequence[tuple[str, float]]], counts: Sequence[int], n: int, many: int, seed: int
) -> Sequence[Sums]:
    drawn, ends, places = random.Random(seed), list(accumulate(counts)), range(len(patterns))
    made = []
    for _ in range(many):
        times = Counter(drawn.choices(places, cum_weights=ends, k=n))
        made.append(_sum([patterns[place] for place in times], list(times.values())))
    return made


def _sum(patterns: Sequence[Sequence[tuple[str, float]]], times: Sequence[int]) -> dict[str, float]:
    total: dict[str, float] = {}
    for pattern, many in zip(patterns, times, strict=True):
        for name, one in pattern:
            total[name] = total.get(name, 0.0) + many * one
    return total


def corrected_interval(estimate: float, values: list[float], units: int) -> Interval:
    """The 95% interval of an estimate over so many units, two at least, from its resamples, as in
    `bootstrap`; the estimate is within it."""
    values.sort()
    normal = NormalDist()
    z0, reach = _z_of(estimate, values), _widened(units) * t_of(units - 1)
    ends = [_quantile(values, normal.cdf(2 * z0 + side)) for side in (-reach, reach)]
    return Interval(min(ends[0], estimate), max(ends[1], estimate))


def _widened(units: int) -> float:
    """How much shorter than the error of a mean the spread of its resamples is."""
    return math.sqrt(units / (units - 1))


def _z_of(value: float, values: Sequence[float]) -> float:
    """The normal quantile of the share of resamples below a value; half of those that are equal count."""
    below = sum(one < value for one in values) + sum(one == value for one in values) / 2
    least = 0.5 / len(values)
    return NormalDist().inv_cdf(min(max(below / len(values), least), 1 - least))


def drawn_p(estimate: float, values: Sequence[float], stderr: float, units: int) -> float:
    """The two-sided p of 0 against an estimate over so many units and its resamples.

    Formula: with w = Φ⁻¹(share of resamples below 0), an end of the interval of `bootstrap` at confidence
    1 − p lies at 0 where p is Student's two-sided tail of |2z₀ − w|·√((n − 1)/n), of n − 1 degrees of
    freedom. Where 0 lies beyond all resamples, which cannot tell how far, that of |estimate|/stderr in place
    of |2z₀ − w|, where it is smaller.
    """
    if estimate == 0 or not stderr:
        return 1.0
    side, wider = 1.0 if estimate > 0 else -1.0, _widened(units)
    away = side * (2 * _z_of(estimate, values) - _z_of(0.0, values)) / wider
    p = student_two_sided(away, units - 1) if away > 0 else 1.0
    if min(side * one for one in values) > 0:
        p = min(p, student_two_sided(abs(estimate) / stderr / wider, units - 1))
    return p


def drawn_interval(estimate: float, apart: Sequence[float | None], units: int) -> Bootstrapped | None:
    """The 95% interval of an estimate over so many units, from how far each resample lies from it, as in
    `bootstrap`; None where it is not defined in one of twenty, and of fewer than two units."""
    known = [estimate + one for one in apart if one is not None]
    if units < 2 or len(known) < 2 or len(known) < 0.95 * len(apart):
        return None
    return _bootstrapped(estimate, known, len(known), units)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def paired_bootstrap(
    pairs: Sequence[tuple[Sums, Sums]],
    value: Callable[[Sums], Values],
    *,
    seed: int = SEED,
    most_work: int = PAIRED_WORK,
) -> dict[str, Bootstrapped]:
    """The 95% intervals of the differences of two runs' values, second − first, over pairs of units.

    A unit that only one run has is a pair with an empty vector. As `bootstrap`; Koehn 2004, "Statistical
    significance tests for machine translation evaluation".
    """
    joint = [
        {**{f"a{name}": one for name, one in a.items()}, **{f"b{name}": one for name, one in b.items()}}
        for a, b in pairs
    ]

    def difference(sums: Sums) -> dict[str, float | None]:
        a, b = (
            value({name[1:]: one for name, one in sums.items() if name[0] == side}) for side in ("a", "b")
        )
        return {
            name: None if one is None or a.get(name) is None else one - a[name]  # type: ignore[operator]
            for name, one in b.items()
        }

    return bootstrap(joint, difference, seed=seed, most_work=most_work)
