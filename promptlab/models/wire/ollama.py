"""Ollama's chat: messages, tools and pictures as it has them (docs.ollama.com/api/chat)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media, Message, ToolCallResponse, with_ids
from promptlab.errors import ModelError
from promptlab.models.wire.parts import (
    NOTHING,
    Loaded,
    arguments_object,
    coded,
    not_taken,
    response_text,
)


def ollama_fields(request: ChatRequest, model: str, data: Loaded = NOTHING) -> dict[str, Any]:
    """The fields `messages` and `tools` of a request.

    Raises:
        ModelError: a tool must be called, which Ollama cannot be told.
    """
    choice = request.tool_choice
    if choice not in (None, "auto", "none"):
        raise ModelError(
            f"{model}: Ollama takes no tool_choice {choice!r}; leave it out, or say auto or none",
            type="bad_request",
            sent=False,
        )
    names: dict[str, str] = {}
    messages: list[dict[str, Any]] = []
    for message in with_ids(request.messages):
        names |= {call.id or "": call.name for call in message.tool_calls}
        messages += _said(message, names, model, data)
    fields: dict[str, Any] = {"messages": messages}
    if request.tools and choice != "none":
        fields["tools"] = [{"type": "function", "function": tool.to_json()} for tool in request.tools]
    return fields


def _said(message: Message, names: dict[str, str], model: str, data: Loaded) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        if isinstance(part, ToolCallResponse):
            name = names.get(part.id or "", "")
            yield {"role": "tool", "tool_name": name, "content": response_text(part.response)}
    media = [part for part in message.parts if isinstance(part, Media)]
    if wrong := next((one for one in media if one.modality != "image" or one.sha256 is None), None):
        raise not_taken(model, wrong)
    if not (message.text or message.tool_calls or media):
        return
    role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
    said: dict[str, Any] = {"role": role, "content": message.text}
    if media:
        said["images"] = [coded(one, data) for one in media]
    if calls := message.tool_calls:
        said["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_object(call)}} for call in calls
        ]
        if message.reasoning:
            said["thinking"] = message.reasoning
    yield said
