"""Metrics of form: is_json, json_schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.text import STRICT, quote, response_of, short

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCE = re.compile(
    r"^[ \t]*+```[ \t]*+(?P<language>[^\n`]*+)\n(?P<body>.*?)^[ \t]*+```", re.MULTILINE | re.DOTALL
)
_PASSED = Score(passed=True)


def unfenced(text: str) -> str:
    """The content of the first ```json block, else of the first block without a language, else the text itself."""
    blocks = [(match["language"].strip().lower(), match["body"]) for match in _FENCE.finditer(text)]
    for language in ("json", ""):
        for label, body in blocks:
            if label == language:
                return body
    return text


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class IsJson(Evaluator):
    """The response is valid JSON (RFC 8259)."""

    inputs = {"response": "$inference"}
    value_range: ClassVar = (0.0, 1.0)

    fenced: bool = Field(
        False, description="Whether JSON inside a ```json block, with text around it, is accepted."
    )
    expect: Literal["any", "object", "array"] = Field("any", description="What the JSON must be.")

    def evaluate(self, data: dict[str, Any]) -> Score:
        text = response_of(data)
        try:
            value = orjson.loads(unfenced(text) if self.fenced else text)
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

    schema: dict[str, Any] = Field(
        description="The JSON Schema: Draft 2020-12, unless its $schema names another. Nothing is ever fetched for a $ref."
    )
    fenced: bool = Field(
        False, description="Whether JSON inside a ```json block, with text around it, is accepted."
    )
    timeout_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Seconds that one pattern of the schema may take; beyond, the score is a failed one.",
    )

    def __post_init__(self) -> None:
        _ = self._validator  # an invalid schema is an error now, not at the first case

    @cached_property
    def _validator(self) -> Validator:
        return _validator(self.schema, self.timeout_s)

    def evaluate(self, data: dict[str, Any]) -> Score:
        from jsonschema.exceptions import best_match

        text = response_of(data)
        try:
            value = orjson.loads(unfenced(text) if self.fenced else text)
        except orjson.JSONDecodeError as error:
            return Score(passed=False, reason=short(f"not JSON: {error}: {quote(text)}"))
        worst = best_match(self._validator.iter_errors(value))
        return (
            _PASSED
            if worst is None
            else Score(passed=False, reason=short(f"{worst.json_path}: {worst.message}"))
        )


def _validator(schema: dict[str, Any], timeout_s: float) -> Validator:
    """A validator that fetches nothing and whose patterns cannot hang.

    Raises:
        ValueError: the schema is invalid, or a $ref in it leads nowhere.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import extend, validator_for
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    known = validator_for(schema, default=Draft202012Validator)
    try:
        known.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema is not a valid JSON Schema: {error.json_path}: {error.message}") from error
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    _resolve(resource, REGISTRY.resolver_with_root(resource))
    # A registry of our own has no way to fetch; jsonschema's default would go to the network.
    return extend(known, {"pattern": partial(_pattern, timeout_s)})(schema, registry=REGISTRY)


def _resolve(resource: Any, resolver: Any) -> None:
    """Follow every $ref of a schema once.

    Raises:
        ValueError: one leads nowhere.
    """
    from referencing.exceptions import Unresolvable

    reference = resource.contents.get("$ref") if isinstance(resource.contents, dict) else None
    if isinstance(reference, str):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(
                f"schema has a $ref to {reference!r}, which is not in it: nothing is fetched, so put the definition under $defs"
            ) from error
    for sub in resource.subresources():
        _resolve(sub, resolver.in_subresource(sub))


def _pattern(
    timeout_s: float, validator: Any, pattern: str, instance: Any, schema: Any
) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not SafePattern(pattern, name="pattern", timeout_s=timeout_s).matches(
        instance, "search"
    ):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")
