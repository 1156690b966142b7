"""Datasets become canonical rows and a shard index; what cannot be read is said, with its place."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import tempfile
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.assets import Dataset, DatasetContent, Shard
from promptlab.engine.ingest import commit, read_index, read_rows, row_id, rows_page, stage
from promptlab.errors import DatasetError


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    assert (content.blob, content.index) == (f"datasets/{result.hash}.jsonl", f"datasets/{result.hash}.index.jsonl")
    assert (content.rows, content.bytes, content.shards, content.largest_row_bytes, content.id_column) == (2, len(data), 1, 22, None)


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
        connection.execute(f"COPY (SELECT CAST(id AS VARCHAR) AS id, q, empty FROM read_json('{source}')) TO '{tmp_path / 'a.parquet'}'")
    contents = [await staged(Dataset(name="d", file_path=tmp_path / f"a.{s}")) for s in ("jsonl", "csv", "tsv", "parquet")]
    contents.append(await from_rows(rows))
    assert {content.blob for content, _ in contents} == {contents[0][0].blob}
    assert all(read == rows and content.id_column == "id" for content, read in contents)


async def test_columns_have_types_counts_and_their_first_gap(tmp_path: Path) -> None:
    """Nulls count as present and have no type; integers among numbers are numbers; a mix is json."""
    content, _ = await from_rows(
        [
            {"s": "x", "i": 1, "f": 1, "b": True, "mix": 1, "nest": [1], "null": None, "gap": "a", "twice": 1},
            {"s": None, "i": 2, "f": 1.5, "b": False, "mix": "1", "nest": None, "null": None, "gap": "b", "late": 1},
            {"s": "y", "i": 3, "f": 2.0, "b": True, "mix": 1, "nest": {}, "null": None, "twice": 1},
            {"s": "y", "i": 3, "f": 2.0, "b": True, "mix": 1, "nest": {}, "null": None, "gap": "c", "late": 2},
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
    content = DatasetContent(blob="b", index="datasets/x.index.jsonl", rows=20_000, bytes=1, shards=20_000, columns=(), id_column=None)
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


# ---- ids


async def test_rows_are_named_by_the_id_column_or_by_number(tmp_path: Path) -> None:
    """`id_column`, else `id` where every row has it, else the row's number."""
    rows: list[dict[str, Any]] = [{"id": 7, "k": "a"}, {"id": "x", "k": "b"}]
    content, _ = await from_rows(rows)
    assert [row_id(row, content, i) for i, row in enumerate(rows)] == ["7", "x"]
    content, _ = await from_rows(rows, id_column="k")
    assert [row_id(row, content, i) for i, row in enumerate(rows)] == ["a", "b"]
    content, _ = await from_rows([*rows, {"k": "c"}])
    assert content.id_column is None and row_id(rows[1], content, 1) == "1"


async def test_an_unusable_id_matters_only_where_id_names_the_rows() -> None:
    """Some other row has no id at all, so nothing is named by it."""
    content, _ = await from_rows([{"id": None}, {"id": 1}, {"id": 1}, {"q": 1}])
    assert content.id_column is None


async def test_duplicate_ids_are_named_with_their_lines(tmp_path: Path) -> None:
    """Compared as text, the first three by place, and how many more."""
    lines = ["", '{"id":"a"}', '{"id":1}', '{"id":"1"}', '{"id":"a"}', *[f'{{"id":{i}}}' for i in (5, 6, 7) for _ in range(6)]]
    message = await refused(tmp_path / "d.jsonl", "\n".join(lines))
    assert "d.jsonl: duplicate ids in column 'id': 'a' (line 2, line 5), '1' (line 3, line 4), '5' (line 6, line 7, line 8, line 9 and 2 more)" in message
    assert "and 2 more ids" in message and "id_column" in message
    assert "duplicate ids in column 'k': 'x' (line 2, line 4)" in await refused(tmp_path / "d.csv", 'k,v\nx,"a\nb"\nx,c\n', id_column="k")
    with pytest.raises(DatasetError, match=r"rows: duplicate ids in column 'id': 'x' \(\[0\], \[2\]\)"):
        await from_rows([{"id": "x"}, {"id": "y"}, {"id": "x"}])


@pytest.mark.parametrize(
    ("value", "said"), [(None, "null"), ([1], "a list"), (1.5, "decimal point"), (True, "a boolean"), ("", "empty"), ("x" * 1001, "1,001 characters")]
)
async def test_an_id_is_a_string_or_an_integer(value: Any, said: str) -> None:
    """Anything else is refused, with its place."""
    with pytest.raises(DatasetError, match=rf"rows\[1\]: the id in column 'id' is .*{said}"):
        await from_rows([{"id": 1}, {"id": value}])


async def test_the_id_column_has_to_be_in_every_row(tmp_path: Path) -> None:
    """The message has the row's columns and the nearest one."""
    message = await refused(tmp_path / "d.csv", "quid,v\nx,1\n", id_column="qid")
    assert "d.csv, line 2: no column 'qid'" in message and "this row has 'quid', 'v'" in message and "Did you mean 'quid'?" in message
    assert "line 2: no column 'k'" in await refused(tmp_path / "d.jsonl", '{"k":1}\n{"v":1}', id_column="k")


