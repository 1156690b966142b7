"""Reads what code in a sandbox answered: JSON that may be anything, until it was looked at."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from promptlab.domain.messages import Message, beyond_text, read_messages
from promptlab.domain.results import Failure, ModelResponse, Score, Usage
from promptlab.domain.trace import Trace, trace_from
from promptlab.engine.answers import (
    MOST_CHARACTERS,
    MOST_MESSAGE,
    MOST_MESSAGES,
    MOST_METADATA,
    MOST_TOKENS,
    MOST_TYPE,
)
from promptlab.errors import MessageError
from promptlab.evaluators.base import MAX_JUDGED, MAX_LABEL, MAX_METADATA, MAX_REASON, MAX_VALUE

NOTE = 60
"""Characters of the note that says how long a text was before it was cut."""
MOST_RETRY_S = 86_400.0
_TOKENS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")


class AnswerError(ValueError):
    """An answer is none; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """What a model of a user's raised, as data."""

    type: str
    message: str
    retryable: bool = False
    sent: bool = True
    retry_after_s: float | None = None
    messages: Sequence[Message] = ()
    trace: Trace | None = None


def score_of(given: Any) -> Score:
    """Read a score.

    Raises:
        AnswerError: it is none, or larger than one may be.
    """
    names = ("value", "label", "passed", "reason", "metadata", "error", "usage", "judged")
    found = _fields(given, *names)
    value, passed = _number(found["value"], "value", MAX_VALUE), found["passed"]
    if passed is not None and type(passed) is not bool:
        raise AnswerError(f"passed is a {type(passed).__name__}, not true or false")
    return Score(
        value=value,
        label=_text(found["label"], "label", MAX_LABEL + NOTE),
        passed=passed,
        reason=_text(found["reason"], "reason", MAX_REASON + NOTE),
        metadata=_metadata(found["metadata"], MAX_METADATA),
        error=_failure(found["error"]),
        usage=usage_of(found["usage"]),
        judged=_text(found["judged"], "judged", MAX_JUDGED + NOTE),
    )


def response_of(given: Any) -> ModelResponse:
    """Read a model's answer.

    Raises:
        AnswerError: it is none, or larger than one may be.
    """
    found = _fields(
        given,
        "response",
        "prompt_tokens",
        "completion_tokens",
        "latency_ms",
        "cost_usd",
        "finish_reason",
        "metadata",
        *_TOKENS,
        "messages",
        "trace",
    )
    text = _text(found["response"], "response", MOST_CHARACTERS)
    if text is None:
        raise AnswerError("there is no response")
    return ModelResponse(
        response=text,
        messages=_messages(found["messages"]),
        trace=trace_from(_bounded(found["trace"], "trace")),
        **{name: _count(found[name], name) for name in _TOKENS},
        prompt_tokens=_count(found["prompt_tokens"], "prompt_tokens"),
        completion_tokens=_count(found["completion_tokens"], "completion_tokens"),
        latency_ms=_number(found["latency_ms"], "latency_ms", MAX_VALUE),
        cost_usd=_number(found["cost_usd"], "cost_usd", MAX_VALUE),
        finish_reason=_text(found["finish_reason"], "finish_reason", MOST_TYPE + NOTE),
        metadata=_metadata(found["metadata"], MOST_METADATA),
    )


def response_body(response: ModelResponse) -> dict[str, Any]:
    """Give a model's answer as `response_of` reads it."""
    body = {f.name: getattr(response, f.name) for f in dataclasses.fields(ModelResponse)}
    body["messages"] = [m.to_json() for m in beyond_text(response.messages)]
    body["trace"] = None if response.trace is None else response.trace.to_json()
    return {name: value for name, value in body.items() if value or name == "response"}


