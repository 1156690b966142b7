"""Fills prompt templates with dataset rows.

The simple format: `<name>` is filled by the column `name`, brackets and all. A name begins with a
letter or an underscore; letters, digits, `_`, `.`, `-` and inner spaces may follow. Everything else
in angle brackets (`</answer>`, `<1>`, `a < b`) is text. Backslashes count only where they stand
directly before a `<`: an odd one makes that `<` literal, and each pair is one backslash, so that
`\\<x>` gives `<x>` and `\\\\<x>` a backslash and the column. What a row brings is never expanded again.

In both formats a string is written as it is, null as nothing, and everything else as JSON.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.domain.assets import DatasetContent, PromptTemplate
from promptlab.domain.results import described
from promptlab.errors import TemplateError, UnknownNameError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Row = Mapping[str, Any]
Fill = Callable[[Row], str]

# The lookbehind keeps a long run of backslashes linear. What may be in a name is narrowed by `_is_name`.
_BRACKET = re.compile(r"(?<!\\)(\\*)<(?:([^\s\x00-\x1f<>\\/][^\x00-\x1f<>\\/]*)>)?")
_JOINERS = "\u200c\u200d"  # between letters of Persian and Indic words
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CompiledTemplate:
    """A template made ready to be filled, row after row."""

    placeholders: tuple[str, ...]
    """The columns it needs, in order of first use."""
    optional: frozenset[str]
    """Placeholders that a row may lack: a Jinja template tests them with `is defined` or gives a `default`."""
    _messages: tuple[tuple[str, Fill], ...]

    def render(self, row: Row) -> list[dict[str, str]]:
        """The chat messages for one row: `[{"role": …, "content": …}, …]`.

        Raises:
            TemplateError: the row lacks a column, or a Jinja expression fails on it.
        """
        return [{"role": role, "content": fill(row)} for role, fill in self._messages]


def compile_template(template: PromptTemplate) -> CompiledTemplate:
    """The template, made ready: parsed once, then a few µs a row (simple format).

    Raises:
        TemplateError: a Jinja template has a syntax error; the message has its line.
    """
    one = _jinja if template.template_format == "jinja2" else _simple
    names: dict[str, None] = {}
    optional: set[str] = set()
    messages: list[tuple[str, Fill]] = []
    for message in template.chat():
        where = f"Prompt template {template.name!r}, {message['role']} message"
        fill, used, may_lack = one(message["content"], where)
        names.update(dict.fromkeys(used))
        optional |= may_lack
        messages.append((message["role"], fill))
    return CompiledTemplate(tuple(names), frozenset(optional), tuple(messages))


def placeholders(template: PromptTemplate) -> tuple[str, ...]:
    """The columns that a template needs, in order of first use.

    Raises:
        TemplateError: a Jinja template has a syntax error.
    """
    return compile_template(template).placeholders


def check_placeholders(template: PromptTemplate, content: DatasetContent) -> None:
    """Hold a template against a dataset, before anything is paid for.

    Raises:
        TemplateError: a placeholder has no column, or its column is not in every row.
    """
    compiled = compile_template(template)
    columns = {c.name: c for c in content.columns}
    unknown = [p for p in compiled.placeholders if p not in columns]
    if unknown:
        raise TemplateError(_no_column(template, unknown, list(columns)))
    for name in compiled.placeholders:
        column = columns[name]
        if column.rows < content.rows and name not in compiled.optional:
            first = column.first_missing or 0
            raise TemplateError(
                f"Prompt template {template.name!r}: column {name!r} is missing in {content.rows - column.rows:,} of {content.rows:,} rows, first in row "
                f"{first} (counting from 0; the {_ordinal(first + 1)} row). Give every row a value: null or an empty string fills the placeholder with nothing."
            )


def text_of(value: Any) -> str:
    """A value as a prompt shows it: a string as it is, null as nothing, everything else as compact JSON.

    Raises:
        TypeError: it is no JSON value.
    """
    if type(value) is str:
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _simple(text: str, where: str) -> tuple[Fill, list[str], set[str]]:
    literals, names = _split(text)
    if not names:
        return (lambda row: literals[0]), [], set()
    pairs = tuple(zip(names, literals[1:], strict=True))

    def fill(row: Row) -> str:
        parts = [literals[0]]
        try:
            for name, literal in pairs:
                value = row[name]
                parts.append(value if type(value) is str else text_of(value))
                parts.append(literal)
        except KeyError:
            raise TemplateError(
                f"{where}: this row has no column {name!r}, which fills <{name}>; it has {_listed(list(row))}."
            ) from None
        except TypeError as error:
            raise TemplateError(f"{where}: column {name!r} cannot fill <{name}>: {error}.") from error
        return "".join(parts)

    return fill, names, set()


def _split(text: str) -> tuple[list[str], list[str]]:
    """The text around the placeholders, and their names: one text more than names."""
    literals: list[str] = []
    names: list[str] = []
    literal: list[str] = []
    done = 0
    for match in _BRACKET.finditer(text):
        slashes, name = len(match[1]), match[2]
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


@functools.cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def finalize(value: Any) -> Any:
        return text_of(value) if value is None or isinstance(value, bool | list | dict) else value

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=finalize
    )


def _jinja(text: str, where: str) -> tuple[Fill, list[str], set[str]]:
    from jinja2 import TemplateSyntaxError, meta, nodes

    environment = _environment()
    try:
        tree = environment.parse(text)
        undeclared = meta.find_undeclared_variables(tree)
        template = environment.from_string(text)
    except TemplateSyntaxError as error:
        raise TemplateError(
            f"{where}, line {error.lineno}: not a valid Jinja template: {error.message}"
        ) from error
    if others := list(meta.find_referenced_templates(tree)):
        raise TemplateError(
            f"{where}: a prompt cannot include, import or extend another template ({others[0]!r}): write its text here."
        )
    names = [name.name for name in tree.find_all(nodes.Name) if name.name in undeclared]
    guards = [*tree.find_all(nodes.Filter), *tree.find_all(nodes.Test)]
    # Inside a condition Jinja itself puts this off until a row gets there.
    for guard in guards:
        known = environment.filters if isinstance(guard, nodes.Filter) else environment.tests
        if guard.name not in known:
            raise TemplateError(
                f"{where}, line {guard.lineno}: {UnknownNameError(f'Jinja {type(guard).__name__.lower()}', guard.name, known)}"
            )
    optional = {
        g.node.name
        for g in guards
        if g.name in ("default", "d", "defined", "undefined") and isinstance(g.node, nodes.Name)
    }

    def fill(row: Row) -> str:
        try:
            return template.render(row)
        except Exception as error:  # an expression of the template may raise anything
            line = _template_line(error)
            raise TemplateError(f"{where}{f', line {line}' if line else ''}: {described(error)}") from error

    return fill, names, optional


def _template_line(error: Exception) -> int | None:
    """The line of the Jinja template where it failed: Jinja puts its own frames in the traceback."""
    line, frame = None, error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _no_column(template: PromptTemplate, unknown: list[str], columns: list[str]) -> str:
    simple = template.template_format == "simple"
    shown = ", ".join(f"<{n}>" if simple else f"{{{{ {n} }}}}" for n in unknown)
    folded = {c.casefold(): c for c in columns}
    near = {n: difflib.get_close_matches(n.casefold(), folded, n=1, cutoff=0.6) for n in unknown}
    hints = [
        f"Did you mean {folded[match[0]]!r}{f' for {n!r}' if len(unknown) > 1 else ''}?"
        for n, match in near.items()
        if match
    ]
    literal = r", or write \< for a literal <" if simple else ""
    return " ".join(
        [
            f"Prompt template {template.name!r}: no column fills {shown}. The dataset has {_listed(columns)}.",
            *hints,
            f"Rename the placeholder or the column{literal}.",
        ]
    )


def _listed(columns: list[str]) -> str:
    if not columns:
        return "no columns"
    more = f" and {len(columns) - _SHOWN:,} more" if len(columns) > _SHOWN else ""
    return f"the column{'s' if len(columns) > 1 else ''} {', '.join(map(repr, columns[:_SHOWN]))}{more}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
