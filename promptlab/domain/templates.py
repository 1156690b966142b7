"""Fills prompt templates with dataset rows.

The simple format: `<name>` is filled by the column `name`, brackets and all. A name begins with a
letter or an underscore; letters, digits, `_`, `.`, `-` and inner spaces may follow. Everything else
in angle brackets (`</answer>`, `<1>`, `a < b`) is text. Backslashes count only where they stand
directly before a `<`: an odd one makes that `<` literal, and each pair is one backslash, so that
`\\<x>` gives `<x>` and `\\\\<x>` a backslash and the column. What a row brings is never expanded again.

In both formats a string is written as it is, null as nothing, and everything else as JSON.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from promptlab.bounded import BoundExceededError, RefusedError, bounded
from promptlab.domain.assets import DatasetContent, PromptTemplate
from promptlab.domain.chat import ChatRequest, Prompt, chat_of
from promptlab.domain.messages import ROLES, Message, Part, Text, text_message
from promptlab.domain.prompt_parts import MediaPart, TextPart, media_in, transcript_in
from promptlab.errors import TemplateError

Row = Mapping[str, Any]
Fill = Callable[[Row], str]

MOST_CHARS = 16_000_000
"""Characters of one filled prompt: a template may name a large column any number of times."""
# What may be in a name is narrowed by `_is_name`.
_NAME = r"([^\s\x00-\x1f<>\\/][^\x00-\x1f<>\\/]*+)>"
# The lookbehind keeps a long run of backslashes linear. A `<` with neither a backslash nor a name is no
# match: a million took 2.8 s.
_BRACKET = re.compile(rf"(?<!\\)(?:<{_NAME}|(\\++)<(?:{_NAME})?)")
_INLINE_CHARS = 50_000
"""A longer template is read and filled in a thread: half a million placeholders take 0.3 s a row."""
_JOINERS = "\u200c\u200d"  # between letters of Persian and Indic words
_SHOWN = 20
_HINTS = 3


@dataclass(frozen=True, slots=True)
class CompiledTemplate:
    """A template made ready to be filled, row after row."""

    name: str
    placeholders: tuple[str, ...]
    """The columns it needs, in order of first use."""
    optional: frozenset[str]
    """Placeholders that a row may lack: a Jinja template tests them with
    `is defined` or gives a `default`."""
    roles: tuple[str, ...]
    """The role that says each message."""
    _fills: tuple[Fill, ...]
    """In the simple format: what fills each message."""
    _texts: tuple[str, ...]
    """In Jinja: the text of each message."""
    _is_long: bool = False
    """In the simple format: whether it is filled in a thread."""
    template: PromptTemplate | None = None
    """The template, where it is more than texts: with parts, tools or a transcript."""

    @property
    def needs(self) -> frozenset[str]:
        """What a model must take for it, as far as the template says: see `Model.takes`."""
        if self.template is None:
            return frozenset()
        found = {part.modality for part in media_parts(self.template)}
        return frozenset({*found, "tools"} if self.template.tools else found)

    def render(self, row: Row) -> Prompt:
        """Fill the chat messages with one row: `[{"role": …, "content": …}, …]`, or a request where there are
        parts, tools or a transcript. Jinja blocks the caller.

        Raises:
            TemplateError: the row lacks a column, a Jinja expression fails on it, or the prompt is
                too large or takes too long.
        """
        if not self._texts:
            return self._as_chat([fill(row) for fill in self._fills], row)
        try:
            answers = bounded.call(_FILL, self._texts, dict(row))
        except (BoundExceededError, RefusedError, TypeError) as error:
            raise self._unfilled(error) from None
        return self._as_chat(self._filled(answers), row)

    async def render_async(self, row: Row) -> Prompt:
        """As `render`, with Jinja and long templates off the event loop."""
        if not self._texts and self._is_long:
            return await asyncio.to_thread(self.render, row)
        if not self._texts:
            return self._as_chat([fill(row) for fill in self._fills], row)
        try:
            answers = await bounded.call_async(_FILL, self._texts, dict(row))
        except (BoundExceededError, RefusedError, TypeError) as error:
            raise self._unfilled(error) from None
        return self._as_chat(self._filled(answers), row)

    def _as_chat(self, texts: list[str], row: Row) -> Prompt:
        if self.template is None:
            return [{"role": role, "content": text} for role, text in zip(self.roles, texts, strict=True)]
        tools = tuple(tool.tool() for tool in self.template.tools)
        said = tuple(self._messages(self.template, iter(texts), row))
        return chat_of(ChatRequest(said, tools, self.template.tool_choice))

    def _messages(self, template: PromptTemplate, texts: Iterator[str], row: Row) -> Iterator[Message]:
        where = f"Prompt template {self.name!r}"
        if isinstance(template.messages, str) or not template.messages:
            yield from (text_message(ROLES[role], text) for role, text in zip(self.roles, texts, strict=True))
            if template.transcript is not None:
                yield from transcript_in(row, template.transcript, where)
            return
        for message in template.messages:
            if isinstance(message.content, str):
                yield text_message(message.role, next(texts))
                continue
            parts: list[Part] = []
            for part in message.content:
                if isinstance(part, TextPart):
                    parts.append(Text(next(texts)))
                else:
                    parts += media_in(row, part, where)
            yield Message(message.role, tuple(parts))

    def _filled(self, answers: list[dict[str, Any]]) -> list[str]:
        for role, answer in zip(self.roles, answers, strict=True):
            if "error" in answer:
                raise _refused(_where(self.name, role), answer)
        return [answer["text"] for answer in answers]

    def _unfilled(self, error: Exception) -> TemplateError:
        if isinstance(error, BoundExceededError):
            return TemplateError(
                f"Prompt template {self.name!r} cannot be filled with this row: {error}. "
                "Make its loops and repetitions smaller."
            )
        return TemplateError(f"Prompt template {self.name!r} cannot be filled with this row: {error}")


_READ, _FILL = "promptlab.domain.jinja:read", "promptlab.domain.jinja:fill"


def compile_template(template: PromptTemplate) -> CompiledTemplate:
    """Make a template ready: parsed once, then a few µs a row (simple format). Jinja blocks the caller.

    Raises:
        TemplateError: a Jinja template has a syntax error, with its line; or it takes too long to read.
    """
    if template.template_format == "simple":
        return _simple_template(template)
    try:
        found = bounded.call(_READ, _texts_of(template))
    except (BoundExceededError, RefusedError) as error:
        raise _unread(template, error) from None
    return _jinja_template(template, found)


async def compile_template_async(template: PromptTemplate) -> CompiledTemplate:
    """As `compile_template`, with Jinja and long templates off the event loop."""
    if template.template_format == "simple" and _is_long(template):
        return await asyncio.to_thread(_simple_template, template)
    if template.template_format == "simple":
        return _simple_template(template)
    try:
        found = await bounded.call_async(_READ, _texts_of(template))
    except (BoundExceededError, RefusedError) as error:
        raise _unread(template, error) from None
    return _jinja_template(template, found)


def _is_long(template: PromptTemplate) -> bool:
    return sum(len(text) for _, text in template.texts()) > _INLINE_CHARS


def _texts_of(template: PromptTemplate) -> list[str]:
    return [text for _, text in template.texts()]


def _unread(template: PromptTemplate, error: Exception) -> TemplateError:
    return TemplateError(
        f"Prompt template {template.name!r} cannot be read: {error}. Make its loops and repetitions smaller."
    )


def _where(name: str, role: str) -> str:
    return f"Prompt template {name!r}, {role} message"


def _refused(where: str, answer: Mapping[str, Any]) -> TemplateError:
    line = f", line {answer['line']}" if answer["line"] else ""
    return TemplateError(f"{where}{line}: {answer['error']}")


def _jinja_template(template: PromptTemplate, found: list[dict[str, Any]]) -> CompiledTemplate:
    roles = tuple(role for role, _ in template.texts())
    for role, answer in zip(roles, found, strict=True):
        if "error" in answer:
            raise _refused(_where(template.name, role), answer)
    names = dict.fromkeys(name for answer in found for name in answer["names"])
    optional = frozenset(name for answer in found for name in answer["optional"])
    names |= dict.fromkeys(_columns(template))
    texts = tuple(_texts_of(template))
    return CompiledTemplate(template.name, tuple(names), optional, roles, (), texts, template=_more(template))


def _simple_template(template: PromptTemplate) -> CompiledTemplate:
    names: dict[str, None] = {}
    fills, roles = [], []
    for role, text in template.texts():
        fill, used = _simple(text, _where(template.name, role))
        names.update(dict.fromkeys(used))
        fills.append(fill)
        roles.append(role)
    names.update(dict.fromkeys(_columns(template)))
    return CompiledTemplate(
        template.name,
        tuple(names),
        frozenset(),
        tuple(roles),
        tuple(fills),
        (),
        _is_long(template),
        _more(template),
    )


def _more(template: PromptTemplate) -> PromptTemplate | None:
    return None if template.is_plain else template


def media_parts(template: PromptTemplate) -> Iterator[MediaPart]:
    """Give the parts of a template's messages that are media."""
    for message in () if isinstance(template.messages, str) else template.messages:
        if not isinstance(message.content, str):
            yield from (part for part in message.content if isinstance(part, MediaPart))


