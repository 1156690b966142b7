"""Code of a user's own as a versioned asset: source text, and what it needs to run in a sandbox.

Nothing here imports, unpickles or compiles it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from promptlab.domain.names import visible
from promptlab.domain.records import made
from promptlab.domain.versioned import VersionedAsset, content_hash
from promptlab.errors import AssetError

PYTHON = "3.13"
"""The Python of the hosted lab's functions."""
MAX_FILES = 500
MAX_FILE_BYTES = 1 << 20
MAX_BYTES = 4_000_000
"""The longest bundle as JSON, without wheels: it goes into one invocation, which takes 6 MB, and into one
answer, which has 4 MB."""
MAX_WHEELS = 100
MAX_WHEEL_BYTES = 50 << 20
"""All wheels of a bundle together, as they are downloaded."""
MAX_PATH = 300
_NAMES = r"[A-Za-z_][A-Za-z0-9_.]"
STORED = rf"[^\s@#/\\][^@#/\\\n]{{0,199}}@[^@#/\\\s:]{{0,200}}(/{_NAMES}{{0,299}}:{_NAMES}{{0,199}})?"
"""How code that a lab keeps is named: `NAME@VERSION/module:name`; `NAME@VERSION` for a bundle's object."""
_PIN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?(\[[A-Za-z0-9._, -]{1,200}\])?==[A-Za-z0-9.!+_-]{1,100}"
)
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,240}\.whl")
_SECRET_FILE = re.compile(r"(?i)(\.(pem|key|p12|pfx|jks|keystore)|(^|/)(id_[a-z0-9]+|credentials(\.\w+)?))$")


class Wheel(BaseModel):
    """One package of a bundle that the sandbox does not have itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: str = Field(description="The wheel's file name, which tells its package and platform.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The SHA-256 (hex) of the file.")
    size_bytes: int = Field(ge=1, le=MAX_WHEEL_BYTES, description="The length of the file.")

    @field_validator("file_name")
    @classmethod
    def _is_a_wheel(cls, value: str) -> str:
        if not _WHEEL.fullmatch(value) or value.count("-") not in (4, 5):
            raise ValueError(f"{value[:200]!r} is no wheel's file name, as in rouge-0.1-py3-none-any.whl")
        return value

    @property
    def blob(self) -> str:
        """The key of the file among the blobs."""
        return f"code/wheels/{self.sha256}.whl"


@dataclass(frozen=True, slots=True)
class StoredCode:
    """What a text like `scoring@3/rules:Length` names."""

    name: str
    which: str
    """A version's number, a label, or nothing for the latest."""
    module: str | None = None
    qualname: str = ""
    """Empty for the bundle's own object."""

    @classmethod
    def parse(cls, text: str) -> StoredCode | None:
        """Read such a text; None for any other, as a path of a file with an @ in it."""
        if not re.fullmatch(STORED, text):
            return None
        bundle, slash, inner = text.partition("/")
        name, _, which = bundle.partition("@")
        module, _, qualname = inner.partition(":")
        if module.endswith(".py"):
            return None
        return cls(name, which, module or None, qualname) if slash else cls(name, which)

    def __str__(self) -> str:
        inner = f"/{self.module}:{self.qualname}" if self.qualname else ""
        return f"{self.name}@{self.which}{inner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeHost:
    """What a lab's sandbox has, for those who send code to it."""

    python: str = PYTHON
    machine: str = "x86_64"
    """Its processor: x86_64 or arm64."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """The packages that it has itself: the names that are imported, and the version of each."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """The same by the names that are installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    """One file of a bundle, without its text."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A class or function that a bundle defines, as its text says: nothing was imported."""

    module: str
    name: str
    kind: Literal["evaluator", "model", "class", "function"]
    line: int
    """Where it begins, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeContent:
    """A bundle as the ledger keeps it: what is in it, and where the text is."""

    blob: str
    """Key of the whole bundle: one JSON object, `CodeBundle.content()`."""
    files: tuple[CodeFile, ...] = ()
    pickled_bytes: int = 0
    """The length of the pickled object; 0 where there is none."""
    requirements: tuple[str, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    python: str = PYTHON
    entries: tuple[Entry, ...] = ()
    """The classes and functions at the top of its files, as far as their text tells."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "wheels": [wheel.model_dump() for wheel in self.wheels]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CodeContent:
        return made(
            cls,
            value,
            files=tuple(CodeFile(**file) for file in value.get("files", ())),
            requirements=tuple(value.get("requirements", ())),
            wheels=tuple(Wheel(**wheel) for wheel in value.get("wheels", ())),
            entries=tuple(Entry(**entry) for entry in value.get("entries", ())),
        )


