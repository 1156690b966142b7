"""Indents JSON and changes nothing else: every number keeps its digits, every repeated key stays."""

from __future__ import annotations

import re

import orjson

MOST_CHARS = 200_000
"""A longer text is shown as it is."""
MOST_LEVELS = 60
"""Deeper nesting is shown as it is: it would be indented off every screen, a level a line."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def indented(text: str) -> str | None:
    """Write each value of a JSON text on its own line; None if the text is not JSON, or
    too large to be read so."""
    if len(text) > MOST_CHARS or not _is_json(text):
        return None
    tokens, parts, level = _TOKEN.findall(text), list[str](), 0
    for before, token in zip(["", *tokens], tokens, strict=False):
        empty = before in ("[", "{") and token in ("]", "}")
        if token in ("]", "}"):
            level -= 1
        if before and before != ":" and token not in (",", ":") and not empty:
            parts.append("\n" + "  " * level)
        parts.append(": " if token == ":" else token)
        if token in ("[", "{"):
            level += 1
            if level > MOST_LEVELS:
                return None
    return "".join(parts)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