def _columns(template: PromptTemplate) -> list[str]:
    """The columns that it names beside its texts."""
    named = [part.column for part in media_parts(template)]
    return named if template.transcript is None else [*named, template.transcript]


def placeholders(template: PromptTemplate) -> tuple[str, ...]:
    """The columns that a template needs, in order of first use.

    Raises:
        TemplateError: a Jinja template has a syntax error.
    """
    return compile_template(template).placeholders


async def placeholders_async(template: PromptTemplate) -> tuple[str, ...]:
    """As `placeholders`, with Jinja off the event loop."""
    return (await compile_template_async(template)).placeholders


def check_placeholders(
    template: PromptTemplate, content: DatasetContent, compiled: CompiledTemplate | None = None
) -> None:
    """Hold a template against a dataset, before anything is paid for.

    Args:
        template: the template.
        content: what is known of the dataset.
        compiled: the template made ready, where the caller has it.

    Raises:
        TemplateError: a placeholder has no column, or its column is not in every row.
    """
    compiled = compiled or compile_template(template)
    columns = {c.name: c for c in content.columns}
    unknown = [p for p in compiled.placeholders if p not in columns]
    if unknown:
        raise TemplateError(_no_column(template, unknown, list(columns)))
    for name in compiled.placeholders:
        column = columns[name]
        if column.rows < content.rows and name not in compiled.optional:
            first = column.first_missing or 0
            raise TemplateError(
                f"Prompt template {template.name!r}: column {_cut(name)!r} is missing in "
                f"{content.rows - column.rows:,} of {content.rows:,} rows, first in row {first} "
                f"(counting from 0; the {_ordinal(first + 1)} row). Give every row a value: null or an empty "
                "string fills the placeholder with nothing."
            )