class CodeBundle(VersionedAsset):
    """Code of a user's own, versioned: source text, an object made in a notebook, packages.

    A bundle that was read from a store has its `contents`, and no text: `files` and `pickled` come with
    `pl.asset.source(bundle)`.
    """

    files: Mapping[str, str] = Field(
        default_factory=dict, description="Text by path, as in scoring/rules.py: importable from its root."
    )
    pickled: str | None = Field(
        default=None,
        description="An object as base64 of cloudpickle by value; unpickled in the sandbox only.",
    )
    requirements: tuple[str, ...] = Field(
        default=(), max_length=MAX_WHEELS, description="Packages beyond the sandbox's own: name==version."
    )
    wheels: tuple[Wheel, ...] = Field(
        default=(), max_length=MAX_WHEELS, description="The files of these packages, and of what they need."
    )
    python: str = Field(
        default=PYTHON,
        pattern=r"^3\.[0-9]{1,2}$",
        description="The Python that a pickled object and the wheels are for; source text is for any.",
    )
    _contents: CodeContent | None = PrivateAttr(default=None)

    @property
    def contents(self) -> CodeContent | None:
        """What is in it and where; None before the asset is created."""
        return self._contents

    @property
    def blob(self) -> str:
        """The key of the whole bundle among the blobs."""
        return self._contents.blob if self._contents else f"code/bundles/{self.content_hash()}.json"

    def content(self) -> dict[str, Any]:
        """All that counts, as JSON."""
        return {
            "files": dict(self.files),
            "pickled": self.pickled,
            "requirements": list(self.requirements),
            "wheels": [wheel.model_dump() for wheel in self.wheels],
            "python": self.python,
        }

    def content_hash(self) -> str:
        """The SHA-256 (hex) of the content: equal code has an equal hash, whatever it is called."""
        return self.hash or content_hash(self.content())

    def described(self) -> CodeContent:
        """The content without its text, for the ledger."""
        return self._contents or CodeContent(
            blob=self.blob,
            files=tuple(CodeFile(path=p, bytes=len(t.encode())) for p, t in sorted(self.files.items())),
            pickled_bytes=len(base64.b64decode(self.pickled)) if self.pickled else 0,
            requirements=self.requirements,
            wheels=self.wheels,
            python=self.python,
        )

    @classmethod
    def stored(cls, fields: Mapping[str, Any], contents: CodeContent) -> CodeBundle:
        """Make the object for a version in a ledger, which is as it is and has no text."""
        same = {"requirements": contents.requirements, "wheels": contents.wheels, "python": contents.python}
        bundle = cls.model_construct(files={}, pickled=None, **{**same, **fields})
        bundle._contents = contents
        return bundle

    def shown(self, files: Mapping[str, str]) -> CodeBundle:
        """The bundle of a version with its files, to be looked at."""
        whole = self.model_copy(update={"files": files})
        whole._contents, whole._hash, whole._labels = self._contents, self._hash, self._labels
        return whole

    def with_text(self, content: Mapping[str, Any]) -> CodeBundle:
        """The bundle of a version with its text, as the blob holds it.

        Raises:
            AssetError: the content is not that of this version.
        """
        if content_hash(content) != self.hash:
            raise AssetError(f"The text of the code {self.name}@{self.version} is not what was stored.")
        return self.shown(content["files"]).model_copy(update={"pickled": content["pickled"]})

    @field_validator("files")
    @classmethod
    def _files_can_be_kept(cls, files: Mapping[str, str]) -> Mapping[str, str]:
        if len(files) > MAX_FILES:
            raise AssetError(
                f"The code has {len(files):,} files; at most {MAX_FILES} can be sent. Move what the "
                "evaluator needs into a package of its own."
            )
        for path, text in files.items():
            _check_path(path)
            _check_text(path, text)
        return dict(sorted(files.items()))

    @field_validator("requirements")
    @classmethod
    def _requirements_are_pinned(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not _PIN.fullmatch(one):
                raise AssetError(
                    f"requirement {one[:200]!r} is not pinned: write name==version, as in textstat==0.7.4"
                )
        return tuple(sorted(set(value)))

    @field_validator("pickled")
    @classmethod
    def _pickled_is_base64(cls, value: str | None) -> str | None:
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError):
            raise AssetError("pickled is not base64") from None
        return value or None

    @model_validator(mode="after")
    def _is_within_bounds(self) -> CodeBundle:
        if not self.files and not self.pickled:
            raise AssetError(f"The code {self.name!r} has neither files nor an object.")
        size = len(orjson.dumps(self.content()))
        if size > MAX_BYTES:
            biggest = max(self.files, key=lambda path: len(self.files[path]), default="the object itself")
            raise AssetError(
                f"The code {self.name!r} is {size / 1e6:.1f} MB; at most {MAX_BYTES // 1_000_000} MB can be "
                "sent. "
                f"The largest part is {biggest}: keep data out of it, as in a dataset's column."
            )
        wheels = sum(wheel.size_bytes for wheel in self.wheels)
        if wheels > MAX_WHEEL_BYTES:
            raise AssetError(
                f"The packages of {self.name!r} are {wheels / 2**20:.0f} MB; at most {MAX_WHEEL_BYTES >> 20} "
                "MB can be sent. Name smaller ones, or fewer."
            )
        return self


def _check_path(path: str) -> None:
    """Refuse a path that is not plainly one below the bundle's root, or whose file may hold a key.

    Raises:
        AssetError: it is such a path.
    """
    shown = repr(path[:MAX_PATH])
    parts = path.split("/")
    try:
        visible(path)
        plain = len(path) <= MAX_PATH and "\\" not in path and not any(p in ("", ".", "..") for p in parts)
    except ValueError:
        plain = False
    if not plain or ":" in path:
        raise AssetError(f"{shown} is no path of a file in a bundle, as in scoring/rules.py")
    if any(part.startswith(".") for part in parts) or _SECRET_FILE.search(path):
        raise AssetError(
            f"{shown} is not sent: such files hold keys or settings of one machine. Keep a key in the hosted "
            "lab's secrets (promptlab cloud secrets set)."
        )


def _check_text(path: str, text: str) -> None:
    """Refuse a text that is too long or none.

    Raises:
        AssetError: it is.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise AssetError(f"{path} is not text in UTF-8: save it as UTF-8.") from None
    if "\x00" in text:
        raise AssetError(f"{path} is not text: it has a zero byte. Only source text is sent.")
    if size > MAX_FILE_BYTES:
        raise AssetError(
            f"{path} is {size / 2**20:.1f} MB; a file may have at most {MAX_FILE_BYTES >> 20} MB. Keep data "
            "out of the code, as in a dataset's column."
        )
