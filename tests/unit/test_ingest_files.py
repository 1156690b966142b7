"""Dataset files: JSONL, CSV and Parquet as people have them, and what is said of broken ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from promptlab.assets.ingest import stage
from promptlab.domain.assets import Dataset, DatasetContent
from promptlab.errors import DatasetError


async def read(path: Path | str) -> tuple[DatasetContent, list[dict[str, Any]]]:
    async with stage(Dataset(name="d", file_path=path)) as result:
        return result.content, [orjson.loads(line) for line in result.rows_path.read_bytes().splitlines()]


async def refused(path: Path | str) -> str:
    with pytest.raises(DatasetError) as caught:
        await read(path)
    return str(caught.value)


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


# ---- any file


async def test_a_missing_file_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is shown as an absolute one."""
    monkeypatch.chdir(tmp_path)
    message = await refused("data/none.jsonl")
    assert "no file 'data/none.jsonl'" in message and f"looked for {tmp_path / 'data/none.jsonl'}" in message


async def test_a_path_may_start_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "d.JSONL", '{"a":1}')
    assert (await read("~/d.JSONL"))[1] == [{"a": 1}]


async def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    """A folder, a kind that is not known, no kind at all, a path through a file."""
    (tmp_path / "x.jsonl").mkdir()
    assert "x.jsonl is a folder" in await refused(tmp_path / "x.jsonl")
    message = await refused(write(tmp_path / "d.xls", "x"))
    assert ".xls files cannot be read; these can: .jsonl, .ndjson, .json, .csv, .tsv, .parquet" in message
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "not a regular file" in await refused(tmp_path / "pipe.jsonl")
    write(tmp_path / "d.json", "[]")
    assert "files without a suffix" in await refused(write(tmp_path / "plain", "x"))
    assert "cannot be read" in await refused(tmp_path / "d.json" / "x.jsonl")
    assert "cannot be read" in await refused("a\0b.jsonl")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
async def test_a_file_without_permission_says_so(tmp_path: Path, name: str) -> None:
    """The file is named, and what to do."""
    write(tmp_path / name, "x").chmod(0)
    assert "permission denied" in await refused(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.jsonl", ""),
        ("d.jsonl", "\n \r\n\n"),
        ("d.jsonl", b"\xef\xbb\xbf"),
        ("d.csv", ""),
        ("d.csv", "a,b\r\n"),
        ("d.csv", "a,b\n\n\n"),
    ],
)
async def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, data: bytes | str) -> None:
    """Empty, only blank lines, only a header."""
    assert f"{name} has no rows" in await refused(write(tmp_path / name, data))


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
async def test_other_encodings_are_refused_with_the_line(tmp_path: Path, name: str) -> None:
    """The byte and its place in the line are named."""
    data = b'{"q":"a"}\n{"q":"\xe9"}\n' if name == "d.jsonl" else b"q\n\xe9\n"
    assert (
        f"{name}, line 2: byte 0xe9 at position {7 if name == 'd.jsonl' else 1} is not UTF-8"
        in await refused(write(tmp_path / name, data))
    )


# ---- JSONL


