"""Reads posted forms: the framework's parsers want one more package, and take any number of fields."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request
from starlette.exceptions import HTTPException

MOST_FIELDS = 2_000
"""Fields of a form: a million short ones were read in 1.2 s."""
MOST_CHARS = 500_000
"""Characters of a form: where something in it is wrong it is shown again, and a page has at most 4 MB."""


async def form_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a posted form, in their order.

    Raises:
        HTTPException: there are more than MOST_FIELDS, or they are longer than MOST_CHARS.
    """
    body = await request.body()
    if (fields := body.count(b"&") + 1) > MOST_FIELDS:
        raise HTTPException(413, f"This form has {fields:,} fields; {MOST_FIELDS:,} can be read.")
    found = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    if (size := sum(len(name) + len(value) for name, value in found)) > MOST_CHARS:
        raise HTTPException(
            413,
            f"This form has {size:,} characters; {MOST_CHARS:,} can be read. Larger prompts and experiments "
            "come from a file or a script.",
        )
    return found


async def fields_of(request: Request) -> dict[str, list[str]]:
    """The fields of a posted form by their names.

    Raises:
        HTTPException: as in `form_of`.
    """
    found: dict[str, list[str]] = {}
    for name, value in await form_of(request):
        found.setdefault(name, []).append(value)
    return found
