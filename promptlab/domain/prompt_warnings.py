"""Finds what in a prompt is probably not meant: the expected answer in it, placeholders of another syntax,
none at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from promptlab.domain.assets import DatasetContent, PromptTemplate
from promptlab.domain.templates import CompiledTemplate

_REFERENCE = re.compile(
    r"references?|expected(_\w+)?|answer|gold(en)?|ground_truth|truth|label|target|solution|correct", re.I
)
"""Names of inputs that hold what an answer is compared with; the built-in metrics have `reference`."""
_NAME = r"[^\W\d][\w.-]{0,200}"
_OTHER = re.compile(
    # {{ name }}, {{ name | filter }}; {name}, {name:.2f}; ${name}, $name; %(name)s
    rf"\{{\{{\s{{0,9}}(?P<jinja>{_NAME})\s{{0,9}}(?:[|\[(][^{{}}]{{0,200}})?\}}\}}"
    rf"|(?<![\w\\}}{{$])\{{(?P<format>{_NAME})(?:[!:][^{{}}]{{0,50}})?\}}(?!\}})"
    rf"|\$(?P<shell>\{{{_NAME}\}}|[^\W\d]\w{{0,200}})"
    rf"|%\((?P<percent>{_NAME})\)[sdrf]"
    rf"|(?<!\\)<(?P<simple>{_NAME})>"
)
_BLOCK = re.compile(r"\{%-?\s{0,9}(?:if|for|set|macro)\b")
_FILE = re.compile(r"\s*(?:file:\S+|[\w./~\\-]+\.(?:md|txt|j2|jinja2?|prompt))\s*", re.I)
_SHOWN = 5
LOOKED_AT = 200_000
"""Characters of a prompt that are searched: 5 million of `{{q}}` took 3 s."""


def prompt_warnings(
    template: PromptTemplate,
    compiled: CompiledTemplate,
    content: DatasetContent,
    mappings: Iterable[tuple[str, Mapping[str, str]]],
    *,
    is_all: bool = True,
) -> tuple[str, ...]:
    """Say what in a prompt is probably not meant. Nothing of it keeps a run from beginning.

    Args:
        template: the prompt.
        compiled: the same, made ready.
        content: the dataset.
        mappings: each metric's name and its column_mapping.
        is_all: whether the prompt is all that the model is sent, and not the beginning of a conversation.
    """
    texts = _beginnings([text for _, text in template.texts()])
    columns = {c.name.casefold(): c.name for c in content.columns}
    found = _gold(template, compiled, mappings)
    foreign = [*_files(template, texts), *_foreign(template, compiled, texts, columns)]
    found += foreign
    if is_all and not compiled.placeholders and content.rows > 1 and not foreign:
        example = _written(template, content.columns[0].name)
        found.append(
            f"Prompt template {template.name!r} has no placeholder: all {content.rows:,} rows get the same "
            f"prompt. Write {example} where a column of the dataset goes."
        )
    return tuple(found)


def _beginnings(texts: Sequence[str]) -> list[str]:
    """Return what is looked at of some texts: LOOKED_AT characters of all together."""
    ends = accumulate(map(len, texts), initial=0)
    return [
        text[: LOOKED_AT - before] for text, before in zip(texts, ends, strict=False) if before < LOOKED_AT
    ]


def _gold(
    template: PromptTemplate, compiled: CompiledTemplate, mappings: Iterable[tuple[str, Mapping[str, str]]]
) -> list[str]:
    """One warning for each column that fills a placeholder and is what a metric compares with."""
    compared: dict[str, list[str]] = {}
    for metric, mapping in mappings:
        for name, source in mapping.items():
            if _REFERENCE.fullmatch(name) and metric not in compared.setdefault(source, []):
                compared[source].append(metric)
    shown = [column for column in compiled.placeholders if column in compared]
    more = f"Further columns that metrics compare with are in the prompt: {len(shown) - _SHOWN:,}."
    return [
        f"Prompt template {template.name!r} shows the expected answer: {_written(template, column)} "
        "is filled by "
        f"the column {column!r}, which {_listed(map(repr, compared[column]))} compares answers with. "
        "The model "
        f"can repeat it. {_way_out(template, column)}"
        for column in shown[:_SHOWN]
    ] + ([more] if len(shown) > _SHOWN else [])


def _way_out(template: PromptTemplate, column: str) -> str:
    if template.template_format == "simple":
        return f"Write \\<{column}> if a literal tag is meant, or leave the placeholder out."
    return "Leave the placeholder out."


def _files(template: PromptTemplate, texts: Sequence[str]) -> list[str]:
    return [
        f"Prompt template {template.name!r}: the text {text.strip()[:200]!r} is the name of a file, "
        "and the model "
        "gets the name. In an experiment's YAML write file:prompts/solve.md (without //); from "
        "Python read the "
        "file: Path(…).read_text()."
        for text in texts
        if len(text) < 1000 and _FILE.fullmatch(text)
    ]


def _foreign(
    template: PromptTemplate, compiled: CompiledTemplate, texts: Sequence[str], columns: Mapping[str, str]
) -> list[str]:
    """A warning where columns stand in the brackets of another syntax, so that nothing fills them."""
    simple = template.template_format == "simple"
    own = "simple" if simple else "jinja"
    filled = {name.casefold() for name in compiled.placeholders}
    seen: dict[str, str] = {}
    for text in texts:
        for match in _OTHER.finditer(text):
            syntax, name = str(match.lastgroup), str(match[str(match.lastgroup)]).strip("{}")
            column = columns.get(name.casefold()) or columns.get(name.partition(".")[0].casefold())
            nothing_filled = syntax == "jinja" and not compiled.placeholders
            # Brackets around what no column is called are text: JSON, LaTeX, money. And in Jinja
            # <question>{{ question }}</question> is a placeholder between tags.
            known = column is not None and (simple or column.casefold() not in filled)
            if syntax != own and (known or nothing_filled):
                seen.setdefault(match[0][:100], column or name)
        if simple and (block := _BLOCK.search(text)):
            seen.setdefault(block[0] + " … %}", next(iter(columns.values()), "column"))
    if not seen:
        return []
    column = next(iter(seen.values()))
    other = f", or set template_format: {'jinja2' if simple else 'simple'}"
    return [
        f"Prompt template {template.name!r}: {_listed(seen)} {'are' if len(seen) > 1 else 'is'} not "
        "filled, and "
        f"the model gets the text as it is: placeholders are written {_written(template, column)} in "
        "the format "
        f"{template.template_format}. Write them so{other}."
    ]


def _written(template: PromptTemplate, column: str) -> str:
    return f"<{column}>" if template.template_format == "simple" else f"{{{{ {column} }}}}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN:,} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
