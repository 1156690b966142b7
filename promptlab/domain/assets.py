"""Versioned, immutable inputs: prompt templates and datasets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from promptlab.deprecated import warn_old
from promptlab.domain.names import visible
from promptlab.errors import DatasetError

AssetKind = Literal["prompt_template", "dataset"]
KINDS: tuple[AssetKind, ...] = ("prompt_template", "dataset")
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


class _Asset(BaseModel):
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


class ChatMessage(BaseModel):
    """One message of a chat prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who says it.")
    content: str = Field(description="The text, with placeholders.")


class PromptTemplate(_Asset):
    """A prompt with placeholders, versioned.

    Either `system_prompt` and `user_prompt`, or `messages`. In the default format `<name>` is
    filled by the dataset column `name` and `\\<` is a literal `<`; with `template_format="jinja2"`
    the text is a Jinja template, rendered in Jinja's sandbox.
    """

    system_prompt: str = Field(default="", description="The system message, with placeholders.")
    user_prompt: str = Field(default="", description="The user message, with placeholders.")
    messages: tuple[ChatMessage, ...] = Field(
        default=(), description="A list of chat messages, in place of system_prompt and user_prompt."
    )
    template_format: Literal["simple", "jinja2"] = Field(
        default="simple",
        description="How placeholders are written: `<name>` (simple) or `{{ name }}` (jinja2).",
    )

    @model_validator(mode="after")
    def _has_text(self) -> PromptTemplate:
        if self.messages and (self.system_prompt or self.user_prompt):
            raise ValueError("give either `messages` or `system_prompt`/`user_prompt`, not both")
        if not self.messages and not (self.system_prompt or self.user_prompt):
            raise ValueError("a prompt template needs a user_prompt, a system_prompt or messages")
        return self

    def content(self) -> dict[str, Any]:
        """The versioned content, as JSON."""
        return {
            "system_prompt": self.system_prompt,
            "user_prompt": self.user_prompt,
            "messages": [m.model_dump() for m in self.messages],
            "template_format": self.template_format,
        }

    def chat(self) -> list[dict[str, str]]:
        """The messages, unrendered: `[{"role": …, "content": …}, …]`."""
        if self.messages:
            return [m.model_dump() for m in self.messages]
        pairs = (("system", self.system_prompt), ("user", self.user_prompt))
        return [{"role": role, "content": text} for role, text in pairs if text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a dataset, as far as it is known."""

    name: str
    type: Literal["string", "integer", "number", "boolean", "json"]
    """The one JSON type of all its values (nulls aside), or `json` where they differ or nest."""
    rows: int
    """How many rows have the column."""
    first_missing: int | None = None
    """The first row (0-based) that lacks it, or None."""
    nulls: int | None = None
    """How many rows have it with null for a value; None in records of versions that did not count them."""

    def missing(self, rows: int) -> int | None:
        """How many of a dataset's `rows` rows have no value here: null, or not the column
        at all; None: unknown."""
        return None if self.nulls is None else rows - self.rows + self.nulls


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetContent:
    """The place and the shape of a dataset version's rows."""

    blob: str
    """Key of the rows: one JSON object a line, UTF-8."""
    index: str
    """Key of the shard index: one JSON line a shard (`Shard`)."""
    rows: int
    bytes: int
    shards: int
    columns: tuple[Column, ...]
    id_column: str | None
    """The column that names a row; None: rows are named by their number, from 0."""
    largest_row_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DatasetContent:
        return cls(**{**value, "columns": tuple(Column(**c) for c in value["columns"])})


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous group of dataset rows given to one worker at a time: one line of a manifest."""

    number: int
    first: int
    """The first row, 0-based."""
    count: int
    """Rows."""
    offset: int
    """The offset of its first byte in the dataset's blob."""
    length: int
    """Bytes."""


_ROWS_SCHEMA = {
    "anyOf": [
        {"items": {"additionalProperties": True, "type": "object"}, "type": "array"},
        {"type": "null"},
    ]
}
_TABLES = ("itertuples", "iter_rows", "to_batches")
"""The part of pandas' and polars' DataFrames and PyArrow's tables that we read."""


def _is_table(value: Any) -> bool:
    """Whether something holds rows and can be read twice."""
    if isinstance(value, str | bytes | bytearray | Mapping | Iterator):
        return False
    return isinstance(value, Sequence) or any(hasattr(value, name) for name in (*_TABLES, "features"))


class Dataset(_Asset):
    """Rows to run a prompt over, versioned.

    Give a `file_path` (JSON, CSV, Excel or Parquet) or `rows` (a list of dicts, a pandas or polars DataFrame,
    a Hugging Face dataset). The content is copied into the store under its hash when the asset is created:
    changing the file later changes nothing.
    """

    file_path: str | Path | None = Field(
        default=None,
        description="A .jsonl, .json, .csv, .tsv, .parquet or .xlsx file; those of text also with .gz "
        "behind.",
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        pattern=r"[^\"\r\n]",
        description="What stands between the fields of a CSV file. Default: as the file says or looks.",
    )
    rows: Annotated[Any, WithJsonSchema(_ROWS_SCHEMA)] = Field(
        default=None, description="The rows themselves, in place of a file."
    )
    id_column: str | None = Field(
        default=None,
        description="The column that names a row. Default: the column `id` if there is one, else row "
        "numbers from 0.",
    )
    _content: DatasetContent | None = PrivateAttr(default=None)

    @field_validator("rows")
    @classmethod
    def _rows_can_be_read(cls, value: Any) -> Any:
        if value is None or _is_table(value):
            return value
        remedy = ""
        if isinstance(value, Iterator):
            remedy = " An iterator can be read only once: give list(…) of it."
        elif hasattr(value, "collect"):
            remedy = " Collect it first: rows=frame.collect()."
        elif isinstance(value, Mapping):
            remedy = (
                f" A mapping is not rows: give one of its parts ({', '.join(map(repr, list(value)[:5]))})."
            )
        raise DatasetError(
            f"rows cannot be a {type(value).__name__}.{remedy}\n"
            "These can be rows:\n"
            "a list of dicts, as in [{'question': '…'}], a pandas or polars DataFrame, a PyArrow table, "
            "or a Hugging "
            "Face dataset. A file is given as file_path=…"
        )

    @property
    def content(self) -> DatasetContent | None:
        """The place of the rows; None before the asset is created."""
        return self._content

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; empty before the asset is created."""
        return tuple(c.name for c in self._content.columns) if self._content else ()

    def __repr__(self) -> str:
        if self._content is None:
            return super().__repr__()
        return (
            f"<Dataset {self.name}@{self.version}: {self._content.rows:,} rows of {', '.join(self.columns)}>"
        )

    def __len__(self) -> int:
        """How many rows; 0 before the asset is created."""
        return self._content.rows if self._content else 0

    def __bool__(self) -> bool:
        return True


Asset = PromptTemplate | Dataset


def kind_of(asset: Asset) -> AssetKind:
    """The ledger's word for the kind of an asset."""
    return "prompt_template" if isinstance(asset, PromptTemplate) else "dataset"


def asset_from(record: AssetVersion) -> Asset:
    """The user's object for a version in the ledger."""
    asset: Asset
    base = {"name": record.name, "description": record.description, "version": record.version}
    if record.kind == "prompt_template":
        asset = PromptTemplate(**base, **record.content)
    else:
        content = DatasetContent.from_json(record.content)
        asset = Dataset(**base, id_column=content.id_column)
        asset._content = content
    asset._hash, asset._labels = record.hash, record.labels
    return asset
