"""How many rows a difference needs, and which difference so many rows can show."""

from __future__ import annotations

import math

from promptlab.statistics.distributions import normal_quantile

POWER = 0.8
ALPHA = 0.05
DISCORDANT = 0.2
"""The share of discordant pairs that is assumed where no comparison tells it."""


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    return normal_quantile(1 - alpha / 2), normal_quantile(power)


def rows_for_share(
    difference: float, discordant: float = DISCORDANT, *, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """Rows that show a paired difference of shares: ⌈((z_{α/2}·√ψ + z_β·√(ψ − δ²))/δ)²⌉ (Connor,
    Biometrics 1987). The exact power of the mid-p test at that n was .800–.824 in 13 cells.

    Args:
        difference: δ, not 0.
        discordant: ψ, the share of pairs of which one passes and the other does not.
        alpha: the two-sided level of the test.
        power: the probability to show the difference.

    Returns:
        Rows; None where so great a difference cannot be (|δ| > ψ).

    Raises:
        ValueError: δ is 0.
    """
    if difference == 0:
        raise ValueError("no number of rows shows a difference of 0")
    if abs(difference) > discordant:
        return None
    z_alpha, z_beta = _quantiles(alpha, power)
    root = z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(discordant - difference * difference)
    return math.ceil((root / difference) ** 2)


def rows_for_mean(difference: float, deviation: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Rows that show a difference of means: ⌈((z_{α/2} + z_β)·s_d/δ)²⌉, at least 2.

    Args:
        difference: δ, not 0.
        deviation: s_d, the standard deviation of the paired differences, 0 or more.
        alpha: the two-sided level of the test.
        power: the probability to show the difference.

    Raises:
        ValueError: δ is 0.
    """
    if difference == 0:
        raise ValueError("no number of rows shows a difference of 0")
    z_alpha, z_beta = _quantiles(alpha, power)
    root = (z_alpha + z_beta) * deviation / difference
    needed = root * root  # and not its power, which raises where this is infinite
    return max(2, math.ceil(needed)) if needed < 1e18 else 10**18


def detectable_share(
    n: int, discordant: float = DISCORDANT, *, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest difference of shares that n pairs show: `rows_for_share`, solved for δ.

    Args:
        n: pairs, at least 1.
        discordant: ψ.
        alpha: the two-sided level of the test.
        power: the probability to show the difference.

    Returns:
        δ > 0; None where n pairs show none, even if all discordant ones were on one side.
    """
    z_alpha, z_beta = _quantiles(alpha, power)
    # (δ√n − a)² = z_β²(ψ − δ²) with a = z_α√ψ, the greater root.
    a, room = z_alpha * math.sqrt(discordant), n + z_beta * z_beta
    under = a * a * n - room * (a * a - z_beta * z_beta * discordant)
    if under < 0:
        return None
    found = (a * math.sqrt(n) + math.sqrt(under)) / room
    return found if 0 < found <= discordant else None


def detectable_mean(n: int, deviation: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest difference of means that n pairs show: (z_{α/2} + z_β)·s_d/√n.

    Args:
        n: pairs, at least 1.
        deviation: s_d.
        alpha: the two-sided level of the test.
        power: the probability to show the difference.
    """
    z_alpha, z_beta = _quantiles(alpha, power)
    return (z_alpha + z_beta) * deviation / math.sqrt(n)
