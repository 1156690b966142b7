"""Dataset files and objects as spreadsheets, data frames and other programs make them."""

from __future__ import annotations

import datetime
import gzip
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import orjson
import pandas
import pytest

from promptlab import Dataset
from promptlab.assets.arrow_schema import arrow_fields
from promptlab.assets.ingest import stage
from promptlab.errors import DatasetError, MissingExtraError

FIELD = Path(__file__).parents[2].parent / "shared" / "field"
BOM = b"\xef\xbb\xbf"


async def read(**dataset: Any) -> list[dict[str, Any]]:
    async with stage(Dataset(name="d", **dataset)) as staged:
        return [orjson.loads(line) for line in staged.rows_path.read_bytes().splitlines()]


async def read_bytes(folder: Path, name: str, data: bytes | str, **dataset: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return await read(file_path=folder / name, **dataset)


async def refused(folder: Path, name: str, data: bytes | str, **dataset: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        await read_bytes(folder, name, data, **dataset)
    return str(caught.value)


# ---- CSV

WANTED = [{"question": "17 plus 25?", "answer": "42"}]


@pytest.mark.parametrize(
    "data",
    [
        "question,answer\r\n17 plus 25?,42\r\n,\r\n,\r\n",
        "question,answer,,\r\n17 plus 25?,42,,\r\n",
        "question;answer\r\n17 plus 25?;42\r\n",
        "sep=;\r\nquestion;answer\r\n17 plus 25?;42\r\n",
        '"sep=\t"\r\nquestion\tanswer\r\n17 plus 25?\t42\r\n',
        "SEP=|\nquestion|answer\n17 plus 25?|42\n",
        "question\tanswer\n17 plus 25?\t42\n",
        "question|answer\n17 plus 25?|42",
        '"question";"answer"\n"17 plus 25?";"42"',
    ],
)
@pytest.mark.parametrize("encode", [str.encode, lambda t: BOM + t.encode(), lambda t: t.encode("utf-16")])
async def test_csv_of_spreadsheets_is_read_as_it_looks(tmp_path: Path, data: str, encode: Any) -> None:
    """Empty rows and columns, other delimiters, Excel's `sep=` line, byte order marks and UTF-16."""
    assert await read_bytes(tmp_path, "d.csv", encode(data)) == WANTED
    assert await read_bytes(tmp_path, "d.csv.gz", gzip.compress(encode(data))) == WANTED


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("question\nWhat then\n", {"question": "What then"}),
        ("question;answer, in words\nx;y\n", {"question": "x", "answer, in words": "y"}),
        ("price;text\n1,5;a, b\n", {"price": "1,5", "text": "a, b"}),
        ('a,"b;c;d"\n1,2;3;4\n', {"a": "1", "b;c;d": "2;3;4"}),
        ('a;b\n"x\n;y";2\n', {"a": "x\n;y", "b": "2"}),
    ],
)
async def test_the_delimiter_is_that_which_cuts_all_rows_evenly(
    tmp_path: Path, data: str, wanted: dict[str, str]
) -> None:
    """Texts may have the other delimiters in them."""
    assert await read_bytes(tmp_path, "d.csv", data) == [wanted]


async def test_a_delimiter_that_is_given_counts(tmp_path: Path) -> None:
    """Over what the file looks like or says; it is for CSV only."""
    assert await read_bytes(tmp_path, "d.csv", "a;b,c\n1;2,3\n", delimiter=",") == [{"a;b": "1;2", "c": "3"}]
    assert await read_bytes(tmp_path, "d.tsv", "a:b\n1:2\n", delimiter=":") == [{"a": "1", "b": "2"}]
    assert "a delimiter is for .csv" in await refused(tmp_path, "d.jsonl", "{}", delimiter=";")
    with pytest.raises(ValueError, match="delimiter"):
        Dataset(name="d", file_path="d.csv", delimiter='"')


async def test_a_row_of_other_length_says_what_may_be_wrong(tmp_path: Path) -> None:
    """Too many fields may be another delimiter."""
    assert "delimiter=…" in await refused(tmp_path, "d.csv", "q\nWhat, where?\n")


