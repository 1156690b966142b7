"""What the providers' answers have in common, read so that what stands beside an answer never costs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def json_text(value: Any) -> str:
    """A value as JSON, also with NaN or half of a surrogate pair in it, as an answer may have them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def tool_calls(calls: Sequence[tuple[Any, Any]]) -> tuple[str, dict[str, Any]]:
    """The answer that consists of calls of tools, by name and arguments: as JSON, and how many they are."""
    return json_text([{"name": name, "arguments": arguments} for name, arguments in calls]), {
        "tool_calls": len(calls)
    }


def function_calls(message: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """`tool_calls` of a message in OpenAI's form."""
    functions = [mapping(mapping(call).get("function", call)) for call in message["tool_calls"]]
    return tool_calls([(function.get("name"), function.get("arguments")) for function in functions])
