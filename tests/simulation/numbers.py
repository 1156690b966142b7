"""Coverage of intervals of numbers without a range, and of two runs over different rows."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from promptlab.statistics import is_skewed, newcombe, student_interval, welch
from tests.simulation.coverage import Draw, Table, percent

NUMBERS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda r, reps, n: r.normal(0, 1, (reps, n)), 0.0),
    "uniform": (lambda r, reps, n: r.random((reps, n)), 0.5),
    "exponential": (lambda r, reps, n: r.exponential(1, (reps, n)), 1.0),
    "lognormal(0, 1)": (lambda r, reps, n: r.lognormal(0, 1, (reps, n)), math.exp(0.5)),
}


def student_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (5, 20, 100, 500)) -> Table:
    """Student's t of a mean of numbers without a range; in brackets where the line does not say *skewed*."""
    yield ("data", *(f"n = {n}" for n in sizes))
    for name, (draw, mean) in NUMBERS.items():
        random, row = np.random.default_rng(11), []
        for n in sizes:
            values = draw(random, repetitions, n)
            m, s = values.mean(1), values.std(1, ddof=1) / math.sqrt(n)
            ends = [student_interval(a, b, n) for a, b in zip(m.tolist(), s.tolist(), strict=True)]
            held = np.array([e.low <= mean <= e.high for e in ends])
            plain = np.array([not is_skewed(n, g) for g in stats.skew(values, axis=1).tolist()])
            unwarned = percent(held[plain].mean()) if plain.mean() > 0.05 else "–"
            row.append(f"{percent(held.mean())} ({unwarned})")
        yield (name, *row)


SHARES = ((0.5, 0.5), (0.9, 0.7), (0.95, 0.95))


def newcombe_table(sizes: tuple[int, ...] = (20, 50, 200)) -> Table:
    """Newcombe's interval of two shares of different rows, n and 2n of them, exactly."""
    yield ("shares", *(f"n = {n}" for n in sizes))
    for p, q in SHARES:
        row = []
        for n in sizes:
            first = stats.binom.pmf(range(n + 1), n, p)
            second = stats.binom.pmf(range(2 * n + 1), 2 * n, q)
            held = 0.0
            for a in np.flatnonzero(first > 1e-8).tolist():
                for b in np.flatnonzero(second > 1e-8).tolist():
                    ends = newcombe(a, n, b, 2 * n)
                    held += first[a] * second[b] * (ends.low <= q - p <= ends.high)
            row.append(percent(held))
        yield (f"{p:g} and {q:g}", *row)


def welch_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (20, 50, 200)) -> Table:
    """Welch's interval of two means of different rows, n and 2n, the second spread three times as wide."""
    yield ("data", *(f"n = {n}" for n in sizes))
    for name in ("normal", "exponential"):
        draw, mean = NUMBERS[name]
        random, row = np.random.default_rng(22), []
        for n in sizes:
            one, two = draw(random, repetitions, n), 3 * (draw(random, repetitions, 2 * n) - mean) + mean
            moments = [
                zip(v.mean(1).tolist(), v.std(1, ddof=1).tolist(), [v.shape[1]] * repetitions, strict=True)
                for v in (one, two)
            ]
            found = [welch(a, b) for a, b in zip(*moments, strict=True)]
            row.append(percent(np.mean([e.low <= 0 <= e.high for e in found])))
        yield (name, *row)
