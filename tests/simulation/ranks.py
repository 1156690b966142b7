"""Rankings of sweeps: the paired bootstrap of ranks, and the verdicts against the leader."""

from __future__ import annotations

import numpy as np

from promptlab.statistics import RESAMPLES, Ranked, judge
from tests.simulation.coverage import Table, percent
from tests.simulation.families import data_of

SWEEPS = ((3, 100), (5, 100), (5, 400), (10, 400))
"""Runs and rows."""
STEP = 0.02
"""How much better each run is than the next one, where they differ: the best one is right in 80% of rows."""


_FEW = 40
"""Kinds of rows from which on it is faster to draw the rows themselves."""


def shares_of(random: np.random.Generator, runs: int, rows: int, step: float) -> np.ndarray:
    """Pass or fail of runs over the same rows: a row is as hard for all, so that half of it is shared."""
    common, own = random.random(rows), random.random((runs, rows))
    u = np.where(random.random(rows) < 0.5, common, own)
    rates = 0.8 - step * np.arange(runs)
    return (u < rates[:, None]).astype(float)


def ranks_of(random: np.random.Generator, values: np.ndarray) -> list[Ranked]:
    """What `bootstrap_ranks` makes of these runs, by numpy, which is fast enough to be repeated 10,000 times.
    Rows that are alike are drawn together, as long as there are few kinds of them."""
    runs, rows = values.shape
    places = 1 << np.arange(runs)
    alike, counts = np.unique(places @ values.astype(int), return_counts=True)
    if len(alike) <= _FEW:
        passed = (alike[:, None] & places) > 0
        means = random.multinomial(rows, counts / rows, size=RESAMPLES) @ passed / rows
    else:
        drawn = random.integers(0, rows, (RESAMPLES, rows), np.uint16) + rows * np.arange(RESAMPLES)[:, None]
        times = np.bincount(drawn.ravel(), minlength=RESAMPLES * rows).reshape(RESAMPLES, rows)
        means = times.astype(float) @ values.T / rows
    above = means[:, None, :] - means[:, :, None] > 1e-12
    low, tied = 1 + above.sum(2), (~above & ~above.transpose(0, 2, 1)).sum(2)
    best = ((low == 1) / tied).mean(0)
    ends = np.sort(low, 0)[25], np.sort(low + tied - 1, 0)[-26]
    return [Ranked(float(p), int(a), int(b)) for p, a, b in zip(best, *ends, strict=True)]


def ranking_table(repetitions: int = 10_000, sweeps: tuple[tuple[int, int], ...] = SWEEPS) -> Table:
    """Rank intervals, P(best) and verdicts against the leader, of runs .02 apart and of equal ones."""
    yield (
        "runs, rows",
        "rank interval holds the true rank",
        "P(best) ≥ 95%: how often, and how often it is the best",
        "called worse than the leader: how often is it",
        "equal runs: P(best) ≥ 95%",
        "equal runs: some is worse than the leader",
    )
    for runs, rows in sweeps:
        random = np.random.default_rng(18)
        held = sure = right = called = truly = equal_sure = equal_worse = 0
        for _ in range(repetitions):
            values = shares_of(random, runs, rows, STEP)
            ranked = ranks_of(random, values)
            held += sum(one.low <= place + 1 <= one.high for place, one in enumerate(ranked))
            best = int(np.argmax([one.p_best for one in ranked]))
            if ranked[best].p_best >= 0.95:
                sure, right = sure + 1, right + (best == 0)
            leader, worse = behind(values)
            called, truly = called + len(worse), truly + sum(n > leader for n in worse)
            equal = shares_of(random, runs, rows, 0.0)
            equal_sure += any(one.p_best >= 0.95 for one in ranks_of(random, equal))
            equal_worse += bool(behind(equal)[1])
        yield (
            f"{runs}, {rows}",
            percent(held / repetitions / runs),
            f"{percent(sure / repetitions)}, {percent(right / max(sure, 1))}",
            percent(truly / max(called, 1)),
            percent(equal_sure / repetitions),
            percent(equal_worse / repetitions),
        )


def behind(values: np.ndarray) -> tuple[int, list[int]]:
    """The run with the best mean, and those that are called worse than it, over all pairs."""
    leader, runs = int(values.mean(1).argmax()), len(values)
    others = [n for n in range(runs) if n != leader]
    pairs = data_of(np.repeat(values[leader][None], runs - 1, 0), values[others], kind="binary")
    found = judge(pairs, tests=runs * (runs - 1) // 2)
    return leader, [n for n, one in zip(others, found, strict=True) if one.verdict == "worse"]
