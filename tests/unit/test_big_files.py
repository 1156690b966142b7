"""Files and rows as nasty as somebody may give: each is read, or refused in few words, in linear time, and
the event loop goes on meanwhile.

Every kind of input is read at two sizes; what is measured is processor time.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pandas
import pytest

from promptlab.assets.ingest import stage
from promptlab.assets.readers import SUFFIXES, TEXT_SUFFIXES, kind_of_file
from promptlab.domain.assets import Dataset
from promptlab.errors import ConfigError, DatasetError
from promptlab.experiments.file import load_experiment
from tests.work import held_to_its_growth

pytestmark = pytest.mark.timeout(120)

SIZE = 30_000
FEW_WORDS = 20_000
"""Characters that an error may have."""
WIDE = 2_000


async def is_read_or_refused(dataset: Dataset) -> None:
    said = ""
    try:
        async with stage(dataset):
            pass
    except DatasetError as error:
        said = str(error)
    assert len(said) < FEW_WORDS


async def in_linear_time(dataset: Callable[[int], Dataset], size: int = SIZE) -> None:
    """Read an input, and one of twice the size."""
    small, large = dataset(size), dataset(2 * size)
    await held_to_its_growth(lambda: is_read_or_refused(small), lambda: is_read_or_refused(large))


# ---- CSV

Make = Callable[[int, bytes], bytes]
"""A file from a size and a delimiter."""
CSV: dict[str, Make] = {
    "rows": lambda n, s: b"a\n" + b"1\n" * n,
    "empty columns": lambda n, s: 2 * (s * (10 * n) + b"\n"),
    "many columns": lambda n, s: s.join(b"c%d" % i for i in range(n)) + b"\n",
    "rows of empty cells": lambda n, s: b"a\n" + (s * n + b"\n") * 5 + b"1\n",
    "rows with empty cells behind": lambda n, s: b"a\n" + (b"1" + s * (n // 10) + b"\n") * 50,
    "a long line": lambda n, s: b"a\n" + b"x" * (250 * n) + b"\n",
    "unclosed quotes": lambda n, s: b"a%bb\n" % s + b'"x%b\n' % s * n,
    "quotes": lambda n, s: b"a\n" + b'"' * n + b"\n",
    "doubled quotes": lambda n, s: b'a\n"' + b'""' * n + b'"\n',
    "blank lines": lambda n, s: b"\n" * n + b"a\n" + b"\n" * n + b"1\n",
    "a long name": lambda n, s: b"n" * (10 * n) + b"\n1\n",
    "a long name twice": lambda n, s: b"n" * (10 * n) + s + b"n" * (10 * n) + b"\n1\n",
    "names that differ in case": lambda n, s: (
        2 * (s.join(b"%b%d" % (b"aA"[i % 2 : i % 2 + 1], i // 2) for i in range(WIDE)) + b"\n")
    ),
    "names of no width": lambda n, s: 2 * (s.join("\u200b".encode() * i for i in range(1, 500)) + b"\n"),
    "zero bytes": lambda n, s: b"a\n" + b"\0" * n + b"\n",
    "carriage returns": lambda n, s: b"a\n" + b"1\r" * n,
    "short rows": lambda n, s: b"a%bb\n" % s + b"1\n" * n,
    "short rows of many columns": lambda n, s: s.join(b"c%d" % i for i in range(WIDE)) + b"\n" + b"1\n" * n,
    "no UTF-8": lambda n, s: b"a\n" + b"\xff" * n + b"\n",
    "UTF-16": lambda n, s: ("a\n" + "é\n" * n).encode("utf-16"),
    "UTF-16 in one line": lambda n, s: ("a\n" + "é" * 10 * n).encode("utf-16"),
    "ids": lambda n, s: b"id\n" + b"".join(b"%d\n" % i for i in range(n)),
    "ids twice": lambda n, s: b"id%bx\n" % s + b"".join(b"%d%b1\n" % (i // 2, s) for i in range(n)),
    "one id": lambda n, s: b"id%bx\n" % s + b"1%b1\n" % s * n,
    "delimiters said": lambda n, s: b"sep=;\n" * n + b"a\n1\n",
    "other line breaks": lambda n, s: ("a\n" + "\u2028\x0c\x85" * n).encode() + b"\n",
}


@pytest.mark.parametrize("name", CSV)
@pytest.mark.parametrize(
    "end",
    ["csv", *(pytest.param(end, marks=pytest.mark.long) for end in ("semicolons.csv", "tsv", "csv.gz"))],
)
async def test_csv_is_read_in_linear_time(tmp_path: Path, end: str, name: str) -> None:
    """Commas, semicolons, tabs, and packed."""
    delimiter = {"semicolons.csv": b";", "tsv": b"\t"}.get(end, b",")

    def dataset(size: int) -> Dataset:
        path = tmp_path / f"{size}.{end}"
        data = CSV[name](size, delimiter)
        path.write_bytes(gzip.compress(data, 1) if end.endswith(".gz") else data)
        return Dataset(name="d", file_path=str(path))

    await in_linear_time(dataset)


# ---- JSON

JSON: dict[str, Callable[[int], list[bytes]]] = {
    "rows": lambda n: [b'{"a":1}'] * n,
    "a long text": lambda n: [b'{"a":"%b"}' % (b"x" * (250 * n))],
    "a long text of escapes": lambda n: [b'{"a":"%b"}' % (b"\\u0041" * (25 * n))],
    "a long text that is cut off": lambda n: [b'{"a":"' + b"\\u0041" * (25 * n)],
    "many keys": lambda n: [b"{%b}" % b",".join(b'"k%d":1' % i for i in range(5 * n))],
    "equal keys": lambda n: [b"{%b}" % b",".join([b'"k":1'] * (5 * n))],
    "one key twice among many": lambda n: [
        b"{%b}" % b",".join(b'"k%d":1' % (i % (4 * n - 1)) for i in range(4 * n))
    ],
    "keys twice in many objects": lambda n: [b'{"a":[%b]}' % b",".join([b'{"k":1,"k":2}'] * n)],
    "deep objects": lambda n: [b'{"a":' * n + b"1" + b"}" * n],
    "deep lists": lambda n: [b'{"a":%b%b}' % (b"[" * n, b"]" * n)],
    "open brackets": lambda n: [b"[" * n],
    "open objects": lambda n: [b'{"a":' * n],
    "many lists": lambda n: [b'{"a":[%b1]}' % (b"[]," * (15 * n))],
    "a huge integer": lambda n: [b'{"a":1%b}' % (b"0" * n)],
    "wide integers": lambda n: [b'{"a":1%b}' % (b"0" * 30)] * n,
    "wide integers among floats": lambda n: [b'{"a":[%b1%b]}' % (b"1e300," * n, b"0" * 30)],
    "a long fraction": lambda n: [b'{"a":0.%b}' % (b"1" * n)],
    "huge exponents": lambda n: [b'{"a":[%b1]}' % (b"1e999999999," * n)],
    "tiny exponents": lambda n: [b'{"a":[%b1]}' % (b"1e-999999999," * n)],
    "colons beside a large float": lambda n: [b'{"a":1e300,"b":"%b"}' % (b":" * (10 * n))],
    "backslashes": lambda n: [b'{"a":"%b"}' % (b"\\\\" * n)],
    "quotes": lambda n: [b'"' * n],
    "escaped quotes that are cut off": lambda n: [b'{"a":"' + b'\\"' * n],
    "spaces behind texts": lambda n: [b'{"b":1e300,"a":["x"%b]}' % (b" " * (10 * n))],
    "blank": lambda n: [b" " * (50 * n)],
    "a long name": lambda n: [b'{"%b":1}' % (b"n" * (10 * n))],
    "a long name twice": lambda n: [b'{"%b":1,"%b":1}' % (b"n" * (10 * n), b"n" * (10 * n))],
    "ever new shapes": lambda n: [b'{"k%d":1}' % (i % WIDE) for i in range(n)],
    "ever new types": lambda n: [
        b"{%b}" % b",".join(b'"k%d":%b' % (i, (b"1", b"true")[row % 2]) for i in range(WIDE))
        for row in range(n // 2_500)
    ],
    "names that differ in case": lambda n: [
        b"{%b}" % b",".join(b'"%b%d":1' % ((b"a", b"A")[i % 2], i // 2) for i in range(WIDE))
    ],
    "zero bytes": lambda n: [b"\0" * n],
    "escaped zero bytes": lambda n: [b'{"a":"%b"}' % (b"\\u0000" * n)],
    "halves of surrogate pairs": lambda n: [b'{"a":"%b"}' % (b"\\ud800" * n)],
    "no numbers": lambda n: [b'{"a":[%b1]}' % (b"NaN," * n)],
    "rows without numbers": lambda n: [b'{"a":NaN}'] * n,
    "no UTF-8": lambda n: [b'{"a":"%b"}' % (b"\xff" * n)],
    "no JSON": lambda n: [b"x"] * n,
    "spaces between": lambda n: [b'{"a":1}', b" " * (50 * n), b'{"a":1}'],
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize(
    "end", ["jsonl", *(pytest.param(end, marks=pytest.mark.long) for end in ("ndjson.gz", "json", "json.gz"))]
)
async def test_json_is_read_in_linear_time(tmp_path: Path, end: str, name: str) -> None:
    """An object a line, one array of objects, and packed."""

    def dataset(size: int) -> Dataset:
        path, items = tmp_path / f"{size}.{end}", JSON[name](size)
        data = b"[%b]" % b",".join(items) if end.startswith("json.") or end == "json" else b"\n".join(items)
        path.write_bytes(gzip.compress(data, 1) if end.endswith(".gz") else data)
        return Dataset(name="d", file_path=str(path))

    await in_linear_time(dataset)


# ---- Parquet


def nested(depth: int, kind: str) -> str:
    return reduce(
        lambda inner, _: f"[{inner}]" if kind == "list" else f"{{'a': {inner}}}", range(depth), "1.5"
    )


LONG_NAME = "c" * 1_000
PARQUET: dict[str, Callable[[int], str]] = {
    "rows": lambda n: f"SELECT 1 AS a FROM range({n})",
    "rows of one byte": lambda n: f"SELECT 1::TINYINT AS a FROM range({2 * n})",
    "rows by a dictionary": lambda n: f"SELECT repeat('x', 1000) AS a FROM range({5 * n})",
    "many columns": lambda n: f"SELECT {', '.join(f'{i} AS c{i}' for i in range(n // 20))}",
    "columns and rows": lambda n: (
        f"SELECT {', '.join(f'{i} AS c{i}' for i in range(1_999))} FROM range({n // 1_000})"
    ),
    "long names": lambda n: f"SELECT {', '.join(f'{i} AS {LONG_NAME}{i}' for i in range(n // 50))}",
    "a long name": lambda n: f'SELECT 1 AS "{"c" * 100 * n}"',
    "deep lists": lambda n: f"SELECT {nested(n // 1_000, 'list')} AS a",
    "deep structs": lambda n: f"SELECT {nested(n // 500, 'struct')} AS a",
    "a wide struct": lambda n: (
        "SELECT {" + ", ".join(f"'c{i}': 1.5::DECIMAL(9,2)" for i in range(n // 40)) + "} AS a"
    ),
    "a long text": lambda n: f"SELECT repeat('x', {100 * n}) AS a",
    "a long blob": lambda n: f"SELECT repeat('x', {50 * n})::BLOB AS a",
    "a long list": lambda n: f"SELECT [x::DECIMAL(9,2) FOR x IN range({5 * n})] AS a",
    "a large map": lambda n: f"SELECT map(range({n}), range({n})) AS a",
}


@pytest.mark.parametrize("name", PARQUET)
@pytest.mark.long
async def test_parquet_is_read_in_linear_time(tmp_path: Path, name: str) -> None:
    """Lists of thirty levels took DuckDB minutes."""

    def dataset(size: int) -> Dataset:
        path = tmp_path / f"{size}.parquet"
        with duckdb.connect() as con:
            con.execute(f"COPY ({PARQUET[name](size)}) TO '{path}' (FORMAT parquet)")
        return Dataset(name="d", file_path=str(path))

    await in_linear_time(dataset)


async def test_lists_in_lists_of_parquet_have_a_bound(tmp_path: Path) -> None:
    """It is said with the column, and what is below is read."""
    path = tmp_path / "d.parquet"
    for depth in (12, 13):
        with duckdb.connect() as con:
            con.execute(f"COPY (SELECT 1 AS b, {nested(depth, 'list')} AS a) TO '{path}' (FORMAT parquet)")
        if depth == 12:
            async with stage(Dataset(name="d", file_path=str(path))) as staged:
                assert staged.rows_path.read_text() == f'{{"b":1,"a":{"[" * 12}"1.5"{"]" * 12}}}\n'
    with pytest.raises(DatasetError, match="column 'a': lists are nested more than 12 levels deep"):
        await stage(Dataset(name="d", file_path=str(path))).__aenter__()


# ---- Excel

CELL = b'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'


def sheet(path: Path, xml: bytes) -> None:
    """A workbook whose sheet is what somebody wrote by hand."""
    plain = path.with_suffix(".plain.xlsx")
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "xl/worksheets/sheet1.xml":
                start = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
                data = start + xml + b"</sheetData></worksheet>"
            new.writestr(item.filename, data)


XLSX: dict[str, Callable[[int], bytes]] = {
    "rows": lambda n: (
        CELL + b"".join(b'<row r="%d"><c r="A%d"><v>1</v></c></row>' % (i, i) for i in range(2, n // 10))
    ),
    "a row far below": lambda n: CELL + b'<row r="%d"><c r="A%d"><v>1</v></c></row>' % (10 * n, 10 * n),
    "a column far right": lambda n: b'<row r="1"><c r="A1"><v>1</v></c><c r="ZZZ1"><v>1</v></c></row>',
    "rows with a column far right": lambda n: (
        CELL + b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (i, i) for i in range(2, n // 1_000))
    ),
    "a huge integer": lambda n: CELL + b'<row r="2"><c r="A2"><v>1%b</v></c></row>' % (b"0" * (10 * n)),
    "a huge exponent": lambda n: CELL + b'<row r="2"><c r="A2"><v>1e999999999</v></c></row>',
    "a long date": lambda n: CELL + b'<row r="2"><c r="A2" t="d"><v>%b</v></c></row>' % (b"9" * n),
    "entities": lambda n: (
        CELL + b'<row r="2"><c r="A2" t="inlineStr"><is><t>%b</t></is></c></row>' % (b"&#65;" * n)
    ),
    "cells in cells": lambda n: b'<row r="1">%b%b</row>' % (b'<c r="A1">' * (n // 4), b"</c>" * (n // 4)),
    "a text of many parts": lambda n: (
        b'<row r="1"><c r="A1" t="inlineStr"><is>%b</is></c></row>' % (b"<r><t>a</t></r>" * (n // 4))
    ),
    "a long name": lambda n: (
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>%b</t></is></c></row>' % (b"n" * (10 * n))
    ),
}


@pytest.mark.parametrize("name", XLSX)
async def test_workbooks_are_read_in_linear_time(tmp_path: Path, name: str) -> None:
    """Whatever their XML says of rows and columns."""

    def dataset(size: int) -> Dataset:
        path = tmp_path / f"{size}.xlsx"
        sheet(path, XLSX[name](size))
        return Dataset(name="d", file_path=str(path))

    await in_linear_time(dataset)


# ---- rows that are given

ROWS: dict[str, Callable[[int], Any]] = {
    "rows": lambda n: [{"a": 1}] * n,
    "no rows": lambda n: [1] * n,
    "a huge integer": lambda n: [{"a": 10**n}],
    "a huge integer as a name": lambda n: [{10**n: 1}],
    "decimals": lambda n: [{"a": Decimal("1e999999999"), "b": Decimal("1" * n)}],
    "deep lists": lambda n: [{"a": reduce(lambda inner, _: [inner], range(n), 1)}],
    "many lists": lambda n: [{"a": [[]] * (5 * n)}],
    "lists that hold each other": lambda n: [
        {"a": reduce(lambda inner, _: [inner] * 10, range(n.bit_length() * 2), 1)}
    ],
    "many keys": lambda n: [{f"k{i}": 1 for i in range(n)}],
    "a long name": lambda n: [{"k" * 10 * n: 1}],
    "a long name that is no text": lambda n: [{("x" * n,) * 5: 1}],
    "names of no width": lambda n: [{"\u200b" * i: 1 for i in range(1, 500)}] * (n // 5_000),
    "half of a surrogate pair": lambda n: [{"a": "x" * n + "\ud800"}],
    "a long text": lambda n: [{"a": "x" * 100 * n}],
    "no numbers": lambda n: [{"a": float("nan")}] * n,
    "a frame": lambda n: pandas.DataFrame({"a": range(n)}),
    "a wide frame": lambda n: pandas.DataFrame([range(n)], columns=[f"c{i}" for i in range(n)]),
    "a frame with a column twice": lambda n: pandas.DataFrame(
        [range(n)], columns=[f"c{i % (n - 1)}" for i in range(n)]
    ),
    "a frame with many columns": lambda n: pandas.DataFrame(
        [range(WIDE)] * (n // 5_000), columns=[f"c{i}" for i in range(WIDE)]
    ),
}


@pytest.mark.parametrize("name", ROWS)
async def test_rows_are_read_in_linear_time(name: str) -> None:
    """Objects of Python, and frames."""
    await in_linear_time(lambda size: Dataset(name="d", rows=ROWS[name](size)))


def test_every_kind_of_file_is_in_a_table() -> None:
    """A reader that is added is added here."""
    tried = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx"}
    assert tried == set(SUFFIXES)
    assert all(kind_of_file(f"d{suffix}.gz") == suffix for suffix in TEXT_SUFFIXES)


# ---- YAML

HEAD = "name: e\nmodel: simulated/demo\nprompt_template: {name: p, user_prompt: <q>}\n"
ROWS_HEAD = f"{HEAD}dataset:\n  name: d\n  rows:\n"


def aliases(count: int) -> Iterator[str]:
    """Lists of ten, each of ten times the one before."""
    yield "    - {v: &a0 [x, x, x, x, x, x, x, x, x, x]}\n"
    for number in range(1, count):
        yield f"    - {{v: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]}}\n"


YAML: dict[str, tuple[str, str]] = {
    "aliases of aliases": (ROWS_HEAD + "".join(aliases(12)), "line 12: with its aliases written out"),
    "aliases in parameters": (
        f"{ROWS_HEAD}{''.join(aliases(12))}evaluation:\n  - metric: length\n    params: {{max: *a11}}\n",
        "line 12: with its aliases written out",
    ),
    "merges of merges": (
        f"{ROWS_HEAD}    - &m0 {{k: 1}}\n"
        + "".join(f"    - &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 12)),
        "with its aliases written out",
    ),
    "an alias within itself": (f"{ROWS_HEAD}    - &x {{v: [*x, *x]}}\n", "line 7: an alias stands within"),
    "deep lists": (f"{HEAD}dataset: {'[' * 5_000}{']' * 5_000}", "nested too deep"),
    "lists of some depth": (f"{HEAD}dataset: {'[' * 210}{']' * 210}", "nested more than 200 levels"),
    "a huge integer": (
        f"{HEAD}trials: {'9' * 100_000}\n",
        "line 4, column 9: not valid YAML: a number of 100,000",
    ),
    "a huge exponent": (f"{HEAD}trials: 1e999999999\n", "trials"),
    "no integer": (
        f"{HEAD}trials: !!int abc\n",
        "line 4, column 9: not valid YAML: 'abc' is no whole number",
    ),
    "open variables": (f"{HEAD}tags: ['{'${A:-' * 50_000}']\n", "tags"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_refused_in_few_words(tmp_path: Path, name: str) -> None:
    """Twelve lines of aliases are a million million values."""
    text, said = YAML[name]
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert said in str(caught.value) and len(str(caught.value)) < FEW_WORDS


def test_aliases_that_people_write_are_read(tmp_path: Path) -> None:
    """Beside more values than aliases may stand for, where the values are there."""
    path = tmp_path / "e.yaml"
    path.write_text(
        f"{ROWS_HEAD}    - &row {{q: 0x1F, n: !!int 0x1F, z: 012}}\n    - *row\n    - {{<<: *row, z: 1}}\n"
    )
    rows = load_experiment(path).config.dataset.rows  # type: ignore[union-attr]
    first = {"q": "0x1F", "n": 31, "z": "012"}
    assert rows == [first, first, {**first, "z": 1}]
