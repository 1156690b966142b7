"""Messages of a conversation, in the terms of OpenTelemetry's conventions for generative AI.

The JSON form is that of the conventions, version 1.38 (`gen_ai.input.messages` and `gen_ai.output.messages`,
opentelemetry.io/docs/specs/semconv/gen-ai), so that an export renames nothing; OpenAI's form is read as well.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import orjson

from promptlab.domain.texts import storable
from promptlab.errors import MessageError

Role = Literal["system", "developer", "user", "assistant", "tool"]
Modality = Literal["image", "audio", "video", "document"]
ROLES: Mapping[str, Role] = {**{role: role for role in get_args(Role)}, "function": "tool"}
"""By the names that messages have for them; `function` is OpenAI's older one."""
MODALITIES: frozenset[str] = frozenset(get_args(Modality))
MAX_MESSAGES = 2_000
"""Messages of one conversation."""
MAX_PARTS = 2_000
"""Parts of one message."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is said, in words."""

    content: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "text", "content": self.content}


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought before it answered: never part of the answer that is scored."""

    content: str
    """In words; empty where the provider keeps them to itself."""
    signature: str | None = None
    """What the provider wants back with it in a later request of the same conversation, as it gave it."""

    def to_json(self) -> dict[str, Any]:
        said = {"type": "reasoning", "content": self.content}
        return said if self.signature is None else {**said, "signature": self.signature}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as the model asked for it."""

    name: str
    arguments: Any = None
    """JSON, as a rule an object; the text as it came where that is not JSON."""
    id: str | None = None
    """The provider's name for the call, by which a response refers to it."""

    def to_json(self) -> dict[str, Any]:
        return {"type": "tool_call", "id": self.id, "name": self.name, "arguments": self.arguments}


@dataclass(frozen=True, slots=True)
class ToolCallResponse:
    """What a tool gave back."""

    response: Any
    """JSON, or a text."""
    id: str | None = None
    """The `id` of its call."""
    is_error: bool = False
    """Whether the tool failed, and `response` says why."""

    def to_json(self) -> dict[str, Any]:
        said = {"type": "tool_call_response", "id": self.id, "response": self.response}
        return {**said, "is_error": True} if self.is_error else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A picture, a sound, a film or a document: where it is, never what is in it.

    One of `sha256` (a blob of the store, under its hash), `uri` (an https address) and `file_id` (a file that
    the provider has) says where.
    """

    modality: Modality
    mime_type: str | None = None
    sha256: str | None = None
    size: int | None = None
    """Bytes of the blob."""
    uri: str | None = None
    file_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        about = {"modality": self.modality, "mime_type": self.mime_type}
        if self.sha256 is not None:
            return {"type": "blob", **about, "sha256": self.sha256, "size": self.size}
        if self.uri is not None:
            return {"type": "uri", **about, "uri": self.uri}
        return {"type": "file", **about, "file_id": self.file_id}


Part = Text | Reasoning | ToolCall | ToolCallResponse | Media


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    parts: tuple[Part, ...]
    finish_reason: str | None = None
    """Of an output message: why the model stopped, as the provider puts it."""

    @property
    def text(self) -> str:
        """Its words, without reasoning; several parts of text follow each other as they are."""
        return "".join(part.content for part in self.parts if isinstance(part, Text))

    @property
    def reasoning(self) -> str:
        """What was thought, its parts on lines of their own."""
        return "\n".join(part.content for part in self.parts if isinstance(part, Reasoning) and part.content)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def is_plain(self) -> bool:
        """Whether it says no more than its text does."""
        return len(self.parts) == 1 and isinstance(self.parts[0], Text)

    def to_json(self) -> dict[str, Any]:
        said = {"role": self.role, "parts": [part.to_json() for part in self.parts]}
        return said if self.finish_reason is None else {**said, "finish_reason": self.finish_reason}


def text_message(role: Role, content: str) -> Message:
    """Make a message of one text."""
    return Message(role, (Text(content),))


def beyond_text(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Give the messages of an answer where they say more than one text does; none, where they do not."""
    if len(messages) == 1 and messages[0].is_plain and messages[0].role == "assistant":
        return ()
    return tuple(messages)


def answer_text(messages: Sequence[Message]) -> str:
    """Find the text of the last message of the assistant that has one; empty where none has."""
    return next((m.text for m in reversed(messages) if m.role == "assistant" and m.text), "")


def tool_calls_of(messages: Sequence[Message]) -> Iterator[ToolCall]:
    """Give every call of a tool, in order."""
    for message in messages:
        yield from message.tool_calls


