"""Parts of a prompt's messages beside text, its tools, and transcripts that a column holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from promptlab.domain.chat import TOOL_CHOICES, Tool
from promptlab.domain.messages import Media, Message, Modality, read_media_value, read_messages
from promptlab.errors import MessageError, TemplateError

MOST_TOOLS = 200
"""Tools of one prompt template."""
MOST_SCHEMA = 100_000
"""Bytes of one tool's schema, as JSON."""
TRANSCRIPT = re.compile(r"\$(.+)")
"""`messages` of a template that stand in a column: `$` and the column's name."""


class TextPart(BaseModel):
    """A text among the parts of a message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text"] = Field(default="text", description="A text.")
    text: str = Field(description="The text, with placeholders.")


class MediaPart(BaseModel):
    """A picture, a sound, a film or a document that a column of the dataset holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["image", "audio", "video", "document", "pdf"] = Field(description="What it is.")
    column: str = Field(min_length=1, description="The dataset's column, which its `media` names.")

    @property
    def modality(self) -> Modality:
        """What it is, in the terms of messages."""
        return "document" if self.type == "pdf" else self.type


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return "text" if kind == "text" else "media"


ContentPart = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[MediaPart, Tag("media")], Discriminator(_kind)
]


class ToolSpec(BaseModel):
    """A function that the model may call; OpenAI's `{type: function, function: {…}}` is read, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$", description="Its name: letters, digits, _ and -.")
    description: str | None = Field(default=None, max_length=10_000, description="What it does.")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="The JSON Schema of its arguments, of type object.",
    )

    @model_validator(mode="before")
    @classmethod
    def _openai(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("type") == "function" and "function" in value:
            return value["function"]
        return value

    @field_validator("parameters")
    @classmethod
    def _is_a_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("type") != "object":
            raise ValueError(f"the schema of a tool's arguments has type object, not {value.get('type')!r}")
        if (size := len(orjson.dumps(value))) > MOST_SCHEMA:
            raise ValueError(f"a schema of {size:,} bytes; at most {MOST_SCHEMA:,} are taken")
        return value

    def tool(self) -> Tool:
        """The tool as models get it."""
        return Tool(self.name, self.description, self.parameters)


def check_tools(tools: tuple[ToolSpec, ...], choice: str | None) -> None:
    """Hold tools and the choice among them against each other.

    Raises:
        ValueError: two have one name, or the choice names none of them.
    """
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two tools are called {twice!r}")
    if choice is not None and not tools:
        raise ValueError(f"tool_choice {choice!r} needs tools")
    if choice is not None and choice not in (*TOOL_CHOICES, *names):
        raise ValueError(f"tool_choice {choice!r} is none of {', '.join((*TOOL_CHOICES, *names))}")


def media_in(row: Mapping[str, Any], part: MediaPart, where: str) -> tuple[Media, ...]:
    """Find the media that a row has for a part of a message; none where it has null, several where it has a
    list.

    Raises:
        TemplateError: the column holds something else.
    """
    try:
        value = row[part.column]
    except KeyError:
        raise TemplateError(f"{where}: this row has no column {part.column[:100]!r}.") from None
    if value is None:
        return ()
    found = []
    for one in value if isinstance(value, list | tuple) else [value]:
        try:
            media = read_media_value(one, part.modality, f"column {part.column[:100]!r}")
        except MessageError as error:
            raise TemplateError(
                f"{where}: {error}. Create the dataset with media: {{{part.column[:100]}: {part.modality}}}."
            ) from None
        if media.modality != part.modality:
            raise TemplateError(
                f"{where}: column {part.column[:100]!r} holds a {media.modality}, not a {part.modality}."
            )
        found.append(media)
    return tuple(found)


def transcript_in(row: Mapping[str, Any], column: str, where: str) -> tuple[Message, ...]:
    """Read the transcript that a row has in a column, in OpenTelemetry's form or in OpenAI's.

    Raises:
        TemplateError: the row has none, or it is no transcript.
    """
    if row.get(column) is None:
        raise TemplateError(f"{where}: this row has no transcript in its column {column[:100]!r}.")
    try:
        found = read_messages(row[column], f"column {column[:100]!r}", refuse_data=True)
    except MessageError as error:
        raise TemplateError(f"{where}: {error}") from None
    if not found:
        raise TemplateError(f"{where}: the transcript in column {column[:100]!r} has no message.")
    return found
