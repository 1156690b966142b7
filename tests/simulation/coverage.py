"""Coverage of every interval as shipped: by enumeration for pass/fail, else by repetitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from promptlab.statistics import (
    Moments,
    bp_t,
    paired_t,
    ppi_mean,
    student_interval,
    tango_z,
    wilson,
    wilson_t,
)
from tests.unit.oracles import tables

Z = 1.959963984540054
Table = Iterator[tuple[str, ...]]
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def wilson_table(sizes: tuple[int, ...] = (5, 20, 50, 100, 200, 1000)) -> Table:
    """Wilson's interval of a share, exactly: mean over p of .01 to .99, and the worst p."""
    yield ("n", "mean over p", "worst", "at p")
    shares = np.arange(0.01, 0.995, 0.01)
    for n in sizes:
        ends = [wilson(k, n) for k in range(n + 1)]
        low, high = np.array([e.low for e in ends]), np.array([e.high for e in ends])
        covered = [
            float(stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum()) for p in shares
        ]
        worst = int(np.argmin(covered))
        yield f"{n:,}", percent(np.mean(covered)), percent(covered[worst]), f"{shares[worst]:.2f}"


def tango_table(sizes: tuple[int, ...] = (20, 50, 100, 200)) -> Table:
    """Tango's interval and the error of *not worse*, exactly, over ψ .02–.5 with ψn ≥ 1."""
    yield ("n", "cells", "mean", "worst", "at ψ, δ", "not-worse error, worst")
    for n in sizes:
        cells, errors = [], []
        for psi in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
            if psi * n < 1:
                continue
            for delta in (0.0, psi / 4, psi / 2, 0.95 * psi):
                covered = wrong = 0.0
                for b, c, p in tables(n, (psi - delta) / 2, (psi + delta) / 2):
                    z = tango_z(b, c, n, -delta)  # the truth is −δ, the margin δ
                    covered += p * (abs(z) <= Z)
                    wrong += p * (z > Z)
                cells.append((covered, f"{psi:g}, {delta:.3g}"))
                if delta >= 0.01:
                    errors.append(wrong)
        worst = min(cells)
        mean = percent(np.mean([c for c, _ in cells]))
        yield f"{n:,}", str(len(cells)), mean, percent(worst[0]), worst[1], percent(max(errors))


def beta(a: float, b: float) -> Draw:
    return lambda r, reps, n: r.beta(a, b, (reps, n))


