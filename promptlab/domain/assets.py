"""Versioned, immutable inputs: prompt templates, datasets and code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from promptlab.domain.code import CodeBundle, CodeContent
from promptlab.domain.messages import Modality
from promptlab.domain.prompt_parts import MOST_TOOLS, ContentPart, TextPart, ToolSpec, check_tools
from promptlab.domain.versioned import KINDS as KINDS
from promptlab.domain.versioned import NAME as NAME
from promptlab.domain.versioned import AssetKind as AssetKind
from promptlab.domain.versioned import AssetVersion as AssetVersion
from promptlab.domain.versioned import VersionedAsset
from promptlab.domain.versioned import Which as Which
from promptlab.domain.versioned import content_hash as content_hash
from promptlab.domain.versioned import which_version as which_version
from promptlab.errors import DatasetError


class ChatMessage(BaseModel):
    """One message of a chat prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who says it.")
    content: str | Annotated[tuple[ContentPart, ...], Field(min_length=1, max_length=100)] = Field(
        description="The text, with placeholders; or a list of parts: {type: text, text: …} and "
        "{type: image, "
        "column: …}, likewise audio, video, document and pdf."
    )

    @property
    def text(self) -> str:
        """What it says, with a line for each part that is no text."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(
            p.text if isinstance(p, TextPart) else f"[{p.type}: {p.column}]" for p in self.content
        )

    def to_json(self) -> dict[str, Any]:
        """The versioned content of the message."""
        return self.model_dump(mode="json")


class PromptTemplate(VersionedAsset):
    """A prompt with placeholders, versioned.

    Either `system_prompt` and `user_prompt`, or `messages`. In the default format `<name>` is
    filled by the dataset column `name` and `\\<` is a literal `<`; with `template_format="jinja2"`
    the text is a Jinja template, rendered in Jinja's sandbox.
    """

    system_prompt: str = Field(default="", description="The system message, with placeholders.")
    user_prompt: str = Field(default="", description="The user message, with placeholders.")
    messages: tuple[ChatMessage, ...] | Annotated[str, Field(pattern=r"^\$.+")] = Field(
        default=(),
        description="A list of chat messages, in place of system_prompt and user_prompt; or `$column`, the "
        "column of the dataset that holds a whole transcript, in OpenAI's form or OpenTelemetry's.",
    )
    template_format: Literal["simple", "jinja2"] = Field(
        default="simple",
        description="How placeholders are written: `<name>` (simple) or `{{ name }}` (jinja2).",
    )
    tools: tuple[ToolSpec, ...] = Field(
        default=(), max_length=MOST_TOOLS, description="The functions that the model may call."
    )
    tool_choice: str | None = Field(
        default=None,
        max_length=64,
        description="auto, none, required, or the name of a tool. Default: as the provider does.",
    )

    @model_validator(mode="after")
    def _has_text(self) -> PromptTemplate:
        check_tools(self.tools, self.tool_choice)
        if self.transcript is not None and not self.user_prompt:
            return self
        if self.messages and (self.system_prompt or self.user_prompt):
            raise ValueError(
                "give either `messages` or `system_prompt`/`user_prompt`, not both; a system_prompt may "
                "stand "
                "before the transcript of a column"
            )
        if not self.messages and not (self.system_prompt or self.user_prompt):
            raise ValueError("a prompt template needs a user_prompt, a system_prompt or messages")
        return self

    def content(self) -> dict[str, Any]:
        """The versioned content, as JSON."""
        given = self.messages
        content: dict[str, Any] = {
            "system_prompt": self.system_prompt,
            "user_prompt": self.user_prompt,
            "messages": given if isinstance(given, str) else [m.to_json() for m in given],
            "template_format": self.template_format,
        }
        # What a template does not use is not in its content: templates of before keep their hash.
        if self.tools:
            content["tools"] = [tool.model_dump(mode="json") for tool in self.tools]
        if self.tool_choice is not None:
            content["tool_choice"] = self.tool_choice
        return content

    @property
    def transcript(self) -> str | None:
        """The column that holds the messages; None where the template does."""
        return self.messages[1:] if isinstance(self.messages, str) else None

    @property
    def is_plain(self) -> bool:
        """Whether each of its messages is one text, and it has no tools."""
        return (
            not isinstance(self.messages, str)
            and not self.tools
            and all(isinstance(m.content, str) for m in self.messages)
        )

    def chat(self) -> list[dict[str, str]]:
        """The messages, unrendered and as people read them: `[{"role": …, "content": …}, …]`."""
        if self.messages and not isinstance(self.messages, str):
            return [{"role": m.role, "content": m.text} for m in self.messages]
        pairs = (("system", self.system_prompt), ("user", self.user_prompt))
        said = [{"role": role, "content": text} for role, text in pairs if text]
        if self.transcript is not None:
            said.append({"role": "user", "content": f"[the messages in column {self.transcript}]"})
        return said

    def texts(self) -> list[tuple[str, str]]:
        """The role and text of all that has placeholders, in order."""
        if self.messages and not isinstance(self.messages, str):
            return [
                (m.role, text)
                for m in self.messages
                for text in (
                    [m.content]
                    if isinstance(m.content, str)
                    else [p.text for p in m.content if isinstance(p, TextPart)]
                )
            ]
        pairs = (("system", self.system_prompt), ("user", self.user_prompt))
        return [(role, text) for role, text in pairs if text]


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

    media: Modality | None = None
    """What its values are, where these are media: objects that say where each is."""
    by_address: bool | None = None
    """Of media: whether any is an https address; None in records of versions that said it of all columns."""


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
    media: str | None = None
    """Key of the list of its media: the hash of each, one a line; None where there are none in blobs."""
    addresses: bool = False
    """Whether any of its media is an https address."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON; what a dataset without media has not is left out."""
        found = asdict(self)
        for column in found["columns"]:
            for name in ("media", "by_address"):
                if column[name] is None:
                    del column[name]
        return {name: value for name, value in found.items() if value or name not in ("media", "addresses")}

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


