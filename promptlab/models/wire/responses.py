"""OpenAI's Responses API: requests and answers as it has them
(platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from promptlab.domain.chat import TOOL_CHOICES, ChatRequest
from promptlab.domain.messages import (
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    with_ids,
)
from promptlab.models.answers import call_part, count_of, mapping
from promptlab.models.provider import Spent
from promptlab.models.wire.parts import (
    NOTHING,
    Loaded,
    address,
    arguments_text,
    format_of,
    not_taken,
    response_text,
)

RESPONSES_TAKE = frozenset({"tools", "image", "document", "uri"})
RESPONSES_BY_ADDRESS = frozenset({"image", "document"})


def responses_fields(request: ChatRequest, model: str, data: Loaded = NOTHING) -> dict[str, Any]:
    """The fields `input`, `tools` and `tool_choice` of a request."""
    items = [item for message in with_ids(request.messages) for item in _items(message, model, data)]
    fields: dict[str, Any] = {"input": items}
    if request.tools:
        # Strict is the default here, and wants schemas of a form of its own.
        fields["tools"] = [{"type": "function", **tool.to_json(), "strict": False} for tool in request.tools]
        if (choice := request.tool_choice) is not None:
            named = {"type": "function", "name": choice}
            fields["tool_choice"] = choice if choice in TOOL_CHOICES else named
    return fields


def text_format(given: Mapping[str, Any]) -> dict[str, Any]:
    """The Responses API's form of chat completions' `response_format`."""
    nested = given.get("json_schema")
    if given.get("type") == "json_schema" and isinstance(nested, Mapping):
        return {"format": {"type": "json_schema", **nested}}
    return {"format": dict(given)}


def _items(message: Message, model: str, data: Loaded) -> Iterator[dict[str, Any]]:
    """Give a message as items, in its order; parts of a content that follow each other are one message."""
    role = "user" if message.role == "tool" else message.role
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, Text) and role == "assistant" and not part.content:
            continue  # beside calls, as chat completions have it
        if isinstance(part, Text):
            kind = "output_text" if role == "assistant" else "input_text"
            content.append({"type": kind, "text": part.content})
        elif isinstance(part, Media):
            content.append(_medium(part, model, data))
        elif (item := _item(part)) is not None:
            if content:
                yield {"role": role, "content": content}
                content = []
            yield item
    if content:
        yield {"role": role, "content": content}


def _item(part: Any) -> dict[str, Any] | None:
    if isinstance(part, ToolCall):
        return {
            "type": "function_call",
            "call_id": part.id,
            "name": part.name,
            "arguments": arguments_text(part),
        }
    if isinstance(part, ToolCallResponse):
        output = response_text(part.response)
        return {"type": "function_call_output", "call_id": part.id, "output": output}
    return _thought(part) if isinstance(part, Reasoning) else None


def _thought(part: Reasoning) -> dict[str, Any] | None:
    """An item of thoughts, which the API wants back before the calls that came of them."""
    try:
        known = mapping(json.loads(part.signature or ""))
    except ValueError:
        return None  # thoughts of another provider's model
    if not isinstance(known.get("id"), str):
        return None
    summary = [{"type": "summary_text", "text": part.content}] if part.content else []
    return {"type": "reasoning", "summary": summary, **known}


def _medium(media: Media, model: str, data: Loaded) -> dict[str, Any]:
    if media.modality == "image":
        where = {"file_id": media.file_id} if media.file_id else {"image_url": address(media, data)}
        return {"type": "input_image", **where}
    if media.modality != "document":
        raise not_taken(model, media)
    if media.file_id is not None:
        return {"type": "input_file", "file_id": media.file_id}
    if media.uri is not None:
        return {"type": "input_file", "file_url": media.uri}
    name = f"document.{format_of(media)}"
    return {"type": "input_file", "filename": name, "file_data": address(media, data)}


def parts_in(output: Any) -> tuple[list[Part], bool]:
    """Read the items of an answer: its parts, and whether it refuses."""
    parts, refused = list[Part](), False
    for item in map(mapping, output):
        kind = item.get("type")
        if kind == "message":
            for block in map(mapping, item.get("content") or ()):
                words = block.get("text") or block.get("refusal")
                refused = refused or bool(block.get("refusal"))
                parts += [Text(words)] if isinstance(words, str) and words else []
        elif kind == "function_call":
            parts.append(call_part(item.get("name"), item.get("arguments"), item.get("call_id")))
        elif kind == "reasoning":
            parts.append(_reasoned(item))
    return parts, refused


def _reasoned(item: dict[str, Any]) -> Reasoning:
    """Read thoughts: in full where a server gives them, else as OpenAI sums them up."""
    full, brief = item.get("content"), item.get("summary")
    words = [str(mapping(one).get("text") or "") for one in (full or brief or ())]
    back = {name: item[name] for name in ("id", "encrypted_content") if isinstance(item.get(name), str)}
    return Reasoning("\n\n".join(filter(None, words)), json.dumps(back) if "id" in back else None)


def usage_in(usage: dict[str, Any], cost_usd: float | None) -> Spent:
    """Read the usage of an answer."""
    read, written = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
    details = mapping(usage.get("input_tokens_details"))
    return Spent(
        read,
        written,
        cost_usd,
        count_of(details.get("cached_tokens")),
        count_of(details.get("cache_write_tokens")),
        count_of(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )
