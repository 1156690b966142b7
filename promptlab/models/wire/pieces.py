"""Anthropic's events, and Ollama's lines, gathered to the one answer that they are the pieces of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from promptlab.models.answers import mapping

_PIECES = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
"""The kinds of what is added to a block, and where the text of each is
(docs.claude.com/en/docs/build-with-claude/streaming)."""


def message_of_events(events: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Put the events of Anthropic's Messages API together; an error among them is the answer.

    Returns:
        The message, or None where the stream ends before it does.
    """
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[tuple[int, str], list[str]] = {}
    for event in events:
        kind, index = event.get("type"), event.get("index")
        if event.get("error"):
            return event
        if kind == "message_start":
            message = dict(mapping(event.get("message")))
        elif kind == "content_block_start" and isinstance(index, int):
            blocks[index] = dict(mapping(event.get("content_block")))
        elif kind == "content_block_delta" and isinstance(index, int) and index in blocks:
            delta = mapping(event.get("delta"))
            name = _PIECES.get(str(delta.get("type")))
            if name is not None and isinstance(piece := delta.get(name), str):
                pieces.setdefault((index, name), []).append(piece)
        elif kind == "message_delta":
            message |= mapping(event.get("delta"))
            message["usage"] = {**mapping(message.get("usage")), **mapping(event.get("usage"))}
        elif kind == "message_stop":
            for (at, name), found in pieces.items():
                _complete(blocks[at], name, "".join(found))
            return {**message, "content": [blocks[at] for at in sorted(blocks)]}
    return None


def _complete(block: dict[str, Any], name: str, text: str) -> None:
    """Put what was added to a block behind what it began with."""
    if name != "partial_json":
        block[name] = str(block.get(name) or "") + text
        return
    try:
        block["input"] = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        block["input"] = text  # as it came: the call is kept, and a metric can say what is wrong with it


def answer_of_lines(lines: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Put the lines of Ollama's chat together (docs.ollama.com/api/streaming); the last has the counts.

    Returns:
        The answer, or None where it breaks off.
    """
    said: dict[str, list[str]] = {}
    calls: list[Any] = []
    for line in lines:
        if line.get("error"):
            return line
        message = mapping(line.get("message"))
        for name in ("content", "thinking"):
            if isinstance(piece := message.get(name), str):
                said.setdefault(name, []).append(piece)
        calls += message.get("tool_calls") or ()
        if line.get("done"):
            whole = {name: "".join(pieces) for name, pieces in said.items()}
            more = {"tool_calls": calls} if calls else {}
            return {**line, "message": {"role": "assistant", "content": "", **whole, **more}}
    return None
