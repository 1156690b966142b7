"""Intervals of pass@k, pass^k and the flake rate, as a summary ships them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from promptlab.domain.means import trials_of
from promptlab.domain.results import Score
from promptlab.domain.summary import MetricSummary
from promptlab.statistics import pass_at_k, pass_hat_k
from tests.simulation.coverage import Table, percent

TRIALS = ((0.3, 0.3), (2, 2), (9, 1), (0.2, 3))
"""Beta distributions of a row's rate."""


def trials_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (20, 50, 200)) -> Table:
    """pass@3, pass^3 and the flake rate of five trials a row, with wilson_t's interval: coverage in %."""
    names = ("pass@3", "pass^3", "flake rate")
    yield ("rates of rows", *(f"{name}, n = {n}" for n in sizes for name in names))
    for a, b in TRIALS:
        row = []
        for n in sizes:
            random = np.random.default_rng(17)
            truth = _truths(a, b)
            hits = dict.fromkeys(names, 0)
            for _ in range(repetitions):
                passed = random.binomial(5, random.beta(a, b, n))
                found = _said(np.bincount(passed, minlength=6).tolist())
                for name, ends in found.items():
                    hits[name] += ends[0] - 1e-12 <= truth[name] <= ends[1] + 1e-12
            row += [percent(hits[name] / repetitions) for name in names]
        yield (f"Beta({a:g}, {b:g})", *row)


def _said(counts: list[int]) -> dict[str, tuple[float, float]]:
    """What a summary says of rows by how many of their five trials passed."""
    metric = MetricSummary()
    assert metric.counting is not None
    metric.add_row([Score(passed=True), Score(passed=False)])
    metric.counting.passes = {(c, 5): rows for c, rows in enumerate(counts) if rows}
    said = trials_of(metric)
    found = {
        "pass@3": said["pass_at"]["3"],
        "pass^3": said["pass_hat"]["3"],
        "flake rate": said["flake_rate"],
    }
    return {name: (one["ci_low"], one["ci_high"]) for name, one in found.items()}


def _truths(a: float, b: float) -> dict[str, float]:
    """The means over rows whose rate is Beta(a, b)."""

    def over(value: Callable[[int], float]) -> float:
        # Of five trials c pass with a beta-binomial's probability, and each estimator is unbiased.
        def log_b(x: float, y: float) -> float:
            return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

        return sum(
            math.comb(5, c) * math.exp(log_b(c + a, 5 - c + b) - log_b(a, b)) * value(c) for c in range(6)
        )

    return {
        "pass@3": over(lambda c: pass_at_k(c, 5, 3)),
        "pass^3": over(lambda c: pass_hat_k(c, 5, 3)),
        "flake rate": over(lambda c: 2 * c * (5 - c) / 20),
    }
