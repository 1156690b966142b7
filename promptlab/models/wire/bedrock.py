"""Bedrock's Converse: messages, tools and media as it has them
(docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html)."""

from __future__ import annotations

import base64
from typing import Any

from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.models.wire.anthropic import REDACTED
from promptlab.models.wire.parts import (
    NOTHING,
    Loaded,
    arguments_object,
    format_of,
    joined,
    not_taken,
    response_text,
    system_text,
    turns_of,
)


def converse_fields(request: ChatRequest, model: str, data: Loaded = NOTHING) -> dict[str, Any]:
    """The fields `system`, `messages` and `toolConfig` of a request; bytes are bytes, for botocore."""
    system = [{"text": text}] if (text := system_text(request)) else []
    turns = joined([_turn(message, model, data) for message in turns_of(request)])
    fields: dict[str, Any] = {"messages": turns or [{"role": "user", "content": system}]}
    if system and turns:
        fields["system"] = system
    # Converse has no "none": tools that must not be called are left out.
    if request.tools and request.tool_choice != "none":
        fields["toolConfig"] = {"tools": [{"toolSpec": _spec(tool)} for tool in request.tools]}
        if (choice := request.tool_choice) is not None:
            named: dict[str, Any] = {"auto": {"auto": {}}, "required": {"any": {}}}
            fields["toolConfig"]["toolChoice"] = named.get(choice, {"tool": {"name": choice}})
    return fields


def _spec(tool: Any) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "inputSchema": {"json": dict(tool.parameters)}}


def _turn(message: Message, model: str, data: Loaded) -> dict[str, Any]:
    role = "assistant" if message.role == "assistant" else "user"
    found = (_block(part, model, data, number) for number, part in enumerate(message.parts, 1))
    return {"role": role, "content": [block for block in found if block is not None]}


def _block(part: Any, model: str, data: Loaded, number: int) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return {"text": part.content} if part.content.strip() else None
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": arguments_object(part)}}
    if isinstance(part, ToolCallResponse):
        said = part.response
        content = {"json": said} if isinstance(said, dict) else {"text": response_text(said)}
        result = {"toolUseId": part.id, "content": [content]}
        return {"toolResult": {**result, "status": "error"} if part.is_error else result}
    if isinstance(part, Reasoning):
        return _thought(part)
    return _medium(part, model, data, number)


def _thought(part: Reasoning) -> dict[str, Any] | None:
    if part.signature is None:
        return None
    if part.signature.startswith(REDACTED):
        data = base64.b64decode(part.signature.removeprefix(REDACTED))
        return {"reasoningContent": {"redactedContent": data}}
    return {"reasoningContent": {"reasoningText": {"text": part.content, "signature": part.signature}}}


def _medium(media: Media, model: str, data: Loaded, number: int) -> dict[str, Any]:
    if media.sha256 is None or media.modality == "audio":
        raise not_taken(model, media)
    said = {"format": format_of(media), "source": {"bytes": data[media.sha256]}}
    if media.modality == "document":
        said["name"] = f"document-{number}"
    return {media.modality: said}
