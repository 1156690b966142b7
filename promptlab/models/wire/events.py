"""Streams of server-sent events, gathered to the one answer that they are the pieces of.

A server that answers in no other way is asked for a stream; what is read is bounded as any body is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from promptlab.models.answers import mapping
from promptlab.models.wire.pieces import answer_of_lines, message_of_events

_GATHERED = ("content", "reasoning_content", "reasoning", "refusal")


class StreamError(ValueError):
    """A stream of events is not of the form that it should have."""


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream of events (html.spec.whatwg.org, "Server-sent events")."""
    return body.lstrip()[:6].startswith((b"data:", b"event:", b": ", b":\n", b"id:"))


def events_in(body: bytes) -> Iterator[dict[str, Any]]:
    """Give the JSON objects of a stream's events, up to `[DONE]`.

    Raises:
        StreamError: an event is no JSON object.
    """
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines).strip()
        if data == b"[DONE]":
            return
        if data:
            try:
                value = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                raise StreamError(f"an event is not JSON: {error}") from None
            if not isinstance(value, dict):
                raise StreamError("an event is not a JSON object")
            yield value


def gathered(body: bytes) -> dict[str, Any]:
    """Put the events of an answer together: chunks of chat completions, the Responses API's events, of which
    the last has the whole answer, or those of Anthropic's messages.

    Raises:
        StreamError: it breaks off before its end, or is not of that form.
    """
    message: dict[str, Any] = {"role": "assistant"}
    calls: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    finish, seen = None, False
    events = list(events_in(body))
    if any(event.get("type") == "message_start" for event in events[:3]):
        if (found := message_of_events(events)) is None:
            raise StreamError("the stream of events ends before the message does")
        return found
    for event in events:
        if str(event.get("type", "")).startswith("response."):
            if event["type"] in ("response.completed", "response.incomplete", "response.failed"):
                return mapping(event.get("response"))
            continue
        if event.get("error"):
            return event
        answer |= {name: event[name] for name in ("model", "service_tier", "usage") if event.get(name)}
        choices = event.get("choices")
        for choice in map(mapping, choices if isinstance(choices, list) else ()):
            if choice.get("index", 0) == 0:
                seen = True
                finish = choice.get("finish_reason") or finish
                _add(message, calls, mapping(choice.get("delta") or choice.get("message")))
    if not seen or finish is None:
        raise StreamError("the stream of events ends before the answer does")
    message |= {name: "".join(message[name]) for name in _GATHERED if name in message}
    for call in calls.values():
        call["function"]["arguments"] = "".join(call["function"]["arguments"])
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    message.setdefault("content", None)
    return {**answer, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def gathered_lines(body: bytes) -> dict[str, Any]:
    """Put the lines of an answer of Ollama together, which are JSON each.

    Raises:
        StreamError: it breaks off before its end, or a line is no JSON object.
    """
    try:
        lines = [mapping(orjson.loads(line)) for line in body.splitlines() if line.strip()]
    except orjson.JSONDecodeError as error:
        raise StreamError(f"a line is not JSON: {error}") from None
    if (found := answer_of_lines(lines)) is None:
        raise StreamError("the stream ends before the answer does")
    return found


def is_lines(body: bytes) -> bool:
    """Whether a body is several JSON objects, a line each."""
    return body.startswith(b"{") and b"}\n{" in body.replace(b"\r", b"")


def _add(message: dict[str, Any], calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    """Add what a chunk has to the message so far."""
    for name in _GATHERED:
        if isinstance(piece := delta.get(name), str):
            message.setdefault(name, []).append(piece)
    given = delta.get("tool_calls")
    for piece in map(mapping, given if isinstance(given, list) else ()):
        index = piece.get("index")
        if not isinstance(index, int):
            index = len(calls)
        call = calls.setdefault(index, {"id": None, "type": "function", "function": {}})
        call["id"] = call["id"] or piece.get("id")
        function = mapping(piece.get("function"))
        call["function"]["name"] = call["function"].get("name") or function.get("name")
        call["function"].setdefault("arguments", []).append(str(function.get("arguments") or ""))