async def test_jsonl_with_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    """All of it is fine, as is a last line without an end, and separators that are no line ends in JSON."""
    text = '\ufeff{"q":"ü"}\r\n\r\n   \n{"q":"a\u2028b\u0085c"}'
    assert (await read(write(tmp_path / "d.ndjson", text)))[1] == [{"q": "ü"}, {"q": "a\u2028b\u0085c"}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"q": "open', r"line 3, column \d+: not valid JSON .*near '{\"q\": \"open'"),
        ('{"q": 1}{"q": 2}', "line 3, column 9: not valid JSON"),
        ("{'q': 1}", "not valid JSON"),
        ('{"q": 1,}', "not valid JSON"),
        ('{"q": "' + "x" * 500 + '", y}', r"near '…x{20,30}\", y}'"),
        ("[1]", "line 3: this is an array, not an object"),
        ('"x"', "a string"),
        ("1", "a number"),
        ("true", "a boolean"),
        ("null", "null, not"),
        ('{"q": NaN}', "line 3: NaN is not JSON"),
        ('{"q": [-Infinity]}', "line 3: -Infinity is not JSON"),
        ('{"q": 1e999}', "line 3, column .*infinity"),
        ('{"q": "\\ud800"}', "line 3, column .*surrogate"),
        ('{"q": 18446744073709551616}', "line 3: the integer 18446744073709551616 does not fit into 64 bits"),
        ('{"q": {"a": [1, -9223372036854775809]}}', "line 3: the integer -9223372036854775809 does not fit"),
        ('{"q": 1' + "0" * 300 + "}", "line 3: the integer 10+… does not fit"),
        ('{"q": ' + "[" * 250 + "]" * 250 + "}", "line 3: lists and objects are nested more than 200"),
        ('{"q": ' + "[" * 1010 + "]" * 1010 + "}", "line 3: lists and objects are nested more than 200"),
        (
            '{"q": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "line 3: lists and objects are nested more than 200",
        ),
        (
            '{"q": ' + '{"a":' * 100_000 + "NaN" + "}" * 100_000 + "}",
            "line 3: lists and objects are nested more than 200",
        ),
    ],
    ids=lambda text: text[:24],
)
async def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    """Blank lines count, and the message says what is wrong with it."""
    import re

    message = await refused(write(tmp_path / "d.jsonl", f'{{"q":1}}\n\n{line}\n{{"q":2}}\n'))
    assert re.search(said, message), message
    assert len(message) < 500


async def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    """All 64-bit integers, and large numbers with a decimal point or an exponent, are as they were."""
    numbers = [18446744073709551615, -9223372036854775808, 1e20, 1.5e300, 0.1, -0.0]
    _, rows = await read(
        write(tmp_path / "d.jsonl", '{"n":[18446744073709551615,-9223372036854775808,1e20,1.5e300,0.1,-0.0]}')
    )
    assert repr(rows[0]["n"]) == repr(numbers)


async def test_a_pretty_printed_file_is_told_what_a_line_must_be(tmp_path: Path) -> None:
    """The commonest mistake: JSON over several lines."""
    assert "Each line must be one whole JSON object" in await refused(
        write(tmp_path / "d.jsonl", '[\n  {"q": 1}\n]')
    )


# ---- CSV


async def test_csv_quotes_breaks_and_line_ends(tmp_path: Path) -> None:
    """Values stay strings, an empty field is an empty one, and a field may hold anything in quotes."""
    text = '\ufeffid,q,empty\r\n1,"a, ""b""\r\nc",\r\n\r\n007,"",  x \n'
    content, rows = await read(write(tmp_path / "d.csv", text))
    assert rows == [{"id": "1", "q": 'a, "b"\r\nc', "empty": ""}, {"id": "007", "q": "", "empty": "  x "}]
    assert content.id_column == "id" and {c.type for c in content.columns} == {"string"}


async def test_tsv_has_tabs(tmp_path: Path) -> None:
    """A comma is text in it."""
    assert (await read(write(tmp_path / "d.tsv", "a\tb\n1,5\t2\n")))[1] == [{"a": "1,5", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n\n1,2,3\n", "line 4: this row has 3 fields, more than the 2 of the header. Quote"),
        ('a,b\n"x\ny",2\n1\n', "line 4: this row has 1 field, fewer than the 2 of the header"),
        ("a,b,a\n1,2,3\n", "line 1: the header has the column 'a' 2 times"),
        ("a,,b\n1,2,3\n", "line 1: column 2 of the header has no name"),
        ('a,b\n1,2\n"x"y,2\n', "line 3: not valid CSV"),
        ('a,b\n1,2\n1,"open\nmore\n', "line 3: not valid CSV"),
        ("a,b\r1,2\r", "line 1: not valid CSV"),
    ],
)
async def test_a_broken_csv_row_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """The line that the row begins on, breaks inside of quotes counted."""
    assert f"d.csv, {said}" in await refused(write(tmp_path / "d.csv", text))


# ---- Parquet