# ---- JSON


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[{"a": 1}]', [{"a": 1}]),
        (
            ' [ {"a": "x]}\\" ,", "n": [1, {"b": 2}]} ,\n {"a": "é"} ] \n',
            [{"a": 'x]}" ,', "n": [1, {"b": 2}]}, {"a": "é"}],
        ),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('\ufeff[{"a":1}]', [{"a": 1}]),
    ],
)
async def test_a_json_file_is_an_array_or_lines(tmp_path: Path, text: str, wanted: Any) -> None:
    """Also packed, and in UTF-16."""
    assert await read_bytes(tmp_path, "d.json", text) == wanted
    assert await read_bytes(tmp_path, "d.json.gz", gzip.compress(text.encode())) == wanted
    assert await read_bytes(tmp_path, "e.json", text.lstrip("\ufeff").encode("utf-16")) == wanted


async def test_a_long_array_is_read_in_pieces(tmp_path: Path) -> None:
    """Wherever the pieces of the file end."""
    rows = [{"n": n, "text": 'a "]}{[, \\' * (n % 7) + "x" * (n * 37 % 5000)} for n in range(2_000)]
    assert await read_bytes(tmp_path, "d.json", json.dumps(rows, indent=1)) == rows
    long = [{"text": "\\" * 3_000_000}, {"text": '"' * 2_000_000}]
    assert await read_bytes(tmp_path, "e.json", json.dumps(long)) == long


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a":1},]', "after row 1: ',' does not belong"),
        ('[{"a":1} {"a":2}]', "row 2: '' stands where an object should"),
        ('[1, {"a":1}]', "row 1: '1,' stands where an object should"),
        ('[{"a":1}', "the file ends inside of its array"),
        ('[{"a":"1', "the file ends inside of its array"),
        ('[{"a":1}]]', "after row 1: ']' does not belong"),
        ('[{"a":1}] x', "after row 1: 'x' does not belong"),
        ('["x"]', "'\"x\"' does not belong"),
        ("[[1]]", "row 1: this is an array"),
        ('[{"a":}]', "row 1"),
        ("[]", "has no rows"),
        ("", "has no rows"),
    ],
)
async def test_a_broken_array_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """With the number of the row."""
    assert said in await refused(tmp_path, "d.json", text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"question":"a","question":"b"}', "question"),
        ('{"a": {"b" : 1, "c": 2, "b" : 3}}', "b"),
        ('{"a": [{"x": ":"}, {"y": 1, "y": 2}]}', "y"),
        ('{"\\u0061": 1, "a": "12:30"}', "a"),
        ('{"": 1, "": ""}', ""),
    ],
)
@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
async def test_a_key_that_is_given_twice_is_an_error(tmp_path: Path, text: str, key: str, name: str) -> None:
    """However it is written, and wherever it stands; it is named."""
    text = f"[{text}]" if name == "d.json" else text
    assert f"the key {key!r} is there twice" in await refused(tmp_path, name, text)


@pytest.mark.parametrize(
    "row",
    [{"a": 'b": "a": 1'}, {"a:": {"a:": "a:"}}, {"a\\": '\\"a":'}, {"t": "12:30", "u": {"t": 1}}, {'"': ":"}],
)
async def test_colons_and_quotes_in_texts_are_no_keys(tmp_path: Path, row: Any) -> None:
    """A row is refused only if a key is there twice."""
    for text in (json.dumps(row), json.dumps(row, separators=(" , ", " : ")), orjson.dumps(row)):
        assert await read_bytes(tmp_path, "d.jsonl", text) == [row]


# ---- encodings and gzip


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv"])
async def test_unicode_encodings_are_recognised(tmp_path: Path, encoding: str, name: str) -> None:
    """By their byte order mark or their zeros."""
    text = 'a\n"é🦊"\n' if name == "d.csv" else '[{"a": "é🦊"}]' if name == "d.json" else '{"a": "é🦊"}\n'
    assert await read_bytes(tmp_path, name, text.encode(encoding)) == [{"a": "é🦊"}]


