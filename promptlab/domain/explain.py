"""Says in plain words what is wrong with a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import BaseModel, ValidationError

_SHOWN = 20
"""How many problems one message lists."""
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
    found = error.errors(include_url=False)
    for item in found[:_SHOWN]:
        # Pydantic adds the tags of our unions to the path: forms, not fields.
        place = [p for p in item["loc"] if p not in ("fields", "reference")]
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


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
