"""Some rows of a dataset as a dataset of its own: the first ones, a random sample, or chosen ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from promptlab.assets.ingest import stage
from promptlab.domain.assets import Asset, AssetKind, Dataset, DatasetContent, which_version
from promptlab.scratch import ScratchFolder

_PAGE = 500


class DatasetReader(Protocol):
    """A reader of stored datasets: the assets of any lab."""

    async def get(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Asset:
        """Read one version."""

    async def rows(self, dataset: Dataset, offset: int, limit: int) -> Sequence[dict[str, Any]]:
        """Read at most `limit` rows from row `offset` on."""


class Choice(Protocol):
    """Which rows of a dataset."""

    def of(self, rows: int) -> Sequence[int]:
        """Give the chosen ones' numbers, rising, of a dataset with so many rows."""

    def named(self, name: str, count: int) -> str:
        """Name the part of a dataset of this name that has `count` rows."""


@dataclass(frozen=True, slots=True)
class First:
    """The first rows."""

    count: int

    def of(self, rows: int) -> Sequence[int]:
        return range(min(rows, self.count))

    def named(self, name: str, count: int) -> str:
        return f"{name}-first-{count}"


@dataclass(frozen=True, slots=True)
class Sample:
    """Random rows, drawn without replacement, in their order."""

    count: int
    seed: int = 0
    """The same seed draws the same rows of the same dataset."""

    def of(self, rows: int) -> Sequence[int]:
        return sorted(random.Random(self.seed).sample(range(rows), min(rows, self.count)))

    def named(self, name: str, count: int) -> str:
        return f"{name}-sample-{count}-seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows that somebody chose. Each selection of a dataset is a version of one asset."""

    numbers: Sequence[int]
    """Rising."""

    def of(self, rows: int) -> Sequence[int]:
        return self.numbers

    def named(self, name: str, count: int) -> str:
        return name if name.endswith("-selected") else f"{name}-selected"


@asynccontextmanager
async def subset(
    assets: DatasetReader, dataset: Dataset | str, choice: Choice, *, said: str = ""
) -> AsyncIterator[Dataset]:
    """Make a dataset of some rows of another, in their order.

    Rows keep their ids, so that runs over a part and over the whole can be compared. The dataset's
    file goes at the end of the block.

    Args:
        assets: where a dataset that is named by reference is.
        dataset: the whole.
        choice: which rows.
        said: why these, for the description.

    Raises:
        AssetNotFoundError: a reference to nothing.
        DatasetError: the dataset cannot be read.
    """
    folder, open_files = ScratchFolder("subset"), AsyncExitStack()
    kept: Mapping[str, Path] = {}
    try:
        path = Path(folder.path) / "rows.jsonl"
        if isinstance(dataset, Dataset) and dataset.version is None:
            staged = await open_files.enter_async_context(stage(dataset))
            wanted, content, kept = choice.of(staged.content.rows), staged.content, staged.media
            await asyncio.to_thread(_copy, staged.rows_path, path, wanted, _added_id(content))
            name, whole = dataset.name, dataset.name
        else:
            stored = await _stored(assets, dataset)
            assert stored.content is not None
            content = stored.content
            name, whole = stored.name, f"{stored.name}@{stored.version}"
            wanted = choice.of(content.rows)
            await _copy_stored(assets, stored, path, wanted, _added_id(content))
        yield Dataset(
            name=choice.named(name, len(wanted)),
            description=f"{len(wanted):,} of {content.rows:,} rows of {whole}{said and f': {said}'}",
            file_path=path,
            id_column=content.id_column or "id",
            media={column.name: column.media for column in content.columns if column.media is not None},
        ).keeping(kept)
    finally:
        await open_files.aclose()
        await asyncio.to_thread(folder.close)


def _added_id(content: DatasetContent) -> bool:
    """Whether rows are named by their numbers, which would change: then a column `id` has them."""
    return content.id_column is None and all(column.name != "id" for column in content.columns)


def _line(number: int, row: dict[str, Any], add_id: bool) -> bytes:
    return orjson.dumps({"id": str(number), **row} if add_id else row, option=orjson.OPT_APPEND_NEWLINE)


def _copy(source: Path, target: Path, wanted: Sequence[int], add_id: bool) -> None:
    left = set(wanted)
    with source.open("rb") as rows, target.open("wb") as file:
        for number, line in enumerate(rows):
            if number in left:
                left.discard(number)
                file.write(_line(number, orjson.loads(line), add_id))
            if not left:
                return


async def _stored(assets: DatasetReader, dataset: Dataset | str) -> Dataset:
    reference = dataset if isinstance(dataset, str) else f"{dataset.name}@{dataset.version}"
    name, _, which = reference.partition("@")
    stored = await assets.get(name, **which_version(which), kind="dataset")
    assert isinstance(stored, Dataset)
    return stored


async def _copy_stored(
    assets: DatasetReader, stored: Dataset, target: Path, wanted: Sequence[int], add_id: bool
) -> None:
    """Copy the wanted rows, reading from each to where the page after it ends, and nothing between."""
    at = 0
    with target.open("wb") as file:
        while at < len(wanted):
            offset = wanted[at]
            page = await assets.rows(stored, offset, min(_PAGE, wanted[-1] - offset + 1))
            if not page:
                break
            for number, row in enumerate(page, start=offset):
                if at < len(wanted) and number == wanted[at]:
                    at += 1
                    file.write(_line(number, row, add_id))
