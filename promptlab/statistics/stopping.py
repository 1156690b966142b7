"""Looking before the end: boundaries of group-sequential tests, and an e-process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from promptlab.statistics.distributions import log_beta, normal_cdf, normal_quantile, normal_two_sided

_NODES = 64
"""Points of an integral: the boundaries of ten and of fifty looks are the same with 128, to 1e-14."""


def obrien_fleming(looks: int | Sequence[float], alpha: float = 0.05) -> list[float]:
    """The boundaries |z| ≥ z_k of a two-sided test that looks several times.

    Error is spent as by Lan & DeMets (Biometrika 1983) for O'Brien & Fleming (Biometrics 1979): by the share
    t of the rows, α*(t) = 2 − 2Φ(z_{α/2}/√t) is spent. The boundaries that spend it follow by recursive
    integration (Armitage, McPherson & Rowe, JRSS A 1969).

    Args:
        looks: how many, at equal distances, at least 1; or the shares of the rows seen at each, rising to 1.
        alpha: the probability of any false rejection, 0 < α < 1.

    Returns:
        z_k of each look: 4.3826, 3.0997, 2.5534, 2.2538, 2.0635 for five at 5%.

    Raises:
        ValueError: there is no look, or the shares do not rise within (0, 1].
    """
    shares = [(k + 1) / looks for k in range(looks)] if isinstance(looks, int) else [float(t) for t in looks]
    if not shares or not all(0 < a < b <= 1 for a, b in zip([1e-12, *shares], shares, strict=False)):
        raise ValueError(f"looks must be at least one, at rising shares of the rows in (0, 1], got {looks}")
    return list(_boundaries(tuple(shares), alpha))


@lru_cache(maxsize=64)
def _boundaries(shares: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    z = -normal_quantile(alpha / 2)
    spent = [normal_two_sided(z / math.sqrt(t)) for t in shares]
    found = [z / math.sqrt(shares[0])]
    # The density of √t·Z where no boundary was reached: symmetric, so that x ≥ 0 is enough.
    width = math.sqrt(shares[0])
    nodes, weights = _legendre(found[0] * width)
    density = [math.exp(-0.5 * (x / width) ** 2) / (width * math.sqrt(2 * math.pi)) for x in nodes]
    for k in range(1, len(shares)):
        step = math.sqrt(shares[k] - shares[k - 1])
        mass = [w * d for w, d in zip(weights, density, strict=True)]
        bound = _bound(nodes, mass, step, spent[k] - spent[k - 1], math.sqrt(shares[k]))
        found.append(bound / math.sqrt(shares[k]))
        if k + 1 < len(shares):
            following, weights = _legendre(bound)
            density = [_density(x, nodes, mass, step) for x in following]
            nodes = following
    return tuple(found)


def _bound(nodes: Sequence[float], mass: Sequence[float], step: float, wanted: float, scale: float) -> float:
    """The bound that paths from `nodes` reach with probability `wanted`, one look later."""
    low, high = 0.0, 40.0 * scale
    for _ in range(60):
        middle = (low + high) / 2
        reached = 2 * math.fsum(
            m * (normal_cdf((x - middle) / step) + normal_cdf((-x - middle) / step))
            for x, m in zip(nodes, mass, strict=True)
        )
        if reached > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _density(x: float, nodes: Sequence[float], mass: Sequence[float], step: float) -> float:
    total = math.fsum(
        m * (math.exp(-0.5 * ((x - at) / step) ** 2) + math.exp(-0.5 * ((x + at) / step) ** 2))
        for at, m in zip(nodes, mass, strict=True)
    )
    return total / (step * math.sqrt(2 * math.pi))


def _legendre(end: float) -> tuple[list[float], list[float]]:
    """Gauss's nodes and weights on [0, end]."""
    nodes, weights = _unit_legendre()
    return [end * (x + 1) / 2 for x in nodes], [end * w / 2 for w in weights]


@lru_cache(maxsize=1)
def _unit_legendre() -> tuple[list[float], list[float]]:
    """Gauss-Legendre nodes and weights on [−1, 1] by Newton's method (Press et al., 4.6)."""
    nodes, weights = [], []
    for i in range(_NODES):
        x = math.cos(math.pi * (i + 0.75) / (_NODES + 0.5))
        for _ in range(100):
            now, before = 1.0, 0.0
            for k in range(_NODES):
                now, before = ((2 * k + 1) * x * now - k * before) / (k + 1), now
            slope = _NODES * (x * now - before) / (x * x - 1)
            x -= (step := now / slope)
            if abs(step) < 1e-15:
                break
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope * slope))
    return nodes, weights


def e_value(improved: int, regressed: int) -> float:
    """The e-process of "as many improve as regress", after b + c discordant pairs.

    M = B(b + ½, c + ½)/B(½, ½)·2^{b+c}: the mixture of all coins over a Beta(½, ½) against the fair one
    (Robbins, Annals of Mathematical Statistics 1970). P(M ever ≥ 1/α) ≤ α (Ville), so that anybody may look
    at any time and stop.

    Args:
        improved: pairs that passed in the other run only (b), 0 or more.
        regressed: pairs that passed in the base only (c), 0 or more.

    Returns:
        M, from 0 up; at most 1e300.
    """
    log = log_beta(improved + 0.5, regressed + 0.5) - math.log(math.pi)
    return math.exp(min(log + (improved + regressed) * math.log(2), 690.0))
