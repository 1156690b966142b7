"""A prompt as text, and the form that edits one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from promptlab.domain.assets import ChatMessage, PromptTemplate
from promptlab.domain.explain import explain
from promptlab.domain.templates import placeholders_async
from promptlab.errors import PromptLabError


async def names_in(prompt: PromptTemplate) -> tuple[Sequence[str], str]:
    """The placeholders of a stored prompt, or what keeps it from being compiled."""
    try:
        return await placeholders_async(prompt), ""
    except PromptLabError as error:
        return (), str(error)


def read_of(prompt: PromptTemplate) -> list[dict[str, str]]:
    """Give a template's messages as people read them, with its tools behind."""
    if not prompt.tools:
        return prompt.chat()
    tools = [tool.tool().to_json() for tool in prompt.tools]
    chosen = f"tool_choice: {prompt.tool_choice}\n" if prompt.tool_choice else ""
    text = chosen + orjson.dumps(tools, option=orjson.OPT_INDENT_2).decode()
    return [*prompt.chat(), {"role": "tools", "content": text}]


def as_text(prompt: PromptTemplate) -> str:
    """A prompt's messages as one text, for diffs."""
    return "\n".join(f"[{m['role']}]\n{m['content']}" for m in read_of(prompt))


def with_room(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A prompt's messages with empty ones where a system or a user message is missing."""
    roles = [m["role"] for m in messages]
    first = [] if {"system", "developer"} & set(roles) else [{"role": "system", "content": ""}]
    return [*first, *messages, *([] if "user" in roles else [{"role": "user", "content": ""}])]


@dataclass(frozen=True, slots=True)
class Draft:
    """The fields of the form."""

    name: str
    description: str
    template_format: str
    messages: Sequence[dict[str, str]]

    def prompt(self) -> PromptTemplate:
        """The template.

        Raises:
            ValidationError: it breaks a rule of templates.
        """
        written = [m for m in self.messages if m["content"].strip()]
        roles = [m["role"] for m in written]
        base: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "template_format": self.template_format,
        }
        if roles in ([], ["system"], ["user"], ["system", "user"]):
            return PromptTemplate(**base, **{f"{m['role']}_prompt": m["content"] for m in written})
        return PromptTemplate(**base, messages=tuple(ChatMessage(**m) for m in written))


def draft_of(fields: dict[str, list[str]]) -> Draft:
    def one(name: str) -> str:
        return fields.get(name, [""])[0]

    # Browsers end lines with CR LF in forms; a prompt that is not touched must stay the same version.
    texts = [text.replace("\r\n", "\n") for text in fields.get("content", [])]
    messages = [
        {"role": role, "content": text} for role, text in zip(fields.get("role", []), texts, strict=False)
    ]
    return Draft(one("name").strip(), one("description"), one("template_format") or "simple", messages)


async def placeholders_of(draft: Draft) -> tuple[Sequence[str], str]:
    """The placeholders of what is written so far, or what is wrong with it."""
    if not any(m["content"].strip() for m in draft.messages):
        return (), ""
    try:
        return await names_in(Draft("draft", "", draft.template_format, draft.messages).prompt())
    except ValidationError as error:
        return (), explain(error, "prompt", PromptTemplate)
