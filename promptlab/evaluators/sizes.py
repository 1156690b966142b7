"""How long texts may be for metrics that compare each part of one with each part of the other."""

from __future__ import annotations

MAX_PRODUCT = 1_000_000_000
"""rapidfuzz holds the interpreter while it works, 35 ms for 10⁹ pairs; the event loop may wait 50 ms."""


def check_product(response: int, reference: int, *, unit: str, remedy: str, limit: int = MAX_PRODUCT) -> None:
    """Refuse texts whose comparison would stop everything else.

    Raises:
        ValueError: the product of the two lengths is above the limit.
    """
    if response * reference > limit:
        raise ValueError(
            f"too long to compare: {response:,} × {reference:,} {unit} (response × reference) is more than {limit:,}; {remedy}"
        )
