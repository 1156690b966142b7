"""Parts that the providers' answers have in common, read so that what stands beside an
answer never costs it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from promptlab.domain.messages import Message, Part, Reasoning, Text, ToolCall
from promptlab.domain.messages import tool_call as parsed_call


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def json_text(value: Any) -> str:
    """Write a value as JSON, also with NaN or half of a surrogate pair in it, as an answer may have them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def json_beginning(value: Any, most: int) -> str:
    """The beginning of `json_text`, without writing the rest of a long value."""
    parts, length = list[str](), 0
    for part in json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).iterencode(value):
        parts.append(part)
        length += len(part)
        if length >= most:
            break
    return "".join(parts)[:most]


def count_of(value: Any) -> int | None:
    """Read a count of tokens, which some servers write as 12.0; None for what is no count."""
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return int(value)


def dollars_of(value: Any) -> float | None:
    """Read an amount of dollars, a number or a text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


class Said(NamedTuple):
    """What a model said, ready for a `ModelResponse`."""

    text: str
    """The answer: without calls of tools, and without what was thought."""
    messages: tuple[Message, ...]
    """The message in full where there is more to it than the text; else none."""
    metadata: dict[str, Any]
    """`only_reasoning`, where there is nothing else."""


def said(text: str, parts: Sequence[Part], finish: str | None = None) -> Said:
    """Put together what a model said.

    Args:
        text: the text of the answer.
        parts: all parts in their order, `text` among them.
        finish: the reason why the model stopped.
    """
    if all(isinstance(part, Text) for part in parts):
        return Said(text, (), {})
    calls = any(isinstance(part, ToolCall) for part in parts)
    metadata = {} if text or calls else {"only_reasoning": True}
    return Said(text, (Message("assistant", tuple(parts), finish),), metadata)


def without_tags(text: str, tag: str) -> list[Part]:
    """Part the thoughts that a model wrote into its answer, as `<think>…</think>`, from what it said.

    A chat template may have written the first `<think>` itself: then the text begins with thoughts. One that
    is never closed was cut: all that follows are thoughts.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    parts: list[Part] = []
    before, found, after = text.partition(closing)
    if found and opening not in before:
        parts, text = _thought(before), after
    while opening in text:
        words, _, text = text.partition(opening)
        thought, _, text = text.partition(closing)
        parts += [*_worded(words), *_thought(thought)]
    parts += _worded(text.lstrip() if parts else text)
    return parts


def _thought(text: str) -> list[Part]:
    return [Reasoning(text.strip())] if text.strip() else []


def _worded(text: str) -> list[Part]:
    return [Text(text)] if text.strip() else []


def call_part(name: Any, arguments: Any, call_id: Any = None) -> ToolCall:
    """Make a call of a tool of what a provider gives; arguments that are JSON as a text are read."""
    name = name if isinstance(name, str) and name else json_text(name)
    return parsed_call(name, arguments, str(call_id) if call_id else None)


def function_calls(message: Mapping[str, Any]) -> list[ToolCall]:
    """Find the calls of tools of a message in OpenAI's form, also the older `function_call`."""
    calls = message.get("tool_calls") or []
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [message["function_call"]]
    found = []
    for call in map(mapping, calls):
        function = mapping(call.get("function", call))
        found.append(call_part(function.get("name"), function.get("arguments"), call.get("id")))
    return found


def reasoning_of(message: Mapping[str, Any]) -> str:
    """Find what was thought in a message of OpenAI's form: `reasoning_content` (DeepSeek, LiteLLM, vLLM),
    `reasoning` (OpenRouter, Groq, vLLM), `thinking` (Ollama), or parts of the content (Mistral)."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(found := message.get(name), str) and found:
            return found
    content = message.get("content")
    parts = map(mapping, content if isinstance(content, list) else ())
    return "".join(_words_of(part.get("thinking")) for part in parts if part.get("type") == "thinking")


def _words_of(thinking: Any) -> str:
    if isinstance(thinking, list):
        return "".join(str(mapping(part).get("text") or "") for part in thinking)
    return thinking if isinstance(thinking, str) else ""
