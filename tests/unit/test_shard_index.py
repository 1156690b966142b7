"""Finding the shards of some rows: what was read of an index is not read again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import orjson
import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.assets.rows import read_index
from promptlab.assets.shard_index import PIECE_BYTES, shards_between, shards_from
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.errors import BlobNotFoundError, StoreDamagedError

INDEX = "datasets/x.index.jsonl"


class CountingBlobs(FileBlobs):
    """Blobs that count how many bytes were asked for."""

    bytes_read = 0

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = await super().get(key, offset=offset, length=length)
        self.bytes_read += len(data)
        return data


async def made(folder: Path, count: int) -> tuple[CountingBlobs, DatasetContent, list[Shard]]:
    """An index of shards of 1 to 50 rows."""
    chance, blobs, row, shards = random.Random(count), CountingBlobs(folder), 0, list[Shard]()
    for number in range(count):
        rows = chance.randrange(1, 51)
        shards.append(Shard(number, row, rows, row * 100, rows * 100))
        row += rows
    await blobs.put(INDEX, b"".join(orjson.dumps(s, option=orjson.OPT_APPEND_NEWLINE) for s in shards))
    content = DatasetContent(
        blob="b", index=INDEX, rows=row, bytes=row * 100, shards=count, columns=(), id_column=None
    )
    return blobs, content, shards


@pytest.mark.long
async def test_it_finds_the_shards_that_a_walk_finds(tmp_path: Path) -> None:
    """Of any rows, asked in any order, also beyond the end, and by many at once."""
    blobs, content, shards = await made(tmp_path, 9_000)
    assert [s async for s in read_index(blobs, content)] == shards
    chance = random.Random(1)
    asked = [(first, first + chance.randrange(200)) for first in chance.choices(range(content.rows), k=200)]
    asked += [
        (0, 0),
        (0, content.rows),
        (content.rows - 1, content.rows + 9),
        (content.rows, content.rows + 5),
        (-3, 4),
    ]
    found = await asyncio.gather(*(shards_between(blobs, content, *rows) for rows in asked))
    for (first, last), there in zip(asked, found, strict=True):
        assert there == [s for s in shards if s.first <= last and s.first + s.count > first], (first, last)
    assert await shards_between(blobs, content, 5, 4) == []
    row = shards[4_321].first + shards[4_321].count - 1
    assert [s async for s in shards_from(blobs, content, row)] == shards[4_321:]


async def test_the_index_is_read_once_and_no_further_than_needed(tmp_path: Path) -> None:
    """The last page of a run reads no more than its first."""
    blobs, content, _ = await made(tmp_path, 9_000)
    await shards_between(blobs, content, 0, 49)
    assert blobs.bytes_read <= PIECE_BYTES
    await shards_between(blobs, content, content.rows - 50, content.rows - 1)
    whole = blobs.bytes_read
    for first in range(0, content.rows, 1_000):
        await shards_between(blobs, content, first, first + 49)
    assert blobs.bytes_read == whole <= (tmp_path / INDEX).stat().st_size + PIECE_BYTES


@pytest.mark.parametrize("line", [b"no json", b'{"number": 1}', b'{"number": 7, "first": 50}', b""])
async def test_a_damaged_index_is_a_clear_error(tmp_path: Path, line: bytes) -> None:
    """It says which file, and what to do."""
    blobs, content, shards = await made(tmp_path, 3)
    lines = [orjson.dumps(s) for s in shards]
    lines[1] = line.replace(b'"first": 50', b'"first": 50, "count": 1, "offset": 0, "length": 1')
    await blobs.put(INDEX, b"\n".join(lines) + b"\n")
    with pytest.raises(StoreDamagedError, match=rf"{INDEX} is damaged.*create the dataset again"):
        await shards_between(blobs, content, 0, content.rows)


async def test_an_index_that_is_cut_off_or_gone_is_an_error(tmp_path: Path) -> None:
    """And never a shorter dataset."""
    blobs, content, shards = await made(tmp_path, 3)
    await blobs.put(INDEX, orjson.dumps(shards[0], option=orjson.OPT_APPEND_NEWLINE))
    with pytest.raises(StoreDamagedError, match="ends too early"):
        await shards_between(blobs, content, 0, content.rows)
    await blobs.delete(INDEX)
    with pytest.raises(BlobNotFoundError):
        await shards_between(FileBlobs(tmp_path), content, 0, 5)