async def test_broken_encodings_and_archives_say_so(tmp_path: Path) -> None:
    """With the file's name and the remedy."""
    assert "Save it as UTF-8" in await refused(tmp_path, "d.csv", b"\xff\xfea\x00\x00\xd8")
    assert "not UTF-8" in await refused(tmp_path, "d.csv", "a\né\n".encode("latin-1"))
    packed = gzip.compress(b'{"a":1}\n')
    assert "not a whole gzip file" in await refused(tmp_path, "d.jsonl.gz", packed[:-6])
    assert "not a whole gzip file" in await refused(tmp_path, "d.jsonl.gz", b"hello")
    assert ".gz files cannot be read" in await refused(tmp_path, "d.parquet.gz", packed)


# ---- Parquet


async def test_nested_values_of_parquet_keep_their_digits(tmp_path: Path) -> None:
    """Decimals, bytes and narrow numbers, in lists, structs and maps as at the top."""
    path = tmp_path / "d.parquet"
    with duckdb.connect() as con:
        con.execute(
            f"""COPY (SELECT 0.1::DECIMAL(30,20) AS d, [0.10::DECIMAL(18,2), NULL] AS list,
            {{'d': 1.50::DECIMAL(18,2), 'b': '\\xFF\\x00'::BLOB, 'f': 0.1::FLOAT, 'n': NULL::BLOB}} AS struct,
            map {{'k': 2.50::DECIMAL(18,2)}} AS m, [{{'x': [1.0::DECIMAL(4,1)]}}] AS deep,
            NULL::STRUCT(d DECIMAL(18,2)) AS none, DATE '2024-02-03' AS day,
            [TIMESTAMP '2024-02-03 04:05:06'] AS at)
            TO '{path}' (FORMAT parquet)"""
        )
    assert await read(file_path=path) == [
        {
            "d": "0.10000000000000000000",
            "list": ["0.10", None],
            "struct": {"d": "1.50", "b": "/wA=", "f": 0.1, "n": None},
            "m": {"k": "2.50"},
            "deep": [{"x": ["1.0"]}],
            "none": None,
            "day": "2024-02-03",
            "at": ["2024-02-03 04:05:06"],
        }
    ]


async def test_columns_of_parquet_may_differ_in_case_only(tmp_path: Path) -> None:
    """DuckDB calls the second one otherwise; the file does not."""
    path = tmp_path / "d.parquet"
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT 1 AS aa1, {{'x': 2}} AS s, 3 AS zz1) TO '{path}' (FORMAT parquet)")
    path.write_bytes(path.read_bytes().replace(b"zz1", b"AA1"))
    assert await read(file_path=path) == [{"aa1": 1, "s": {"x": 2}, "AA1": 3}]
    path.write_bytes(path.read_bytes().replace(b"AA1", b"aa1"))
    with pytest.raises(DatasetError, match="two columns 'aa1'"):
        await read(file_path=path)


async def test_durations_of_arrow_have_their_unit(tmp_path: Path) -> None:
    """Parquet stores whole numbers; the unit is in the Arrow schema beside them."""
    arrow = pytest.importorskip("pyarrow", reason="PyArrow writes such files")
    import pyarrow.parquet

    second = datetime.timedelta(seconds=1)
    columns = {
        unit: arrow.array([90 * second, -1.5 * second if unit != "s" else None], arrow.duration(unit))
        for unit in ("s", "ms", "us", "ns")
    }
    columns["l"] = arrow.array([[second], None], arrow.list_(arrow.duration("us")))
    columns["N"] = arrow.array([{"x": second, "X": 2}, None])
    pyarrow.parquet.write_table(arrow.table(columns), tmp_path / "d.parquet")
    short = {"s": None, "ms": "-PT1.5S", "us": "-PT1.5S", "ns": "-PT1.5S", "l": None, "N": None}
    long = dict.fromkeys(("s", "ms", "us", "ns"), "PT90S") | {"l": ["PT1S"], "N": {"x": "PT1S", "X": 2}}
    assert await read(file_path=tmp_path / "d.parquet") == [long, short]


