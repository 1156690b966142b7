"""Reads the rows of a dataset one at a time: from a JSONL, CSV or Parquet file, or a list of dicts.

Blank lines are skipped. The values of a CSV file are strings, an empty field an empty one. In a
Parquet file decimal columns become text, so that no digit is lost, and binary columns base64; times,
and whatever is inside of lists and structs, are as DuckDB writes them in JSON, in UTC.
"""

from __future__ import annotations

import contextlib
import csv
import stat
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from promptlab.assets.json_rows import MAX_ROW_BYTES, clip, not_utf8, parse_row, plain_row, too_big
from promptlab.domain.assets import Dataset
from promptlab.duck import connect, given, parquet, quoted
from promptlab.errors import DatasetError

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""The kinds of file that can be read."""

# A line of JSONL may be longer than its canonical row: six bytes (`\u0041`) can stand for one.
_MAX_LINE_BYTES = 6 * MAX_ROW_BYTES
MOST_BROKEN = 10
"""Rows that one error tells of."""
_BOM = b"\xef\xbb\xbf"
# DuckDB holds a column chunk's page and 2,048 rows as JSON: 300 rows of 1 MB took 0.9 GB, rows of 3 KB 0.3 GB.
_PARQUET_MEMORY = "1GB"

Rows = Generator[tuple[int, dict[str, Any]], None, None]


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of a dataset, and how to name the place of one."""

    name: str
    """The file as the user gave it, or `rows`."""
    pattern: str
    """A row's place in it, with `{}` for its number."""
    rows: Rows
    """(number, row)."""

    def where(self, number: int) -> str:
        """A row's place, as in `questions.jsonl, line 7`."""
        return self.name + self.pattern.format(number)


def open_source(dataset: Dataset, scratch: Path) -> Source:
    """The rows of a dataset, to be read once.

    Args:
        dataset: with a `file_path` or with `rows`.
        scratch: an existing folder for temporary files.

    Raises:
        DatasetError: there is no such file, or it is of a kind that cannot be read; while reading: a row is broken.
    """
    if (dataset.file_path is None) == (dataset.rows is None):
        given = "both file_path and rows" if dataset.rows is not None else "neither file_path nor rows"
        raise DatasetError(f"Dataset {dataset.name!r} has {given}: give one of them.")
    if dataset.rows is not None:
        return Source("rows", "[{}]", _dict_rows(dataset.rows))
    name = str(dataset.file_path)
    path = _regular_file(name)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return Source(name, ", row {}", _parquet_rows(path, name, scratch))
    if suffix in (".csv", ".tsv"):
        return Source(name, ", line {}", _csv_rows(path, name, "," if suffix == ".csv" else "\t"))
    return Source(name, ", line {}", _jsonl_rows(path, name))


def _regular_file(name: str) -> Path:
    path = Path(name).expanduser().absolute()
    with _read_errors(name, path):
        mode = path.stat().st_mode
    kind = path.suffix.lower()
    if stat.S_ISDIR(mode):
        raise DatasetError(f"{name} is a folder ({path}): file_path names one file of {', '.join(SUFFIXES)}.")
    if kind not in SUFFIXES:
        what = f"{kind} files" if kind else "files without a suffix"
        remedy = " Write one JSON object a line and call it .jsonl." if kind == ".json" else ""
        raise DatasetError(f"{name}: {what} cannot be read; these can: {', '.join(SUFFIXES)}.{remedy}")
    return path


