"""Graded texts as a judge is shown them: as data between marks that nothing inside can end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.messages import Message, Reasoning, Text, ToolCall, ToolCallResponse, read_messages
from promptlab.evaluators.text import text_of

MOST_CHARS = 400_000
"""Characters of one text that a judge is shown; a longer one is an error, and no silent cut."""
_JOINERS = "\u200c\u200d"
"""Zero-width characters that some scripts write words with: they stay, and hide no mark."""
_UNSEEN = re.compile(
    r"[\u00ad\u180e\u200b\u2060-\u2064\u2066-\u2069\u202a-\u202e\ufeff\U000e0000-\U000e007f]"
)
"""Characters that nobody sees and a model reads: zero-width ones, directions, Unicode's tags."""
_OPENS = re.compile(rf"<(?:[{_JOINERS}]*<){{2,}}")
_CLOSES = re.compile(rf">(?:[{_JOINERS}]*>){{2,}}")


def visible(text: str) -> str:
    """The text without the characters that nobody sees."""
    return text if text.isascii() else _UNSEEN.sub("", text)


def neutral(text: str) -> str:
    """The text without what nobody sees, and without anything that looks like a mark of ours: of three or
    more `<` or `>` in a row each becomes ‹ or ›."""
    text = visible(text)
    text = _OPENS.sub(lambda found: "‹" * found[0].count("<"), text)
    return _CLOSES.sub(lambda found: "›" * found[0].count(">"), text)


def part(name: str, text: str) -> str:
    """A text between marks, neutral inside.

    Raises:
        ValueError: it is too long.
    """
    if len(text) > MOST_CHARS:
        raise ValueError(f"{name} has {len(text):,} characters; a judge is shown {MOST_CHARS:,} at most")
    label = re.sub(r"[^\w .-]", "_", neutral(name))[:100].upper()
    return f"<<<{label}>>>\n{neutral(text)}\n<<<END OF {label}>>>"


def chunks_of(value: Any, name: str = "contexts") -> list[str]:
    """The pieces of context: a list, or one text.

    Raises:
        ValueError: there is none.
    """
    if isinstance(value, list | tuple):
        return [text_of(one, f"{name}[{number}]") for number, one in enumerate(value)]
    return [text_of(value, name)]


def transcript(value: Any) -> str:
    """A conversation in words, one line a part: who says what, which tool is called, what it gives back.

    Raises:
        ValueError: it is neither messages nor a text.
    """
    if value is None:
        raise ValueError("messages is missing (null), so there is nothing to judge")
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return value
    if isinstance(value, Sequence) and value and isinstance(value[0], Message):
        messages: Sequence[Message] = value
    else:
        messages = read_messages(value)
    return "\n".join(line for message in messages for line in _lines(message))


def _lines(message: Message) -> list[str]:
    lines = []
    for one in message.parts:
        if isinstance(one, Text):
            lines.append(f"{message.role}: {one.content}")
        elif isinstance(one, ToolCall):
            lines.append(f"{message.role} calls the tool {one.name} with {text_of(one.arguments or {}, 'x')}")
        elif isinstance(one, ToolCallResponse):
            lines.append(f"the tool answers{' with an error' if one.is_error else ''}: {_said(one.response)}")
        elif not isinstance(one, Reasoning):  # what was thought is not what was done
            lines.append(f"{message.role} shows a file: {one.modality}")
    return lines


def _said(value: Any) -> str:
    return "nothing" if value is None else text_of(value, "response")


def folded(text: str) -> str:
    """A text for finding quotes in: words and digits alone, in one case."""
    return " ".join(re.findall(r"\w+", visible(text).casefold()))


def shown(data: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """Inputs as texts, in order; an input without a value is left out.

    Raises:
        ValueError: one is too long.
    """
    return [(name, text_of(data[name], name)) for name in names if data.get(name) is not None]
