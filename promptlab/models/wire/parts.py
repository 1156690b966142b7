"""Parts of a request that the forms of all providers have in common."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media, Message, Part, Text, ToolCall, with_ids
from promptlab.errors import ModelError
from promptlab.models.answers import json_text
from promptlab.models.media import read_media

Loaded = Mapping[str, bytes]
"""The bytes of media, by their SHA-256."""
NOTHING: Loaded = {}
_FORMATS = {
    "mpeg": "mp3",
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "jpg": "jpeg",
    "quicktime": "mov",
    "x-matroska": "mkv",
    "vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "msword": "doc",
    "vnd.ms-excel": "xls",
    "plain": "txt",
    "markdown": "md",
}
_USUAL = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4", "document": "application/pdf"}


async def loaded(request: ChatRequest) -> Loaded:
    """Read the media of a request that are in blobs, each once.

    Raises:
        ModelError: one is not there.
    """
    media = (part for message in request.messages for part in message.parts if isinstance(part, Media))
    found: dict[str, bytes] = {}
    for one in media:
        if one.sha256 is not None and one.sha256 not in found:
            found[one.sha256] = await read_media(one)
    return found


def mime_type(media: Media) -> str:
    """The type of a medium; where nobody says, the usual one of its kind."""
    return media.mime_type or _USUAL[media.modality]


def format_of(media: Media) -> str:
    """The short name of a medium's type, as in png, mp3, pdf."""
    name = mime_type(media).partition("/")[2].partition(";")[0].lower()
    return _FORMATS.get(name, name)


def coded(media: Media, data: Loaded) -> str:
    """The bytes of a medium in base64."""
    return base64.b64encode(data[media.sha256 or ""]).decode()


def address(media: Media, data: Loaded) -> str:
    """Where a medium is: its https address, or itself as a `data:` address."""
    return media.uri or f"data:{mime_type(media)};base64,{coded(media, data)}"


def not_taken(model: str, media: Media) -> ModelError:
    """The error for a medium that a provider does not take in this form."""
    form = "by its address" if media.uri else "as a file of the provider's" if media.file_id else "as data"
    return ModelError(
        f"{model} does not take media of the kind {media.modality} ({mime_type(media)}) {form}",
        type="bad_request",
        sent=False,
    )


def response_text(response: Any) -> str:
    """Return what a tool gave back, as a text."""
    return response if isinstance(response, str) else json_text(response)


def arguments_text(call: ToolCall) -> str:
    """The arguments of a call, as JSON in a text."""
    return call.arguments if isinstance(call.arguments, str) else json_text(call.arguments or {})


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call, as an object; those that are none under the name `arguments`."""
    if call.arguments is None:
        return {}
    return call.arguments if isinstance(call.arguments, dict) else {"arguments": call.arguments}


def system_text(request: ChatRequest) -> str:
    """The texts of system and developer messages, one after another."""
    texts = (message.text for message in request.messages if message.role in ("system", "developer"))
    return "\n\n".join(text for text in texts if text)


def turns_of(request: ChatRequest) -> Iterator[Message]:
    """Give all other messages, with ids."""
    return (one for one in with_ids(request.messages) if one.role not in ("system", "developer"))


def joined(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put messages of one role that follow each other into one: responses to calls that were made at once
    belong together. `content` is a list."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"]:
            found[-1] = {**turn, "content": [*found[-1]["content"], *turn["content"]]}
        elif turn["content"]:
            found.append(turn)
    return found


def only_text(parts: tuple[Part, ...]) -> str | None:
    """The text of parts that are one text; None of others."""
    return parts[0].content if len(parts) == 1 and isinstance(parts[0], Text) else None