@contextlib.contextmanager
def _read_errors(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(
            f"There is no file {name!r}: looked for {path}. A relative file_path starts at the working folder."
        ) from error
    except PermissionError as error:
        raise DatasetError(
            f"{name} cannot be read: permission denied for {path}. Make it readable for the user who runs this."
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name} cannot be read: {error} ({path}).") from error


@contextlib.contextmanager
def _open_utf8(path: Path, name: str) -> Iterator[BufferedReader[FileIO]]:
    """The file behind its byte order mark, if it has one."""
    with _read_errors(name, path):
        opened = BufferedReader(FileIO(path), buffer_size=1 << 20)
    with opened as file:
        head = file.peek(4)[:4]
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in head:
            raise DatasetError(
                f"{name} is not UTF-8 but looks like UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)."
            )
        if head.startswith(_BOM):
            file.read(len(_BOM))
        yield file


class _Broken:
    """The rows of a source that cannot be used, so that one who mends them hears of more than the first."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def add(self, error: DatasetError) -> None:
        """Keep a row's error for the end.

        Raises:
            DatasetError: that makes MOST_BROKEN of them.
        """
        self._said.append(str(error))
        if len(self._said) == MOST_BROKEN:
            self._said.append(f"Reading stopped there, after {MOST_BROKEN} of them.")
            self.check()

    def check(self) -> None:
        """Tell of all of them.

        Raises:
            DatasetError: there are any, a line each.
        """
        if self._said:
            raise DatasetError("\n".join(self._said))


def _jsonl_rows(path: Path, name: str) -> Rows:
    broken = _Broken()
    with _open_utf8(path, name) as file:
        for number, line in enumerate(iter(partial(file.readline, _MAX_LINE_BYTES), b""), 1):
            if line.isspace():
                continue
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise too_big(f"{name}, line {number}", _MAX_LINE_BYTES, at_least=True)
            try:
                row = parse_row(line, name, ", line {}", number)
            except DatasetError as error:
                broken.add(error)
            else:
                yield number, row
    broken.check()


def _dict_rows(rows: Iterable[Any]) -> Rows:
    broken = _Broken()
    for number, row in enumerate(rows):
        try:
            if not isinstance(row, Mapping):
                raise DatasetError(
                    f"rows[{number}] is a {type(row).__name__}, not a dict. Give a list of dicts, as in [{{'question': '…'}}]."
                )
            plain = plain_row(row, f"rows[{number}]")
        except DatasetError as error:
            broken.add(error)
        else:
            yield number, plain
    broken.check()


class _Lines:
    """The lines of a CSV file as text, counted, and no more of them in one record than a row may have."""

    def __init__(self, file: BufferedReader[FileIO], name: str) -> None:
        self.file, self.name = file, name
        self.number = 0
        self.first = 1
        """The line that the record being read began on."""
        self.size = 0
        """Bytes of that record so far."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        if self.size > MAX_ROW_BYTES:
            raise DatasetError(
                f"{too_big(f'{self.name}, line {self.first}', self.size, at_least=True)} Or is a quote never closed?"
            )
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(line, error, f"{self.name}, line {self.number}") from error

    def next_record(self) -> int:
        """Begin a record; the line that the last one began on."""
        first, self.first, self.size = self.first, self.number + 1, 0
        return first


def _csv_rows(path: Path, name: str, delimiter: str) -> Rows:
    broken = _Broken()
    with _wide_csv_fields, _open_utf8(path, name) as file:
        lines = _Lines(file, name)
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        try:
            for fields in records:
                line = lines.next_record()
                if not fields:
                    continue
                if header is None:
                    header = _header(fields, f"{name}, line {line}")
                    continue
                if len(fields) == len(header):
                    yield line, dict(zip(header, fields, strict=True))
                else:
                    broken.add(DatasetError(_uneven(f"{name}, line {line}", fields, header)))
        except csv.Error as error:
            place = f"{name}, line {lines.first}"
            broken.add(
                DatasetError(
                    f"{place}: not valid CSV ({error}). A quote inside quotes is doubled, and lines end with LF or CRLF."
                )
            )
    broken.check()


def _header(fields: list[str], where: str) -> list[str]:
    if "" in fields:
        raise DatasetError(
            f"{where}: column {fields.index('') + 1} of the header has no name. Name every column."
        )
    if twice := list(dict.fromkeys(f for f in fields if fields.count(f) > 1)):
        raise DatasetError(
            f"{where}: the header has the column {clip(repr(twice[0]))} {fields.count(twice[0])} times. Give each column its own name."
        )
    return fields


def _uneven(where: str, fields: list[str], header: list[str]) -> str:
    more = len(fields) > len(header)
    remedy = (
        "Quote fields that have the delimiter in them."
        if more
        else "Write an empty field where there is no value, and look for a line break without quotes."
    )
    plural = "" if len(fields) == 1 else "s"
    return f"{where}: this row has {len(fields)} field{plural}, {'more' if more else 'fewer'} than the {len(header)} of the header. {remedy}"


class _WideCsvFields:
    """Lets CSV fields have 10 MB while a file is read: the csv module has one limit for the process."""

    def __init__(self) -> None:
        self._lock, self._readers, self._before = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._before = csv.field_size_limit()
                csv.field_size_limit(max(self._before, MAX_ROW_BYTES))
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                csv.field_size_limit(self._before)


_wide_csv_fields = _WideCsvFields()


def _parquet_rows(path: Path, name: str, scratch: Path) -> Rows:
    import duckdb

    with _read_errors(name, path):
        path.open("rb").close()  # DuckDB's own message about permissions is long
    source = parquet(given(path, scratch))
    connection = connect(scratch, _PARQUET_MEMORY)
    try:
        columns = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        fields = ", ".join(f"{quoted(column)} := {_expression(column, kind)}" for column, kind, *_ in columns)
        # struct_pack and not a row alias, which a column of the same name would hide.
        connection.execute(f"SELECT to_json(struct_pack({fields})) FROM {source}")
        number = 0
        while batch := connection.fetchmany(8):
            for (text,) in batch:
                number += 1
                yield number, parse_row(text.encode(), name, ", row {}", number)
    except duckdb.OutOfMemoryException as error:
        raise DatasetError(
            f"{name} needs more than {_PARQUET_MEMORY} of memory: write it with smaller row groups and pages, or as .jsonl."
        ) from error
    except duckdb.Error as error:
        raise DatasetError(
            f"{name} is not a Parquet file that can be read: {str(error).splitlines()[0]}"
        ) from error
    finally:
        connection.close()


def _expression(column: str, kind: str) -> str:
    """SQL for a column's JSON value."""
    value = quoted(column)
    if kind.startswith("DECIMAL(") and kind.endswith(")"):  # and no list of them
        return f"CAST({value} AS VARCHAR)"
    if kind == "BLOB":
        return f"base64({value})"
    # As written: 0.1 in 32 bits would become 0.10000000149011612.
    return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)" if kind == "FLOAT" else value
