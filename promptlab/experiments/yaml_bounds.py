"""Holds a YAML file to what can be built from it: aliases that stand for aliases, ten times each, make ten
lines into 10,000 million values."""

from __future__ import annotations

from pathlib import Path

import yaml

from promptlab.errors import ConfigError

MOST_VALUES = 1_000_000
"""Values that the aliases of a file may stand for."""
MOST_DEPTH = 200
"""How deep they may nest, aliases included."""


def check_bounds(path: Path, root: yaml.Node) -> None:
    """Count the values of a file as if every alias were written out, without doing so.

    Raises:
        ConfigError: there are more than MOST_VALUES, they nest too deep, or an alias stands within what it
            names; with its line.
    """
    sizes: dict[int, tuple[int, int]] = {}  # by node: how many values, how deep
    around = set[int]()
    todo: list[tuple[yaml.Node, bool]] = [(root, False)]
    while todo:
        node, counted = todo.pop()
        if id(node) in sizes:
            continue
        parts = _parts(node)
        if counted:
            around.discard(id(node))
            found = [sizes[id(part)] for part in parts]
            size, depth = 1 + sum(n for n, _ in found), 1 + max((d for _, d in found), default=0)
            sizes[id(node)] = size, depth
            if size > MOST_VALUES + len(sizes):
                raise _refused(
                    path, node, f"with its aliases written out this has more than {MOST_VALUES:,} values"
                )
            if depth > MOST_DEPTH:
                raise _refused(path, node, f"values are nested more than {MOST_DEPTH} levels deep")
            continue
        if id(node) in around:
            raise _refused(path, node, "an alias stands within what it names")
        around.add(id(node))
        todo.append((node, True))
        todo += ((part, False) for part in parts)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refused(path: Path, node: yaml.Node, why: str) -> ConfigError:
    return ConfigError(
        f"{path}, line {node.start_mark.line + 1}: {why}. Write fewer aliases, or put rows into a "
        "file of their own."
    )
