"""The form that writes a prompt: messages with text, media and parts, a transcript's column, and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import orjson
import yaml
from pydantic import ValidationError

from promptlab.domain.assets import ChatMessage, PromptTemplate
from promptlab.domain.chat import TOOL_CHOICES
from promptlab.domain.explain import explain
from promptlab.domain.prompt_parts import MediaPart, TextPart
from promptlab.errors import ConfigError, PromptLabError
from promptlab.experiments.yaml_reading import read_yaml_text
from promptlab_studio.views.prompts import names_in

WRITTEN = (("text", "text, and media after it"), ("parts", "parts, as YAML"))
"""How the content of a message is written."""
KINDS: tuple[str, ...] = get_args(MediaPart.model_fields["type"].annotation)
PARTS_HINT = "- {type: text, text: Which is larger?}\n- {type: image, column: photo}"
TOOLS_HINT = """\
- name: look_up_rate
  description: The rate of exchange of a day.
  parameters:
    type: object
    properties: {day: {type: string}}
    required: [day]"""

HINTS = {"written": WRITTEN, "kinds": ", ".join(KINDS), "parts": PARTS_HINT, "tools": TOOLS_HINT}
"""What the fields of the form say of themselves."""


@dataclass(frozen=True, slots=True)
class DraftMessage:
    """One message of the form."""

    role: str
    content: str = ""
    written: str = "text"
    """`text`, or `parts`: the content is a list of parts, as YAML."""
    media: str = ""
    """Of a text, the media that follow it: `image: photo, pdf: paper`."""

    @property
    def is_empty(self) -> bool:
        return not self.content.strip() and not self.media.strip()

    @property
    def label(self) -> str:
        """What the message is called in an error."""
        return f"{self.role} message"

    def message(self) -> dict[str, Any]:
        """The message, as a template has it.

        Raises:
            ConfigError: the parts are no YAML, or media are not written as pairs.
        """
        if self.written == "parts":
            return {"role": self.role, "content": read_list(self.content, f"Parts of the {self.label}")}
        media = list(self._media())
        if not media:
            return {"role": self.role, "content": self.content}
        text = [{"type": "text", "text": self.content}] if self.content.strip() else []
        return {"role": self.role, "content": [*text, *media]}

    def _media(self) -> Sequence[Mapping[str, str]]:
        found = []
        for pair in self.media.split(","):
            if not pair.strip():
                continue
            kind, colon, column = (part.strip() for part in pair.partition(":"))
            if not colon or not column or kind not in KINDS:
                raise ConfigError(
                    f"Media of the {self.label}: {pair.strip()!r} is no kind and column. Write "
                    f"image: photo, with a comma between several; kinds are {', '.join(KINDS)}."
                )
            found.append({"type": kind, "column": column})
        return found


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """The fields of the form."""

    name: str
    description: str
    template_format: str
    messages: Sequence[DraftMessage]
    transcript: str = ""
    """The column that holds the messages; empty where the form does."""
    tools: str = ""
    """As YAML or JSON."""
    tool_choice: str = ""
    choices: Sequence[str] = field(default=TOOL_CHOICES)

    @property
    def is_empty(self) -> bool:
        return not self.transcript.strip() and all(message.is_empty for message in self.messages)

    def prompt(self) -> PromptTemplate:
        """The template.

        Raises:
            ValidationError: it breaks a rule of templates.
            ConfigError: parts or tools are not written as they are to be.
        """
        base: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "template_format": self.template_format,
        }
        if tools := read_list(self.tools, "Tools"):
            base["tools"] = tools
        if choice := self.tool_choice.strip():
            base["tool_choice"] = choice
        written = [m.message() for m in self.messages if not m.is_empty]
        if column := self.transcript.strip().removeprefix("$"):
            return PromptTemplate(**base, **self._before(written), messages=f"${column}")
        roles = [m["role"] for m in written]
        plain = all(isinstance(m["content"], str) for m in written)
        if plain and roles in ([], ["system"], ["user"], ["system", "user"]):
            return PromptTemplate(**base, **{f"{m['role']}_prompt": m["content"] for m in written})
        return PromptTemplate(**base, messages=tuple(ChatMessage(**m) for m in written))

    def _before(self, written: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Return what stands before a transcript: one system message at most."""
        if len(written) > 1 or any(
            m["role"] != "system" or not isinstance(m["content"], str) for m in written
        ):
            raise ConfigError(
                "The messages come from a column: before them may stand a system message, of text. Empty the "
                "other messages, or the column."
            )
        return {"system_prompt": written[0]["content"]} if written else {}


def read_list(text: str, what: str) -> list[Any]:
    """Read a list that is typed as YAML or JSON; an empty text is an empty list, one item a list of it.

    Raises:
        ConfigError: it is none.
    """
    if not text.strip():
        return []
    found = read_yaml_text(text, what)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise ConfigError(f"{what}: a list is expected, an item a line that begins with a hyphen.")
    return found


