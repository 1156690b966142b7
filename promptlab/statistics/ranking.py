"""Several runs over the same rows in an order, and how sure it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

RESAMPLES = 1_000
"""Bootstrap resamples: a share of .5 has a standard error of 1.6 points then."""
SEED = 0
BLOCKS = 1_000
"""Blocks of rows at most: of more rows each block has as many, drawn at random."""
_TOLERANCE = 1e-12


class Ranked(NamedTuple):
    """One run among several."""

    p_best: float
    """The share of resamples in which its mean is the best; those that tie share."""
    low: int
    """The 95% interval of its rank, 1 for the best: the best rank …"""
    high: int
    """… and the worst; runs that tie have all of their ranks."""


def bootstrap_ranks(
    sums: Sequence[Sequence[float]],
    counts: Sequence[int],
    *,
    higher_is_better: bool = True,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Ranked]:
    """Say how often each run is the best, and which ranks it may have, from paired data.

    The paired bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993): rows are drawn with
    replacement, the same ones for every run, so that what is hard for all moves no rank. Intervals of ranks
    are its percentiles (Goldstein & Spiegelhalter, JRSS A 1996). Of many rows blocks are drawn, each of as
    many rows taken at random (random groups: Wolter, Introduction to Variance Estimation, 2007), and of rows
    that belong together their clusters.

    Args:
        sums: of each run, the sum of its values in each block, in the same order.
        counts: the rows of each block, at least 1.
        higher_is_better: the metric's direction.
        resamples: how many, at least 1.
        seed: the same seed gives the same numbers.

    Raises:
        ValueError: there is no run or no block, or a run has another number of blocks.
    """
    blocks, runs = len(counts), len(sums)
    if not blocks or not runs or any(len(one) != blocks for one in sums):
        raise ValueError(
            f"a ranking is of runs with as many blocks each, got {runs} runs of {[len(s) for s in sums]} and "
            f"{blocks} blocks"
        )
    draw, places, sign = random.Random(seed), range(blocks), 1.0 if higher_is_better else -1.0
    best, ranks = [0.0] * runs, [(list[int](), list[int]()) for _ in sums]
    for _ in range(resamples):
        drawn = draw.choices(places, k=blocks)
        rows = sum(map(counts.__getitem__, drawn))
        means = [sign * sum(map(one.__getitem__, drawn)) / rows for one in sums]
        top = max(means)
        winners = [n for n, mean in enumerate(means) if top - mean <= _TOLERANCE]
        for n in winners:
            best[n] += 1 / len(winners)
        for (low, high), mean in zip(ranks, means, strict=True):
            low.append(1 + sum(other - mean > _TOLERANCE for other in means))
            high.append(sum(mean - other <= _TOLERANCE for other in means))
    return [
        Ranked(share / resamples, _percentile(low, 0.025), _percentile(high, 0.975))
        for share, (low, high) in zip(best, ranks, strict=True)
    ]


def _percentile(values: list[int], q: float) -> int:
    """The value that at most a share of q lies below, of either end the one farther out."""
    ordered = sorted(values)
    cut = int(min(q, 1 - q) * len(ordered))
    return ordered[cut] if q < 0.5 else ordered[len(ordered) - 1 - cut]


def pareto_front(
    costs: Sequence[float | None], scores: Sequence[float | None], *, higher_is_better: bool = True
) -> list[bool]:
    """Say which runs are on the front of score against cost: none is at least as good for at most as much,
    and better in one of both. Runs without either number are not on it.

    Args:
        costs: dollars of each run.
        scores: its mean.
        higher_is_better: the metric's direction.
    """
    sign = 1.0 if higher_is_better else -1.0
    points = [
        None if cost is None or score is None else (cost, sign * score)
        for cost, score in zip(costs, scores, strict=True)
    ]
    there = [point for point in points if point is not None]
    return [point is not None and not any(_beats(other, point) for other in there) for point in points]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other
