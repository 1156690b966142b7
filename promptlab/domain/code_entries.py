"""Which classes and functions source text defines, found without running any of it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

from promptlab.domain.code import Entry
from promptlab.errors import AssetError

MOST_ENTRIES = 1_000


def parsed(path: str, text: str) -> ast.Module:
    """Parse source text.

    Raises:
        AssetError: it is no Python; with the line, and what stands there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a user's code: an invalid escape in a docstring
            return ast.parse(text, path)
    except SyntaxError as error:
        shown = (error.text or "").strip()[:120]
        raise AssetError(
            f"{path}, line {error.lineno or 1}: {error.msg}{f': {shown}' if shown else ''}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise AssetError(f"{path} cannot be read as Python: {error or 'it is nested too deep'}.") from None


def entries_of(files: Mapping[str, str]) -> tuple[Entry, ...]:
    """List what the Python files of a bundle define at their top.

    Raises:
        AssetError: a file is no Python.
    """
    found: list[Entry] = []
    for path, text in sorted(files.items()):
        if path.endswith(".py"):
            found += _of_file(module_of(path), parsed(path, text))
    return tuple(found[:MOST_ENTRIES])


def module_of(path: str) -> str:
    """The module that a file of a bundle is: `scoring.rules` of scoring/rules.py."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _of_file(module: str, tree: ast.Module) -> Iterator[Entry]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield Entry(module=module, name=node.name, kind="function", line=node.lineno)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield Entry(module=module, name=node.name, kind=_kind(node), line=node.lineno)


def _kind(node: ast.ClassDef) -> Literal["evaluator", "model", "class"]:
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    methods = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)}
    if any(base.endswith("Evaluator") for base in bases) or methods & {"evaluate", "evaluate_run"}:
        return "evaluator"
    if any(base.endswith("Model") for base in bases) or methods & {"invoke", "ainvoke", "achat"}:
        return "model"
    return "class"
