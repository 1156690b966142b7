"""A judge's mean, corrected by the labels of people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from promptlab.statistics.intervals import CONFIDENCE, Interval, wilson_t


class Corrected(NamedTuple):
    """A mean by prediction-powered inference."""

    mean: float
    stderr: float
    weight: float
    """λ̂, from 0 (the judge tells nothing) to 1."""
    low: float
    high: float


def ppi_mean(
    judged: Sequence[float],
    labels: Sequence[float],
    judged_too: Sequence[float],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    confidence: float = CONFIDENCE,
) -> Corrected:
    """The mean of what people would say of all rows, from a judge of all and people's labels of some.

    PPI++ (Angelopoulos, Duchi & Zrnic, 2023): λ̂ = clip(Cov_n(Y, f)/((1 + n/N)·Var f), 0, 1), θ̂ = λ̂·mean_N f
    + mean_n(Y − λ̂f), var = Var_n(Y − λ̂f)/n + λ̂²·Var_N(f)/N. The interval is `wilson_t` with that variance:
    91.2–95.5% covered where plain z has 85.8–94.6%. Not below 100 labels where the rate is near 0 or 1.

    Args:
        judged: f of the N rows that only the judge saw, at least 2, within `bounds`.
        labels: Y of the n rows that people labelled, at least 2, within `bounds`.
        judged_too: f of those n rows, in the same order.
        bounds: the least and the greatest possible value.
        confidence: 0 < confidence < 1.

    Raises:
        ValueError: there are fewer than two of either, or labels and judgements are not of the same rows.
    """
    big, n = len(judged), len(labels)
    if big < 2 or n < 2 or n != len(judged_too):
        raise ValueError(
            f"PPI++ needs two judged and two labelled rows at least, and the judge's score of each labelled "
            f"one, got {big} judged, {n} labelled and {len(judged_too)} scores of these"
        )
    spread = _covariance([*judged, *judged_too], [*judged, *judged_too])
    covariance = _covariance(labels, judged_too)
    weight = min(max(covariance / ((1 + n / big) * spread), 0.0), 1.0) if spread > 0 else 0.0
    rest = [y - weight * f for y, f in zip(labels, judged_too, strict=True)]
    mean = weight * math.fsum(judged) / big + math.fsum(rest) / n
    mean = min(max(mean, bounds[0]), bounds[1])
    variance = _covariance(rest, rest) / n + weight * weight * _covariance(judged, judged) / big
    interval: Interval = wilson_t(mean, math.sqrt(variance), n, bounds=bounds, confidence=confidence)
    return Corrected(mean, math.sqrt(variance), weight, interval.low, interval.high)


def _covariance(x: Sequence[float], y: Sequence[float]) -> float:
    """The sample's, of n − 1 degrees of freedom; the variance of x where y is x."""
    n = len(x)
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    return math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / (n - 1)