def draft_from(prompt: PromptTemplate | None, name: str) -> PromptDraft:
    """The form of a template; an empty one where there is none."""
    if prompt is None:
        return PromptDraft(name, "", "simple", with_room(()))
    given = prompt.messages
    if given and not isinstance(given, str):
        messages = [_drafted(message) for message in given]
    else:
        pairs = (("system", prompt.system_prompt), ("user", prompt.user_prompt))
        messages = [DraftMessage(role, text) for role, text in pairs if text]
    tools = [tool.model_dump(mode="json", exclude_none=True) for tool in prompt.tools]
    return PromptDraft(
        name,
        prompt.description,
        prompt.template_format,
        with_room(messages, transcript=prompt.transcript is not None),
        prompt.transcript or "",
        as_yaml(tools) if tools else "",
        prompt.tool_choice or "",
        (*TOOL_CHOICES, *(tool.name for tool in prompt.tools)),
    )


def as_yaml(value: Any) -> str:
    """Write a value as people type it."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).strip()


def _drafted(message: ChatMessage) -> DraftMessage:
    """A message as the form has it: text and media after it where it is no more than that."""
    if isinstance(message.content, str):
        return DraftMessage(message.role, message.content)
    parts = list(message.content)
    text = parts.pop(0).text if isinstance(parts[0], TextPart) else ""  # type: ignore[union-attr]
    media = [part for part in parts if isinstance(part, MediaPart)]
    if media and len(media) == len(parts) and not any("," in part.column for part in media):
        pairs = ", ".join(f"{part.type}: {part.column}" for part in media)
        return DraftMessage(message.role, text, media=pairs)
    listed = [part.model_dump(mode="json") for part in message.content]
    return DraftMessage(message.role, as_yaml(listed), "parts")


def with_room(messages: Sequence[DraftMessage], *, transcript: bool = False) -> list[DraftMessage]:
    """Give a prompt's messages with empty ones where a system or a user message is missing."""
    roles = [m.role for m in messages]
    first = [] if {"system", "developer"} & set(roles) else [DraftMessage("system")]
    return [*first, *messages, *([] if "user" in roles or transcript else [DraftMessage("user")])]


def draft_of(fields: Mapping[str, Sequence[str]]) -> PromptDraft:
    """Read the form as it was posted."""

    # Browsers end lines with CR LF in forms; a prompt that is not touched must stay the same version.
    def each(name: str, of: int) -> list[str]:
        given = [text.replace("\r\n", "\n") for text in fields.get(name, ())]
        return [*given, *[""] * (of - len(given))]

    def one(name: str) -> str:
        return each(name, 1)[0]

    roles = fields.get("role", ())
    columns = (each(name, len(roles)) for name in ("content", "written", "media"))
    messages = [
        DraftMessage(role, content, written or "text", media)
        for role, content, written, media in zip(roles, *columns, strict=False)
    ]
    return PromptDraft(
        one("name").strip(),
        one("description"),
        one("template_format") or "simple",
        messages,
        one("transcript").strip(),
        one("tools"),
        one("tool_choice"),
    )


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is written so far, read."""

    placeholders: Sequence[str] = ()
    wrong: str = ""
    media: Sequence[tuple[str, str]] = ()
    """Kind and column of each part that is no text."""
    tools: Sequence[tuple[str, str]] = ()
    """Name and arguments of each tool."""
    transcript: str = ""


async def outlook_of(draft: PromptDraft) -> Outlook:
    """Read what is written so far, and say what is wrong with it."""
    if draft.is_empty and not draft.tools.strip():
        return Outlook()
    try:
        prompt = replace(draft, name="draft", description="").prompt()
    except ValidationError as error:
        return Outlook(wrong=explain(error, "prompt", PromptTemplate))
    except PromptLabError as error:
        return Outlook(wrong=str(error))
    names, wrong = await names_in(prompt)
    columns = {column for _, column in media_of(prompt)} | {prompt.transcript}
    names = [name for name in names if name not in columns]
    return Outlook(names, wrong, media_of(prompt), tools_of(prompt), prompt.transcript or "")


def media_of(prompt: PromptTemplate) -> list[tuple[str, str]]:
    """Give kind and column of each part of a template that is no text."""
    if isinstance(prompt.messages, str):
        return []
    parts = (part for m in prompt.messages if not isinstance(m.content, str) for part in m.content)
    return list(dict.fromkeys((p.type, p.column) for p in parts if isinstance(p, MediaPart)))


def tools_of(prompt: PromptTemplate) -> list[tuple[str, str]]:
    """Give name and arguments of each tool of a template, in a line."""
    return [(tool.name, ", ".join(_arguments(tool.parameters))) for tool in prompt.tools]


def _arguments(schema: Mapping[str, Any]) -> Sequence[str]:
    named = schema.get("properties")
    needed = schema.get("required")
    needed = needed if isinstance(needed, list) else []
    return [
        str(name) if name in needed else f"{name}?" for name in (named if isinstance(named, dict) else {})
    ]


def size_of(prompt: PromptTemplate) -> int:
    """How many characters the form of a prompt has."""
    return len(orjson.dumps(prompt.content()))
