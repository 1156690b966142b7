"""Coverage of intervals of numbers without a range, and of two runs over different rows."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from promptlab.statistics import (
    Interval,
    is_skewed,
    median_interval,
    newcombe,
    numbers_interval,
    student_interval,
    welch,
)
from tests.simulation.coverage import Draw, Table, percent

NUMBERS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda r, reps, n: r.normal(0, 1, (reps, n)), 0.0),
    "uniform": (lambda r, reps, n: r.random((reps, n)), 0.5),
    "exponential": (lambda r, reps, n: r.exponential(1, (reps, n)), 1.0),
    "t, 3 degrees of freedom": (lambda r, reps, n: r.standard_t(3, (reps, n)), 0.0),
    "lognormal(0, 1)": (lambda r, reps, n: r.lognormal(0, 1, (reps, n)), math.exp(0.5)),
}


def numbers_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (5, 20, 100, 500)) -> Table:
    """The interval of a mean of numbers without a range, Student's alone, and the first where the line does
    not say *skewed*."""
    yield (
        "data",
        *(f"n = {n}" for n in sizes),
        *(f"t, n = {n}" for n in sizes),
        *(f"not called skewed, n = {n}" for n in sizes),
    )
    for name, (draw, mean) in NUMBERS.items():
        random = np.random.default_rng(11)
        shipped, alone, unwarned = [], [], []
        for n in sizes:
            values = draw(random, repetitions, n)
            m, s = values.mean(1), values.std(1, ddof=1) / math.sqrt(n)
            skewness = stats.skew(values, axis=1)
            found = list(zip(m.tolist(), s.tolist(), skewness.tolist(), strict=True))
            held = np.array([_holds(numbers_interval(a, b, n, g), mean) for a, b, g in found])
            plain = np.array([not is_skewed(n, g) for _, _, g in found])
            shipped.append(percent(held.mean()))
            alone.append(percent(np.mean([_holds(student_interval(a, b, n), mean) for a, b, _ in found])))
            unwarned.append(percent(held[plain].mean()) if plain.mean() > 0.05 else "–")
        yield (name, *shipped, *alone, *unwarned)


def _holds(ends: Interval, value: float) -> bool:
    return ends.low <= value <= ends.high


MEDIANS = {"normal": 0.0, "exponential": math.log(2), "lognormal(0, 1)": 1.0, "t, 3 degrees of freedom": 0.0}


def medians_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (6, 10, 20, 50, 100)) -> Table:
    """The interval of a median."""
    yield ("data", *(f"n = {n}" for n in sizes))
    for name, median in MEDIANS.items():
        random, row = np.random.default_rng(25), []
        for n in sizes:
            found = [median_interval(values) for values in NUMBERS[name][0](random, repetitions, n).tolist()]
            row.append(percent(np.mean([ends is not None and _holds(ends, median) for ends in found])))
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