def with_ids(messages: Sequence[Message]) -> Iterator[Message]:
    """Give the messages with an id for each call and its response: transcripts may leave them out, and
    providers want them. A response without one is that of the first call that has none yet."""
    count, waiting = 0, list[str]()
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                count += 1
                part = replace(part, id=part.id or f"call_{count}")
                waiting.append(part.id or "")
            elif isinstance(part, ToolCallResponse):
                found = part.id or (waiting[0] if waiting else f"call_{count}")
                part = replace(part, id=found)
                if found in waiting:
                    waiting.remove(found)
            parts.append(part)
        yield replace(message, parts=tuple(parts))


def read_messages(value: Any, where: str = "messages", *, refuse_data: bool = False) -> tuple[Message, ...]:
    """Read a conversation: a JSON list (or its text), in this module's form or in OpenAI's.

    Args:
        value: the list; each message has a `role`, and either `parts` or OpenAI's `content`, `tool_calls`
            and `tool_call_id`, or is a `Message` already.
        where: the place to name in an error, as in `column 'chat' of row 3`.
        refuse_data: whether media as data are an error, for messages that are to be sent; else of such a
            medium its hash is kept, by which it is found where the store has it.

    Raises:
        MessageError: it is none, names the message (from 1) and what is wrong with it.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise MessageError(f"{where} is no JSON list of messages: {error}") from None
    if not isinstance(value, list | tuple):
        raise MessageError(f"{where} must be a list of messages, not {type(value).__name__}")
    if len(value) > MAX_MESSAGES:
        raise MessageError(f"{where} has {len(value):,} messages; at most {MAX_MESSAGES:,} are taken")
    return tuple(
        _message(item, f"{where}, message {number}", refuse_data) for number, item in enumerate(value, 1)
    )


def _message(value: Any, where: str, refuse_data: bool) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} must be an object with a role, not {type(value).__name__}")
    role = value.get("role")
    said_by = ROLES.get(role) if isinstance(role, str) else None
    if said_by is None:
        raise MessageError(f"{where}: role {role!r} is none of {', '.join(get_args(Role))}")
    parts = value["parts"] if "parts" in value else list(_openai_parts(value, said_by, where))
    if not isinstance(parts, list | tuple):
        raise MessageError(f"{where}: parts must be a list, not {type(parts).__name__}")
    if len(parts) > MAX_PARTS:
        raise MessageError(f"{where} has {len(parts):,} parts; at most {MAX_PARTS:,} are taken")
    read = tuple(_part(part, f"{where}, part {number}", refuse_data) for number, part in enumerate(parts, 1))
    return Message(said_by, read, _words(value.get("finish_reason"), f"{where}: finish_reason"))


def _openai_parts(message: Mapping[str, Any], role: str, where: str) -> Iterator[Any]:
    """Give the parts of a message in OpenAI's form (platform.openai.com/docs/api-reference/chat)."""
    content = message.get("content")
    if role == "tool":
        # The older `function` names its function only: its call is the first that has no response yet.
        call_id = message.get("tool_call_id")
        yield {"type": "tool_call_response", "id": call_id, "response": _joined(content)}
        return
    if reasoning := message.get("reasoning_content") or message.get("reasoning"):
        yield {"type": "reasoning", "content": reasoning}
    if isinstance(content, str):
        yield {"type": "text", "content": content}
    elif isinstance(content, list | tuple):
        yield from content
    elif content is not None:
        raise MessageError(f"{where}: content must be a text or a list, not {type(content).__name__}")
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if not isinstance(calls, list | tuple):
        raise MessageError(f"{where}: tool_calls must be a list, not {type(calls).__name__}")
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise MessageError(f"{where}: a tool call must be an object with a function")
        arguments = function.get("arguments")
        yield {
            "type": "tool_call",
            "id": call.get("id"),
            "name": function.get("name"),
            "arguments": arguments,
        }


def _joined(content: Any) -> Any:
    """The words of a tool's response, where it comes as parts of text."""
    if not isinstance(content, list) or not all(isinstance(p, Mapping) and "text" in p for p in content):
        return content
    return "".join(str(part["text"]) for part in content)


