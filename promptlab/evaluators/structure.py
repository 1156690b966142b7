"""Metrics of form: is_json, json_schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.schemas import Schema
from promptlab.evaluators.text import STRICT, quote, response_of, short

_OPENING = re.compile(r"(?P<fence>`{3,}|~{3,})")
_LANGUAGE = re.compile(r"[A-Za-z0-9+.#_/-]{0,20}+")
_JSON_NAMES = frozenset({"json", "jsonc", "json5", "application/json"})
MAX_BLOCKS = 100
"""Blocks of one answer that are looked at."""
MAX_CHARS = 4_000_000
"""Characters of an answer that are read as JSON; longer ones hold up everything else."""
_PASSED = Score(passed=True)


def unfenced(text: str) -> str:
    """The content of the first block for JSON, else of the first block without a
    language, else the text itself.

    A block is fenced by three or more backticks or tildes, as models write it: indented, behind words, on one
    line, closed at the end of its last line, or not closed at all.
    """
    found = list(fenced_blocks(text))
    for wanted in (_JSON_NAMES, frozenset({""})):
        for language, body in found:
            if language in wanted:
                return body
    return text


def fenced_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Give every fenced block: its language, in lower case, and its content; at most MAX_BLOCKS."""
    return islice(_blocks(text), MAX_BLOCKS)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        opened = _OPENING.search(line)
        if opened is None:
            continue
        fence, rest = opened["fence"], line[opened.end() :]
        if inline := _on_one_line(rest.strip(), fence):
            yield inline
            continue
        language = (rest.split() or [""])[0].strip("{}.").lower()
        if rest.strip() and not _LANGUAGE.fullmatch(language):
            continue
        yield language, "".join(_until(lines, fence))


def _on_one_line(text: str, fence: str) -> tuple[str, str] | None:
    """The language and content of a block that ends on the line that opens it; None if it does not."""
    body = text.rstrip(fence[0])
    if len(text) - len(body) < len(fence):
        return None
    language = _LANGUAGE.match(body)
    name = language[0] if language else ""
    content = body[len(name) :].strip()
    return (name.lower(), content) if content[:1] in ("{", "[", '"') else None


def _until(lines: Iterator[str], fence: str) -> Iterator[str]:
    """The lines before the one that closes a fence, with what that one has before it."""
    for line in lines:
        text = line.rstrip()
        body = text.rstrip(fence[0])
        if len(text) - len(body) >= len(fence):
            yield body
            return
        yield line


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class IsJson(Evaluator):
    """The response is valid JSON (RFC 8259)."""

    inputs = {"response": "$inference"}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    fenced: bool = Field(
        False, description="Whether JSON inside a fenced block, with text around it, is accepted."
    )
    expect: Literal["any", "object", "array"] = Field("any", description="What the JSON must be.")

    def evaluate(self, data: dict[str, Any]) -> Score:
        text = response_of(data)
        try:
            value = _parsed(text, self.fenced)
        except orjson.JSONDecodeError as error:
            return Score(passed=False, reason=short(f"not JSON: {error}: {quote(text)}"))
        wanted = {"object": dict, "array": list, "any": object}[self.expect]
        return (
            _PASSED
            if isinstance(value, wanted)
            else Score(passed=False, reason=short(f"expected an {self.expect}, got {quote(text)}"))
        )


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class JsonSchema(Evaluator):
    """The response is JSON that a JSON Schema accepts."""

    inputs = {"response": "$inference"}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    schema: dict[str, Any] = Field(
        description="The JSON Schema: Draft 2020-12, unless its $schema names another. Nothing is ever "
        "fetched for a $ref."
    )
    fenced: bool = Field(
        False, description="Whether JSON inside a fenced block, with text around it, is accepted."
    )
    check_format: bool = Field(
        True, description="Whether a `format` of the schema must hold: date, email, uri and more."
    )
    timeout_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Seconds that one answer may take; beyond, the score is a failed one.",
    )

    def __post_init__(self) -> None:
        _ = self._checked  # an invalid schema is an error now, not at the first case

    @cached_property
    def _checked(self) -> Schema:
        return Schema(self.schema, timeout_s=self.timeout_s, check_format=self.check_format)

    def evaluate(self, data: dict[str, Any]) -> Score:
        text = response_of(data)
        try:
            value = _parsed(text, self.fenced)
        except orjson.JSONDecodeError as error:
            return Score(passed=False, reason=short(f"not JSON: {error}: {quote(text)}"))
        fault = self._checked.fault(value)
        return _PASSED if fault is None else Score(passed=False, reason=short(fault))


def _parsed(text: str, fenced: bool) -> Any:
    """The JSON value of an answer.

    Raises:
        JSONDecodeError: it is none.
        ValueError: it is too long.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"the response has {len(text):,} characters; at most {MAX_CHARS:,} are read as JSON")
    return orjson.loads(unfenced(text) if fenced else text)
