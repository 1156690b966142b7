"""Anthropic's Messages API: messages, tools and media as it has them (docs.claude.com/en/api/messages)."""

from __future__ import annotations

from typing import Any

from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.models.wire.parts import (
    NOTHING,
    Loaded,
    arguments_object,
    coded,
    joined,
    mime_type,
    not_taken,
    response_text,
    system_text,
    turns_of,
)

REDACTED = "redacted:"
"""What stands before the data of thoughts that only the provider can read."""
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def anthropic_fields(request: ChatRequest, model: str, data: Loaded = NOTHING) -> dict[str, Any]:
    """The fields `system`, `messages`, `tools` and `tool_choice` of a request."""
    system = system_text(request)
    turns = joined([_turn(message, model, data) for message in turns_of(request)])
    fields: dict[str, Any] = {"messages": turns or [{"role": "user", "content": system}]}
    if system and turns:
        fields["system"] = system
    if request.tools:
        fields["tools"] = [
            {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "input_schema": dict(tool.parameters),
            }
            for tool in request.tools
        ]
        if (choice := request.tool_choice) is not None:
            kind = _CHOICES.get(choice)
            fields["tool_choice"] = {"type": kind} if kind else {"type": "tool", "name": choice}
    return fields


def _turn(message: Message, model: str, data: Loaded) -> dict[str, Any]:
    role = "assistant" if message.role == "assistant" else "user"
    blocks = [block for part in message.parts if (block := _block(part, model, data)) is not None]
    # Results of tools have to come first in their message.
    blocks.sort(key=lambda block: block["type"] != "tool_result")
    return {"role": role, "content": blocks}


def _block(part: Any, model: str, data: Loaded) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return {"type": "text", "text": part.content} if part.content.strip() else None
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
    if isinstance(part, ToolCallResponse):
        result = {"type": "tool_result", "tool_use_id": part.id, "content": response_text(part.response)}
        return {**result, "is_error": True} if part.is_error else result
    if isinstance(part, Reasoning):
        if part.signature is None:
            return None  # thoughts of another model, or of none
        if part.signature.startswith(REDACTED):
            return {"type": "redacted_thinking", "data": part.signature.removeprefix(REDACTED)}
        return {"type": "thinking", "thinking": part.content, "signature": part.signature}
    return _medium(part, model, data)


def _medium(media: Media, model: str, data: Loaded) -> dict[str, Any]:
    if media.modality not in ("image", "document"):
        raise not_taken(model, media)
    if media.uri is not None:
        return {"type": media.modality, "source": {"type": "url", "url": media.uri}}
    if media.file_id is not None:
        return {"type": media.modality, "source": {"type": "file", "file_id": media.file_id}}
    kind = mime_type(media)
    if kind.startswith("text/"):
        text = data[media.sha256 or ""].decode("utf-8", "replace")
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}
    return {
        "type": media.modality,
        "source": {"type": "base64", "media_type": kind, "data": coded(media, data)},
    }
