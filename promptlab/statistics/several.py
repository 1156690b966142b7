"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float], *, tests: int | None = None) -> list[float]:
    """Adjusted p of a family of tests (Holm, Scandinavian Journal of Statistics 1979), in their order.

    The k-th smallest of m times m − k + 1, never below a smaller one's, at most 1. To reject where the
    adjusted p is ≤ α keeps the probability of any false rejection at α, however the tests depend on each
    other.

    Args:
        p_values: each from 0 to 1.
        tests: m, where the family has further tests that nobody made: they count as if none was rejected,
            which errs to the safe side.
    """
    m, highest = max(tests or 0, len(p_values)), 0.0
    adjusted = [0.0] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (m - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
