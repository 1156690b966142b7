"""Parts that the providers' answers have in common, read so that what stands beside an
answer never costs it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.texts import storable


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


def with_calls(text: str, calls: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Put an answer's text and its calls of tools into a response and its metadata.

    The response is the text; without one it is the calls as JSON, `[{"name": …, "arguments": …}]`.
    `metadata["tool_calls"]` lists the calls in both cases, each with the provider's id if it has one.
    """
    if not calls:
        return text, {}
    brief = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    # Half of a surrogate pair, which an answer may hold, can be in no store.
    kept = json.loads(storable(json_text(calls)))
    return text or json_text(brief), {"tool_calls": kept}


def tool_call(name: Any, arguments: Any, call_id: Any = None) -> dict[str, Any]:
    """Make one call of a tool; `arguments` as the provider gives them, a JSON text or an object."""
    return {**({"id": call_id} if call_id else {}), "name": name, "arguments": arguments}


def function_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Find the calls of tools of a message in OpenAI's form, also the older `function_call`."""
    calls = message.get("tool_calls") or []
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [message["function_call"]]
    found = []
    for call in map(mapping, calls):
        function = mapping(call.get("function", call))
        found.append(tool_call(function.get("name"), function.get("arguments"), call.get("id")))
    return found