@pytest.mark.parametrize("data", [b"", b"x", b"AAAA", b"/////wAAAAA=", b"/////xAAAAAQAAAAAAAKAA4ABgAFAA=="])
def test_an_arrow_schema_that_cannot_be_read_is_none(data: bytes) -> None:
    """A reader goes on without it."""
    assert arrow_fields(data) in (None, ())


# ---- Excel


def workbook(path: Path, *rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


async def test_a_workbook_is_read(tmp_path: Path) -> None:
    """Numbers are numbers, dates ISO 8601, an empty cell is null; empty rows and columns are left out."""
    day = datetime.datetime(2024, 2, 3)
    path = workbook(
        tmp_path / "d.xlsx",
        ["q", "n", "day", None],
        ["x", 1, day],
        [None],
        ["y", 1.5, None],
    )
    assert await read(file_path=path) == [
        {"q": "x", "n": 1, "day": "2024-02-03T00:00:00"},
        {"q": "y", "n": 1.5, "day": None},
    ]


async def test_a_workbook_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A header without a name or with one twice, a value beside the table, and what is no workbook."""
    for rows, said in (
        ([["a", None, "b"], [1, 2, 3]], "row 1: column 2 has no name"),
        ([["a", "a"], [1, 2]], "two columns are called 'a'"),
        ([["a"], [1, 2]], "row 2: a value stands right of the 1 named columns"),
    ):
        with pytest.raises(DatasetError, match=said):
            await read(file_path=workbook(tmp_path / "d.xlsx", *rows))
    assert "not an Excel workbook" in await refused(tmp_path, "d.xlsx", b"PK")


async def test_without_openpyxl_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    """The error names the extra."""
    path = workbook(tmp_path / "d.xlsx", ["a"], [1])
    there = {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "openpyxl"
    }
    sys.modules["openpyxl"] = None  # type: ignore[assignment]
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'promptlab-serverless\[xlsx\]'"):
            await read(file_path=path)
    finally:
        del sys.modules["openpyxl"]
        sys.modules.update(there)


# ---- objects


async def test_a_pandas_frame_is_rows() -> None:
    """Whole numbers keep their digits, what is missing is null, times and durations are text."""
    frame = pandas.DataFrame(
        {
            "n": [9007199254740993, 1],
            "f": [1.5, None],
            "t": pandas.to_datetime(["2024-02-03", None]),
            "d": pandas.to_timedelta(["1.5s", None]),
            "l": [[1], {"a": Decimal("1.50")}],
            "na": pandas.array([None, 2], dtype="Int64"),
        },
        index=[7, 7],
    )
    assert await read(rows=frame) == [
        {"n": 9007199254740993, "f": 1.5, "t": "2024-02-03T00:00:00", "d": "PT1.5S", "l": [1], "na": None},
        {"n": 1, "f": None, "t": None, "d": None, "l": {"a": "1.50"}, "na": 2},
    ]
    with pytest.raises(DatasetError, match="two columns 'a'"):
        await read(rows=pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DatasetError, match="a column's name must be a string"):
        await read(rows=pandas.DataFrame([[1]]))


class Frame:
    """The part of polars' DataFrame that a reader uses."""

    columns = ("q", "n")

    def iter_rows(self, *, named: bool) -> Iterator[dict[str, Any]]:
        assert named
        return iter([{"q": "x", "n": 1}, {"q": "y", "n": None}])


class HuggingFace:
    """The part of a Hugging Face dataset that a reader uses."""

    features = {"q": "string"}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([{"q": "x"}])


async def test_tables_of_other_libraries_are_rows() -> None:
    """They are known by what they can do."""
    assert await read(rows=Frame()) == [{"q": "x", "n": 1}, {"q": "y", "n": None}]
    assert await read(rows=HuggingFace()) == [{"q": "x"}]


async def test_polars_frames_are_rows() -> None:
    """Frames of polars itself, if it is installed."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"q": ["x", None], "d": [datetime.timedelta(seconds=90), None]})
    assert await read(rows=frame) == [{"q": "x", "d": "PT90S"}, {"q": None, "d": None}]
    with pytest.raises(DatasetError, match="Collect it first"):
        Dataset(name="d", rows=frame.lazy())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a text", "rows cannot be a str"),
        (iter([{"q": "x"}]), "An iterator can be read only once"),
        ({"train": [{"q": "x"}]}, "give one of its parts ('train')"),
        (7, "rows cannot be a int"),
    ],
)
def test_what_cannot_be_rows_says_what_can(rows: Any, said: str) -> None:
    """On making the dataset."""
    with pytest.raises(DatasetError) as caught:
        Dataset(name="d", rows=rows)
    assert said in str(caught.value)
    assert "a list of dicts" in str(caught.value).splitlines()[2]


# ---- bounds


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.json.gz", "d.csv.gz"])
async def test_what_unpacks_to_too_much_is_refused_while_it_does(
    tmp_path: Path, name: str, small_budget: int
) -> None:
    """A small file does not fill the disk."""
    row = b'{"a":"%b"}\n' % (b"x" * 100_000) if "json" in name else b"%b\n" % (b"x" * 100_000)
    assert "bytes decode to more than" in await refused(tmp_path, name, gzip.compress(row * 100))


async def test_parquet_that_decodes_to_too_much_is_refused(tmp_path: Path, small_budget: int) -> None:
    """By the rows that it says it has, or while they come."""
    path = tmp_path / "d.parquet"
    for select in (
        "SELECT 1::TINYINT AS n FROM range(3_000_000)",
        "SELECT repeat('x', 10_000) AS t FROM range(1000)",
    ):
        with duckdb.connect() as con:
            con.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 10_000_000)")
        with pytest.raises(DatasetError, match="bytes decode to more than"):
            await read(file_path=path)


@pytest.mark.long
async def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, small_budget: int) -> None:
    """Before it is opened."""
    path = workbook(
        tmp_path / "d.xlsx", ["a"], *[["x" * 30_000] for _ in range(300)], *[[n % 2] for n in range(90_000)]
    )
    with pytest.raises(DatasetError, match="bytes decode to more than"):
        await read(file_path=path)


@pytest.fixture
def small_budget() -> Iterator[int]:
    """A budget of a megabyte, so that tests need not unpack more."""
    from promptlab.assets import sources

    before, sources.DECODED_BYTES = sources.DECODED_BYTES, 1 << 20
    times, sources.DECODED_TIMES = sources.DECODED_TIMES, 1
    yield sources.DECODED_BYTES
    sources.DECODED_BYTES, sources.DECODED_TIMES = before, times


async def test_wide_files_are_refused_in_time(tmp_path: Path) -> None:
    """A header of many columns, a misspelt id among long names, many columns that differ."""
    header = ",".join(f"c{n}" for n in range(500_000))
    assert "500,000 columns; a dataset may have 2,000" in await refused(tmp_path, "d.csv", header)
    long = orjson.dumps({f"{n}" * 20_000: n for n in range(50)})
    assert "no column 'c'" in await refused(tmp_path, "d.jsonl", long, id_column="c")
    rows = b"\n".join(orjson.dumps({f"c{n}_{m}": m for m in range(10)}) for n in range(1_000))
    assert "more than 2,000 columns" in await refused(tmp_path, "d.jsonl", rows)
    with duckdb.connect() as con:
        columns = ", ".join(f"1 AS c{n}" for n in range(2_001))
        con.execute(f"COPY (SELECT {columns}) TO '{tmp_path / 'w.parquet'}' (FORMAT parquet)")
    with pytest.raises(DatasetError, match="2,001 columns"):
        await read(file_path=tmp_path / "w.parquet")


@pytest.mark.skipif(not FIELD.exists(), reason="no examples from the field here")
async def test_files_from_the_field_are_read() -> None:
    """As they were reported."""
    for name in ("d19-blank-rows.csv", "d2-semicolon.csv", "d2-sep-line.csv", "d5-empty-columns.csv"):
        assert await read(file_path=FIELD / name) == WANTED
    with pytest.raises(DatasetError, match="'question' is there twice"):
        await read(file_path=FIELD / "d20-key-twice.jsonl")