def filled_text(value: Any) -> str:
    """A value as a prompt shows it: a string as it is, null as nothing, everything else as compact JSON.

    Raises:
        TypeError: it is no JSON value.
    """
    if type(value) is str:
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _simple(text: str, where: str) -> tuple[Fill, list[str]]:
    literals, names = _split(text)
    if not names:
        return (lambda row: literals[0]), []
    pairs = tuple(zip(names, literals[1:], strict=True))

    def fill(row: Row) -> str:
        parts = [literals[0]]
        size = len(text)
        try:
            for name, literal in pairs:
                value = row[name]
                part = value if type(value) is str else filled_text(value)
                size += len(part)
                if size > MOST_CHARS:
                    raise TemplateError(
                        f"{where}: the prompt for this row has more than {MOST_CHARS:,} characters, "
                        f"at <{_cut(name)}>. Shorten the column {_cut(name)!r}, or name it less often."
                    )
                parts.append(part)
                parts.append(literal)
        except KeyError:
            raise TemplateError(
                f"{where}: this row has no column {_cut(name)!r}, which fills <{_cut(name)}>; it has "
                f"{_listed(list(row))}."
            ) from None
        except TypeError as error:
            raise TemplateError(
                f"{where}: column {_cut(name)!r} cannot fill <{_cut(name)}>: {error}."
            ) from error
        return "".join(parts)

    return fill, names


def _split(text: str) -> tuple[list[str], list[str]]:
    """The text around the placeholders, and their names: one text more than names."""
    literals: list[str] = []
    names: list[str] = []
    literal: list[str] = []
    done = 0
    for match in _BRACKET.finditer(text):
        slashes, name = len(match[2] or ""), match[1] or match[3]
        literal += text[done : match.start()], "\\" * (slashes // 2)
        if name and slashes % 2 == 0 and _is_name(name):
            names.append(name)
            literals.append("".join(literal))
            literal = []
        else:
            literal.append(text[match.start() + slashes : match.end()])
        done = match.end()
    return [*literals, "".join(literal) + text[done:]], names


def _is_name(name: str) -> bool:
    # Combining marks are parts of letters in many scripts, and neither `\w` nor isalnum() knows them.
    return (
        (name[0].isalpha() or name[0] == "_")
        and name[-1] != " "
        and all(
            c.isalnum() or c in "_.- " or c in _JOINERS or unicodedata.category(c).startswith("M")
            for c in name
        )
    )


def _no_column(template: PromptTemplate, unknown: list[str], columns: list[str]) -> str:
    from rapidfuzz import fuzz, process

    simple = template.template_format == "simple"
    shown = ", ".join(_cut(f"<{n}>" if simple else f"{{{{ {n} }}}}") for n in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
    folded = [c[:200].casefold() for c in columns]
    hints = []
    for name in unknown[:_HINTS]:
        near = process.extractOne(name[:200].casefold(), folded, scorer=fuzz.ratio, score_cutoff=60)
        if near:
            which = f" for {_cut(name)!r}" if len(unknown) > 1 else ""
            hints.append(f"Did you mean {_cut(columns[near[2]])!r}{which}?")
    literal = r", or write \< for a literal <" if simple else ""
    return " ".join(
        [
            f"Prompt template {template.name!r}: no column fills {shown}{more}. The dataset has "
            f"{_listed(columns)}.",
            *hints,
            f"Rename the placeholder or the column{literal}.",
        ]
    )


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"


def _listed(columns: list[str]) -> str:
    if not columns:
        return "no columns"
    more = f" and {len(columns) - _SHOWN:,} more" if len(columns) > _SHOWN else ""
    return (
        f"the column{'s' if len(columns) > 1 else ''} "
        f"{', '.join(repr(_cut(c)) for c in columns[:_SHOWN])}{more}"
    )


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
