"""Streams of server-sent events, gathered to the one answer that they are the pieces of.

A server that answers in no other way is asked for a stream; what is read is bounded as any body is.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from typing import Any

import orjson

from promptlab.models.answers import json_text, mapping, reasoning_of
from promptlab.models.wire.pieces import answer_of_lines, message_of_events

_GATHERED = ("content", "reasoning_content", "reasoning", "refusal")
_FIELD = re.compile(rb"\s*(?:data|event|id|retry)?:")
"""How a line of a stream begins: with a field's name, or as a comment."""
_DONE = re.compile(rb"data: ?\[DONE\]\s*\Z")
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, which may stand before a stream."""


class StreamError(ValueError):
    """A stream of events is not of the form that it should have."""


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream of events (html.spec.whatwg.org, "Server-sent events")."""
    return _FIELD.match(body.removeprefix(_MARK)) is not None


def events_in(body: bytes) -> Iterator[dict[str, Any]]:
    """Give the JSON objects of a stream's events, up to `[DONE]`; an error's always under `error`.

    Raises:
        StreamError: an event is no JSON object.
    """
    body = body.removeprefix(_MARK)
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = block.split(b"\n")
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")).strip()
        if data == b"[DONE]":
            return
        if data:
            try:
                value = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                raise StreamError(f"an event is not JSON: {error}") from None
            if not isinstance(value, dict):
                raise StreamError("an event is not a JSON object")
            is_error = value.get("type") == "error" or any(
                line.split() == [b"event:", b"error"] for line in lines
            )
            yield {"error": value} if is_error and not value.get("error") else value


def gathered(body: bytes) -> dict[str, Any]:
    """Put the events of an answer together: chunks of chat completions, the Responses API's events, of which
    the last has the whole answer, or those of Anthropic's messages.

    Raises:
        StreamError: it breaks off before its end, or is not of that form.
    """
    answer: dict[str, Any] = {}
    chunks, finish, seen = _Chunks(), None, False
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
            if not choice.get("index"):
                seen = True
                finish = choice.get("finish_reason") or finish
                chunks.add(mapping(choice.get("delta") or choice.get("message")))
    # Servers that never say why an answer ends do say that it has.
    if not seen or (finish is None and not _DONE.search(body)):
        raise StreamError("the stream of events ends before the answer does")
    return {**answer, "choices": [{"index": 0, "message": chunks.message(), "finish_reason": finish}]}


class _Chunks:
    """The pieces of one message, as chunks of chat completions bring them."""

    def __init__(self) -> None:
        self._words: dict[str, list[str]] = {}
        self._calls: list[dict[str, Any]] = []  # their arguments are pieces, too
        self._by_index: dict[int, dict[str, Any]] = {}  # the call that each index means now

    def add(self, delta: dict[str, Any]) -> None:
        """Add what a chunk has to the message so far."""
        for name in _GATHERED:
            if isinstance(piece := delta.get(name), str):
                self._words.setdefault(name, []).append(piece)
        if isinstance(parts := delta.get("content"), list):  # Mistral's, where it thinks
            said = "".join(str(mapping(part).get("text") or "") for part in parts)
            for name, piece in (("content", said), ("reasoning_content", reasoning_of(delta))):
                self._words.setdefault(name, []).append(piece)
        given = delta.get("tool_calls")
        for piece in map(mapping, given if isinstance(given, list) else ()):
            function, call = mapping(piece.get("function")), self._call(piece)
            call["id"] = call["id"] or piece.get("id")
            call["name"] = call["name"] or function.get("name")
            arguments = function.get("arguments")
            whole = arguments if isinstance(arguments, str) or arguments is None else json_text(arguments)
            call["arguments"].append(whole or "")

    def _call(self, piece: dict[str, Any]) -> dict[str, Any]:
        """Find the call that a piece belongs to, or begin one.

        Gemini gives each of parallel calls the index 0, others give none: then another id, or without ids a
        further name, is another call.
        """
        index, call_id = piece.get("index"), piece.get("id")
        if isinstance(index, int):
            known = self._by_index.get(index)
        else:
            index, known = None, self._calls[-1] if self._calls else None
        if known is not None and call_id and known["id"]:
            is_new = call_id != known["id"]
        else:
            is_new = known is None or (index is None and bool(mapping(piece.get("function")).get("name")))
        if known is None or is_new:
            known = {
                "id": None,
                "name": None,
                "arguments": [],
                "at": len(self._calls) if index is None else index,
            }
            self._calls.append(known)
            if index is not None:
                self._by_index[index] = known
        return known

    def message(self) -> dict[str, Any]:
        """Give the message that they are the pieces of."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {name: "".join(pieces) for name, pieces in self._words.items()}
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for call in sorted(self._calls, key=operator.itemgetter("at"))
            ]
        return message


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
