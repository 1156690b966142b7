"""Source text as a page shows it, and the form that takes a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from promptlab.domain.assets import AssetVersion
from promptlab.domain.code import CodeBundle, CodeContent
from promptlab.domain.explain import explain
from promptlab_studio.views.room import MOST_CHARS
from promptlab_studio.views.text import MOST_LINES, DiffLine, text_diff

MOST_DIFFS = 20
"""Files whose differences one page shows."""


def contents_of(asset: AssetVersion) -> CodeContent:
    """Return what a version of code has in it."""
    return CodeContent.from_json(asset.content)


def file_of(bundle: CodeBundle, asked: str) -> str:
    """The file to show: the one that was asked for, else the first that defines something, else the first."""
    if asked in bundle.files:
        return asked
    modules = {entry.module for entry in bundle.described().entries}
    of_modules = {
        path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in bundle.files
    }
    defining = (path for path, module in of_modules.items() if module in modules)
    return next(defining, next(iter(bundle.files), ""))


def is_one_file(bundle: CodeBundle) -> bool:
    """Whether the form can hold all of it: one file, no object and no packages."""
    contents = bundle.described()
    alone = len(bundle.files) == 1 and not (contents.pickled_bytes or contents.wheels)
    return alone and sum(map(len, bundle.files.values())) <= MOST_CHARS


def numbered(text: str) -> str:
    """The numbers of a text's lines, each on its own."""
    return "\n".join(map(str, range(1, text.count("\n") + (not text.endswith("\n")) + 1))) if text else ""


@dataclass(frozen=True, slots=True)
class FileDiff:
    """The differences of one file between two versions."""

    path: str
    what: str
    """changed, new or gone."""
    lines: Sequence[DiffLine]


def differences(old: CodeBundle, new: CodeBundle) -> list[FileDiff]:
    """Compare two versions file by file; files that are the same are left out."""
    paths = [path for path in sorted({*old.files, *new.files}) if old.files.get(path) != new.files.get(path)]
    shown = paths[:MOST_DIFFS]
    found = []
    for path in shown:
        what = "new" if path not in old.files else "gone" if path not in new.files else "changed"
        most = max(50, MOST_LINES // len(shown))
        lines = text_diff(old.files.get(path, ""), new.files.get(path, ""), most)
        found.append(FileDiff(path, what, lines))
    if len(paths) > MOST_DIFFS:
        found.append(FileDiff(f"and {len(paths) - MOST_DIFFS} more files", "changed", ()))
    return found


@dataclass(frozen=True, slots=True)
class CodeDraft:
    """The fields of the form."""

    name: str
    description: str
    path: str
    text: str

    @classmethod
    def of(cls, fields: Mapping[str, Sequence[str]]) -> CodeDraft:
        """Read the posted fields."""
        name, description, path, text = (
            fields.get(key, [""])[0] for key in ("name", "description", "path", "text")
        )
        # Browsers end lines with CR LF in forms.
        text = text.replace("\r\n", "\n")
        name = name.strip() or path.strip().rpartition("/")[2].removesuffix(".py")
        return cls(name, description.strip(), path.strip() or _module(name), text)

    def bundle(self) -> CodeBundle:
        """The code.

        Raises:
            AssetError: it breaks a rule of bundles.
            ValidationError: its name is none.
        """
        return CodeBundle(name=self.name, description=self.description, files={self.path: self.text})

    def problem(self, error: Exception) -> str:
        """Say what is wrong."""
        return explain(error, "code", CodeBundle) if isinstance(error, ValidationError) else str(error)


def _module(name: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_]+', '_', name).strip('_') or 'code'}.py"
