"""Gemini's own API: messages, tools and media as it has them (ai.google.dev/api/generate-content)."""

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
    system_text,
    turns_of,
)

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def gemini_fields(request: ChatRequest, model: str, data: Loaded = NOTHING) -> dict[str, Any]:
    """The fields `systemInstruction`, `contents`, `tools` and `toolConfig` of a request."""
    system = [{"text": text}] if (text := system_text(request)) else []
    turns, names = list[dict[str, Any]](), dict[str | None, str]()
    for message in turns_of(request):
        names |= {call.id: call.name for call in message.tool_calls}
        turns.append(_turn(message, names, model, data))
    contents = [{"role": one["role"], "parts": one["content"]} for one in joined(turns)]
    fields: dict[str, Any] = {"contents": contents or [{"role": "user", "parts": system}]}
    if system and contents:
        fields["systemInstruction"] = {"parts": system}
    if request.tools:
        declared = [
            {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parametersJsonSchema": dict(tool.parameters),
            }
            for tool in request.tools
        ]
        fields["tools"] = [{"functionDeclarations": declared}]
        if (choice := request.tool_choice) is not None:
            named = {"mode": "ANY", "allowedFunctionNames": [choice]}
            chosen = {"mode": _MODES[choice]} if choice in _MODES else named
            fields["toolConfig"] = {"functionCallingConfig": chosen}
    return fields


def _turn(message: Message, names: dict[str | None, str], model: str, data: Loaded) -> dict[str, Any]:
    role = "model" if message.role == "assistant" else "user"
    parts = [found for part in message.parts if (found := _part(part, names, model, data)) is not None]
    return {"role": role, "content": parts}


def _part(part: Any, names: dict[str | None, str], model: str, data: Loaded) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return {"text": part.content} if part.content else None
    if isinstance(part, ToolCall):
        return {"functionCall": {"id": part.id, "name": part.name, "args": arguments_object(part)}}
    if isinstance(part, ToolCallResponse):
        said = part.response
        key = "error" if part.is_error else "output"
        response = said if isinstance(said, dict) and not part.is_error else {key: said}
        # A response names its function: of one whose call is nowhere, the id is all that there is.
        name = names.get(part.id) or part.id
        return {"functionResponse": {"id": part.id, "name": name, "response": response}}
    if isinstance(part, Reasoning):
        return None
    return _medium(part, model, data)


def _medium(media: Media, model: str, data: Loaded) -> dict[str, Any]:
    if media.file_id is not None:
        raise not_taken(model, media)
    kind = mime_type(media)
    if media.uri is not None:
        return {"fileData": {"mimeType": kind, "fileUri": media.uri}}
    return {"inlineData": {"mimeType": kind, "data": coded(media, data)}}
