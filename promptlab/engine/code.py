"""Finds a user's own class or function again, so that a run can be resumed from another process."""

from __future__ import annotations

import ast
import importlib
import inspect
import runpy
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from promptlab.domain.experiment import CodeRef
from promptlab.errors import ConfigError


def code_ref(thing: Any) -> CodeRef:
    """Where `thing` (a function, a class or an object of one) comes from."""
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    module: str | None = named.__module__
    file: str | None = None
    if module == "__main__":
        module, file = None, getattr(sys.modules["__main__"], "__file__", None)
    # An object with state of its own, or a local class, cannot be had again by name.
    # (A model's configuration is recorded with the run and given back to it.)
    whole = "<" not in named.__qualname__ and (named is thing or not getattr(thing, "__dict__", {}).keys() - {"config"})
    return CodeRef(qualname=named.__qualname__, module=module, file=str(Path(file).resolve()) if file else None, rebuildable=whole and bool(module or file))


def named_ref(reference: str, folder: Path) -> CodeRef:
    """Where the code is that `module:name` or `path/to/file.py:name` names; relative paths count from `folder`.

    Raises:
        ConfigError: it has neither form.
    """
    where, colon, qualname = reference.rpartition(":")
    if not colon:
        raise ConfigError(f"{reference!r} does not name code: write 'module:Class' or 'path/to/file.py:Class'")
    if where.endswith(".py"):
        return CodeRef(qualname=qualname, file=str((folder / where).resolve()))
    return CodeRef(qualname=qualname, module=where)


def load_code(ref: CodeRef, *, script: bool = True) -> Any:
    """The class or function that `ref` names.

    Raises:
        ConfigError: it is not there any more, or loading it would run a script.
    """
    what = f"{ref.file or ref.module}:{ref.qualname}"
    if not ref.rebuildable:
        raise ConfigError(
            f"{what} has state of its own or is local to a function: only the script that made it can go on (pl.experiment.resume(run_id, experiment_config))"
        )
    if ref.file and not Path(ref.file).is_file():
        raise ConfigError(f"{what}: there is no file {ref.file}. Put it back, or go on from Python: pl.experiment.resume(run_id, experiment_config)")
    if ref.file and script and not _is_guarded(Path(ref.file)):
        raise ConfigError(
            f'{what}: loading the script would run it. Put its work under `if __name__ == "__main__":`, or go on from Python: pl.experiment.resume(run_id, experiment_config)'
        )
    try:
        names: Any = runpy.run_path(ref.file, run_name="__promptlab__") if ref.file else vars(importlib.import_module(str(ref.module)))
        first, *rest = ref.qualname.split(".")
        return reduce(getattr, rest, names[first])
    except (ImportError, KeyError, AttributeError) as error:
        raise ConfigError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error


def _is_guarded(path: Path) -> bool:
    """Whether a script only defines things outside `if __name__ == "__main__":`."""
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If, ast.Try)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    docstrings = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return all(isinstance(node, harmless) for node in body if node not in docstrings)