# ---- limits and values of a list of dicts


async def test_a_row_of_10_mb_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    """Ten million bytes of canonical JSON, in each text format."""
    fits, over = "x" * (10_000_000 - len('{"q":""}')), "x" * (10_000_001 - len('{"q":""}'))
    for name, start, end in (("d.jsonl", '{"q": "', '"}\n'), ("d.csv", "q\n", "\n")):
        content, _ = await ingest(tmp_path / name, start + fits + end)
        assert content.largest_row_bytes == 10_000_000
        message = await refused(tmp_path / name, start + over + end)
        assert f"{name}, line {1 if name == 'd.jsonl' else 2}: this row has 10,000,001 bytes; a row may have 10,000,000" in message
    with pytest.raises(DatasetError, match=r"rows\[1\]: this row has 10,000,001 bytes"):
        await from_rows([{"q": "a"}, {"q": over}])


async def test_a_file_without_line_breaks_is_not_read_whole(tmp_path: Path) -> None:
    """A line beyond any row's length is given up, not collected."""
    path = tmp_path / "d.jsonl"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse
        file.seek(0)
        file.write(b'{"q":"' + b"x" * 100)
    assert "line 1: this row has at least 60,000,000 bytes" in await refused_file(path)
    path = tmp_path / "d.csv"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
        file.seek(0)
        file.write(b'q\n"an open quote')
    assert "line 2: this row has at least" in (message := await refused_file(path)) and "quote never closed" in message


async def refused_file(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        await staged(Dataset(name="d", file_path=path))
    return str(caught.value)


async def test_at_most_2000_columns() -> None:
    """The row that brings one more is named."""
    content, _ = await from_rows([{f"c{i}": i for i in range(2000)}])
    assert len(content.columns) == 2000
    with pytest.raises(DatasetError, match=r"rows\[2000\]: with this row the dataset has more than 2,000 columns"):
        await from_rows([{f"c{i}": i} for i in range(3000)])


async def test_python_values_become_json() -> None:
    """Decimals and UUIDs become text, times ISO 8601, tuples lists, NumPy's values plain ones."""

    class Colour(Enum):
        RED = "red"

    class Text(str):
        pass

    row = {
        "decimal": Decimal("1.10"),
        "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "date": date(2026, 1, 2),
        "time": time(3, 4),
        "uuid": UUID(int=1),
        "enum": Colour.RED,
        "text": Text("é"),
        "tuple": (1, (2,)),
        "int64": np.int64(5),
        "float32": np.float32(0.5),
        "bool_": np.bool_(True),
        "array": np.array([[1, 2], [3, 4]]),
        "wide": 2**64 - 1,
    }
    content, rows = await from_rows([row])
    assert rows == [
        {
            "decimal": "1.10",
            "datetime": "2026-01-02T03:04:05+00:00",
            "date": "2026-01-02",
            "time": "03:04:00",
            "uuid": "00000000-0000-0000-0000-000000000001",
            "enum": "red",
            "text": "é",
            "tuple": [1, [2]],
            "int64": 5,
            "float32": 0.5,
            "bool_": True,
            "array": [[1, 2], [3, 4]],
            "wide": 2**64 - 1,
        }
    ]
    assert {c.name: c.type for c in content.columns}["text"] == "string"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "nan is not JSON"),
        ([{"x": float("-inf")}], "-inf is not JSON"),
        (np.float64("nan"), "nan is not JSON"),
        (Decimal("NaN"), "NaN stands for no value"),
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (b"x", "bytes has no place in JSON: encode it as base64"),
        ({1, 2}, "a set has no place in JSON"),
        (np.datetime64("2026-01-01T00:00:00.000000001"), "datetime64 has no place"),
        ({1: 2}, "a key must be a string, not the int 1"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
    ],
)
async def test_python_values_without_a_json_form_are_refused(value: Any, said: str) -> None:
    """The row and mostly the column are named."""
    with pytest.raises(DatasetError, match=r"rows\[1\].*" + said):
        await from_rows([{"v": 1}, {"v": value}])


@pytest.mark.parametrize("levels", [250, 900, 100_000])
async def test_deep_values_are_refused(levels: int) -> None:
    """Before any parser's own limit is met."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    with pytest.raises(DatasetError, match=r"rows\[0\]: .*nested more than 200"):
        await from_rows([{"v": value}])


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (Dataset(name="d", rows=[]), "rows has no rows"),
        (Dataset(name="d"), "'d' has neither file_path nor rows"),
        (Dataset(name="d", rows=[{}], file_path="x.jsonl"), "'d' has both file_path and rows"),
        (Dataset(name="d").model_copy(update={"rows": [{"a": 1}, "x"]}), r"rows\[1\] is a str, not a dict"),
        (Dataset(name="d").model_copy(update={"rows": [{1: 1}]}), "a column's name must be a string, not the int 1"),
    ],
)
async def test_bad_lists_of_rows_are_refused(dataset: Dataset, said: str) -> None:
    """Each with its own words."""
    with pytest.raises(DatasetError, match=said):
        await staged(dataset)