def call_failed(given: Any) -> CallFailed:
    """Read how a call failed.

    Raises:
        AnswerError: it says so in no way that is known.
    """
    found = _fields(given, "type", "message", "retryable", "sent", "retry_after_s", "messages", "trace")
    return CallFailed(
        type=_text(found["type"], "type", MOST_TYPE + NOTE) or "error",
        message=_text(found["message"], "message", MOST_MESSAGE + NOTE) or "",
        retryable=found["retryable"] is True,
        sent=found["sent"] is not False,
        retry_after_s=_number(found["retry_after_s"], "retry_after_s", MOST_RETRY_S),
        messages=_messages(found["messages"]),
        trace=trace_from(_bounded(found["trace"], "trace")),
    )


def _messages(given: Any) -> Sequence[Message]:
    try:
        return read_messages(_bounded(given or [], "messages"))
    except MessageError as error:
        raise AnswerError(str(error)) from None


def failure_body(failed: CallFailed) -> dict[str, Any]:
    """Give how a call failed as `call_failed` reads it."""
    body = {f.name: getattr(failed, f.name) for f in dataclasses.fields(failed)}
    body["messages"] = [message.to_json() for message in failed.messages]
    body["trace"] = None if failed.trace is None else failed.trace.to_json()
    return {name: value for name, value in body.items() if value not in (None, [])}


def _fields(given: Any, *names: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise AnswerError(f"it is a {type(given).__name__}, not an object")
    if unknown := next((name for name in given if name not in names), None):
        raise AnswerError(f"it has an unknown field {unknown[:50]!r}")
    return {name: given.get(name) for name in names}


def _number(given: Any, name: str, most: float) -> float | None:
    if given is None:
        return None
    if type(given) not in (int, float):
        raise AnswerError(f"{name} is a {type(given).__name__}, not a number")
    if not (math.isfinite(given) and abs(given) <= most):
        raise AnswerError(f"{name} must be a finite number of at most {most:g}")
    return float(given)


def _count(given: Any, name: str) -> int | None:
    if given is None:
        return None
    if type(given) is not int or not 0 <= given < MOST_TOKENS:
        raise AnswerError(f"{name} is no count")
    return given


def _text(given: Any, name: str, most: int) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise AnswerError(f"{name} is a {type(given).__name__}, not a text")
    if len(given) > most:
        raise AnswerError(f"{name} has {len(given):,} characters; at most {most:,} are kept")
    return given


def _metadata(given: Any, most: int) -> Mapping[str, Any]:
    if not given:
        return {}
    if not isinstance(given, dict):
        raise AnswerError(f"metadata is a {type(given).__name__}, not an object")
    if (size := len(orjson.dumps(given))) > most + 1000:
        raise AnswerError(f"metadata has {size:,} bytes; at most {most:,} are kept")
    return given


def _bounded(given: Any, name: str) -> Any:
    if given and (size := len(orjson.dumps(given))) > MOST_MESSAGES + 1000:
        raise AnswerError(f"{name}: {size:,} bytes; at most {MOST_MESSAGES:,} are kept")
    return given


def _failure(given: Any) -> Failure | None:
    if given is None:
        return None
    found = _fields(given, "type", "message")
    return Failure(
        _text(found["type"], "type", MAX_LABEL + NOTE) or "evaluator_error",
        _text(found["message"], "message", MAX_REASON + NOTE) or "",
    )


def usage_of(given: Any) -> Usage | None:
    """Read what calls of its own used.

    Raises:
        AnswerError: these are no counts.
    """
    if given is None:
        return None
    names = ("calls", "unknown_tokens", "unknown_cost", "unpriced")
    found = _fields(given, *names, "prompt_tokens", "completion_tokens", "cost_usd")
    return Usage(
        **{name: _count(found[name], name) or 0 for name in names},
        prompt_tokens=_count(found["prompt_tokens"], "prompt_tokens"),
        completion_tokens=_count(found["completion_tokens"], "completion_tokens"),
        cost_usd=_number(found["cost_usd"], "cost_usd", MAX_VALUE),
    )
