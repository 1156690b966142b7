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
            f"too long to compare: {response:,} × {reference:,} {unit} (response × reference) is more "
            f"than {limit:,}; {remedy}"
        )


MAX_CHARS = 1_000_000
"""A tokenizer holds the interpreter while it works, 0.1 s for a text of this length; answers may have 16
times that."""


def check_lengths(*texts: str) -> None:
    """Refuse texts that take seconds to cut into words.

    Raises:
        ValueError: one is longer than MAX_CHARS.
    """
    for text in texts:
        if len(text) > MAX_CHARS:
            raise ValueError(f"too long to compare: {len(text):,} characters; at most {MAX_CHARS:,}")
