"""Limits of a row: its id, its size, its columns and the values in it."""

from __future__ import annotations

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

from promptlab.assets.ingest import stage
from promptlab.assets.rows import row_id
from promptlab.domain.assets import Dataset, DatasetContent
from promptlab.errors import DatasetError


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
    lines = [
        "",
        '{"id":"a"}',
        '{"id":1}',
        '{"id":"1"}',
        '{"id":"a"}',
        *[f'{{"id":{i}}}' for i in (5, 6, 7) for _ in range(6)],
    ]
    message = await refused(tmp_path / "d.jsonl", "\n".join(lines))
    assert (
        "d.jsonl: duplicate ids in column 'id': 'a' (line 2, line 5), '1' (line 3, line 4), '5' "
        "(line 6, line 7, line 8, line 9 and 2 more)" in message
    )
    assert (
        "and 2 more ids. Ids are strings or integers" in message
        and "Name another column with id_column=…" in message
    )
    assert "duplicate ids in column 'k': 'x' (line 2, line 4)" in await refused(
        tmp_path / "d.csv", 'k,v\nx,"a\nb"\nx,c\n', id_column="k"
    )
    with pytest.raises(DatasetError, match=r"rows: duplicate ids in column 'id': 'x' \(\[0\], \[2\]\)"):
        await from_rows([{"id": "x"}, {"id": "y"}, {"id": "x"}])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        ([1], "a list"),
        (1.5, "decimal point"),
        (True, "a boolean"),
        ("", "empty"),
        ("x" * 1001, "1,001 characters"),
    ],
)
async def test_an_id_is_a_string_or_an_integer(value: Any, said: str) -> None:
    """Anything else is refused, with its place."""
    with pytest.raises(DatasetError, match=rf"rows\[1\]: the id in column 'id' is .*{said}"):
        await from_rows([{"id": 1}, {"id": value}])


async def test_the_id_column_has_to_be_in_every_row(tmp_path: Path) -> None:
    """The message has the row's columns and the nearest one."""
    message = await refused(tmp_path / "d.csv", "quid,v\nx,1\n", id_column="qid")
    assert (
        "d.csv, line 2: no column 'qid'" in message
        and "this row has 'quid', 'v'" in message
        and "Did you mean 'quid'?" in message
    )
    assert "line 2: no column 'k'" in await refused(tmp_path / "d.jsonl", '{"k":1}\n{"v":1}', id_column="k")


# ---- limits and values of a list of dicts


async def test_a_row_of_10_mb_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    """Ten million bytes of canonical JSON, in each text format."""
    fits, over = "x" * (10_000_000 - len('{"q":""}')), "x" * (10_000_001 - len('{"q":""}'))
    for name, start, end in (("d.jsonl", '{"q": "', '"}\n'), ("d.csv", "q\n", "\n")):
        content, _ = await ingest(tmp_path / name, start + fits + end)
        assert content.largest_row_bytes == 10_000_000
        message = await refused(tmp_path / name, start + over + end)
        assert (
            f"{name}, line {1 if name == 'd.jsonl' else 2}: this row has 10,000,001 bytes; a row may have "
            "10,000,000" in message
        )
    with pytest.raises(DatasetError, match=r"rows\[1\]: this row has 10,000,001 bytes"):
        await from_rows([{"q": "a"}, {"q": over}])


async def test_a_file_without_line_breaks_is_not_read_whole(tmp_path: Path) -> None:
    """A line beyond any row's length is given up, not collected."""
    path = tmp_path / "d.jsonl"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse
        file.seek(0)
        file.write(b'{"q":"' + b"x" * 100)
    assert "line 1: this row has at least 30,000,000 bytes" in await refused_file(path)
    path = tmp_path / "d.csv"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
        file.seek(0)
        file.write(b'q\n"an open quote')
    assert (
        "line 2: this row has at least" in (message := await refused_file(path))
        and "quote never closed" in message
    )


async def refused_file(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        await staged(Dataset(name="d", file_path=path))
    return str(caught.value)


async def test_at_most_2000_columns() -> None:
    """The row that brings one more is named."""
    content, _ = await from_rows([{f"c{i}": i for i in range(2000)}])
    assert len(content.columns) == 2000
    with pytest.raises(
        DatasetError, match=r"rows\[2000\]: with this row the dataset has more than 2,000 columns"
    ):
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
        (
            Dataset(name="d").model_copy(update={"rows": [{1: 1}]}),
            "a column's name must be a string, not the int 1",
        ),
    ],
)
async def test_bad_lists_of_rows_are_refused(dataset: Dataset, said: str) -> None:
    """Each with its own words."""
    with pytest.raises(DatasetError, match=said):
        await staged(dataset)
