"""json_fields: which fields of a JSON answer are right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.extraction import at_path, json_values, read_path
from promptlab.evaluators.text import STRICT, quote, references_of, response_of, short, text_of

MAX_FIELDS = 10_000
_Rule = Literal["exact", "text", "number", "set", "ignore"]


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class JsonFields(Evaluator):
    """The share of the reference's fields that the JSON of the response has right."""

    inputs = {"response": "$inference", "reference": None}
    scores = ("share", "missing", "extra")
    higher_is_better = {"share": True, "missing": False, "extra": False}
    value_range: ClassVar = (0.0, 1.0)

    fields: dict[str, _Rule] | None = Field(
        None,
        description="The paths that count and how each is compared: exact; text (white space and case do not "
        "count); number (within the tolerance); set (a list in any order); ignore. By default every value of "
        "the reference, exactly.",
    )
    tolerance: float = Field(0.0, ge=0, description="How far apart two numbers may be.")
    relative_tolerance: float = Field(
        0.0, ge=0, description="How far apart, as a share of the reference. The larger tolerance holds."
    )

    def __post_init__(self) -> None:
        _ = self._rules  # a path that is none is an error now, not at the first case

    @cached_property
    def _rules(self) -> dict[tuple[str | int, ...], _Rule]:
        return {read_path(path): rule for path, rule in (self.fields or {}).items()}

    def evaluate(self, data: dict[str, Any]) -> dict[str, Score]:
        """Score one case.

        share = right fields ÷ fields of the reference; missing = fields that the response lacks ÷ the same;
        extra = values of the response that the reference lacks ÷ values of the response. The reference with
        the greatest share counts. A list of objects is several references where the response is no list, and
        one where it is.
        """
        text, references = response_of(data), data.get("reference")
        references_of(data)
        references = _read(references)
        said = next(iter(json_values(text)), _NONE)
        several = isinstance(references, list) and all(isinstance(r, dict | list) for r in references)
        if several and isinstance(said, list) and all(isinstance(r, dict) for r in references):
            several = False  # no object holds what a list has
        given = references if several else [references]
        return max(
            (self._against(said, reference) for reference in given),
            key=lambda found: found["share"].value or 0.0,
        )

    def _against(self, said: Any, reference: Any) -> dict[str, Score]:
        if not isinstance(reference, dict | list):
            raise ValueError(
                f"reference must be a JSON object or list, not {quote(text_of(reference, 'reference'))}"
            )
        wanted = dict(self._wanted(reference))
        if not wanted:
            raise ValueError("the reference has no field that counts")
        if said is _NONE:
            nothing = "the response has no JSON"
            return {
                "share": Score(value=0.0, reason=nothing),
                "missing": Score(value=1.0, reason=nothing),
                "extra": Score(value=0.0),
            }
        missing, wrong = list[str](), list[str]()
        for path, (rule, value) in wanted.items():
            there, got = at_path(said, path)
            if not there:
                missing.append(_written(path))
            elif not self._equal(rule, value, got):
                wrong.append(f"{_written(path)} is {quote(text_of(got, 'x') if got is not None else 'null')}")
        leaves = [path for path, _ in _leaves(said)]
        known = [path for path, _ in _leaves(reference)] + list(wanted) + list(self._rules)
        extra = [
            _written(path) for path in leaves if not any(path[: len(k)] == k for k in _tried(path, known))
        ]
        right = len(wanted) - len(missing) - len(wrong)
        why = [*(f"missing {path}" for path in missing), *wrong]
        return {
            "share": Score(
                value=right / len(wanted),
                reason=short("; ".join(why)) or None,
                metadata={"missing": missing[:100], "wrong": wrong[:100], "extra": extra[:100]}
                if why or extra
                else {},
            ),
            "missing": Score(value=len(missing) / len(wanted), reason=short(", ".join(missing)) or None),
            "extra": Score(
                value=len(extra) / len(leaves) if leaves else 0.0, reason=short(", ".join(extra)) or None
            ),
        }

    def _wanted(self, reference: Any) -> Iterator[tuple[tuple[str | int, ...], tuple[_Rule, Any]]]:
        if self.fields is None:
            yield from ((path, ("exact", value)) for path, value in _leaves(reference))
            return
        for path, rule in self._rules.items():
            there, value = at_path(reference, path)
            if there and rule != "ignore":
                yield path, (rule, value)

    def _equal(self, rule: _Rule, wanted: Any, got: Any) -> bool:
        if rule == "set":
            if not (isinstance(wanted, list) and isinstance(got, list)):
                return False
            return {json_key(item) for item in wanted} == {json_key(item) for item in got}
        if rule == "text":
            return (
                " ".join(text_of(wanted, "x").split()).casefold()
                == " ".join(text_of(got, "x").split()).casefold()
                if (wanted is not None and got is not None)
                else wanted is got
            )
        if rule == "number":
            return self._near(wanted, got)
        if _is_number(wanted) and _is_number(got) and (self.tolerance or self.relative_tolerance):
            return self._near(wanted, got)
        return bool(json_key(wanted) == json_key(got))

    def _near(self, wanted: Any, got: Any) -> bool:
        try:
            a, b = float(wanted), float(got)
        except (TypeError, ValueError, OverflowError):
            return False
        if isinstance(wanted, bool) or isinstance(got, bool) or not (math.isfinite(a) and math.isfinite(b)):
            return False
        return a == b or abs(a - b) <= max(self.tolerance, self.relative_tolerance * abs(a))


_NONE = object()


def _tried(path: tuple[str | int, ...], known: list[tuple[str | int, ...]]) -> list[tuple[str | int, ...]]:
    """The known paths that may lead to this one."""
    there = set(known)
    return [path[:n] for n in range(len(path) + 1) if path[:n] in there]


def _leaves(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of JSON that holds no other, with its path; empty lists and objects are values.

    Raises:
        ValueError: there are more than MAX_FIELDS.
    """
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    for count in range(10 * MAX_FIELDS):
        if not left:
            return
        path, found = left.pop()
        inner: Any = (
            found.items()
            if isinstance(found, Mapping)
            else enumerate(found)
            if isinstance(found, list)
            else ()
        )
        if found and isinstance(found, Mapping | list):
            left += [((*path, key), item) for key, item in inner][::-1]
        else:
            yield path, found
        if count > MAX_FIELDS or len(left) > MAX_FIELDS:
            break
    if left:
        raise ValueError(f"the JSON has more than {MAX_FIELDS:,} values")


def _written(path: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def json_key(value: Any) -> Any:
    """Return what two values have in common that are equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, Mapping):
        return ("object", frozenset((key, json_key(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(json_key, value)))
    return ("number" if _is_number(value) else type(value).__name__, value)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the reference {quote(value)} is no JSON: {error}") from None
