"""A prompt as text."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from promptlab.domain.assets import PromptTemplate
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
