"""What a model is asked: plain chat messages, or a request with parts and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from promptlab.domain.messages import (
    MODALITIES,
    ROLES,
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    read_messages,
    text_message,
)

TOOL_CHOICES = ("auto", "none", "required")
"""What `tool_choice` may be, beside the name of a tool."""
TAKEN = frozenset({"tools", "uri", *MODALITIES})
"""What a model may take beside texts."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """The JSON Schema of its arguments."""

    def to_json(self) -> dict[str, Any]:
        said = {"name": self.name, "parameters": dict(self.parameters)}
        return said if self.description is None else {**said, "description": self.description}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question to a model that is more than one text a message."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    """auto, none, required, or the name of a tool; None: as the provider does."""

    @property
    def needs(self) -> frozenset[str]:
        """What a model must take to be asked this: see `Model.takes`."""
        found = {"tools"} if self.tools else set[str]()
        for part in (part for message in self.messages for part in message.parts):
            if isinstance(part, ToolCall | ToolCallResponse):
                found.add("tools")
            elif isinstance(part, Media):
                found |= {part.modality} if part.uri is None else {part.modality, "uri"}
        return frozenset(found)

    def to_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {"messages": [message.to_json() for message in self.messages]}
        if self.tools:
            said["tools"] = [tool.to_json() for tool in self.tools]
        return said if self.tool_choice is None else {**said, "tool_choice": self.tool_choice}


def read_request(said: Mapping[str, Any]) -> ChatRequest:
    """Read a request from what `ChatRequest.to_json` gave.

    Raises:
        MessageError: one of its messages is none.
    """
    return ChatRequest(
        read_messages(said["messages"]),
        tuple(Tool(**tool) for tool in said.get("tools") or ()),
        said.get("tool_choice"),
    )


Prompt = Sequence[dict[str, str]] | ChatRequest
"""`[{"role": …, "content": text}, …]` where each message is one text and there are no tools; else a
request."""


def as_request(prompt: Prompt) -> ChatRequest:
    """Give a prompt as a request, whichever it is."""
    if isinstance(prompt, ChatRequest):
        return prompt
    return ChatRequest(tuple(text_message(ROLES[one["role"]], one["content"]) for one in prompt))


def chat_of(request: ChatRequest) -> Prompt:
    """Give a request as plain messages where it is no more than these; what a model thought before is not
    said to it again then."""
    if request.tools:
        return request
    spoken = [tuple(p for p in message.parts if not isinstance(p, Reasoning)) for message in request.messages]
    if not all(isinstance(part, Text) for parts in spoken for part in parts):
        return request
    return [
        {"role": message.role, "content": message.text}
        for message, parts in zip(request.messages, spoken, strict=True)
        if parts
    ]


def in_words(prompt: Prompt) -> list[dict[str, str]]:
    """Give a prompt as people read it: parts that are no text in a line each."""
    if not isinstance(prompt, ChatRequest):
        return list(prompt)
    return [
        {"role": message.role, "content": "\n".join(line for part in message.parts if (line := _line(part)))}
        for message in prompt.messages
    ]


def _line(part: Part) -> str:
    match part:
        case Text() | Reasoning():
            return part.content
        case ToolCall():
            return f"[calls {part.name}({_json(part.arguments)})]"
        case ToolCallResponse():
            return f"[{'failed' if part.is_error else 'gave'}: {_json(part.response)}]"
        case Media():
            here = f"{part.mime_type}, {part.size or 0:,} bytes"
            return f"[{part.modality}: {part.uri or part.file_id or here}]"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def ends_with_user(prompt: Prompt) -> bool:
    """Whether the user has the last word."""
    if isinstance(prompt, ChatRequest):
        return bool(prompt.messages) and prompt.messages[-1].role == "user"
    return bool(prompt) and prompt[-1]["role"] == "user"


def texts_of(prompt: Prompt) -> list[str]:
    """The texts of a prompt's messages, in order; those without any are left out of a request."""
    if isinstance(prompt, ChatRequest):
        return [message.text for message in prompt.messages if message.text]
    return [message["content"] for message in prompt]
