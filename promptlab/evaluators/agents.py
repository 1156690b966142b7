"""Metrics of agents, over messages and calls of tools: tool_calls, trajectory, turn_count, no_error_calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.messages import (
    Message,
    ToolCall,
    ToolCallResponse,
    read_messages,
    tool_call,
    tool_calls_of,
    with_ids,
)
from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.json_fields import json_key
from promptlab.evaluators.overlap import f_measure
from promptlab.evaluators.schemas import Schema
from promptlab.evaluators.text import STRICT, short

MAX_CALLS = 500
"""Calls of one case, made or expected: the matching looks at every pair."""
_SCHEMA_S = 1.0
_SETTING = ("system", "developer")
"""The roles of messages that are no part of a conversation."""
_ANY = object()
"""The arguments of an expected call that is a name alone."""
Mode = Literal["strict", "unordered", "subset", "superset"]
Arguments = Literal["exact", "subset", "ignore", "schema"]
_MODE = (
    "strict: the expected calls and no others, in their order; unordered: the same in any order; subset: no "
    "call that is not expected; superset: every expected call, and perhaps others."
)
_ARGUMENTS = (
    "How arguments are compared: exact, as JSON; subset: the expected ones are among those given; ignore; "
    "schema: what is expected is a JSON Schema, which the arguments fit."
)
_ARGUMENTS_CHARS = 60
"""Characters of a call's arguments in a reason."""
_SCORES = ("match", "precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class _Calls(Evaluator):
    """A metric that holds calls of tools against expected ones."""

    scores = _SCORES
    value_range: ClassVar = (0.0, 1.0)

    mode: Mode = Field("strict", description=_MODE)
    arguments: Arguments = Field("exact", description=_ARGUMENTS)

    def scored(
        self, made: Sequence[ToolCall], wanted: Sequence[ToolCall], *, astray: str | None
    ) -> dict[str, Score]:
        """Give the four scores of calls.

        Args:
            made: the calls that were made.
            wanted: those that are expected.
            astray: where the sequence first differs from the expected one; None where it does nowhere.
        """
        for calls, name in ((made, "made"), (wanted, "expected")):
            if len(calls) > MAX_CALLS:
                raise ValueError(f"{len(calls):,} calls are {name}; at most {MAX_CALLS} are compared")
        fits = [[self._same(call, other) for other in wanted] for call in made]
        paired = _matched(fits, len(wanted))
        pairs = len(paired)
        all_made, all_wanted = pairs == len(made), pairs == len(wanted)
        passed = {
            "strict": astray is None,
            "unordered": all_made and all_wanted,
            "subset": all_made,
            "superset": all_wanted,
        }[self.mode]
        precision = pairs / len(made) if made else 1.0
        recall = pairs / len(wanted) if wanted else 1.0
        extra = [call.name for number, call in enumerate(made) if number not in paired]
        missed = [call.name for number, call in enumerate(wanted) if number not in paired.values()]
        why = _why(pairs, len(wanted), missed, extra, astray if self.mode == "strict" else None)
        return {
            "match": Score(passed=passed, reason=None if passed else why),
            "precision": Score(value=precision, metadata={"extra": extra[:100]} if extra else {}),
            "recall": Score(value=recall, metadata={"missing": missed[:100]} if missed else {}),
            "f1": Score(value=f_measure(precision, recall)),
        }

    def _differs(self, made: ToolCall, wanted: ToolCall) -> str | None:
        """Say how a call differs from the expected one; None where it does not."""
        if self._same(made, wanted):
            return None
        if made.name != wanted.name:
            return f"{made.name} is called in place of {wanted.name}"
        if self.arguments == "schema":
            return f"{made.name} is called with {_json(made)}, which the expected schema does not take"
        return f"{made.name} is called with {_json(made)} in place of {_json(wanted)}"

    def _same(self, made: ToolCall, wanted: ToolCall) -> bool:
        if made.name != wanted.name or wanted.arguments is _ANY:
            return made.name == wanted.name
        given, expected = made.arguments or {}, wanted.arguments or {}
        if self.arguments == "ignore":
            return True
        if self.arguments == "exact":
            return bool(json_key(given) == json_key(expected))
        if self.arguments == "subset":
            return _within(expected, given)
        if not isinstance(expected, Mapping):
            raise ValueError(f"arguments of the expected call of {wanted.name} must be a JSON Schema")
        return _schema(orjson.dumps(expected)).fault(given) is None


@lru_cache(maxsize=128)
def _schema(schema: bytes) -> Schema:
    return Schema(orjson.loads(schema), timeout_s=_SCHEMA_S, check_format=True)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class ToolCalls(_Calls):
    """The tools that were called, with their arguments, are the expected ones."""

    inputs = {"tool_calls": "$tool_calls", "expected": None}
    renamed_inputs: ClassVar = {"reference": "expected"}

    def evaluate(self, data: dict[str, Any]) -> dict[str, Score]:
        """Score one case; precision, recall and F1 are of calls, paired one to one as many as can be.

        Where no call is expected and none made, all four are 1; where some are made, precision is 0, recall 1
        and F1 0; where none is made of those expected, precision is 1, recall 0 and F1 0. Of several ways
        (a list of lists) the one that fits best counts.
        """
        made = calls_of(data.get("tool_calls"), "tool_calls")
        ways = _ways(data.get("expected"), "expected")
        found = [calls_of(way, name, alone=_ANY) for name, way in ways]
        return _best(self.scored(made, wanted, astray=self._astray(made, wanted)) for wanted in found)

    def _astray(self, made: Sequence[ToolCall], wanted: Sequence[ToolCall]) -> str | None:
        for n, (call, other) in enumerate(zip(made, wanted, strict=False), 1):
            if (why := self._differs(call, other)) is not None:
                return f"call {n}: {why}"
        n = min(len(made), len(wanted))
        if len(made) == len(wanted):
            return None
        more = f"{made[n].name} is called" if len(made) > n else f"{wanted[n].name} is not called"
        return f"call {n + 1}: {more}"


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Trajectory(_Calls):
    """The messages go the way of the reference's: who speaks, and which tools are called."""

    inputs = {"messages": "$messages", "reference": None}

    def evaluate(self, data: dict[str, Any]) -> dict[str, Score]:
        """Score one case: by its calls as `tool_calls`, and strict by the roles and the calls of each
        message, whose order within the message does not count; what is said is not compared. Of several ways
        (a list of lists of messages) the one that fits best counts."""
        said = _spoken(data.get("messages"), "messages")
        ways = _ways(data.get("reference"), "reference")
        return _best(self._along(said, _spoken(way, name)) for name, way in ways)

    def _along(self, said: Sequence[Message], wanted: Sequence[Message]) -> dict[str, Score]:
        asked = 0 if any(m.role == "user" for m in said) else _opening(wanted)
        wanted = wanted[asked:]
        return self.scored(
            list(tool_calls_of(said)), list(tool_calls_of(wanted)), astray=self._astray(said, wanted)
        )

    def _astray(self, said: Sequence[Message], wanted: Sequence[Message]) -> str | None:
        """Say at which step, from 1, the messages first leave the reference's way."""
        for n, (one, other) in enumerate(zip(said, wanted, strict=False), 1):
            if one.role != other.role:
                return f"step {n}: {_step(one)} in place of {_step(other)}"
            if (why := self._other_calls(one.tool_calls, other.tool_calls)) is not None:
                return f"step {n}: {why}"
        n = min(len(said), len(wanted))
        if len(said) == len(wanted):
            return None
        more = f"{_step(said[n])} is one too many" if len(said) > n else f"{_step(wanted[n])} is missing"
        return f"step {n + 1}: {more}"

    def _other_calls(self, made: Sequence[ToolCall], wanted: Sequence[ToolCall]) -> str | None:
        """Say how the calls of one message differ, whatever their order; None where they do not."""
        if not made and not wanted:
            return None
        if max(len(made), len(wanted)) > MAX_CALLS:
            return "too many calls"
        paired = _matched([[self._same(a, b) for b in wanted] for a in made], len(wanted))
        extra = [call for n, call in enumerate(made) if n not in paired]
        missed = [call for n, call in enumerate(wanted) if n not in paired.values()]
        if extra and missed:
            same = next((b for b in missed if b.name == extra[0].name), missed[0])
            return self._differs(extra[0], same)
        if extra:
            return f"{extra[0].name} is called, too"
        return f"{missed[0].name} is not called" if missed else None


def _spoken(value: Any, name: str) -> list[Message]:
    return [message for message in read_messages(value, name) if message.role not in _SETTING]


def _ways(value: Any, name: str) -> list[tuple[str, Any]]:
    """The ways of which one is to be gone, each with its name for messages: of a list of lists each, else the
    one that it is."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return [(name, value)]  # whoever reads it says what is wrong
    if isinstance(value, list | tuple) and value and all(isinstance(way, list | tuple) for way in value):
        return [(f"{name}[{number}]", way) for number, way in enumerate(value)]
    return [(name, value)]


def _best(found: Iterable[dict[str, Score]]) -> dict[str, Score]:
    return max(found, key=lambda scores: (scores["match"].value or 0.0, scores["f1"].value or 0.0))


def _opening(messages: Sequence[Message]) -> int:
    """How many messages come before the first of the assistant: an answer's messages are those after."""
    return next((n for n, message in enumerate(messages) if message.role == "assistant"), 0)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class TurnCount(Evaluator):
    """How many messages there are of a role; with a bound also whether it is kept."""

    inputs = {"messages": "$messages"}
    higher_is_better = False
    value_range: ClassVar = (0.0, None)

    of: Literal["assistant", "user", "tool", "all"] = Field(
        "assistant", description="Whose messages are counted; those of system and developer never are."
    )
    min: int | None = Field(None, ge=0, description="The fewest messages that pass.")
    max: int | None = Field(None, ge=0, description="The most messages that pass.")

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min must be at most max (got min {self.min}, max {self.max})")
        object.__setattr__(self, "higher_is_better", self.min is not None and self.max is None)

    def evaluate(self, data: dict[str, Any]) -> Score:
        roles = [message.role for message in read_messages(data.get("messages"), "messages")]
        count = sum(role == self.of or (self.of == "all" and role not in _SETTING) for role in roles)
        if self.min is None and self.max is None:
            return Score(value=float(count))
        few, many = self.min is not None and count < self.min, self.max is not None and count > self.max
        why = (
            f"{count} is below min {self.min}"
            if few
            else f"{count} is above max {self.max}"
            if many
            else None
        )
        return Score(value=float(count), passed=not (few or many), reason=why)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class NoErrorCalls(Evaluator):
    """No call of a tool failed."""

    inputs = {"messages": "$messages"}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    ignore: list[str] | None = Field(None, description="Tools whose failures do not count.")

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: 1 if no response of a tool is marked as an error, or is an object whose `error`
        says one."""
        responses = list(_responses(read_messages(data.get("messages"), "messages")))
        ignored = set(self.ignore or ())
        failed = [(name, part) for name, part in responses if _is_error(part) and name not in ignored]
        if not failed:
            return Score(passed=True)
        name, first = failed[0]
        said = orjson.dumps(first.response, default=str).decode()
        why = f"{len(failed)} of {len(responses)} calls failed: {name or 'a tool'}: {said}"
        return Score(passed=False, reason=short(why))


def _responses(messages: Sequence[Message]) -> Iterator[tuple[str | None, ToolCallResponse]]:
    """Give the responses of tools with the name of each: by the id of the call, which a later turn may use
    again, or by the order, where calls have none."""
    names: dict[str | None, str] = {}
    for message in with_ids(messages):
        for part in message.parts:
            if isinstance(part, ToolCall):
                names[part.id] = part.name
            elif isinstance(part, ToolCallResponse):
                yield names.get(part.id), part


def _is_error(part: ToolCallResponse) -> bool:
    response = part.response
    if isinstance(response, str) and response.lstrip().startswith("{") and len(response) < 1_000_000:
        try:
            response = orjson.loads(response)
        except orjson.JSONDecodeError:
            return part.is_error
    error = response.get("error", response.get("is_error")) if isinstance(response, Mapping) else None
    return part.is_error or (error not in (None, False, "", 0, [], {}))


def calls_of(value: Any, name: str, alone: Any = None) -> list[ToolCall]:
    """Read calls of tools: a list of `{name, arguments}`, in OpenAI's form too, or its JSON.

    Args:
        value: the list.
        name: what errors call it.
        alone: the arguments of a call that is given by its name alone.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value.strip() else []
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{name} is no JSON list of calls: {error}") from None
    if value is None or not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list of calls, not {type(value).__name__}")
    found = []
    for number, call in enumerate(value):
        function = call.get("function", call) if isinstance(call, Mapping) else call
        if not isinstance(function, Mapping):
            function = {"name": function, "arguments": alone}
        where = f"{name}[{number}]"
        found.append(tool_call(function.get("name"), function.get("arguments"), None, where))
    return found


def _matched(fits: Sequence[Sequence[bool]], wanted: int) -> dict[int, int]:
    """Pair as many rows with columns as fit, each once (Kuhn's augmenting paths): row → column."""
    row_of: dict[int, int] = {}

    def placed(row: int, seen: set[int]) -> bool:
        for column in range(wanted):
            if fits[row][column] and column not in seen:
                seen.add(column)
                if column not in row_of or placed(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    for row in range(len(fits)):
        placed(row, set())
    return {row: column for column, row in row_of.items()}


def _within(expected: Any, given: Any) -> bool:
    """Whether every expected argument is there; of nested objects likewise."""
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        return all(key in given and _within(value, given[key]) for key, value in expected.items())
    return bool(json_key(expected) == json_key(given))


def _json(call: ToolCall) -> str:
    text = orjson.dumps(call.arguments or {}, default=str).decode()
    return text if len(text) <= _ARGUMENTS_CHARS else f"{text[:_ARGUMENTS_CHARS]}…"


def _step(message: Message) -> str:
    """Name a message by who speaks, and what it calls."""
    names = ", ".join(call.name for call in message.tool_calls[:5])
    return f"a message of {message.role}" + (f" (calls {names})" if names else "")


def _why(pairs: int, wanted: int, missed: Sequence[str], extra: Sequence[str], astray: str | None) -> str:
    parts = [astray] if astray else []
    parts += [f"{pairs} of {wanted} expected calls"]
    parts += [f"missing {', '.join(missed[:10])}"] if missed else []
    parts += [f"extra {', '.join(extra[:10])}"] if extra else []
    return short("; ".join(parts))
