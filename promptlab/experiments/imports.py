"""Which modules source text imports, and where they are: found by reading, without importing anything."""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Literal

Where = Literal["standard", "own", "installed", "project", "missing"]
"""Of Python, of PromptLab, a package that was installed, the user's project, or nowhere."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Found:
    """A module."""

    name: str
    where: Where
    path: Path | None = None
    """Its file, of a module of the project; None for a namespace package, which has none."""
    is_package: bool = False

    @property
    def root(self) -> Path | None:
        """The folder that its name counts from."""
        if self.path is None:
            return None
        return self.path.parents[self.name.count(".") + self.is_package]

    @property
    def bundled_as(self) -> str:
        """Its path in a bundle."""
        return self.name.replace(".", "/") + ("/__init__.py" if self.is_package else ".py")


@functools.lru_cache(maxsize=1)
def _places() -> tuple[tuple[Path, Where], ...]:
    standard = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    own = [Path(__file__).resolve().parents[1]]
    own += [own[0].parent / "studio" / "promptlab_studio"]
    return (
        *((folder, "own") for folder in own),
        *((Path(folder).resolve(), "standard") for folder in standard if folder),
    )


def find(name: str) -> Found:
    """Find a module, without importing it or the packages that it is in."""
    spec: ModuleSpec | None = None
    path: list[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        whole = ".".join(parts[:count])
        spec = _spec(whole, path)
        if spec is None:
            return Found(name, "missing")
        path = _inside(spec, parts[count - 1], path)
        if path is None and count < len(parts):
            return Found(name, "missing")
    assert spec is not None
    return _classified(name, spec, path)


def _inside(spec: ModuleSpec, name: str, path: list[str] | None) -> list[str] | None:
    """The folders that a package's modules are in; None for a module."""
    if spec.submodule_search_locations is None:
        return None
    if spec.origin is not None:
        return list(spec.submodule_search_locations)
    return _folders(name, path)


def _folders(name: str, path: list[str] | None) -> list[str]:
    """The folders that are a namespace package: Python tells them only once its parents are imported."""
    folders = (Path(place or ".") / name for place in (sys.path if path is None else path))
    return [str(folder) for folder in folders if folder.is_dir()]


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    """Ask the finders that an import would ask: those of packages that are installed to be edited, too."""
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        try:
            spec = find_spec(name, path) if find_spec else None
        except KeyError:  # Python looks for the parents of a namespace package, which are not imported
            spec = ModuleSpec(name, None, is_package=True)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            return spec  # type: ignore[no-any-return]
    return getattr(sys.modules.get(name), "__spec__", None)


def _classified(name: str, spec: ModuleSpec, inside: list[str] | None) -> Found:
    is_package = spec.submodule_search_locations is not None
    if spec.origin in ("built-in", "frozen") or (spec.origin is None and not is_package):
        return Found(name, "standard", is_package=is_package)
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    folders = [file] if file else [Path(place) for place in inside or ()]
    for folder in folders:
        if _INSTALLED & set(folder.parts):
            return Found(name, "installed", is_package=is_package)
        resolved = folder.resolve()
        for place, where in _places():
            if place == resolved or place in resolved.parents:
                return Found(name, where, is_package=is_package)
    return Found(name, "project", file, is_package)


@dataclass(frozen=True, slots=True)
class Import:
    """One module that a text imports."""

    name: str
    line: int
    sure: bool
    """Whether loading the text imports it, and nothing catches that it is missing."""
    members: tuple[str, ...] = ()
    """The names that are taken out of it, which may be modules themselves; `*` for all."""


def imports_of(tree: ast.Module, name: str, is_package: bool, *, whole: bool = False) -> Iterator[Import]:
    """The imports of a module's text, wherever in it they stand; not those for type checkers only.

    Args:
        tree: the text, parsed.
        name: the module's name.
        is_package: whether it is a package's own module.
        whole: whether all of the text is needed, so that the imports in its functions are sure.
    """
    package = name if is_package else name.rpartition(".")[0]
    yield from _Reader(package, whole).statements(tree.body, sure=True)


def imports_computed(tree: ast.Module) -> bool:
    """Whether a text imports modules whose names it computes."""
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
        and not (node.args and isinstance(node.args[0], ast.Constant))
        for node in ast.walk(tree)
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Finds the imports of one module."""

    package: str
    whole: bool

    def statements(self, nodes: list[ast.stmt], *, sure: bool) -> Iterator[Import]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno, sure) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if (base := _absolute(node, self.package)) is not None:
                    yield Import(base, node.lineno, sure, tuple(alias.name for alias in node.names))
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from self.statements(node.orelse, sure=sure)
            elif isinstance(node, ast.Try | ast.TryStar):
                caught = any(map(_catches, node.handlers))
                yield from self.statements(node.body, sure=sure and not caught)
                for handler in node.handlers:
                    yield from self.statements(handler.body, sure=False)
                yield from self.statements([*node.orelse, *node.finalbody], sure=sure)
            else:
                yield from self._within(node, sure=sure)

    def _within(self, node: ast.stmt, *, sure: bool) -> Iterator[Import]:
        """The imports in the blocks of a statement, and in its calls of `import_module`."""
        plain = isinstance(node, ast.ClassDef | ast.With | ast.AsyncWith)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and self.whole
        for _, value in ast.iter_fields(node):
            for block in value if isinstance(value, list) else ():
                if isinstance(block, ast.match_case):
                    yield from self.statements(block.body, sure=False)
                elif isinstance(block, ast.stmt):
                    yield from self.statements([block], sure=sure and (plain or later))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and ast.unparse(inner.func).rpartition(".")[2] == "import_module":
                first = inner.args[0] if inner.args else None
                if (
                    isinstance(first, ast.Constant)
                    and isinstance(first.value, str)
                    and first.value[:1] != "."
                ):
                    yield Import(first.value, inner.lineno, False)


def _absolute(node: ast.ImportFrom, package: str) -> str | None:
    """The module that a `from` names; None where it leaves its top package, as Python would say itself."""
    if not node.level:
        return node.module
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return None
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, node.module] if node.module else kept)


def _catches(handler: ast.ExceptHandler) -> bool:
    caught = ast.unparse(handler.type) if handler.type else "Exception"
    return any(name in caught for name in ("ImportError", "ModuleNotFoundError", "Exception"))