async def test_parquet_types_become_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decimals are text, binary is base64, times are UTC, lists and structs stay what they are."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    select = """SELECT
        1.10::DECIMAL(10,2) AS "decimal", 12345678901234567890123456789012345678::DECIMAL(38,0) AS wide,
        18446744073709551615::UBIGINT AS u, (-9223372036854775808)::BIGINT AS i,
        0.1::FLOAT AS f32, 1.0::DOUBLE AS f64, TRUE AS b, NULL::INTEGER AS n,
        'é"\n' AS s, '\\xAA\\x01'::BLOB AS bytes, DATE '2026-01-02' AS d,
        TIMESTAMP '2026-01-02 03:04:05.5' AS ts, TIMESTAMPTZ '2026-01-02 03:04:05+02' AS tz,
        TIME '03:04:05' AS t, [1, NULL] AS l, {'a': 1, 'b': ['x']} AS st, MAP {'k': 1} AS m,
        '00000000-0000-0000-0000-000000000001'::UUID AS id, 1 AS r, 2 AS "a ""q"" b" """
    content, rows = await read(parquet(tmp_path / "d.parquet", select))
    assert rows == [
        {
            "decimal": "1.10",
            "wide": "12345678901234567890123456789012345678",
            "u": 18446744073709551615,
            "i": -9223372036854775808,
            "f32": 0.1,
            "f64": 1.0,
            "b": True,
            "n": None,
            "s": 'é"\n',
            "bytes": "qgE=",
            "d": "2026-01-02",
            "ts": "2026-01-02 03:04:05.5",
            "tz": "2026-01-02 01:04:05+00",
            "t": "03:04:05",
            "l": [1, None],
            "st": {"a": 1, "b": ["x"]},
            "m": {"k": 1},
            "id": "00000000-0000-0000-0000-000000000001",
            "r": 1,
            'a "q" b': 2,
        }
    ]
    assert content.id_column == "id"


async def test_parquet_rows_keep_their_order(tmp_path: Path) -> None:
    """Over row groups and batches."""
    content, rows = await read(
        parquet(tmp_path / "d.parquet", "SELECT (i * 7919) % 10007 AS v FROM range(10000) AS t(i)")
    )
    assert [row["v"] for row in rows] == [(i * 7919) % 10007 for i in range(10000)]
    assert content.rows == 10000


async def test_parquet_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    """No wildcards in the name, and no column out of a folder's name."""
    folder = tmp_path / "lang=en"
    folder.mkdir()
    parquet(tmp_path / "plain.parquet", "SELECT 1 AS a").rename(folder / "x[1]*'.parquet")
    assert (await read(folder / "x[1]*'.parquet"))[1] == [{"a": 1}]


async def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    """Not Parquet, empty, cut off, without rows, duplicate ids, and a NaN, whose row is named."""
    good = parquet(tmp_path / "good.parquet", "SELECT 1 AS a").read_bytes()
    for data in (b'{"a":1}\n' * 10, b"", good[: len(good) // 2], b"PAR1" + b"x" * 100 + b"PAR1"):
        assert "d.parquet is not a Parquet file that can be read" in await refused(
            write(tmp_path / "d.parquet", data)
        )
    assert "has no rows" in await refused(parquet(tmp_path / "e.parquet", "SELECT 1 AS a LIMIT 0"))
    assert "'1' (row 1, row 3)" in await refused(
        parquet(tmp_path / "i.parquet", "SELECT i % 2 + 1 AS id FROM range(3) AS t(i)")
    )
    nan = parquet(tmp_path / "n.parquet", "SELECT unnest([1.0, 'nan'::DOUBLE]) AS v")
    assert "n.parquet, row 2: NaN is not JSON" in await refused(nan)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("d.jsonl", ['{"a": 1}', "{", '{"a": 2}', "[1]", '{"a": NaN}']),
        ("d.csv", ["a,b", "1", "1,2", "1,2,3", "4"]),
    ],
)
async def test_every_broken_line_is_named_at_once(tmp_path: Path, name: str, lines: list[str]) -> None:
    """All faults of a file are named at once, in order, a line each."""
    said = (await refused(write(tmp_path / name, "\n".join(lines)))).splitlines()
    assert [line.partition(": ")[0].partition(", ")[2].partition(",")[0] for line in said] == [
        "line 2",
        "line 4",
        "line 5",
    ]


async def test_of_many_broken_lines_ten_are_named(tmp_path: Path) -> None:
    """And that there may be more."""
    said = (await refused(write(tmp_path / "d.jsonl", "nonsense\n" * 1000))).splitlines()
    assert (
        len(said) == 11 and ", line 10," in said[9] and said[10] == "Reading stopped there, after 10 of them."
    )
