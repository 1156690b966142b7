"""Answers and errors of a user's own model, made such that every store can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from promptlab.domain.messages import Message, Text, beyond_text, read_messages
from promptlab.domain.results import ModelResponse, described, without_class
from promptlab.domain.texts import cut, storable
from promptlab.domain.trace import Trace, trace_from
from promptlab.engine.user_code import said
from promptlab.errors import ModelError

MOST_TOKENS = 2**53
MOST_CHARACTERS = 16 << 20
"""The longest answer that is kept, as with providers."""
MOST_METADATA = 1 << 20
"""Bytes of an answer's metadata, as JSON."""
MOST_MESSAGES = 4 << 20
"""Bytes of an answer's messages beyond its text, as JSON, and of its trace."""
MOST_MESSAGE = 10_000
MOST_TYPE = 200
"""Characters of the name of an error's type."""
_ANY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def plain(answer: Any) -> bool:
    """Whether an answer can be read without running code of a user's own classes."""
    return (
        type(answer) is ModelResponse
        and type(answer.response) is str
        and _says_one_text(answer.messages)
        and answer.trace is None
        and type(answer.metadata) in (dict, type(None))
        and all(
            type(value) in (int, float, str, type(None))
            for value in (
                answer.prompt_tokens,
                answer.completion_tokens,
                answer.latency_ms,
                answer.cost_usd,
                answer.finish_reason,
                answer.cached_tokens,
                answer.cache_write_tokens,
                answer.reasoning_tokens,
            )
        )
    )


def _says_one_text(messages: Any) -> bool:
    if type(messages) not in (tuple, list) or len(messages) != 1 or type(messages[0]) is not Message:
        return False
    parts = messages[0].parts
    return type(parts) is tuple and all(type(part) is Text and type(part.content) is str for part in parts)


def checked(answer: Any, elapsed_ms: float, model: str) -> ModelResponse:
    """The answer as every store can hold it, whatever a user's own model put into it.

    Raises:
        ModelError: it is not a ModelResponse, or holds what is none of JSON, or is too long.
    """
    try:
        return _checked(answer, elapsed_ms)
    except Exception as error:
        raise ModelError(
            f"{model} answered what is not a ModelResponse: {described(error).partition(': ')[2]}",
            type="invalid_response",
        ) from error


def _checked(answer: Any, elapsed_ms: float) -> ModelResponse:
    if not isinstance(answer.response, str):
        raise TypeError(f"response is a {type(answer.response).__name__}, not a string")
    if len(answer.response) > MOST_CHARACTERS:
        raise ValueError(
            f"response has {len(answer.response):,} characters, and at most {MOST_CHARACTERS:,} are kept"
        )
    # What stands in for a ModelResponse may lack the fields that came later.
    given = getattr(answer, "messages", ())
    messages, left_out = _messages(given)
    trace, left_out_too = _trace(getattr(answer, "trace", None))
    metadata = _metadata(answer.metadata)
    if note := "; ".join(filter(None, (left_out, left_out_too))):
        metadata = {**metadata, "left_out": note}
    finish = answer.finish_reason
    if finish is None and given:
        finish = given[-1].finish_reason
    return ModelResponse(
        response=storable(str(answer.response)),
        prompt_tokens=_tokens(answer.prompt_tokens),
        completion_tokens=_tokens(answer.completion_tokens),
        latency_ms=elapsed_ms if answer.latency_ms is None else _finite(answer.latency_ms, "latency_ms"),
        cost_usd=None if answer.cost_usd is None else _finite(answer.cost_usd, "cost_usd"),
        finish_reason=None if finish is None else cut(str(finish), MOST_TYPE),
        metadata=metadata,
        messages=messages,
        cached_tokens=_tokens(getattr(answer, "cached_tokens", None)),
        cache_write_tokens=_tokens(getattr(answer, "cache_write_tokens", None)),
        reasoning_tokens=_tokens(getattr(answer, "reasoning_tokens", None)),
        trace=trace,
    )


def _messages(given: Sequence[Message]) -> tuple[tuple[Message, ...], str | None]:
    """The messages of an answer that say more than its text, and a note where they are too long to be
    kept."""
    said = beyond_text(given)
    if not said:
        return (), None
    data = orjson.dumps([message.to_json() for message in said], option=_ANY)
    if len(data) > MOST_MESSAGES:
        return (), f"messages of {len(data):,} bytes; at most {MOST_MESSAGES:,} are kept"
    return read_messages(orjson.loads(data), "its messages"), None


def _trace(given: Trace | None) -> tuple[Trace | None, str | None]:
    if given is None:
        return None, None
    data = orjson.dumps(given.to_json(), option=_ANY)
    if len(data) > MOST_MESSAGES:
        return None, f"a trace of {len(data):,} bytes; at most {MOST_MESSAGES:,} are kept"
    return trace_from(orjson.loads(data)), None


def _metadata(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if not given:
        return given
    data = orjson.dumps(dict(given), option=_ANY)
    if len(data) > MOST_METADATA:
        return {"left_out": f"metadata of {len(data):,} bytes; at most {MOST_METADATA:,} are kept"}
    found: dict[str, Any] = orjson.loads(data)
    return found


def _finite(number: Any, name: str) -> float:
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(f"{name} is {found}, not a finite number")
    return found


def _tokens(count: int | None) -> int | None:
    """A count of tokens, or None for what is none: no store has room for more."""
    found = None if count is None else int(count)
    return found if found is not None and 0 <= found < MOST_TOKENS else None


async def said_by(error: ModelError) -> ModelError:
    """The error, where a user's own model raised it: of the very class, with fields of the right types."""
    type_, after = getattr(error, "type", None), getattr(error, "retry_after_s", None)
    return ModelError(
        without_class(await said(error), error),
        type=cut(type_, MOST_TYPE) if isinstance(type_, str) and type_ else type(error).__name__[:MOST_TYPE],
        retryable=getattr(error, "retryable", None) is True,
        sent=getattr(error, "sent", None) is not False,
        retry_after_s=float(after) if isinstance(after, int | float) and 0 <= after < math.inf else None,
    )
