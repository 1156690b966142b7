"""Coverage over rows that belong together: of means, and of differences as they are judged."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from promptlab.statistics import clustered, clustered_bp_t, student_interval, wilson_t
from tests.simulation.coverage import Table, percent

GROUPS = (5, 10, 30)
MEANS = ((0.5, 0.3), (0.7, 0.05), (0.9, 0.3), (0.9, 0.6))
"""The share that passes, and the intraclass correlation."""


def sizes_of(random: np.random.Generator, groups: int, unequal: bool) -> np.ndarray:
    """Five rows a cluster, or 2 to 20."""
    return random.integers(2, 21, groups) if unequal else np.full(groups, 5)


def numbers_table(repetitions: int = 10_000, groups: tuple[int, ...] = GROUPS) -> Table:
    """CR1 (sizes alike) and CR3 (sizes apart) with t, of numbers with an intraclass correlation."""
    shares = (0.05, 0.3, 0.6)
    yield ("clusters", *(f"sizes {sizes}, ICC {icc:g}" for sizes in ("5", "2–20") for icc in shares))
    for g in groups:
        row = []
        for icc, unequal in ((icc, unequal) for unequal in (False, True) for icc in shares):
            random = np.random.default_rng(14)
            hits = 0
            for _ in range(repetitions):
                sizes = sizes_of(random, g, unequal)
                noise = random.normal(0, np.sqrt((1 - icc) * sizes))
                sums = sizes * random.normal(0, math.sqrt(icc), g) + noise
                found = clustered({k: (float(sums[k]), int(sizes[k])) for k in range(g)})
                ends = student_interval(found.mean, found.stderr, g, df=found.df)
                hits += ends.low <= 0 <= ends.high
            row.append(percent(hits / repetitions))
        yield (f"{g}", *row)


def shares_table(repetitions: int = 10_000, groups: tuple[int, ...] = GROUPS) -> Table:
    """wilson_t of a pass/fail mean with the clusters' standard error; in brackets Student's."""
    yield ("clusters", "sizes", *(f"p {p:g}, ICC {icc:g}" for p, icc in MEANS))
    for unequal in (False, True):
        for g in groups:
            row = []
            for p, icc in MEANS:
                random = np.random.default_rng(16)
                a, b = p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc
                ours = plain = 0
                for _ in range(repetitions):
                    sizes = sizes_of(random, g, unequal)
                    sums = random.binomial(sizes, random.beta(a, b, g))
                    found = clustered({k: (float(sums[k]), int(sizes[k])) for k in range(g)})
                    ends = wilson_t(found.mean, found.stderr, found.df + 1)
                    ours += ends.low <= p <= ends.high
                    ends = student_interval(found.mean, found.stderr, g, df=found.df)
                    plain += ends.low <= p <= ends.high
                row.append(f"{percent(ours / repetitions)} ({percent(plain / repetitions)})")
            yield (f"{g}", "2 to 20" if unequal else "5", *row)


Drawn = tuple[np.ndarray, float]
"""The sum of the differences of each cluster, and of their squares over all rows."""


def _alone(random: np.random.Generator, sizes: np.ndarray) -> Drawn:
    differ = random.binomial(sizes, 0.25)
    return 2.0 * random.binomial(differ, 0.5) - differ, float(differ.sum())


def _together(random: np.random.Generator, sizes: np.ndarray) -> Drawn:
    differ = random.binomial(sizes, 0.25)
    rose = random.binomial(differ, random.beta(1, 1, len(sizes)))
    return 2.0 * rose - differ, float(differ.sum())


def _lopsided(random: np.random.Generator, sizes: np.ndarray) -> Drawn:
    kind = random.random(len(sizes))
    moved = np.where(kind < 0.05, -0.5, np.where(kind < 0.55, 0.05, 0.0))
    return moved * sizes, float((moved * moved * sizes).sum())


DIFFERENCES: dict[str, Callable[[np.random.Generator, np.ndarray], Drawn]] = {
    "pass/fail, rows alone": _alone,
    "pass/fail, clusters lean": _together,
    "5% of clusters lose .5, half gain .05": _lopsided,
}


def differences_table(repetitions: int = 10_000, groups: tuple[int, ...] = (*GROUPS, 100)) -> Table:
    """Differences of bounded numbers over clusters as they are judged; in brackets Student's t(G − 1)."""
    yield ("clusters", "sizes", *DIFFERENCES)
    for unequal in (False, True):
        for g in groups:
            row = []
            for draw in DIFFERENCES.values():
                random = np.random.default_rng(23)
                ours = plain = 0
                for _ in range(repetitions):
                    sizes = sizes_of(random, g, unequal)
                    sums, squares = draw(random, sizes)
                    found = clustered({k: (float(sums[k]), int(sizes[k])) for k in range(g)})
                    n = int(sizes.sum())
                    spread = math.sqrt(max(squares - n * found.mean**2, 0.0) / (n - 1))
                    ends = clustered_bp_t(found.mean, spread, found.stderr, n, 1.0, df=found.df)
                    ours += ends.low <= 0 <= ends.high
                    alone = student_interval(found.mean, found.stderr, g)
                    plain += alone.low <= 0 <= alone.high
                row.append(f"{percent(ours / repetitions)} ({percent(plain / repetitions)})")
            yield (f"{g}", "2 to 20" if unequal else "5", *row)
