"""Keeps keys out of what is recorded: answers, errors, logs.

Two nets. `Mask.hide` looks in the bytes that an endpoint sends, before anything is made of them, for its key,
also with escaped characters. `hide_text` and `hidden` look in decoded text, right before it is recorded or
shown, for every key that this process knows, also where only a part of one is left, in base64 or hexadecimal,
percent-encoded, and with other characters in between.
"""

from __future__ import annotations

import base64
import html
import re
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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


_STEP = 4
"""Characters of a form of a key that are looked up at once, as one integer: so a text of 1,000 characters
takes 5 µs."""
_LEAST = 10
"""Letters and digits in a row that count as a part of a key. Every run of seven holds a whole step, whichever
character the steps begin at."""
_RANDOM = 16
"""A key with fewer letters and digits is hidden as a whole only."""
_SECRET_NAME = re.compile(r"(key|token|secret|password|passwd|pwd|credentials?)$", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z]{1,8}[-_](?:[A-Za-z]+\d{0,2}[-_]){0,3}")
"""The beginning that all keys of a provider share (`sk-ant-api03-`): no secret, and a word of answers about
keys."""
_OTHER = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_ESCAPED = re.compile(
    r"(?:\\+|%)u([0-9A-Fa-f]{4})|\\+(?:x([0-9A-Fa-f]{2})|u\{0*([0-9A-Fa-f]{1,4})\}|U0000([0-9A-Fa-f]{4}))"
    r"|\\+([0-3]?[0-7]{2})"
)
"""A character as languages escape it: Python, JSON, JavaScript, C; the last group is octal."""
_BETWEEN = "\x1e"
"""Separates texts that are looked at together; no text of ours has it."""


class KnownKeys:
    """All keys that this process knows, and every form in which one of them may come back."""

    def __init__(self) -> None:
        self._masks: dict[str, Mask] = {}
        self._forms: tuple[bytes, ...] = ()
        self._steps: frozenset[int] = frozenset()

    def add(self, key: str) -> None:
        """Hide a key from now on."""
        if key in self._masks or len(key) < SHORTEST or key.lower() in STAND_INS:
            return
        self._masks = {**self._masks, key: Mask(key)}
        body = key[len(match[0]) :] if (match := _PREFIX.match(key)) else key
        if len(_plain(body)) < _RANDOM:
            return
        # Names of headers and encodings are compared, and quoted, in small letters.
        bodies = (_plain(body), _plain(body.lower()), _plain(body.upper()))
        coded = (*bodies, *_coded(key))
        self._forms = tuple(sorted({*self._forms, _plain(key), *coded}))
        self._steps |= {_number(form, at) for form in coded for at in range(len(form) - _STEP + 1)}

    def hide(self, text: str) -> str:
        """Return a text without any of the keys."""
        clean = self._without_parts(self._without_keys(text))
        if not self._masks:
            return clean
        for decoded in _decoded(clean):
            # What is left of a key here is not to be told from the rest of the text.
            if self._without_parts(self._without_keys(decoded)) != decoded:
                return HIDDEN
        return clean

    def _without_keys(self, text: str) -> str:
        data = before = text.encode("utf-8", "surrogatepass")
        for mask in self._masks.values():
            data = mask.hide(data)
        return text if data is before else data.decode("utf-8", "surrogatepass")

    def _without_parts(self, text: str) -> str:
        """Return a text without runs of letters and digits that stand in a form of a key in this order,
        whatever stands between them."""
        squeezed = _plain(text) if self._steps else b""
        whole = memoryview(squeezed)[: len(squeezed) // _STEP * _STEP]
        if self._steps.isdisjoint(whole.cast("I")):
            return text
        spans = self._spans(squeezed)
        if not spans:
            return text
        where = [at for at, char in enumerate(text) if char.isascii() and char.isalnum()]
        parts, last = [], 0
        for first, after in spans:
            begin, end = where[first], where[after - 1] + 1
            fields = text[begin:end].count(_BETWEEN) + 1
            parts += [text[last:begin], _BETWEEN.join([HIDDEN] * fields)]
            last = end
        return "".join((*parts, text[last:]))

    def _spans(self, squeezed: bytes) -> list[tuple[int, int]]:
        """Find the runs of at least _LEAST characters that stand in a form, as (first, after last)."""
        spans: list[tuple[int, int]] = []
        at = 0
        while at + _STEP <= len(squeezed):
            first, after = self._longest(squeezed, at)
            run = squeezed[first:after]
            # Letters alone may be words, digits alone a number.
            if len(run) < _LEAST or run.isalpha() or run.isdigit():
                at += _STEP
                continue
            if spans and first <= spans[-1][1]:
                first = spans.pop()[0]
            spans.append((first, after))
            at = max(after, at + _STEP)
        return spans

    def _longest(self, squeezed: bytes, at: int) -> tuple[int, int]:
        if _number(squeezed, at) not in self._steps:
            return at, at
        step = squeezed[at : at + _STEP]
        runs = (self._run(form, squeezed, at) for form in self._forms if step in form)
        return max(runs, key=lambda span: span[1] - span[0])

    @staticmethod
    def _run(form: bytes, text: bytes, at: int) -> tuple[int, int]:
        """Extend the step at a place of the text to both sides, as far as the form has the same
        characters."""
        step, best = text[at : at + _STEP], (at, at)
        start = form.find(step)
        while start >= 0:
            before = 0
            while before < min(start, at) and form[start - before - 1] == text[at - before - 1]:
                before += 1
            after = _STEP
            while (
                start + after < len(form)
                and at + after < len(text)
                and form[start + after] == text[at + after]
            ):
                after += 1
            if before + after > best[1] - best[0]:
                best = at - before, at + after
            start = form.find(step, start + 1)
        return best


_known = KnownKeys()


def remember(key: str | None) -> None:
    """Let no text that is recorded from now on hold a key."""
    if key:
        _known.add(key)


def remember_environment(environment: Mapping[str, str]) -> None:
    """Remember the values of variables whose names say that they are secret, where they look random.

    An error of a user's own code may quote them; a word such as `postgres` stands in answers by itself.
    """
    for name, value in environment.items():
        value = value.strip()
        if (
            _SECRET_NAME.search(name)
            and _RANDOM <= len(value) <= 4096
            and value.isascii()
            and not any(map(str.isspace, value))
            and any(map(str.isdigit, value))
            and any(map(str.isalpha, value))
        ):
            _known.add(value)


def hide_text(text: str) -> str:
    """Return a text without any key that this process knows."""
    return _known.hide(text)


def traceback_of(error: BaseException) -> str:
    """Write an error with where it comes from, for logs, without any key."""
    return hide_text("".join(traceback.format_exception(error)))


def hidden(value: Any) -> Any:
    """Return a value of JSON without any key, also one that is split over several of its texts; the very
    value where it holds none."""
    texts: list[str] = []
    _gather(value, texts)
    joined = _BETWEEN.join(texts)
    clean = _known.hide(joined)
    if clean == joined:
        return value
    parts = clean.split(_BETWEEN)
    if len(parts) != len(texts):
        # All of it was hidden, or a text has the separator in it: each by itself, and all if that is not
        # enough.
        parts = [_known.hide(text) for text in texts]
        if _known.hide(again := _BETWEEN.join(parts)) != again:
            parts = [HIDDEN for _ in texts]
    return _rebuilt(value, iter(parts))


def _gather(value: Any, texts: list[str]) -> None:
    """Append the texts of a value of JSON, in the order in which `_rebuilt` puts them back."""
    # Every answer and score comes through here: a generator, and Mapping asked first, cost 10 µs more each.
    # A call for each text cost as much as all the rest.
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) is str:
                texts.append(item)
            elif item is not None:
                _gather(item, texts)
    elif isinstance(value, (dict, Mapping)):
        for name, item in value.items():
            if type(name) is str:
                texts.append(name)
            else:
                _gather(name, texts)
            if type(item) is str:
                texts.append(item)
            elif item is not None:
                _gather(item, texts)


