"""What all assets share: a kind, a name, numbered versions, and a hash of their content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

import orjson
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from promptlab.deprecated import warn_old
from promptlab.domain.names import visible

AssetKind = Literal["prompt_template", "dataset", "code"]
KINDS: tuple[AssetKind, ...] = ("prompt_template", "dataset", "code")
# `@`, `#` and `/` have a meaning in references and keys.
NAME = re.compile(r"[^\s@#/\\][^@#/\\\n]{0,199}")


class Which(TypedDict, total=False):
    """A version of an asset; nothing for the latest."""

    version: int
    label: str


def which_version(text: str) -> Which:
    """Read a version as references and addresses name it: `3`, `production`, `latest` or nothing."""
    if text in ("", "latest"):
        return {}
    # No store counts further than 1,000 digits, and Python reads at most 4,300.
    return {"version": int(text[:1000])} if text.isdecimal() else {"label": text}


def content_hash(value: Any) -> str:
    """The SHA-256 (hex) of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetVersion:
    """One version of one asset, as the ledger keeps it."""

    kind: AssetKind
    name: str
    version: int
    """0, 1, 2, …"""
    description: str
    content: Mapping[str, Any]
    """JSON. A prompt's text itself; for a dataset where its rows are and what they look like."""
    hash: str
    """SHA-256 (hex) of the content; for a dataset, of its rows."""
    created_at: str
    """ISO 8601, UTC."""
    labels: tuple[str, ...] = ()
    """Labels that point at this version now (`production`, …)."""


class VersionedAsset(BaseModel):
    """What a user's object for any asset has."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.")
    version: int | None = Field(default=None, ge=0, description="0, 1, 2, …; set when the asset is created.")
    _hash: str | None = PrivateAttr(default=None)
    _labels: tuple[str, ...] = PrivateAttr(default=())

    @property
    def id(self) -> str:
        """The name, which promptlab 0.1 called id."""
        warn_old("asset.id", "asset.name")
        return self.name

    @property
    def hash(self) -> str | None:
        """The SHA-256 of the content; None before the asset is created."""
        return self._hash

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that pointed at this version when it was read."""
        return self._labels

    @field_validator("name")
    @classmethod
    def _name_is_usable(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a usable name: 1 to 200 characters on one line, without @ # / \\"
            )
        return value

    @model_validator(mode="after")
    def _new_name_is_visible(self) -> Self:
        if self.version is None:  # else it is stored, as it is
            visible(self.name)
        return self
