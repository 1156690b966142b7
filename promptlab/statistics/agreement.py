"""How well raters agree: a judge with people, people with each other, the members of a jury; and how much a
score follows the length of what it scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from promptlab.statistics.distributions import binomial_cdf
from promptlab.statistics.intervals import CONFIDENCE, Interval, t_of, wilson

CERTIFIED = 0.8
"""What the lower bounds of both rates must reach (awslabs' calibrated-agent-evaluation has the same)."""
FEWEST_FOR_KAPPA = 100
"""Below so many labels κ's usual interval covers too little: 87.4% at n = 30, 88.5% at 50, 93.5% at 100."""
LIKELY = 0.8
"""The probability with which the labels that are asked for reach CERTIFIED."""
MOST_NEEDED = 5_000


class Table(NamedTuple):
    """Cases by what people say and what the judge says."""

    both_pass: int
    missed: int
    """People pass, the judge fails."""
    waved_through: int
    """People fail, the judge passes."""
    both_fail: int

    @property
    def n(self) -> int:
        """All cases."""
        return sum(self)

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool]]) -> Table:
        """Count (people, judge)."""
        found = Counter(pairs)
        return cls(found[True, True], found[True, False], found[False, True], found[False, False])


class Rate(NamedTuple):
    """A share with its interval."""

    successes: int
    n: int
    share: float
    low: float
    high: float


def rate(successes: int, n: int) -> Rate | None:
    """A share with Wilson's interval; None of nothing."""
    if not n:
        return None
    ends: Interval = wilson(successes, n)
    return Rate(successes, n, successes / n, ends.low, ends.high)


def kappa(table: Table) -> float | None:
    """Cohen's κ (1960): (pₒ − pₑ)/(1 − pₑ), pₑ the agreement that the margins give by chance.

    Returns:
        From −1 to 1; None where one of the two never changes its mind, so that chance alone agrees.
    """
    n = table.n
    if not n:
        return None
    people, judge = table.both_pass + table.missed, table.both_pass + table.waved_through
    chance = (people * judge + (n - people) * (n - judge)) / (n * n)
    agreed = (table.both_pass + table.both_fail) / n
    return None if chance >= 1 else (agreed - chance) / (1 - chance)


@lru_cache
def labels_needed(true_rate: float, *, bound: float = CERTIFIED, likely: float = LIKELY) -> int | None:
    """How many labels of one class let the lower Wilson bound reach `bound` with a probability of `likely`.

    The least n from which on P(X ≥ k) ≥ `likely`, X ~ Bin(n, `true_rate`), k the least count whose bound is
    reached: .85 needs 481, .88 184, .90 112, .92 74, .95 40.

    Args:
        true_rate: the judge's TPR or TNR.
        bound: what is to be reached.
        likely: with which probability.

    Returns:
        None where the rate is too near `bound`, or below it: more than MOST_NEEDED labels.
    """
    rate = min(true_rate, 0.9999)
    if rate <= bound:
        return None
    spread = 1.96 * math.sqrt(bound * (1 - bound)) + 0.842 * math.sqrt(rate * (1 - rate))
    about = (spread / (rate - bound)) ** 2
    if about > MOST_NEEDED:
        return None
    # The probability is a saw of n: after the last n that is too few all are enough.
    first, last = max(1, int(0.5 * about)), int(1.3 * about) + 60
    too_few = (n for n in range(last, first, -1) if not _reaches(n, rate, bound, likely))
    return next(too_few, first) + 1


def _reaches(n: int, rate: float, bound: float, likely: float) -> bool:
    least = _least_count(n, bound)
    return least is not None and 1 - binomial_cdf(least - 1, n, rate) >= likely


@lru_cache(maxsize=8_192)
def _least_count(n: int, bound: float) -> int | None:
    low, high = math.floor(bound * n), n
    if wilson(n, n).low < bound:
        return None
    while low < high:
        middle = (low + high) // 2
        if wilson(middle, n).low >= bound:
            high = middle
        else:
            low = middle + 1
    return low


def krippendorff(
    units: Iterable[Sequence[float | str]], level: Literal["nominal", "interval"] = "nominal"
) -> float | None:
    """Krippendorff's α (Content Analysis, 2004, 11.3): 1 − observed ÷ expected disagreement.

    Args:
        units: of each case what its raters said, however many; those with fewer than two count for nothing.
        level: `nominal` for labels, `interval` for numbers (squared differences).

    Returns:
        At most 1; 0 is chance. None where there is no pair, or all say the same everywhere.
    """
    pairable = [unit for unit in units if len(unit) > 1]
    values = [value for unit in pairable for value in unit]
    total = len(values)
    if not total:
        return None
    observed = sum(_disagreement(unit, level) / (len(unit) - 1) for unit in pairable) / total
    expected = _disagreement(values, level) / (total * (total - 1))
    return None if expected == 0 else 1 - observed / expected


def _disagreement(values: Sequence[float | str], level: str) -> float:
    """The sum over ordered pairs."""
    n = len(values)
    if level == "nominal":
        return n * n - sum(count * count for count in Counter(values).values())
    numbers = [float(value) for value in values]
    mean = math.fsum(numbers) / n
    return 2 * n * math.fsum((number - mean) ** 2 for number in numbers)


class Slope(NamedTuple):
    """How a score changes with the length of what it scores."""

    per_doubling: float
    """The change of the score where the length doubles."""
    low: float
    high: float
    n: int

    @property
    def is_proven(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


FEWEST_FOR_SLOPE = 20


def length_slope(
    scores: Sequence[float], lengths: Sequence[float], rows: Sequence[int], confidence: float = CONFIDENCE
) -> Slope | None:
    """The slope of scores on log₂ of lengths, by least squares; errors are robust and by row (CR1: Liang &
    Zeger, Biometrika 1986), so that trials of one row do not count as many.

    Args:
        scores: any numbers.
        lengths: tokens or characters, above 0, in the same order.
        rows: the row of each.
        confidence: 0 < confidence < 1.

    Returns:
        None below FEWEST_FOR_SLOPE rows, or where all lengths are equal.
    """
    groups = len(set(rows))
    if groups < FEWEST_FOR_SLOPE:
        return None
    n, x = len(scores), [math.log2(length) for length in lengths]
    mean_x, mean_y = math.fsum(x) / n, math.fsum(scores) / n
    spread = math.fsum((value - mean_x) ** 2 for value in x)
    if spread <= 1e-12:
        return None
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, scores, strict=True)) / spread
    pulls: dict[int, float] = {}
    for value, score, row in zip(x, scores, rows, strict=True):
        residual = score - mean_y - slope * (value - mean_x)
        pulls[row] = pulls.get(row, 0.0) + (value - mean_x) * residual
    meat = math.fsum(pull * pull for pull in pulls.values())
    scale = groups / (groups - 1) * (n - 1) / (n - 2)
    half = t_of(groups - 1, confidence) * math.sqrt(scale * meat) / spread
    return Slope(slope, slope - half, slope + half, n)
