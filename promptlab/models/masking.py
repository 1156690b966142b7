"""Keeps a key out of whatever an endpoint sends back: answers, errors, what is stored of them."""

from __future__ import annotations

import re
from collections.abc import Callable

HIDDEN = "***"
WHOLE_WORD_BELOW = 16
"""A shorter key is hidden where it stands by itself only: it may be a part of any word."""
SHORTEST = 3
"""One or two characters are no secret, and would be hidden in half of all answers."""
STAND_INS = frozenset(
    {
        *("none", "null", "empty", "dummy", "fake", "test", "testing", "unused", "anything", "any", "na"),
        *("n/a", "key", "api-key", "api_key", "apikey", "no-key", "no_key", "nokey", "not-needed"),
        *("not-used", "not_needed", "ollama", "lm-studio", "lmstudio", "vllm", "local", "localhost"),
        *("secret", "token", "password", "placeholder", "default", "changeme", "bearer"),
        *("sk-no-key-required", "xxx", "xxxx", "true", "false", "yes"),
    }
)
"""Keys that people write where a server wants none: words of any answer, and no secret."""
_ESCAPES = rb"\\{1,4}"
"""The backslashes before an escape: two and more where JSON stands in a string of JSON."""


class Mask:
    """Hides one key in text and in JSON, also where its characters are escaped (`\\/`, `\\u0073`)."""

    def __init__(self, key: str | None) -> None:
        self._replace: Callable[[bytes, bytes], bytes] | None = None
        self._plain = (key or "").encode()
        self._escapes: tuple[bytes, ...] = (b"\\u00", *((b"\\",) if set(key or "") & set('/"\\') else ()))
        if key and len(key) >= SHORTEST and key.lower() not in STAND_INS:
            pattern = b"".join(map(_escaped, key))
            if len(key) < WHOLE_WORD_BELOW:
                before = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
                pattern = before + pattern + rb"(?![A-Za-z0-9_])"
            self._replace = re.compile(pattern).sub

    def hide(self, data: bytes) -> bytes:
        """Return the data without the key."""
        if self._replace is None:
            return data
        # The pattern takes a second for 16 MB; most answers hold neither the key nor an escape.
        if self._plain not in data and not any(escape in data for escape in self._escapes):
            return data
        return self._replace(HIDDEN.encode(), data)

    def hide_text(self, text: str) -> str:
        """Return the text without the key."""
        if self._replace is None:
            return text
        return self.hide(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _escaped(char: str) -> bytes:
    """Match a character of a key, which is printable ASCII, by itself or as JSON may escape it."""
    plain = re.escape(char).encode()
    if char in '/"\\':
        plain = rb"(?:\\{0,4})" + plain
    code = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in f"{ord(char):04x}")
    return b"(?:" + plain + b"|" + _ESCAPES + b"u" + code.encode() + b")"