def _part(value: Any, where: str, refuse_data: bool) -> Part:
    if isinstance(value, str):
        return Text(storable(value))
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} must be an object with a type, not {type(value).__name__}")
    kind = value.get("type")
    if kind in ("text", "input_text", "output_text"):
        return Text(_said(value.get("content", value.get("text")), where))
    if kind == "refusal":
        return Text(_said(value.get("refusal"), where))
    if kind in ("reasoning", "thinking"):
        signature = _words(value.get("signature"), f"{where}: signature")
        return Reasoning(_said(value.get("content", value.get("thinking")), where), signature)
    if kind == "tool_call":
        return tool_call(value.get("name"), value.get("arguments"), value.get("id"), where)
    if kind == "tool_call_response":
        name = _words(value.get("id"), f"{where}: id")
        return ToolCallResponse(value.get("response"), name, value.get("is_error") is True)
    if (media := _openai_media(value) if kind in _OPENAI_MEDIA else value) is not value or kind in _MEDIA:
        data = _data_in(media)
        if data is not None and refuse_data:
            raise MessageError(
                f"{where}: it holds media as data. Give an https address, or make the data a column of the "
                "dataset's `media`."
            )
        return _media(media if data is None else _hashed(media, *data, where), where)
    raise MessageError(
        f"{where}: type {kind!r} is none of text, reasoning, tool_call, tool_call_response, blob, uri, file"
    )


def tool_call(name: Any, arguments: Any, call_id: Any = None, where: str = "a tool call") -> ToolCall:
    """Make a call of a tool from what a provider says; arguments that are JSON as a text are read.

    Raises:
        MessageError: it has no name.
    """
    if not isinstance(name, str) or not name:
        raise MessageError(f"{where} has no name of a tool: {name!r}")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments) if arguments.strip() else {}
        except orjson.JSONDecodeError:
            arguments = storable(arguments)
    return ToolCall(storable(name), arguments, _words(call_id, f"{where}: id"))


_MEDIA = ("blob", "uri", "file")
_OPENAI_MEDIA = ("image_url", "input_image", "input_audio", "file")
_DATA = re.compile(r"data:([^;,]*)[^,]*;base64,", re.IGNORECASE)


def _openai_media(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A picture, sound or document in OpenAI's forms, as this module has it; itself, where it is none."""
    kind = value["type"]
    given = value.get("image_url" if kind == "input_image" else kind)
    about = given if isinstance(given, Mapping) else {}
    if kind in ("image_url", "input_image"):
        return {"modality": "image", "uri": about.get("url") if about else given}
    if kind == "input_audio" and "data" in about:
        return {"modality": "audio", "mime_type": f"audio/{about.get('format')}", "content": about["data"]}
    if kind == "file" and (about.get("file_data") or about.get("file_id")):
        return {"modality": "document", "uri": about.get("file_data"), "file_id": about.get("file_id")}
    return value


def _data_in(media: Mapping[str, Any]) -> tuple[str | None, Any] | None:
    """The type, where it is told, and the base64 of a medium that is there as data; None of all others."""
    uri = media.get("uri")
    if isinstance(uri, str) and uri[:5].lower() == "data:":
        found = _DATA.match(uri)
        return (found[1] or None, uri[found.end() :]) if found else (None, None)
    return (None, media["content"]) if media.get("content") is not None else None


def _hashed(media: Mapping[str, Any], mime_type: str | None, coded: Any, where: str) -> dict[str, Any]:
    """A medium as data, by its hash."""
    try:
        data = base64.b64decode(coded)
    except (TypeError, ValueError):
        raise MessageError(f"{where}: its data is no base64") from None
    about = {"modality": media.get("modality", "document"), "size": len(data)}
    mime_type = mime_type or _words(media.get("mime_type"), f"{where}: mime_type")
    return {**about, "mime_type": mime_type, "sha256": hashlib.sha256(data).hexdigest()}


def _media(value: Mapping[str, Any], where: str) -> Media:
    modality = value.get("modality", "document")
    if modality not in MODALITIES:
        raise MessageError(f"{where}: modality {modality!r} is none of {', '.join(sorted(MODALITIES))}")
    given = {
        name: _words(value.get(name), f"{where}: {name}")
        for name in ("mime_type", "sha256", "uri", "file_id")
    }
    if sum(given[name] is not None for name in ("sha256", "uri", "file_id")) != 1:
        raise MessageError(f"{where}: media needs one of sha256, uri and file_id")
    size = value.get("size")
    return Media(modality=modality, **given, size=size if isinstance(size, int) else None)


def read_media_value(value: Any, modality: Modality, where: str) -> Media:
    """Read the value of a dataset's column as media: as the dataset's creation made it, or an https address.

    Raises:
        MessageError: it is neither.
    """
    if isinstance(value, str) and value.startswith("https://"):
        return Media(modality=modality, uri=value)
    if isinstance(value, Mapping) and value.get("type") in ("blob", "uri", "file"):
        return _media(value, where)
    raise MessageError(f"{where} holds {type(value).__name__} {value!r:.60}, not media")


def _said(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MessageError(f"{where}: its content must be a text, not {type(value).__name__}")
    return storable(value)


def _words(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return storable(value) if value else None
    raise MessageError(f"{where} must be a text, not {type(value).__name__}")
