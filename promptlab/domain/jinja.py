"""Jinja templates of prompts: read and filled. Called in a child process with limits (`promptlab.bounded`).

A template may compute anything: `'a' * 10**9` is worked out while it is compiled, not only when it is filled.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import orjson
from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_CHARS = 16_000_000
"""Characters of one filled prompt."""


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, for text that a model reads: nothing is escaped for HTML, keys of
    data come before methods."""

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=printed
        )
        self.filters["tojson"] = to_json

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The key of a mapping, even where it is called `items` or `keys`; else as Jinja has it."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON for a model: letters of every script and `<` as they are, keys in their order."""
    if indent is None:
        try:
            return orjson.dumps(value).decode()
        except TypeError:
            pass  # an integer of more than 64 bits
    import json

    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)


def printed(value: Any) -> Any:
    """Return what `{{ … }}` prints: a string as it is, null as nothing, everything else as JSON.

    Raises:
        TypeError: it is nothing that a prompt can show: a function, a generator.
    """
    if value is None:
        return ""
    if isinstance(value, str | int | StrictUndefined) and not isinstance(value, bool):
        return value
    if isinstance(value, type({}.keys()) | type({}.values()) | type({}.items()) | range):
        value = list(value)
    if callable(value):
        raise TypeError(
            f"{_named(value)} is a function, not a value: call it with (), or name a column that the rows "
            "have"
        )
    if isinstance(value, Iterator):
        raise TypeError("a filter such as map or select gives no text by itself: add | list or | join(', ')")
    return to_json(value)


def _named(value: Any) -> str:
    return repr(getattr(value, "__name__", type(value).__name__))


@cache
def environment() -> PromptEnvironment:
    """The one environment of a process."""
    return PromptEnvironment()


class Refused(ValueError):
    """The template is wrong; `line` says where, 0 for nowhere."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def read(texts: list[str]) -> list[dict[str, Any]]:
    """Find what templates need: `{"names", "optional"}` each, or `{"error", "line"}`.

    `names` are the variables in order of first use; `optional` those that a row may lack, because the
    template tests them with `is defined` or gives a `default`.
    """
    return [_tried(_read, text) for text in texts]


def fill(texts: list[str], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The texts of templates filled with a row: `{"text"}` each, or `{"error", "line"}`."""
    return [_tried(lambda text: {"text": _rendered(text, row)}, text) for text in texts]


def _rendered(text: str, row: dict[str, Any]) -> str:
    """Fill a template piece by piece, so that its length is known before it is all there."""
    pieces, size = [], 0
    for piece in _template(text).generate(row):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_CHARS:
            raise Refused(f"the prompt for this row has more than {MOST_CHARS:,} characters")
    return "".join(pieces)


def _tried(work: Callable[[str], dict[str, Any]], text: str) -> dict[str, Any]:
    try:
        return work(text)
    except MemoryError:
        raise
    except Refused as error:
        return {"error": str(error), "line": error.line}
    except Exception as error:  # noqa: BLE001 - an expression of the template may raise anything
        return {"error": f"{type(error).__name__}: {error}"[:2000], "line": _line(error)}


@lru_cache(maxsize=64)
def _template(text: str) -> Template:
    return environment().from_string(text)


def _read(text: str) -> dict[str, Any]:
    known = environment()
    try:
        tree = known.parse(text)
        undeclared = meta.find_undeclared_variables(tree)
        _template(text)
    except TemplateSyntaxError as error:
        raise Refused(f"not a valid Jinja template: {error.message}", error.lineno) from error
    if others := list(meta.find_referenced_templates(tree)):
        raise Refused(
            f"a prompt cannot include, import or extend another template ({others[0]!r}): write its text "
            "here."
        )
    guards = [*tree.find_all(nodes.Filter), *tree.find_all(nodes.Test)]
    # Inside a condition Jinja itself puts this off until a row gets there.
    for guard in guards:
        names = known.filters if isinstance(guard, nodes.Filter) else known.tests
        if guard.name not in names:
            near = difflib.get_close_matches(guard.name[:100], list(names), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            kind = type(guard).__name__.lower()
            raise Refused(f"Unknown Jinja {kind} {guard.name[:100]!r}.{hint}", guard.lineno)
    optional = {
        g.node.name
        for g in guards
        if g.name in ("default", "d", "defined", "undefined") and isinstance(g.node, nodes.Name)
    }
    used = [name.name for name in tree.find_all(nodes.Name) if name.name in undeclared]
    return {"names": list(dict.fromkeys(used)), "optional": sorted(optional)}


def _line(error: Exception) -> int:
    """The line of the template where it failed: Jinja puts its own frames in the traceback."""
    line, frame = 0, error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
