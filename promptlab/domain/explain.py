"""Says in plain words what is wrong with a configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_SHOWN = 20
"""How many problems one message lists."""
_DEPTH = 8
"""Steps of a path that are looked at."""
_FORM = re.compile(
    r"constrained-\w+|[A-Z]\w+Config|\[key\]|(dict|list|tuple|union|literal|nullable|function-[\w-]+)\[.*\]?"
)
"""A part of a path that names a type: Pydantic's words for a union of which no form has a name of ours."""
_PLAIN = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "model_type": "must be a name, or a mapping of its fields",
    "dict_type": "must be a mapping",
}


def explain(
    error: ValidationError,
    what: str,
    model: type[BaseModel],
    *,
    aliases: Sequence[str] = (),
    nested: Mapping[str, type[BaseModel]] = MappingProxyType({}),
) -> str:
    """Say in plain words what a validation error found: one line a field.

    Args:
        error: what Pydantic found.
        what: what the user wrote, as in "experiment".
        model: the model that refused it; an unknown field is met with the nearest of its names.
        aliases: further names that the model takes.
        nested: the models of its fields that hold fields of their own.
    """
    lines = []
    found = _of_the_form_given(error.errors(include_url=False))
    for item in found[:_SHOWN]:
        place = _place(item)
        text = _PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            inner = len(place) > 1
            fields = (
                nested.get(str(place[0]), model).model_fields if inner else (*model.model_fields, *aliases)
            )
            near = difflib.get_close_matches(str(place[-1])[:100], fields, n=1)
            text = f"unknown field{f', did you mean {near[0]!r}?' if near else ''}"
        elif item["type"] not in ("value_error", "missing") and not isinstance(item["input"], dict | list):
            text += f" (got {_cut(repr(item['input']))})"
        path = ".".join(_cut(str(part)) for part in place)
        lines.append(f"{path}: {text}" if path else text)
    lines = list(dict.fromkeys(lines))
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN:,} more")
    return (
        f"This {what} is not valid: {lines[0]}"
        if len(lines) == 1
        else f"This {what} is not valid:\n" + "\n".join(f"  - {line}" for line in lines)
    )


def _place(item: ErrorDetails) -> list[int | str]:
    """Where a problem is, without what Pydantic adds to the path for unions: forms, not fields."""
    return [p for p in item["loc"] if p not in ("fields", "reference") and not _FORM.fullmatch(str(p)[:200])]


def _of_the_form_given(found: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a mapping is not of the other forms that its field takes, where it is said what is wrong
    inside of it."""
    inside = {tuple(place[:n]) for place in map(_place, found) for n in range(min(len(place), _DEPTH))}
    return [
        item
        for item in found
        if not (
            (item["type"].endswith("_type") or item["type"] == "literal_error")
            and isinstance(item["input"], dict | list)
            and tuple(_place(item)) in inside
        )
    ]


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
