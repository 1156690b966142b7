"""What the statistics are held against: random inputs that are the same each time, and exact enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from scipy import stats

EXACT = {"rel": 1e-9, "abs": 1e-12}
"""How near a statistic is to its oracle."""


def over(*strategies: Any, examples: int = 80, **named: Any) -> Callable[[Any], Any]:
    """Run a test over random inputs: the same on every machine and in every order."""

    def decorate(test: Any) -> Any:
        fixed = settings(derandomize=True, deadline=None, database=None, max_examples=examples)
        return fixed(given(*strategies, **named)(test))

    return decorate


def tables(n: int, better: float, worse: float) -> Iterator[tuple[int, int, float]]:
    """Each (improved, regressed) of n pairs with its probability, those below 1e-12 left out."""
    log_odds = math.log(better / (1 - worse)), math.log1p(-better / (1 - worse))
    for c in range(n + 1):
        p_c = stats.binom.pmf(c, n, worse)
        if p_c < 1e-13:
            continue
        for b in range(n - c + 1):
            log = math.lgamma(n - c + 1) - math.lgamma(b + 1) - math.lgamma(n - c - b + 1)
            p = p_c * math.exp(log + b * log_odds[0] + (n - c - b) * log_odds[1])
            if p > 1e-12:
                yield b, c, p
