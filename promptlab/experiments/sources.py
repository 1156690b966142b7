"""Collects the source text that a class or a function needs: its module, and the modules of the same project
that this one imports, and so on. Nothing is imported for it."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from promptlab.domain.code import MAX_FILE_BYTES, MAX_FILES
from promptlab.domain.code_entries import parsed
from promptlab.domain.masking import hide_text
from promptlab.errors import AssetError, ConfigError
from promptlab.experiments.imports import Found, Import, find, imports_computed, imports_of
from promptlab.experiments.shaking import shaken

_COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")


@dataclass(slots=True)
class Outside:
    """A package that the code imports and the project does not have."""

    name: str
    """The name that is imported, without what is in it."""
    place: str
    """Where, for people: `rules.py, line 3`."""
    sure: bool
    """Whether loading the code fails without it."""
    installed: bool
    """Whether this machine has it."""


@dataclass(slots=True)
class Sources:
    """The files of one bundle, as they are found."""

    files: dict[str, str] = field(default_factory=dict)
    roots: set[Path] = field(default_factory=set)
    """The folders that imports of the project count from."""
    outside: dict[str, Outside] = field(default_factory=dict)
    _origins: dict[str, Path | None] = field(default_factory=dict)
    _computed: set[str] = field(default_factory=set)
    _found: dict[str, Found] = field(default_factory=dict)

    def add_module(self, name: str) -> None:
        """Take a module of the project, and what it imports.

        Raises:
            ConfigError: it is none, or its text cannot be sent.
        """
        self.add_import(name)
        if self._find(name).where == "missing":
            raise ConfigError(f"There is no module {name!r}: name one that this machine can import.")

    def add_import(self, name: str) -> None:
        """Take a module if it is the project's, and note it if it is a package that was installed.

        Raises:
            ConfigError: its text cannot be sent.
        """
        self._follow([Import(name, 0, True)], "the experiment")

    def add_script(self, path: Path, module: str, wanted: set[str] | None) -> None:
        """Take a script as a module, and what it imports.

        Args:
            path: its file.
            module: what it is called in the bundle.
            wanted: the names that are needed: statements that none of them needs are left out, above all
                those that run an experiment. None for the whole file.

        Raises:
            ConfigError: its text cannot be sent, or a wanted name needs what only running the script makes.
        """
        self.roots.add(path.parent)
        self._add(module, path, False, wanted)

    def _follow(self, imports: list[Import], place: str) -> None:
        todo = [(place, one) for one in reversed(imports)]
        while todo:
            place, one = todo.pop()
            for found, sure in self._targets(one):
                if found.where in ("standard", "own"):
                    continue
                if found.where != "project":
                    self._note(found, f"{place}, line {one.line}" if one.line else place, sure)
                    continue
                todo += [(shown, inner) for shown, inner in self._take(found)]

    def _find(self, name: str) -> Found:
        if name not in self._found:
            self._found[name] = find(name)
        return self._found[name]

    def _targets(self, one: Import) -> list[tuple[Found, bool]]:
        """The modules that an import loads: the packages around it, itself, and members that are modules."""
        parts = one.name.split(".")
        top = self._find(parts[0])
        if top.where != "project":
            return [(top, one.sure)]
        around = [self._find(".".join(parts[:count])) for count in range(2, len(parts) + 1)]
        whole = [top, *around][-1]
        members = one.members
        if members == ("*",):
            members = _starred(whole)
        inner = [self._find(f"{one.name}.{member}") for member in members if whole.is_package]
        # A member that is no module is a name in it; a package that is not there is an error of its own.
        return [(found, one.sure) for found in (top, *around) if found.where != "missing"] + [
            (found, one.sure) for found in inner if found.where == "project"
        ]

    def _note(self, found: Found, place: str, sure: bool) -> None:
        name = found.name.partition(".")[0]
        known = self.outside.get(name)
        if known is None or (sure and not known.sure):
            self.outside[name] = Outside(name, place, sure, found.where == "installed")

    def _take(self, found: Found) -> list[tuple[str, Import]]:
        """Take one module of the project; give what it imports, if it is new."""
        if found.path is None:
            return []  # a namespace package: a folder
        if found.path.suffix != ".py":
            raise ConfigError(
                f"{found.path.name} is compiled: only source text is sent. Build a wheel of it, and name it "
                "in the experiment's code.requirements."
            )
        if root := found.root:
            self.roots.add(root)
        return self._add(found.name, found.path, found.is_package, None, follow=False)

    def _add(
        self, name: str, path: Path, is_package: bool, wanted: set[str] | None, *, follow: bool = True
    ) -> list[tuple[str, Import]]:
        bundled = Found(name, "project", path, is_package).bundled_as
        before = self._origins.get(bundled)
        if before is not None and wanted is None:
            if before != path.resolve():
                raise ConfigError(f"{path} and {before} would both be {bundled}: rename one of them.")
            return []
        self._origins[bundled] = path.resolve()
        text = source_text(path)
        try:
            tree = parsed(path.name, text)
        except AssetError as error:
            raise ConfigError(f"{error} ({path})") from None
        if wanted is not None:
            text, tree = shaken(path.name, text, tree, wanted)
        self._check(path, text)
        self.files[bundled] = text
        imports = list(imports_of(tree, name, is_package, whole=wanted is not None))
        if follow:
            self._follow(imports, path.name)
        found = [] if follow else [(path.name, one) for one in imports]
        if imports_computed(tree):
            found += [(path.name, one) for one in self._loaded(name.partition(".")[0])]
        return found

    def _loaded(self, top: str) -> list[Import]:
        """The modules of a package that this process has imported: some of its imports are computed."""
        if top in self._computed:
            return []
        self._computed.add(top)
        names = [name for name in list(sys.modules) if name.startswith(f"{top}.")]
        return [Import(name, 0, False) for name in sorted(names)[:MAX_FILES]]

    def _check(self, path: Path, text: str) -> None:
        if len(self.files) >= MAX_FILES:
            raise ConfigError(
                f"The code imports more than {MAX_FILES} files of the project ({path.name} is one too many): "
                "move what the evaluator needs into a module that imports less."
            )
        check_no_key(path.name, text)


def source_text(path: Path) -> str:
    """Read a source file as Python does, whatever its encoding; as text in UTF-8 it says so itself.

    Raises:
        ConfigError: it cannot be read, is too large, or is no text.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{path} is {path.stat().st_size / 2**20:.1f} MB; a file of code may have at most "
                f"{MAX_FILE_BYTES >> 20} MB. Keep data out of it, as in a dataset's column."
            )
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not text in the encoding that it names: {error}.") from None
    if "\x00" in text:
        raise ConfigError(f"{path} is no source text: it has a zero byte.")
    if encoding in ("utf-8", "utf-8-sig"):
        return text
    lines = text.split("\n")
    for number in range(min(2, len(lines))):
        if _COOKIE.match(lines[number]):
            lines[number] = "# -*- coding: utf-8 -*-"
    return "\n".join(lines)


def check_no_key(what: str, text: str, line_of: Callable[[str], int] | None = None) -> None:
    """Refuse a text that holds a key that this process knows.

    Raises:
        ConfigError: it does; with the line, and never the key.
    """
    if hide_text(text) == text:
        return
    held = next((n for n, line in enumerate(text.split("\n"), 1) if hide_text(line) != line), 0)
    place = f"{what}, line {held}" if held else what
    raise ConfigError(
        f"{place} holds a key that is in use here: code with keys in it is not sent. Read the key from an "
        "environment variable where the script needs it; a hosted lab keeps its own (promptlab cloud secrets "
        "set NAME)."
    )


def _starred(package: Found) -> tuple[str, ...]:
    """The names that `from package import *` takes, as far as `__all__` lists them."""
    if package.path is None or not package.is_package:
        return ()
    try:
        tree = ast.parse(package.path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ()
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            try:
                return tuple(map(str, ast.literal_eval(node.value)))
            except (ValueError, TypeError):
                return ()
    return ()