def _rebuilt(value: Any, texts: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Mapping):
        return {_rebuilt(name, texts): _rebuilt(item, texts) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(item, texts) for item in value]
    return value


def _plain(text: str) -> bytes:
    """The letters and digits of a text."""
    return text.encode("utf-8", "surrogatepass").translate(None, _OTHER)


def _number(text: bytes, at: int) -> int:
    """A step as the integer that a memoryview shows in its place."""
    return int.from_bytes(text[at : at + _STEP], sys.byteorder)


def _coded(key: str) -> Iterator[bytes]:
    """Write a key in the codes in which it may come back, with their letters and digits only."""
    data = key.encode("utf-8", "replace")
    yield data.hex().encode()
    yield data.hex().upper().encode()
    for offset in range(3):
        # What stands before the key moves it by 0, 1 or 2 bytes within base64's groups of three; the
        # characters that hold bits of neighbours are left out.
        coded = base64.b64encode(b"\0" * offset + data).decode()
        inner = coded[(offset * 8 + 5) // 6 : (offset + len(data)) * 8 // 6]
        yield _plain(inner)
        yield _plain(inner.replace("+", "-").replace("/", "_"))


def _unescaped(match: re.Match[str]) -> str:
    if match[5]:
        return chr(int(match[5], 8))
    return chr(int(match[match.lastindex or 0], 16))


def _decoded(text: str) -> Iterator[str]:
    """Read a text as what it may be an encoding of."""
    if ("\\" in text or "%u" in text) and (plain := _ESCAPED.sub(_unescaped, text)) != text:
        yield plain
    if "%" in text and (once := urllib.parse.unquote(text, errors="replace")) != text:
        yield once
        if (twice := urllib.parse.unquote(once, errors="replace")) != once:
            yield twice
    if "&#" in text and (plain := html.unescape(text)) != text:
        yield plain
