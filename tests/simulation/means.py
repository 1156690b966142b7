"""Intervals of a run's means as a summary ships them: over clusters, and of pass@k and pass^k."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from promptlab.domain.means import trials_of
from promptlab.domain.results import Score
from promptlab.domain.summary import MetricSummary
from promptlab.statistics import clustered, pass_at_k, pass_hat_k, student_interval, wilson_t
from tests.simulation.coverage import Table, percent

CLUSTERED = ((0.5, 0.3), (0.7, 0.05), (0.9, 0.3), (0.9, 0.6))
"""The share that passes, and the intraclass correlation."""


def clustered_share_table(repetitions: int = 10_000, groups: tuple[int, ...] = (5, 10, 30)) -> Table:
    """wilson_t of a pass/fail mean with the clusters' standard error and t(G − 1); in brackets Student's."""
    yield ("clusters", "sizes", *(f"p {p:g}, ICC {icc:g}" for p, icc in CLUSTERED))
    for unequal in (False, True):
        for g in groups:
            row = []
            for p, icc in CLUSTERED:
                random = np.random.default_rng(16)
                a, b = p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc
                ours = plain = 0
                for _ in range(repetitions):
                    sizes = random.integers(2, 21, g) if unequal else np.full(g, 5)
                    sums = random.binomial(sizes, random.beta(a, b, g))
                    found = clustered({k: (float(sums[k]), int(sizes[k])) for k in range(g)})
                    ends = wilson_t(found.mean, found.stderr, g)
                    ours += ends.low <= p <= ends.high
                    ends = student_interval(found.mean, found.stderr, g)
                    plain += ends.low <= p <= ends.high
                row.append(f"{percent(ours / repetitions)} ({percent(plain / repetitions)})")
            yield (f"{g}", "2 to 20" if unequal else "5", *row)


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
