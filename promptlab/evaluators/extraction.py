"""Takes what is judged out of a text: the steps of a metric's `extract`, carried out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from promptlab.domain.extraction import LETTERS, Step
from promptlab.evaluators.choices import chosen
from promptlab.evaluators.numerals import number_at
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.structure import fenced_blocks, unfenced
from promptlab.evaluators.text import quote, text_of

MAX_CHARS = 4_000_000
"""Characters of a text that steps look at: longer ones hold up everything else."""
REGEX_S = 1.0
"""Seconds that the pattern of one step may take."""
_MAX_STARTS = 50
"""Places of a text that are tried as the beginning of JSON."""
_TAG = re.compile(r"<(?P<close>/)?(?:think|thinking|thought|reasoning|reflection|scratchpad)>", re.IGNORECASE)
_MAX_BOX = 20_000
"""Characters of a box."""
_PATH = re.compile(
    r"""\.([^.\[\]'"\s]+)|\[(-?\d{1,9})\]|\['([^'\]]+)'\]|\["([^"\]]+)"\]""",
)
_BOX = re.compile(r"\\f?boxed\s*(?=[{\s\d])|\\f?box\s*(?=\{)")

Take = Callable[[str], str | None]


class NothingError(Exception):
    """An extraction finds nothing; the message says which step, and in what text."""


class Extraction:
    """The chain of a metric's steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Make the steps ready.

        Raises:
            ValueError: a pattern or a path is none.
        """
        self._steps = [(step, _made(step)) for step in steps]

    def of(self, value: Any, name: str) -> str:
        """Take what is judged out of a value.

        Args:
            value: a text, or what is a text by its JSON.
            name: what it is, for messages: `response`, `reference`.

        Raises:
            NothingError: a step finds nothing.
            TimeoutError: a pattern took too long.
            ValueError: there is no value, or it is too long.
        """
        text = text_of(value, name)
        if len(text) > MAX_CHARS:
            raise ValueError(f"the {name} has {len(text):,} characters; at most {MAX_CHARS:,} are looked at")
        for step, take in self._steps:
            found = take(text)
            if found is None:
                raise NothingError(f"nothing to judge: {step.described()} is not in the {name} {quote(text)}")
            text = found
        return text

    def of_all(self, value: Any, name: str) -> Any:
        """Take what is judged out of a value, or out of each item of a list; errors as of `of`."""
        if isinstance(value, list | tuple):
            return [self.of(item, f"{name}[{number}]") for number, item in enumerate(value)]
        return self.of(value, name)


@lru_cache(maxsize=256)
def extraction(steps: tuple[Step, ...]) -> Extraction:
    """Make a chain of steps ready, once; errors as of `Extraction`."""
    return Extraction(steps)


def _made(step: Step) -> Take:
    value = step.value
    if step.kind == "after":
        return _after(value or "", step.take or "last")
    if step.kind == "json":
        path = read_path(value or "")
        return lambda text: _at(text, path)
    if step.kind == "regex":
        pattern = SafePattern(value or "", name="extract: regex", timeout_s=REGEX_S)
        return lambda text: pattern.extract(text, step.take or "last")
    if step.kind == "choice":
        return lambda text: chosen(text, value or LETTERS)
    if step.kind == "code_block":
        return lambda text: _block(text, value)
    return {"last_number": _last_number, "boxed": _boxed, "strip": without_reasoning}[step.kind]


def _last_number(text: str) -> str | None:
    found = number_at(text, "last")
    return found.text.strip() if found else None


def _after(mark: str, take: str) -> Take:
    pattern = re.compile(re.escape(mark), re.IGNORECASE)

    def rest(text: str) -> str | None:
        places = pattern.finditer(text)
        found = next(places, None) if take == "first" else _last(places)
        # Models write **Answer:** 18.
        return None if found is None else text[found.end() :].strip().lstrip("*_").strip()

    return rest


def _last(places: Iterator[re.Match[str]]) -> re.Match[str] | None:
    found = None
    for place in places:
        found = place
    return found


def _boxed(text: str) -> str | None:
    """Return what the last box has in it; braces within are matched."""
    places = list(_BOX.finditer(text))
    for place in reversed(places[-_MAX_STARTS:]):
        rest = text[place.end() :].lstrip()
        if not rest.startswith("{"):
            return next(iter(rest.split()), None)
        depth = 0
        for at, letter in enumerate(rest[:_MAX_BOX]):
            depth += (letter == "{") - (letter == "}")
            if depth == 0:
                return rest[1:at].strip()
    return None


def _block(text: str, language: str | None) -> str | None:
    found = None
    for name, body in fenced_blocks(text):
        if language is None or name == language.lower():
            found = body
    return found


def without_reasoning(text: str) -> str | None:
    """Take away what was thought: between tags, before a tag that closes only, after one that never closes.
    None where nothing else is left."""
    kept, begin, depth = list[str](), 0, 0
    for tag in _TAG.finditer(text):
        if tag["close"] is None:
            if depth == 0:
                kept.append(text[begin : tag.start()])
            depth += 1
        elif depth:
            depth -= 1
        else:
            kept.clear()  # all before it was thought: templates leave the opening tag to the prompt
        begin = tag.end()
    if depth == 0:
        kept.append(text[begin:])
    return "".join(kept).strip() or None


def read_path(path: str) -> tuple[str | int, ...]:
    """Read a path into JSON, as in RFC 9535's singular queries: `$.a.b`, `$[0]`, `$['a name']`.

    Raises:
        ValueError: it is none.
    """
    rest, found = path.strip(), list[str | int]()
    rest = rest[1:] if rest.startswith("$") else f".{rest}"
    while rest:
        part = _PATH.match(rest)
        if part is None:
            raise ValueError(
                f"{path!r} is no path of keys and positions, as in $.answer, $.items[0] or $['a name']"
            )
        key, position, *quoted = part.groups()
        found.append(int(position) if position else key or quoted[0] or quoted[1])
        rest = rest[part.end() :]
    return tuple(found)


def at_path(value: Any, path: Sequence[str | int]) -> tuple[bool, Any]:
    """Find a value in JSON: whether it is there, and what it is."""
    for key in path:
        if isinstance(key, int):
            if not (isinstance(value, list) and -len(value) <= key < len(value)):
                return False, None
            value = value[key]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False, None
    return True, value


def _at(text: str, path: Sequence[str | int]) -> str | None:
    for value in json_values(text):
        there, found = at_path(value, path)
        if there and found is not None:
            return text_of(found, "json")
    return None


def json_values(text: str) -> Iterator[Any]:
    """Give the JSON of a text: all of it, else that of its fenced block, else what stands among its words."""
    for candidate in dict.fromkeys((text.strip(), unfenced(text).strip())):
        try:
            yield json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        else:
            return
    decoder, at = json.JSONDecoder(), 0
    for _ in range(_MAX_STARTS):
        opened = re.compile(r"[\[{]").search(text, at)
        if opened is None:
            return
        try:
            value, at = decoder.raw_decode(text, opened.start())
        except (ValueError, RecursionError):
            at = opened.end()
        else:
            yield value
