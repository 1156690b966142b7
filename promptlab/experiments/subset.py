"""Some rows of a dataset as a dataset of its own: the first ones, or a random sample."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def subset(
    assets: DatasetReader, dataset: Dataset | str, *, first: int | None, sample: int | None, seed: int = 0
) -> AsyncIterator[Dataset]:
    """Make a dataset of the first rows, or of a random sample of them in their order.

    Rows keep their ids, so that runs over a part and over the whole can be compared. The dataset's
    file goes at the end of the block.

    Args:
        assets: where a dataset that is named by reference is.
        dataset: the whole.
        first: how many of the first rows; None: a sample.
        sample: how many rows to draw, without replacement.
        seed: the same seed draws the same rows of the same dataset.

    Raises:
        AssetNotFoundError: a reference to nothing.
        DatasetError: the dataset cannot be read.
    """
    folder = ScratchFolder("subset")
    try:
        path = Path(folder.path) / "rows.jsonl"
        if isinstance(dataset, Dataset) and dataset.version is None:
            async with stage(dataset) as staged:
                wanted = _wanted(staged.content.rows, first, sample, seed)
                await asyncio.to_thread(_copy, staged.rows_path, path, wanted, _added_id(staged.content))
                content = staged.content
            name = dataset.name
        else:
            name, content, wanted = await _copy_stored(assets, dataset, path, first, sample, seed)
        kind = f"first-{len(wanted)}" if sample is None else f"sample-{len(wanted)}-seed-{seed}"
        yield Dataset(
            name=f"{name}-{kind}",
            description=f"{len(wanted):,} of {content.rows:,} rows of {name}",
            file_path=path,
            id_column=content.id_column or "id",
        )
    finally:
        await asyncio.to_thread(folder.close)


def _wanted(rows: int, first: int | None, sample: int | None, seed: int) -> Sequence[int]:
    if sample is None:
        return range(min(rows, first or 0))
    return sorted(random.Random(seed).sample(range(rows), min(rows, sample)))


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


async def _copy_stored(
    assets: DatasetReader,
    dataset: Dataset | str,
    target: Path,
    first: int | None,
    sample: int | None,
    seed: int,
) -> tuple[str, DatasetContent, Sequence[int]]:
    reference = dataset if isinstance(dataset, str) else f"{dataset.name}@{dataset.version}"
    name, _, which = reference.partition("@")
    stored = await assets.get(name, **which_version(which), kind="dataset")
    assert isinstance(stored, Dataset) and stored.content is not None
    content = stored.content
    wanted = _wanted(content.rows, first, sample, seed)
    left, offset = set(wanted), 0
    with target.open("wb") as file:
        while left:
            page = await assets.rows(stored, offset, _PAGE)
            for number, row in enumerate(page, start=offset):
                if number in left:
                    left.discard(number)
                    file.write(_line(number, row, _added_id(content)))
            if not page:
                break
            offset += len(page)
    return name, content, wanted
