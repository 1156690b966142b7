"""Reads YAML as experiments are written in it: a file, or a text that somebody typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from promptlab.errors import ConfigError
from promptlab.experiments.expansion import expand_environment
from promptlab.experiments.yaml_bounds import check_bounds
from promptlab.named_files import check_regular

_TAG = "tag:yaml.org,2002:"
MERGE = f"{_TAG}merge"
_MOST_DIGITS = 1_000
"""Of a whole number: Python refuses to read, and to write, those of more than 4,300."""
_PLAIN = {
    "merge": r"<<",
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][-+]?[0-9]+)?",
}
"""Patterns of the values that are not text if they have no quotes."""
_REMEDIES = (
    ("\\t", "Indent with spaces, not with tabs."),
    (
        "mapping values are not allowed",
        "Put a text with a colon in it in quotes, and begin the keys of one mapping in the same column.",
    ),
    (
        "unknown escape character",
        "Put patterns in single quotes: in double quotes a backslash begins an escape.",
    ),
    ("cannot start any token", "Put a text that begins with %, @ or ` in quotes."),
    ("digits", "Put it in quotes, if it is a text."),
    ("alias", "Put a text that begins with * or & in quotes."),
    ("could not determine a constructor", "Put a text that begins with ! in quotes."),
    ("flow mapping", "Close each { with a }, and put a text with , : { or } in it in quotes."),
    ("flow sequence", "Close each [ with a ], and put a text with , [ or ] in it in quotes."),
    ("quoted scalar", "Close the quotes; a quote inside '…' is written twice."),
    ("expected <block end>", "Begin the keys of one mapping in the same column."),
    ("single document", "Put one experiment in a file: take out the line ---."),
)


class YamlLoader(yaml.SafeLoader):
    """YAML 1.2's core schema: `no`, `on`, `1:30` and `2026-11-25` are texts, as they were in the row that
    somebody wrote; and so is `012`."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def _integer(loader: YamlLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MOST_DIGITS:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(node.value):,} digits", node.start_mark
        )
    try:
        return int(loader.construct_yaml_int(node))
    except ValueError:  # `!!int` before what is none
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:80]!r} is no whole number", node.start_mark
        ) from None


YamlLoader.add_constructor(f"{_TAG}int", _integer)
for _name, _pattern in _PLAIN.items():
    YamlLoader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), None)


def read_yaml(path: Path) -> Any:
    """Read a YAML file that is no whole experiment, by the same rules; `${NAME}` in it is filled, too.

    Raises:
        ConfigError: it cannot be read, is not YAML, is too large, or has a key twice.
    """
    return _document(open_yaml(path), path, fill=True)


def read_yaml_text(text: str, what: str) -> Any:
    """Read YAML, or JSON, that somebody typed: nothing in it is filled.

    Args:
        text: the YAML.
        what: what it is of, for errors.

    Raises:
        ConfigError: it is not YAML, is too large, or has a key twice.
    """
    try:
        loader = YamlLoader(text)
    except yaml.YAMLError as error:
        raise ConfigError(syntax_words(Path(what), error)) from None
    return _document(loader, Path(what), fill=False)


def _document(loader: YamlLoader, path: Path, *, fill: bool) -> Any:
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        check_bounds(path, root)
        check_twice(path, root)
        if fill and isinstance(root, yaml.MappingNode):
            expand_environment(root, loader, path)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ConfigError(syntax_words(path, error)) from None
    except RecursionError:
        raise ConfigError(f"{path}: brackets are nested too deep.") from None
    finally:
        loader.dispose()


def open_yaml(path: Path) -> YamlLoader:
    """Open a YAML file, to be read once.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        check_regular(path, "The experiment", ConfigError)
        return YamlLoader(path.read_bytes())
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"Cannot read the experiment {path} ({path.absolute()}): {why}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(syntax_words(path, error)) from None


def syntax_words(path: Path, error: yaml.YAMLError) -> str:
    """Say where a file is not YAML, why, and what to do."""
    if isinstance(error, yaml.reader.ReaderError):
        return (
            f"{path}: character {error.position + 1:,} is not text: {error.reason}. Save the file as UTF-8."
        )
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{path} is not valid YAML: {error}."
    mark = error.problem_mark or error.context_mark
    at = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    remedy = next(
        (remedy for sign, remedy in _REMEDIES if sign in said), "Check the indentation and the quotes there."
    )
    return f"{at}: not valid YAML: {said}. {remedy}"


def check_twice(path: Path, root: yaml.Node) -> None:
    """Refuse a key that is there twice: YAML would keep the last of two without a word.

    Raises:
        ConfigError: there is one; with its line.
    """
    todo, seen = [root], set[int]()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # an alias, maybe to a node around it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                name = (key.tag, str(key.value))
                if name in lines:
                    raise ConfigError(
                        f"{place_of(path, key)}: the key {key.value!r} is there twice, first in line "
                        f"{lines[name]}: remove one."
                    )
                lines[name] = key.start_mark.line + 1
                todo += [key, value]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def place_of(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"
