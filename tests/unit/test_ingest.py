"""Datasets become canonical rows and a shard index; what cannot be read is said, with its place."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.assets.ingest import commit, stage
from promptlab.assets.rows import read_index, read_rows, rows_page
from promptlab.domain.assets import Dataset, DatasetContent, Shard
from promptlab.errors import DatasetError


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, to see what is left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    tempfile.tempdir = None  # it is remembered from the first use on
    yield folder
    tempfile.tempdir = None


async def staged(dataset: Dataset) -> tuple[DatasetContent, list[dict[str, Any]]]:
    async with stage(dataset) as result:
        return result.content, [orjson.loads(line) for line in result.rows_path.read_bytes().splitlines()]


async def ingest(path: Path, data: bytes | str, **fields: Any) -> tuple[DatasetContent, list[dict[str, Any]]]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return await staged(Dataset(name="d", file_path=path, **fields))


async def from_rows(rows: Sequence[Any], **fields: Any) -> tuple[DatasetContent, list[dict[str, Any]]]:
    # Around pydantic, which has its own words for a row that is no mapping.
    return await staged(Dataset(name="d").model_copy(update={"rows": rows, **fields}))


async def refused(path: Path, data: bytes | str, **fields: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        await ingest(path, data, **fields)
    return str(caught.value)


# ---- what comes out


async def test_rows_are_canonical_and_hashed(tmp_path: Path) -> None:
    """One compact JSON object a line, whatever the spacing; the hash is that of these bytes."""
    (tmp_path / "d.jsonl").write_text('{ "q" : "gr\\u00fc\\u00df",  "n": 1.0}\r\n{"q":"b", "n": null}')
    async with stage(Dataset(name="d", file_path=tmp_path / "d.jsonl")) as result:
        data = result.rows_path.read_bytes()
        assert data == '{"q":"grüß","n":1.0}\n{"q":"b","n":null}\n'.encode()
        assert result.hash == hashlib.sha256(data).hexdigest()
        content = result.content
    assert (content.blob, content.index) == (
        f"datasets/{result.hash}.jsonl",
        f"datasets/{result.hash}.index.jsonl",
    )
    assert (content.rows, content.bytes, content.shards, content.largest_row_bytes, content.id_column) == (
        2,
        len(data),
        1,
        22,
        None,
    )


async def test_the_same_rows_in_every_format_are_the_same_rows(tmp_path: Path) -> None:
    """JSONL, CSV, TSV, Parquet and a list of dicts of the same strings have one hash."""
    import duckdb

    rows = [{"id": str(i), "q": f'é "{i}",\n\tx', "empty": ""} for i in range(120)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(orjson.dumps(r) for r in rows))
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        with open(tmp_path / f"a.{suffix}", "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    source = str(tmp_path / "a.jsonl")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT CAST(id AS VARCHAR) AS id, q, empty FROM read_json('{source}')) TO "
            f"'{tmp_path / 'a.parquet'}'"
        )
    contents = [
        await staged(Dataset(name="d", file_path=tmp_path / f"a.{s}"))
        for s in ("jsonl", "csv", "tsv", "parquet")
    ]
    contents.append(await from_rows(rows))
    assert {content.blob for content, _ in contents} == {contents[0][0].blob}
    assert all(read == rows and content.id_column == "id" for content, read in contents)


async def test_columns_have_types_counts_and_their_first_gap(tmp_path: Path) -> None:
    """Nulls count as present and have no type; integers among numbers are numbers; a mix is json."""
    content, _ = await from_rows(
        [
            {
                "s": "x",
                "i": 1,
                "f": 1,
                "b": True,
                "mix": 1,
                "nest": [1],
                "null": None,
                "gap": "a",
                "twice": 1,
            },
            {
                "s": None,
                "i": 2,
                "f": 1.5,
                "b": False,
                "mix": "1",
                "nest": None,
                "null": None,
                "gap": "b",
                "late": 1,
            },
            {"s": "y", "i": 3, "f": 2.0, "b": True, "mix": 1, "nest": {}, "null": None, "twice": 1},
            {
                "s": "y",
                "i": 3,
                "f": 2.0,
                "b": True,
                "mix": 1,
                "nest": {},
                "null": None,
                "gap": "c",
                "late": 2,
            },
        ]
    )
    assert [(c.name, c.type, c.rows, c.first_missing) for c in content.columns] == [
        ("s", "string", 4, None),
        ("i", "integer", 4, None),
        ("f", "number", 4, None),
        ("b", "boolean", 4, None),
        ("mix", "json", 4, None),
        ("nest", "json", 4, None),
        ("null", "json", 4, None),
        ("gap", "string", 3, 2),
        ("twice", "integer", 2, 1),
        ("late", "integer", 2, 0),
    ]


async def test_rows_are_read_back_by_shard_and_by_page(tmp_path: Path) -> None:
    """Shards hold at most 50 rows, follow one another, and any page finds its rows."""
    rows = [{"n": i, "t": "x" * (i % 7)} for i in range(123)]
    blobs = FileBlobs(tmp_path / "blobs")
    async with stage(Dataset(name="d", rows=rows)) as result:
        await commit(result, blobs)
        content = result.content
    shards = [s async for s in read_index(blobs, content)]
    assert [(s.number, s.first, s.count) for s in shards] == [(0, 0, 50), (1, 50, 50), (2, 100, 23)]
    assert [s.offset for s in shards] == [0, shards[0].length, shards[0].length + shards[1].length]
    assert sum(s.length for s in shards) == content.bytes
    assert [row for s in shards for row in await read_rows(blobs, content, s)] == rows
    for offset, limit in ((0, 10), (45, 10), (49, 60), (100, 1000), (122, 1), (123, 5), (500, 5), (0, 0)):
        assert await rows_page(blobs, content, offset, limit) == rows[offset : offset + limit]


async def test_a_shard_closes_before_it_passes_8_mib(tmp_path: Path) -> None:
    """A worker holds one shard: three rows of nearly 10 MB are three shards, 3 MB ones go by two."""
    blobs = FileBlobs(tmp_path / "blobs")
    big = [{"id": i, "t": chr(97 + i) * 9_999_980} for i in range(3)]
    for rows, counts in ((big, [1, 1, 1]), ([{"t": "x" * 3_000_000}] * 5, [2, 2, 1])):
        async with stage(Dataset(name="d", rows=rows)) as result:
            await commit(result, blobs)
        shards = [s async for s in read_index(blobs, result.content)]
        assert [s.count for s in shards] == counts
        assert await read_rows(blobs, result.content, shards[-1]) == rows[-1:]
    assert result.content.largest_row_bytes == 3_000_008


async def test_an_index_longer_than_a_piece_of_a_stream_is_read_whole(tmp_path: Path) -> None:
    """Lines that are cut between two pieces are put together again, and a reader may stop early."""
    blobs = FileBlobs(tmp_path)
    lines = [orjson.dumps(Shard(i, i, 1, i, 1), option=orjson.OPT_APPEND_NEWLINE) for i in range(20_000)]
    await blobs.put("datasets/x.index.jsonl", b"".join(lines))
    content = DatasetContent(
        blob="b",
        index="datasets/x.index.jsonl",
        rows=20_000,
        bytes=1,
        shards=20_000,
        columns=(),
        id_column=None,
    )
    assert [s.number async for s in read_index(blobs, content)] == list(range(20_000))
    index = read_index(blobs, content)
    assert (await anext(index)).number == 0
    await index.aclose()


async def test_nothing_is_written_to_blobs_before_commit_and_nothing_twice(tmp_path: Path) -> None:
    """The same rows under another id_column share their blobs."""
    blobs = FileBlobs(tmp_path / "blobs")
    rows = [{"a": 1, "b": 2}]
    async with stage(Dataset(name="d", rows=rows, id_column="a")) as first:
        assert await blobs.keys("") == []
        await commit(first, blobs)
    keys = await blobs.keys("")
    assert keys == sorted([first.content.blob, first.content.index])
    await blobs.put(first.content.blob, b"untouched")
    async with stage(Dataset(name="d", rows=rows, id_column="b")) as second:
        await commit(second, blobs)
    assert (second.content.blob, second.content.id_column) == (first.content.blob, "b")
    assert await blobs.keys("") == keys
    assert await blobs.get(first.content.blob) == b"untouched"


# ---- what it leaves behind


async def test_temporary_files_go_when_the_block_ends(scratch: Path) -> None:
    """After success, after a broken dataset, and after the caller's own error."""
    async with stage(Dataset(name="d", rows=[{"a": 1}])) as result:
        assert result.rows_path.is_relative_to(scratch)
    assert list(scratch.iterdir()) == []
    with pytest.raises(DatasetError):
        await staged(Dataset(name="d", rows=[{"id": 1}, {"id": 1}]))
    assert list(scratch.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        async with stage(Dataset(name="d", rows=[{"a": 1}])):
            1 / 0  # noqa: B018
    assert list(scratch.iterdir()) == []


async def test_cancelling_ends_the_thread_and_leaves_nothing(scratch: Path) -> None:
    """A dataset without end is given up when the task is cancelled."""

    class Endless(Sequence[Any]):
        started = asyncio.Event()
        taken = 0

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.loop = loop

        def __len__(self) -> int:
            return 1 << 40

        def __getitem__(self, index: Any) -> Any:
            self.taken += 1
            if index == 1000:
                self.loop.call_soon_threadsafe(self.started.set)
            return {"n": index}

    rows = Endless(asyncio.get_running_loop())
    task = asyncio.create_task(from_rows(rows))
    await rows.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(scratch.iterdir()) == []
    taken = rows.taken
    await asyncio.to_thread(lambda: None)
    assert rows.taken == taken


@pytest.mark.long
async def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Five times the rows, ids and all, take no more memory."""
    peaks = []
    for count in (20_000, 100_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_bytes(b"".join(b'{"id":"row %d","q":"%s"}\n' % (i, b"x" * 100) for i in range(count)))
        tracemalloc.start()
        async with stage(Dataset(name="d", file_path=path)) as result:
            peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert result.content.rows == count
    assert peaks[1] < peaks[0] + 100_000


async def test_the_csv_modules_own_limit_stays_as_it_was(tmp_path: Path) -> None:
    """A field may have nearly 10 MB, and other users of the csv module see no difference."""
    before = csv.field_size_limit()
    text = "x" * 9_000_000
    _, rows = await ingest(tmp_path / "a.csv", f"q\n{text}\n")
    assert rows == [{"q": text}]
    await refused(tmp_path / "b.csv", "q,r\n1\n")
    assert csv.field_size_limit() == before