def f1_like(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    kind = r.random((reps, n))
    return np.where(kind < 0.25, 0.0, np.where(kind < 0.6, 1.0, r.beta(2, 2, (reps, n))))


def judge_marks(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    """Marks of 1 to 5, 70% of them 5, scaled to [0, 1]."""
    return r.choice([0, 0.25, 0.5, 0.75, 1.0], p=[0.03, 0.04, 0.08, 0.15, 0.7], size=(reps, n))


def collapses(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    """1 but for 4% of low ones."""
    return np.where(r.random((reps, n)) < 0.04, r.uniform(0, 0.3, (reps, n)), 1.0)


def trials_of(a: float, b: float, k: int) -> Draw:
    return lambda r, reps, n: r.binomial(k, r.beta(a, b, (reps, n))) / k


BOUNDED: dict[str, tuple[Draw, float]] = {
    "Beta(2, 5)": (beta(2, 5), 2 / 7),
    "Beta(.5, .5)": (beta(0.5, 0.5), 0.5),
    "F1-like": (f1_like, 0.55),
    "Beta(2, .2)": (beta(2, 0.2), 2 / 2.2),
    "judge 1–5, 70% top": (judge_marks, 0.03 * 0 + 0.04 * 0.25 + 0.08 * 0.5 + 0.15 * 0.75 + 0.7),
    "1 but for 4% low": (collapses, 0.96 + 0.04 * 0.15),
    "5 trials, Beta(.3, .3)": (trials_of(0.3, 0.3, 5), 0.5),
    "3 trials, Beta(9, 1)": (trials_of(9, 1, 3), 0.9),
}


def wilson_t_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (20, 50, 100, 200)) -> Table:
    """wilson_t of bounded numbers, and Student's t of the same data."""
    yield ("data", *(f"n = {n}" for n in sizes), *(f"t, n = {n}" for n in sizes[:2]))
    for name, (draw, mean) in BOUNDED.items():
        random = np.random.default_rng(12)
        shares, plain = [], []
        for n in sizes:
            values = draw(random, repetitions, n)
            m, s = values.mean(1), values.std(1, ddof=1) / math.sqrt(n)
            ends = [wilson_t(a, b, n) for a, b in zip(m.tolist(), s.tolist(), strict=True)]
            shares.append(percent(np.mean([e.low <= mean <= e.high for e in ends])))
            t = student_interval(0.0, 1.0, n).high
            plain.append(percent(np.mean(np.abs(m - mean) <= t * s)))
        yield (name, *shares, *plain[:2])


def half_change(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    """F1 of which a fifth of the answers changes."""
    changed = r.random((reps, n)) < 0.2
    return np.where(changed, f1_like(r, reps, n) - f1_like(r, reps, n), 0.0)


def lopsided(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    """5% lose .5, half gain .05: the mean is 0."""
    kind = r.random((reps, n))
    return np.where(kind < 0.05, -0.5, np.where(kind < 0.55, 0.05, 0.0))


def flips(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    """Five trials of either run; a tenth of the rows has another rate."""
    rate = r.beta(0.3, 0.3, (reps, n))
    moved = np.where(r.random((reps, n)) < 0.1, r.beta(0.3, 0.3, (reps, n)), rate)
    return r.binomial(5, moved) / 5 - r.binomial(5, rate) / 5


def lognormal_pairs(r: np.random.Generator, reps: int, n: int) -> np.ndarray:
    return r.lognormal(0, 1, (reps, n)) - r.lognormal(0, 1, (reps, n))


PAIRS: dict[str, tuple[Draw, bool]] = {
    "F1, 20% of the answers change": (half_change, True),
    "5% lose .5, half gain .05": (lopsided, True),
    "5 trials, 10% of the rows flip": (flips, True),
    "latency-like (lognormal), t": (lognormal_pairs, False),
}


def bp_t_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (20, 50, 200)) -> Table:
    """bp_t of paired differences (t where they have no bound), and Student's t of the same data."""
    yield ("differences, mean 0", *(f"n = {n}" for n in sizes), *(f"t, n = {n}" for n in sizes))
    for name, (draw, bounded) in PAIRS.items():
        random = np.random.default_rng(13)
        shipped, plain = [], []
        for n in sizes:
            d = draw(random, repetitions, n)
            found = list(zip(d.mean(1).tolist(), d.std(1, ddof=1).tolist(), strict=True))
            by_t = [paired_t(m, s / math.sqrt(n), n) for m, s in found]
            ours = [bp_t(m, s, n, 1.0) for m, s in found] if bounded else by_t
            shipped.append(percent(np.mean([e.low <= 0 <= e.high for e in ours])))
            plain.append(percent(np.mean([e.low <= 0 <= e.high for e in by_t])))
        yield (name, *shipped, *plain)


def ppi_table(repetitions: int = 10_000) -> Table:
    """PPI++ with wilson_t: coverage, its width, and that of the labels alone."""
    yield ("θ", "judge TPR/TNR", "judged/labelled", "covered", "width", "labels only")
    for theta, tpr, tnr, big, n in (
        (0.7, 0.8, 0.8, 1000, 100),
        (0.7, 0.95, 0.9, 1000, 100),
        (0.7, 0.6, 0.6, 1000, 100),
        (0.9, 0.95, 0.9, 1000, 50),
        (0.9, 0.95, 0.9, 1000, 200),
    ):
        random = np.random.default_rng(15)
        hits, width, alone = 0, 0.0, 0.0
        for _ in range(repetitions):
            y = (random.random(big + n) < theta).astype(float)
            f = (random.random(big + n) < np.where(y == 1, tpr, 1 - tnr)).astype(float)
            rest = f[n:]
            moments = Moments(big, float(rest.mean()), float(((rest - rest.mean()) ** 2).sum()))
            found = ppi_mean(moments, y[:n].tolist(), f[:n].tolist())
            hits += found.low <= theta <= found.high
            width += found.high - found.low
            ends = wilson(float(y[:n].sum()), n)
            alone += ends.high - ends.low
        yield (
            f"{theta:g}",
            f"{tpr:g}/{tnr:g}",
            f"{big:,}/{n}",
            percent(hits / repetitions),
            f"{width / repetitions:.3f}",
            f"{alone / repetitions:.3f}",
        )


def percent(share: float) -> str:
    """93.4 for .934."""
    return f"{100 * float(share):.1f}"
