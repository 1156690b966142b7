"""OpenAI's chat completions: messages, tools and media as that protocol has them
(platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from promptlab.domain.chat import TOOL_CHOICES, ChatRequest
from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse, with_ids
from promptlab.models.wire.parts import (
    NOTHING,
    Loaded,
    address,
    arguments_text,
    coded,
    format_of,
    not_taken,
    only_text,
    response_text,
)

MediaPart = Callable[[str, Media, Loaded], dict[str, Any]]
"""Makes a part of the content of a medium, for a model by its name."""


def chat_fields(
    request: ChatRequest,
    model: str,
    data: Loaded = NOTHING,
    *,
    media_part: MediaPart | None = None,
    reasoning: str | None = None,
) -> dict[str, Any]:
    """The fields `messages`, `tools` and `tool_choice` of a request.

    Args:
        request: what is asked.
        model: the model's name, for errors.
        data: the media's bytes.
        media_part: the provider's own form of media; default: OpenAI's.
        reasoning: the name under which the provider wants its thoughts back beside calls of tools.
    """
    part = media_part or openai_media
    messages = [one for message in with_ids(request.messages) for one in _said(message, part, model, data)]
    if reasoning is not None:
        for one, message in zip(_spoken(messages), _thoughtful(request), strict=True):
            if message.tool_calls and message.reasoning:
                one[reasoning] = message.reasoning
    fields: dict[str, Any] = {"messages": messages}
    if request.tools:
        fields["tools"] = [{"type": "function", "function": tool.to_json()} for tool in request.tools]
        if (choice := request.tool_choice) is not None:
            named = {"type": "function", "function": {"name": choice}}
            fields["tool_choice"] = choice if choice in TOOL_CHOICES else named
    return fields


def _spoken(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in messages if one["role"] == "assistant"]


def _thoughtful(request: ChatRequest) -> list[Message]:
    return [one for one in request.messages if one.role == "assistant"]


def _said(message: Message, media_part: MediaPart, model: str, data: Loaded) -> Iterator[dict[str, Any]]:
    """Give a message as those that OpenAI makes of it: each response of a tool is one of its own."""
    responses = [part for part in message.parts if isinstance(part, ToolCallResponse)]
    for one in responses:
        yield {"role": "tool", "tool_call_id": one.id, "content": response_text(one.response)}
    if message.role == "assistant":
        yield _assistant(message)
        return
    parts = tuple(part for part in message.parts if not isinstance(part, ToolCallResponse | Reasoning))
    if not parts and responses:
        return
    role = "user" if message.role == "tool" else message.role
    text = only_text(parts) if parts else ""
    content = [_part(part, media_part, model, data) for part in parts] if text is None else text
    yield {"role": role, "content": content}


def _assistant(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    if calls := message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_text(call)},
            }
            for call in calls
        ]
    elif said["content"] is None:
        said["content"] = ""
    return said


def _part(part: Any, media_part: MediaPart, model: str, data: Loaded) -> dict[str, Any]:
    if isinstance(part, Media):
        return media_part(model, part, data)
    words = f"[{part.name} {arguments_text(part)}]" if isinstance(part, ToolCall) else part.content
    return {"type": "text", "text": words}


def openai_media(model: str, media: Media, data: Loaded) -> dict[str, Any]:
    """OpenAI's form of a medium: pictures by address or as data, sounds and documents as data, documents as
    files that OpenAI has.

    Raises:
        ModelError: it takes none such.
    """
    if media.modality == "image" and media.file_id is None:
        return {"type": "image_url", "image_url": {"url": address(media, data)}}
    if media.modality == "audio" and media.sha256 is not None:
        return {
            "type": "input_audio",
            "input_audio": {"data": coded(media, data), "format": format_of(media)},
        }
    if media.modality == "document" and media.file_id is not None:
        return {"type": "file", "file": {"file_id": media.file_id}}
    if media.modality == "document" and media.sha256 is not None:
        file = {"filename": f"document.{format_of(media)}", "file_data": address(media, data)}
        return {"type": "file", "file": file}
    raise not_taken(model, media)


def openrouter_media(model: str, media: Media, data: Loaded) -> dict[str, Any]:
    """OpenRouter's form: documents and films by their address, too (openrouter.ai/docs, "Multimodal")."""
    if media.modality == "document" and media.uri is not None:
        return {"type": "file", "file": {"filename": "document.pdf", "file_data": media.uri}}
    if media.modality == "video" and media.file_id is None:
        return {"type": "video_url", "video_url": {"url": address(media, data)}}
    return openai_media(model, media, data)


def mistral_media(model: str, media: Media, data: Loaded) -> dict[str, Any]:
    """Mistral's form of documents and sounds (docs.mistral.ai, "Document QnA", "Audio")."""
    if media.modality == "document" and media.file_id is None:
        return {"type": "document_url", "document_url": address(media, data)}
    if media.modality == "audio" and media.file_id is None:
        return {"type": "input_audio", "input_audio": media.uri or coded(media, data)}
    return openai_media(model, media, data)


def vllm_media(model: str, media: Media, data: Loaded) -> dict[str, Any]:
    """vLLM's form: everything by address, which may be `data:` (docs.vllm.ai, "Multimodal Inputs")."""
    kind = f"{media.modality}_url"
    if media.modality == "document" or media.file_id is not None:
        raise not_taken(model, media)
    return {"type": kind, kind: {"url": address(media, data)}}


def message_text(message: Message) -> str:
    """The words of a message, for protocols whose content is one text."""
    return "".join(part.content for part in message.parts if isinstance(part, Text))
