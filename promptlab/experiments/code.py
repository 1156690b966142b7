"""Finds a user's own class or function again, so that a run can be resumed from another process."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import runpy
import sys
import textwrap
import traceback
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from promptlab.domain.experiment import CodeRef
from promptlab.domain.results import described
from promptlab.errors import ConfigError

HARMLESS = frozenset(
    {
        "os.environ.get",
        "os.getenv",
        "logging.getLogger",
        "re.compile",
        "get_model",
        "promptlab.get_model",
        "int",
        "float",
        "str",
        "bool",
        "dict",
        "list",
        "set",
        "tuple",
        "frozenset",
        "len",
        "range",
        "sorted",
    }
)
"""Calls at the top of a script that may be made again."""


def code_ref(thing: Any) -> CodeRef:
    """Refer to the source of `thing`: a function, a class or an object of one."""
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    module: str | None = named.__module__
    file: str | None = None
    if module == "__main__":
        module, file = None, getattr(sys.modules["__main__"], "__file__", None)
    # An object with state of its own, or a local class, cannot be had again by name.
    # (A model's configuration is recorded with the run and given back to it.)
    whole = "<" not in named.__qualname__ and (
        named is thing or not getattr(thing, "__dict__", {}).keys() - {"config"}
    )
    return CodeRef(
        qualname=named.__qualname__,
        module=module,
        file=str(Path(file).resolve()) if file else None,
        rebuildable=whole and bool(module or file),
    )


def with_source(code: CodeRef, thing: Any) -> CodeRef:
    """Give the reference with the hash of the source, so that it is seen when the code was another one.

    Of the class or function itself, and not of its file: a script is edited for every run. None where the
    source is nowhere to be found.

    Args:
        code: the reference.
        thing: what it names, or an object of it.
    """
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    try:
        source = _in_file(Path(code.file), code.qualname) if code.file else inspect.getsource(named)
    except (OSError, TypeError, SyntaxError, ValueError):
        return code
    if not source:
        return code
    text = "\n".join(line.rstrip() for line in textwrap.dedent(source).strip().splitlines())
    return code.model_copy(update={"source_hash": hashlib.sha256(text.encode()).hexdigest()})


def _in_file(path: Path, qualname: str) -> str | None:
    """The source of a class or function of a file: one that was loaded from a file does not know it."""
    text = path.read_text("utf-8")
    body: Sequence[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for name in qualname.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = next((node for node in body if isinstance(node, kinds) and node.name == name), None)
        if found is None:
            return None
        body = found.body
    return ast.get_source_segment(text, found) if found is not None else None


def named_ref(reference: str, folder: Path) -> CodeRef:
    """Refer to the code that `module:name` or `path/to/file.py:name` names; relative
    paths count from `folder`.

    Raises:
        ConfigError: it has neither form.
    """
    where, colon, qualname = reference.rpartition(":")
    if not colon:
        raise ConfigError(
            f"{reference!r} does not name code: write 'module:Class' or 'path/to/file.py:Class'"
        )
    if where.endswith(".py"):
        return CodeRef(qualname=qualname, file=str((folder / where).resolve()))
    return CodeRef(qualname=qualname, module=where)


def load_code(ref: CodeRef, *, script: bool = True) -> Any:
    """The class or function that `ref` names.

    Raises:
        ConfigError: it is not there any more, or loading it would run a script.
    """
    what = _named(ref)
    if not ref.rebuildable:
        raise ConfigError(
            f"{what} has state of its own or is local to a function: only the script that made it can go "
            "on (pl.experiment.resume(run_id, experiment_config))"
        )
    if ref.file and not Path(ref.file).is_file():
        raise ConfigError(
            f"{what}: there is no file {ref.file}. Put it back, or go on from Python: "
            "pl.experiment.resume(run_id, experiment_config)"
        )
    if ref.file and script and not _is_guarded(Path(ref.file)):
        raise ConfigError(
            f'{what}: loading the script would run it. Put its work under `if __name__ == "__main__":`, '
            "or go on from Python: pl.experiment.resume(run_id, experiment_config)"
        )
    try:
        names: Any = (
            runpy.run_path(ref.file, run_name="__promptlab__")
            if ref.file
            else vars(importlib.import_module(str(ref.module)))
        )
        first, *rest = ref.qualname.split(".")
        return reduce(getattr, rest, names[first])
    except (KeyError, AttributeError) as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename != __file__:
            raise ConfigError(_broken(what, error)) from error
        raise ConfigError(
            f"{what}: there is no {ref.qualname!r} in it. Write the name of a class or function that it "
            "defines."
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_broken(what, error)) from error


def made_of(ref: CodeRef, thing: Any, params: Mapping[str, Any] | None = None) -> Any:
    """An object of the class that was loaded, made with `params`.

    Raises:
        ConfigError: it cannot be made so.
    """
    try:
        return thing(**(params or {}))
    except (Exception, SystemExit) as error:
        raise ConfigError(_broken(_named(ref), error)) from error


def with_params(
    ref: CodeRef, function: Any, params: Mapping[str, Any] | None, *, case: str | None = None
) -> Any:
    """The function that was loaded, with `params` as further keyword arguments after its first one.

    `case` says how an agent's function is given its case besides (`models.agent.takes_case`).

    Raises:
        ConfigError: it does not take them.
    """
    try:
        more = {"case": None} if case == "keyword" else {}
        inspect.signature(function).bind(
            *[None] * (2 if case == "positional" else 1), **more | dict(params or {})
        )
    except TypeError as error:
        raise ConfigError(
            f"{_named(ref)}: the function is called with one value and {dict(params or {})}: {error}."
        ) from None
    except ValueError:
        pass  # a built-in function without a signature
    if not params:
        return function
    return functools.update_wrapper(functools.partial(function, **params), function)


def _named(ref: CodeRef) -> str:
    return f"{ref.file or ref.module}:{ref.qualname}"


def _broken(what: str, error: BaseException) -> str:
    """Say why a user's code could not be loaded, and where."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, runpy.__file__) and "<frozen" not in frame.filename
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{what} cannot be loaded: {described(error)}{place}. Fix that file, or name another."


def _is_guarded(path: Path) -> bool:
    """Whether a script only defines things outside `if __name__ == "__main__":`.

    Loading it must not run an experiment a second time, and pay for it: a value may be made by calling
    a class or one of HARMLESS, and by nothing else.
    """
    return all(map(defines, ast.parse(path.read_text(encoding="utf-8")).body))


def defines(node: ast.stmt) -> bool:
    if isinstance(
        node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass
    ):
        return True
    if isinstance(node, ast.If):
        guard = "__name__" in ast.unparse(node.test)
        return all(map(defines, node.orelse)) and (
            guard or (_makes(node.test) and all(map(defines, node.body)))
        )
    if isinstance(node, ast.Try):
        inner = [
            *node.body,
            *node.orelse,
            *node.finalbody,
            *(line for handler in node.handlers for line in handler.body),
        ]
        return all(map(defines, inner))
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
        return node.value is None or _makes(node.value)
    return False


def _makes(value: ast.expr) -> bool:
    """Whether an expression calls nothing but classes, by their capital letter, and HARMLESS."""
    calls = [ast.unparse(node.func) for node in ast.walk(value) if isinstance(node, ast.Call)]
    waits = any(isinstance(node, ast.Await) for node in ast.walk(value))
    return not waits and all(name in HARMLESS or name.rpartition(".")[2][:1].isupper() for name in calls)
