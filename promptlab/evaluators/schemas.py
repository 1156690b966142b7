"""A JSON Schema validator that fetches nothing, is exact, checks formats and ends in time whatever the schema
and the answer are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from promptlab.evaluators.patterns import MAX_PATTERN, SafePattern
from promptlab.evaluators.schema_formats import FORMATS
from promptlab.evaluators.text import quote

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MAX_NODES = 20_000
"""Values in a schema. The largest schema of schemastore.org has some 9,000."""
_clock = threading.local()
"""Until when this thread may validate: `until`, and the `limit_s` that was set."""

Keyword = Callable[[Any, Any, Any, Any], Any]


class Schema:
    """A schema that was checked once, for any number of values and threads."""

    def __init__(self, schema: Mapping[str, Any], *, timeout_s: float, check_format: bool) -> None:
        """Check a schema.

        Args:
            timeout_s: seconds that one value may take.
            check_format: whether `format` is an assertion.

        Raises:
            ValueError: the schema is invalid or too large, or a $ref in it leads nowhere.
        """
        self._timeout_s = timeout_s
        self._validator = _validator(dict(schema), check_format)

    def fault(self, value: Any) -> str | None:
        """The path and words of the most telling error of a value; None if the schema accepts it.

        Raises:
            TimeoutError: it took too long.
            ValueError: the schema refers to itself without end.
        """
        from jsonschema.exceptions import best_match

        _clock.limit_s, _clock.until = self._timeout_s, monotonic() + self._timeout_s
        try:
            worst = best_match(self._validator.iter_errors(value))
        except RecursionError as error:
            raise ValueError(
                "schema or answer is nested too deep, or a $ref refers to itself without end"
            ) from error
        return None if worst is None else f"{worst.json_path}: {worst.message}"


def _left_s() -> float:
    """Seconds that are left for the value in hand.

    Raises:
        TimeoutError: none are.
    """
    left: float = _clock.until - monotonic()
    if left <= 0:
        raise _overdue("it tries too many combinations")
    return left


def _overdue(why: str) -> TimeoutError:
    return TimeoutError(f"the schema took more than timeout_s {_clock.limit_s:g}: {why}")


def _searches(pattern: str, text: str) -> bool:
    try:
        return SafePattern(pattern, name="pattern", timeout_s=_left_s()).matches(text, "search")
    except TimeoutError as error:
        raise _overdue(
            f"its pattern {quote(pattern)} backtracks; repeat nothing that itself repeats, as in (a+)+"
        ) from error


def _validator(schema: dict[str, Any], check_format: bool) -> Validator:
    from jsonschema import Draft202012Validator, FormatChecker, SchemaError
    from jsonschema.validators import extend, validator_for
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    _check_size(schema)
    known = validator_for(schema, default=Draft202012Validator)
    try:
        # Without the format checker: it compiles patterns by `re`, which holds the interpreter.
        known.check_schema(schema, format_checker=FormatChecker(formats=()))
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        _resolve(resource, REGISTRY.resolver_with_root(resource))
    except SchemaError as error:
        raise ValueError(f"schema is not a valid JSON Schema: {error.json_path}: {error.message}") from error
    except RecursionError as error:
        raise ValueError("schema is nested too deep") from error
    ours = {name: keyword for name, keyword in _KEYWORDS.items() if name in known.VALIDATORS}
    timed = {name: partial(_in_time, keyword) for name, keyword in {**known.VALIDATORS, **ours}.items()}
    checker = FormatChecker(formats=())
    for name, check in FORMATS.items() if check_format else ():
        checker.checkers = {**checker.checkers, name: (check, ())}
    # A registry of our own has no way to fetch; jsonschema's default would go to the network.
    return extend(known, timed)(schema, registry=REGISTRY, format_checker=checker)


def _in_time(keyword: Keyword, validator: Any, value: Any, instance: Any, schema: Any) -> Any:
    _left_s()
    return keyword(validator, value, instance, schema)


def _check_size(schema: Any) -> None:
    """Hold a schema against what can be checked in time, and compile its patterns.

    Raises:
        ValueError: it is too large, or a pattern is invalid.
    """
    todo, nodes = [("", schema)], 0
    while todo:
        name, value = todo.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise ValueError(f"schema has more than {MAX_NODES:,} values, which would take too long to check")
        patterns = (value,) if name == "pattern" and isinstance(value, str) else ()
        if isinstance(value, dict):
            patterns = tuple(value) if name == "patternProperties" else ()
            todo += value.items()
        elif isinstance(value, list):
            todo += (("", item) for item in value)
        for pattern in patterns:
            if len(pattern) > MAX_PATTERN:
                raise ValueError(
                    f"a pattern of schema has {len(pattern):,} characters; at most {MAX_PATTERN:,} are "
                    "allowed"
                )


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
                f"schema has a $ref to {reference!r}, which is not in it: nothing is fetched, so put the "
                "definition under $defs"
            ) from error
    for sub in resource.subresources():
        _resolve(sub, resolver.in_subresource(sub))


def _error(message: str) -> Exception:
    from jsonschema import ValidationError

    found: Exception = ValidationError(message)
    return found


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Exception]:
    if isinstance(instance, str) and not _searches(pattern, instance):
        yield _error(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[Exception]:
    for pattern, sub in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if _searches(pattern, name):
                yield from validator.descend(value, sub, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, sub: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[Exception]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [
        name
        for name in instance
        if name not in known and not any(_searches(pattern, name) for pattern in patterns)
    ]
    if isinstance(sub, dict):
        for name in extras:
            yield from validator.descend(instance[name], sub, path=name)
    elif not sub and extras:
        yield _error(f"Additional properties are not allowed ({_unexpected(extras)})")


def _unexpected(names: list[str]) -> str:
    return f"{', '.join(map(repr, sorted(names)))} {'was' if len(names) == 1 else 'were'} unexpected"


def _unevaluated_properties(validator: Any, sub: Any, instance: Any, schema: Any) -> Iterator[Exception]:
    if not isinstance(instance, dict):
        return
    seen = _evaluated(validator, instance, schema)
    wrong = [
        name
        for name, value in instance.items()
        if name not in seen and next(validator.descend(value, sub, path=name, schema_path=name), None)
    ]
    if wrong and sub is False:
        yield _error(f"Unevaluated properties are not allowed ({_unexpected(wrong)})")
    elif wrong:
        yield _error(f"Unevaluated properties are not valid under the given schema ({_unexpected(wrong)})")


def _evaluated(validator: Any, instance: Mapping[str, Any], schema: Any) -> set[str]:
    """The properties that a schema looks at: as jsonschema finds them, whose patterns
    could hold the interpreter."""
    if not isinstance(schema, dict):
        return set()
    _left_s()
    seen = set(schema.get("properties", {})) & instance.keys()
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in schema:
            found = validator._resolver.lookup(schema[keyword])
            inner = validator.evolve(schema=found.contents, _resolver=found.resolver)
            seen |= _evaluated(inner, instance, found.contents)
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema:
            seen |= {name for name, value in instance.items() if _accepts(validator, value, schema[keyword])}
    seen |= {
        name
        for name in instance
        for pattern in schema.get("patternProperties", {})
        if _searches(pattern, name)
    }
    parts = [part for name, part in schema.get("dependentSchemas", {}).items() if name in instance]
    parts += [
        part
        for name in ("allOf", "oneOf", "anyOf")
        for part in schema.get(name, ())
        if _accepts(validator, instance, part)
    ]
    if "if" in schema:
        holds = _accepts(validator, instance, schema["if"])
        parts += [schema["if"]] if holds else []
        parts += [schema.get("then" if holds else "else")]
    for part in parts:
        seen |= _evaluated(validator, instance, part)
    return seen


def _accepts(validator: Any, value: Any, schema: Any) -> bool:
    return next(validator.descend(value, schema), None) is None


def _multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[Exception]:
    if isinstance(instance, bool) or not isinstance(instance, int | float):
        return
    # As they are written: 0.07 is 7 times 0.01, whatever the nearest doubles are.
    if (Fraction(str(instance)) / Fraction(str(step))).denominator != 1:
        yield _error(f"{instance!r} is not a multiple of {step}")


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Exception]:
    if unique and isinstance(instance, list) and len({_key(item) for item in instance}) < len(instance):
        yield _error(f"{instance if len(instance) < 100 else '[…]'!r} has non-unique elements")


def _key(value: Any) -> Any:
    """A value as something that is equal where JSON values are: 1 and 1.0, but not 1 and true."""
    if isinstance(value, dict):
        return "object", frozenset((name, _key(item)) for name, item in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_key, value))
    return type(value) is bool, value


_KEYWORDS: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
}
