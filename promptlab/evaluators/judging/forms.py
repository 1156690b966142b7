"""The forms of a judge's answers, and how an answer is read: strictly, the last one counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from promptlab.evaluators.judging.texts import visible

MOST_READ = 200_000
"""Characters of an answer that are looked at: its end, where the last grade is."""
MOST_STARTS = 1_000
"""Places of an answer at which an object may begin that are looked at, from its end."""
MOST_CLAIMS = 500
"""Claims of one answer."""
MOST_NUMBERED = 200
"""Pieces of context that are judged one by one."""


class UnreadableError(ValueError):
    """An answer that is not of its form; the message says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a judge answers: a JSON object with these members, all of them, in this order."""

    name: str
    members: Mapping[str, Any]
    """Name → JSON Schema."""
    schema: dict[str, Any] = field(init=False, repr=False, compare=False)
    """The JSON Schema, as strict structured output wants it."""
    described: str = field(init=False, repr=False, compare=False)
    """The form in words, for the prompt."""

    def __post_init__(self) -> None:
        schema = _object(self.members)
        object.__setattr__(self, "schema", schema)
        object.__setattr__(self, "described", json.dumps(schema, ensure_ascii=False))

    @property
    def response_format(self) -> dict[str, Any]:
        """The schema in OpenAI's form, which every provider of ours reads."""
        return {
            "type": "json_schema",
            "json_schema": {"name": self.name, "strict": True, "schema": self.schema},
        }

    def read(self, answer: str) -> dict[str, Any]:
        """Read an answer: its last object that has the form.

        Raises:
            UnreadableError: there is none.
        """
        graded = self.members.keys() - {"reasoning"}
        for found in reversed(_objects(visible(answer))):
            if found.keys() & graded:
                return {name: _value(found, name, schema) for name, schema in self.members.items()}
        raise UnreadableError("there is no JSON object with " + " and ".join(self.members))


def label_form(labels: Sequence[str]) -> Form:
    """A reasoning, then one of some labels: the very same form for the same labels, for a metric asks for it
    with every case."""
    return _label_form(tuple(labels))


@lru_cache(maxsize=64)
def _label_form(labels: tuple[str, ...]) -> Form:
    return Form(
        "judgement",
        {"reasoning": {"type": "string"}, "label": {"type": "string", "enum": list(labels)}},
    )


def items_form(fields: Mapping[str, Any]) -> Form:
    """A list of objects with these members."""
    return Form("judgements", {"items": {"type": "array", "items": _object(fields)}})


TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "integer"}


def one_of(*labels: str) -> dict[str, Any]:
    """The schema of one of some labels."""
    return {"type": "string", "enum": list(labels)}


def _object(members: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(members),
        "required": list(members),
        "additionalProperties": False,
    }


def _objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text that are in no other, in order."""
    text, found, decoder = text[-MOST_READ:], [], json.JSONDecoder()
    starts = [place.start() for place in re.finditer(r"\{", text)][-MOST_STARTS:]
    at = starts[0] if starts else 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _value(found: Mapping[str, Any], name: str, schema: Mapping[str, Any]) -> Any:
    if name not in found:
        if name == "reasoning":  # a grade without a reason is a grade
            return ""
        raise UnreadableError(f"{name} is missing")
    return _checked(found[name], name, schema)


def _checked(value: Any, name: str, schema: Mapping[str, Any]) -> Any:
    kind = schema["type"]
    if kind == "array":
        if not isinstance(value, list):
            raise UnreadableError(f"{name} is no list")
        if len(value) > MOST_CLAIMS:
            raise UnreadableError(f"{name} has {len(value):,} items; at most {MOST_CLAIMS} are taken")
        return [_checked(one, f"{name}[{number}]", schema["items"]) for number, one in enumerate(value)]
    if kind == "object":
        if not isinstance(value, Mapping):
            raise UnreadableError(f"{name} is no object")
        return {key: _value(value, key, inner) for key, inner in schema["properties"].items()}
    if kind == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnreadableError(f"{name} is no whole number")
        return value
    if not isinstance(value, str | int | float | bool):
        raise UnreadableError(f"{name} is no text")
    text = value if isinstance(value, str) else json.dumps(value)
    return _label(text, name, schema["enum"]) if "enum" in schema else text


def _label(text: str, name: str, labels: Sequence[str]) -> str:
    """One of the labels, whatever its case and the quotes round it."""
    given = text.strip().strip("\"'`*.").strip().casefold()
    for label in labels:
        if label.casefold() == given:
            return label
    known = ", ".join(labels[:20])
    raise UnreadableError(f"{name} is {text[:60]!r}, which is none of {known}")
