"""Two runs over different rows, where somebody asks for it: less is known than of pairs."""

from __future__ import annotations

import math

from promptlab.statistics.intervals import CONFIDENCE, Interval, wilson
from promptlab.statistics.paired import Tested, paired_t


def newcombe(base: int, base_n: int, other: int, other_n: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a difference of two shares of different rows (Newcombe, Statistics in Medicine 1998,
    method 10): Wilson's intervals of both, their distances added in squares.

    Args:
        base, other: successes.
        base_n, other_n: observations, at least 1.
        confidence: 0 < confidence < 1.

    Returns:
        The interval of other − base.
    """
    p1, p2 = base / base_n, other / other_n
    one, two = wilson(base, base_n, confidence), wilson(other, other_n, confidence)
    return Interval(
        p2 - p1 - math.hypot(p2 - two.low, one.high - p1), p2 - p1 + math.hypot(two.high - p2, p1 - one.low)
    )


def welch(
    base: tuple[float, float, int], other: tuple[float, float, int], confidence: float = CONFIDENCE
) -> Tested:
    """The interval and the test of a difference of two means of different rows (Welch, Biometrika 1947).

    Args:
        base, other: mean, standard deviation (n − 1), and n, at least 2.
        confidence: 0 < confidence < 1.

    Raises:
        ValueError: an n is below 2.
    """
    (m1, s1, n1), (m2, s2, n2) = base, other
    if min(n1, n2) < 2:
        raise ValueError(f"Welch's interval needs at least two observations of each, got {n1} and {n2}")
    v1, v2 = s1 * s1 / n1, s2 * s2 / n2
    if v1 + v2 == 0:
        return Tested(m2 - m1, 0.0, m2 - m1, m2 - m1, float(m1 == m2))
    df = (v1 + v2) ** 2 / (v1 * v1 / (n1 - 1) + v2 * v2 / (n2 - 1))
    return paired_t(m2 - m1, math.sqrt(v1 + v2), n1 + n2, confidence, df)
