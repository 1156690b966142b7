"""Reduces a script to what some of its names need.

A script makes an experiment and runs it. Where its evaluator goes to another machine, only that definition,
and what it uses, goes along: the rest would run the experiment again, and may hold a key. What is left out
becomes empty lines, so that errors name the user's own lines.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator

from promptlab.errors import ConfigError
from promptlab.experiments.code import defines

_GIVEN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__spec__", "__builtins__"}


def shaken(name: str, text: str, tree: ast.Module, wanted: set[str]) -> tuple[str, ast.Module]:
    """Keep the statements at the top of a script that `wanted` names need, directly or not.

    Args:
        name: the script's name, for messages.
        text: its source.
        tree: the same, parsed.
        wanted: names that the script defines.

    Returns:
        The text with empty lines in place of the rest, and its tree.

    Raises:
        ConfigError: a wanted name is not defined, or needs a statement that does more than define.
    """
    binding: dict[str, list[ast.stmt]] = {}
    starred = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _is_starred(node)]
    for node in tree.body:
        if not _is_guard(node):
            for bound in _bound(node):
                binding.setdefault(bound, []).append(node)
    in_guard = {bound for node in tree.body if _is_guard(node) for bound in _bound(node)}
    kept: set[int] = {id(node) for node in (*starred, *filter(_is_future, tree.body))}
    todo = [(one, one) for one in sorted(wanted)]
    seen: set[str] = set()
    while todo:
        needed, whose = todo.pop()
        if needed in seen:
            continue
        seen.add(needed)
        if needed not in binding:
            _check_given(name, needed, whose, in_guard, bool(starred), wanted)
            continue
        for node in binding[needed]:
            if id(node) in kept:
                continue
            if not defines(node):
                raise ConfigError(_refusal(name, node, needed, whose))
            kept.add(id(node))
            todo += [(used, needed) for used in sorted(_used(node))]
    body = [node for node in tree.body if id(node) in kept]
    return _blanked(name, text, tree, kept), ast.Module(body=body, type_ignores=[])


def _check_given(
    name: str, needed: str, whose: str, in_guard: set[str], starred: bool, wanted: set[str]
) -> None:
    if needed in wanted:
        raise ConfigError(f"{name} defines no {needed!r} at its top: write the name of a class or function.")
    if needed in in_guard and needed not in _GIVEN and not starred:
        raise ConfigError(
            f'{name}: {whose!r} uses {needed!r}, which is made under `if __name__ == "__main__":` only: '
            "that part is not sent. Define it above, or pass it to the class when it is made."
        )


def _refusal(name: str, node: ast.stmt, needed: str, whose: str) -> str:
    line = ast.unparse(node).split("\n")[0][:100]
    return (
        f"{name}, line {node.lineno}: {whose!r} uses {needed!r}, which the script makes by running "
        f"`{line}`: only definitions are sent. Move {whose!r} and what it uses into a module of its own, and "
        "import it, or pass the value to the class when it is made."
    )


def _is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_starred(node: ast.ImportFrom) -> bool:
    return any(alias.name == "*" for alias in node.names)


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in _at_the_top(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            for alias in inner.names:
                yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
            yield inner.id
        elif isinstance(inner, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and inner.name:
            yield inner.name
    # `TABLE["x"] = 1` and `Length.limit = 3` change what has a name already.
    targets = node.targets if isinstance(node, ast.Assign) else []
    for target in [*targets, *([node.target] if isinstance(node, ast.AugAssign) else [])]:
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name):
            yield target.id


def _at_the_top(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and all in it, but for what is in functions and classes."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    for inner in ast.iter_child_nodes(node):
        yield from _at_the_top(inner)


def _used(node: ast.stmt) -> set[str]:
    """The names of the module that a statement uses, in functions too; not those that a function makes."""
    whole = symtable.symtable(ast.unparse(node), "<statement>", "exec")
    found, todo = set[str](), [whole]
    while todo:
        scope = todo.pop()
        todo += scope.get_children()
        found |= {
            symbol.get_name()
            for symbol in scope.get_symbols()
            if symbol.is_global() or (scope is whole and symbol.is_referenced())
        }
    return found


def _blanked(name: str, text: str, tree: ast.Module, kept: set[int]) -> str:
    """The text with spaces for the statements that are left out.

    Raises:
        ConfigError: one of them shares a line with one that stays.
    """
    lines = [bytearray(line.encode()) for line in text.split("\n")]
    of_kept = {number for node in tree.body if id(node) in kept for number in _lines(node)}
    for node in tree.body:
        if id(node) in kept:
            continue
        own = _lines(node)
        if of_kept & set(own):
            raise ConfigError(
                f"{name}, line {node.lineno}: only definitions are sent, and this line has one and something "
                "else: put them on lines of their own."
            )
        for number in own:
            first = node.col_offset if number == node.lineno else 0
            last = node.end_col_offset if number == node.end_lineno else len(lines[number - 1])
            blank = b" " * ((last or 0) - first)
            lines[number - 1][first : last or 0] = blank
    return "\n".join(line.decode().rstrip() for line in lines)


def _lines(node: ast.stmt) -> range:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return range(first, (node.end_lineno or first) + 1)
