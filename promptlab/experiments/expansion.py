"""Parts that an experiment's YAML takes from elsewhere: values of the environment (`${NAME}`)
and prompts from files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from promptlab.errors import ConfigError

_VARIABLE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{(?P<odd>[^}]{0,60}\}?)"
)
_SECRET = re.compile(r"api[_-]?key|token$|secret|password|authorization|credential", re.I)
"""Names of fields that hold a secret, or name one: both are recorded with a run, except `api_key`."""
_STR = "tag:yaml.org,2002:str"
FILE = "file:"
MOST_BYTES = 16_000_000
"""The largest file of a prompt."""


def expand_environment(
    root: yaml.Node, loader: Any, path: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Put values of the environment in place of `${NAME}` and `${NAME:-default}`; `$${` is a literal `${`.

    A plain scalar is read again afterwards, so that `temperature: ${T}` is a number; one in quotes stays
    a text. Inline rows of a dataset are data and stay as they are.

    Raises:
        ConfigError: a variable is not defined, or stands where a secret would be recorded; with its place.
    """
    known = os.environ if environment is None else environment
    for node, keys in _scalars(root):
        if "${" not in node.value or keys[:2] == ("dataset", "rows"):
            continue
        at = f"{path}, line {node.start_mark.line + 1}: {'.'.join(keys) or 'value'}"
        node.value = _VARIABLE.sub(partial(_value, at=at, keys=keys, known=known), node.value)
        if node.style is None and node.tag == _STR:
            node.tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))


def _value(match: re.Match[str], *, at: str, keys: tuple[str, ...], known: Mapping[str, str]) -> str:
    name, default, odd = match["name"], match["default"], match["odd"]
    if odd is not None:
        raise ConfigError(
            f"{at}: ${{{odd} is not ${{NAME}} or ${{NAME:-default}}. For a literal ${{ write $${{."
        )
    if name is None:
        return "${"
    if any(_SECRET.search(key) for key in keys):
        raise ConfigError(
            f"{at}: ${{{name}}} would put the value of {name} where it is recorded with every run. "
            f"Name the variable in place of its value: api_key_env: {name}."
        )
    value = known.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ConfigError(
            f"{at}: there is no environment variable {name}. Set it, give a default as in "
            f"${{{name}:-default}}, or write $${{{name}}} for the literal text."
        )
    return value


def _scalars(root: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, tuple[str, ...]]]:
    """Every value that is a text or a number, with the names on the way to it."""
    todo: list[tuple[yaml.Node, tuple[str, ...]]] = [(root, ())]
    seen = set[int]()
    while todo:
        node, keys = todo.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            yield node, keys
        elif isinstance(node, yaml.MappingNode):
            todo += [(value, (*keys, str(key.value)[:100])) for key, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            todo += [(item, keys) for item in reversed(node.value)]


def with_texts(prompt: Any, find: Callable[[str, str], str]) -> Any:
    """A prompt template's fields with the texts of the files that they name (`file:prompts/solve.md`).

    Args:
        prompt: the fields as written.
        find: gives the absolute path of a file, from its name and whose it is.

    Raises:
        ConfigError: a file is not there, too large, or no text.
    """
    if not isinstance(prompt, dict):
        return prompt
    whose = f"prompt template {prompt.get('name')!r}"
    changed = {
        key: _text(value, find, f"{whose}, {key}") if key in ("system_prompt", "user_prompt") else value
        for key, value in prompt.items()
    }
    if isinstance(messages := prompt.get("messages"), list):
        changed["messages"] = [
            {**m, "content": _text(m["content"], find, f"{whose}, message {number}")}
            if isinstance(m, dict) and "content" in m
            else m
            for number, m in enumerate(messages, 1)
        ]
    return changed


def _text(value: Any, find: Callable[[str, str], str], whose: str) -> Any:
    """The text of the file that a value names, without its last line break; any other value as it is."""
    # `file://…` is another tool's way to write it: said as a warning, like other syntaxes.
    if not isinstance(value, str) or not value.startswith(FILE) or value.startswith(f"{FILE}//"):
        return value
    path = Path(find(value.removeprefix(FILE).strip(), whose))
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(
                f"{whose}: {path} has {size:,} bytes; a prompt's file has at most {MOST_BYTES:,}."
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{whose}: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{whose}: {path} is no text in UTF-8: {error}. Save it as UTF-8.") from None
    return text.removesuffix("\n")
