"""The part of `math_equal` that runs in a child process, which is ended where sympy takes too long."""

from __future__ import annotations

import logging
from typing import Any

MOST_SHOWN = 200


def equal(
    response: str, references: list[str], decimals: int, sets_by_relation: bool
) -> tuple[bool, str | None, str | None]:
    """Compare the expression in a response with those of references.

    Returns:
        Whether it equals one of them, how it was read (None: there is none), and the first reference that
        has no expression.
    """
    from math_verify import parse, verify  # type: ignore[import-not-found, import-untyped, unused-ignore]

    # This process is held to its processor time by the kernel: the package's own clocks are of no use here.
    logging.disable(logging.WARNING)
    golds = [_read(parse, reference) for reference in references]
    for reference, gold in zip(references, golds, strict=True):
        if not gold:
            return False, None, reference
    said: list[Any] = parse(response, parsing_timeout=None)
    if not said:
        return False, None, None
    shown = str(said[-1])[:MOST_SHOWN]
    for gold in golds:
        if verify(
            gold,
            said,
            float_rounding=decimals,
            allow_set_relation_comp=sets_by_relation,
            timeout_seconds=None,
        ):
            return True, shown, None
    return False, shown, None


def _read(parse: Any, reference: str) -> list[Any]:
    """Read a reference as LaTeX, which in datasets mostly stands without its dollars; else as it is."""
    if "$" not in reference and "\\boxed" not in reference and "\\(" not in reference:
        found: list[Any] = parse(f"${reference}$", parsing_timeout=None)
        if found:
            return found
    return list(parse(reference, parsing_timeout=None))
