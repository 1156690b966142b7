"""Several answers to the same row: pass@k, pass^k and how often a row flips."""

from __future__ import annotations

import math


def pass_at_k(passed: int, trials: int, k: int) -> float:
    """The probability that at least one of k answers passes, unbiased: 1 − C(n − c, k)/C(n, k) (Chen et al.,
    "Evaluating Large Language Models Trained on Code", 2021).

    Args:
        passed: answers that passed (c), from 0 to `trials`.
        trials: answers (n).
        k: from 1 to `trials`.

    Raises:
        ValueError: k or `passed` is out of its range.
    """
    _check(passed, trials, k)
    return 1 - math.comb(trials - passed, k) / math.comb(trials, k)


def pass_hat_k(passed: int, trials: int, k: int) -> float:
    """The probability that all of k answers pass, unbiased: C(c, k)/C(n, k) (pass^k; Yao et al., "τ-bench",
    2024).

    Args:
        passed: answers that passed (c), from 0 to `trials`.
        trials: answers (n).
        k: from 1 to `trials`.

    Raises:
        ValueError: k or `passed` is out of its range.
    """
    _check(passed, trials, k)
    return math.comb(passed, k) / math.comb(trials, k)


def at_least_k(passed: int, k: int) -> float:
    """1 where at least k answers of a row passed, else 0; about these answers, not about further ones."""
    return float(passed >= k)


def flake_rate(passed: int, trials: int) -> float:
    """The probability that two answers to the same row differ, unbiased: 2c(n − c)/(n(n − 1)), from 0 to 1.

    1 − pass^2 of passing − pass^2 of failing; Gini's index of a row (Simpson, Nature 1949).

    Args:
        passed: answers that passed (c), from 0 to `trials`.
        trials: answers (n), at least 2.

    Raises:
        ValueError: there are fewer than two answers, or `passed` is out of its range.
    """
    _check(passed, trials, 2)
    return 2 * passed * (trials - passed) / (trials * (trials - 1))


def _check(passed: int, trials: int, k: int) -> None:
    if not (0 <= passed <= trials and 1 <= k <= trials):
        raise ValueError(f"k must be from 1 to the trials, got k={k} of {passed} passed in {trials} trials")