class Dataset(VersionedAsset):
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
    media: dict[str, Modality] = Field(
        default_factory=dict,
        max_length=100,
        description="The columns that hold media, and of which kind: {photo: image}; also audio, video and "
        "document. A value is a file's path beside the dataset, a data: address or an https address, or "
        "a list "
        "of these.",
    )
    _content: DatasetContent | None = PrivateAttr(default=None)
    _files_beside: bool = PrivateAttr(default=True)
    _kept: dict[str, Path] = PrivateAttr(default_factory=dict)

    @property
    def media_folder(self) -> Path | None:
        """The folder whose files its rows may name; None: none may."""
        if not self._files_beside:
            return None
        return Path.cwd() if self.file_path is None else Path(self.file_path).resolve().parent

    def without_files(self) -> Dataset:
        """Have its rows name no files: it came from somebody else, and files are this machine's."""
        self._files_beside = False
        return self

    def keeping(self, files: Mapping[str, Path]) -> Dataset:
        """Have the files of its media that rows name by their hash be these, before they are in a store."""
        self._kept = dict(files)
        return self

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


Asset = PromptTemplate | Dataset | CodeBundle


def kind_of(asset: Asset) -> AssetKind:
    """The ledger's word for the kind of an asset."""
    if isinstance(asset, CodeBundle):
        return "code"
    return "prompt_template" if isinstance(asset, PromptTemplate) else "dataset"


def asset_from(record: AssetVersion) -> Asset:
    """The user's object for a version in the ledger."""
    asset: Asset
    base = {"name": record.name, "description": record.description, "version": record.version}
    if record.kind == "prompt_template":
        asset = PromptTemplate(**base, **record.content)
    elif record.kind == "code":
        asset = CodeBundle.stored(base, CodeContent.from_json(record.content))
    else:
        content = DatasetContent.from_json(record.content)
        media = {column.name: column.media for column in content.columns if column.media is not None}
        asset = Dataset(**base, id_column=content.id_column, media=media)
        asset._content = content
    asset._hash, asset._labels = record.hash, record.labels
    return asset
