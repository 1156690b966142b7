"""Reads the rows of a dataset, one at a time, from a JSONL, CSV or Parquet file or a list of dicts.

What a row may hold is what JSON can: decimals become text, so that no digit is lost; dates and
times become ISO 8601 text, UUIDs text, NumPy values Python's. Blank lines are skipped. A value that
JSON does not have (NaN, an integer beyond 64 bits, bytes in a list of dicts) is an error, never a guess.
In Parquet a binary column becomes base64; times are written as DuckDB does, in UTC.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from promptlab.domain.assets import Dataset
from promptlab.errors import DatasetError

MAX_ROW_BYTES = 10_000_000
"""A row's canonical JSON may have as many bytes."""
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

# A line of JSONL may be longer than its canonical row: six bytes (`\u0041`) can stand for one.
_MAX_LINE_BYTES = 6 * MAX_ROW_BYTES
_MAX_DEPTH = 200  # orjson writes 254 levels
_WIDE = 2.0**63  # orjson reads integers beyond 64 bits as floats, and digits are gone
_BOM = b"\xef\xbb\xbf"
_PARQUET_MEMORY = "1GB"  # DuckDB holds 2,048 rows at once, three times over; 1 MB rows need most of it

Rows = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of a dataset, and how to name one of them."""

    name: str
    """The file as the user gave it, or `rows`."""
    rows: Rows
    """(number, row): the number is what `where` takes."""
    pattern: str
    """How to name a row's place, with `{}` for its number."""

    def where(self, number: int) -> str:
        """A row's place, as in `questions.jsonl, line 7`."""
        return f"{self.name}{self.pattern.format(number)}"


def open_source(dataset: Dataset, scratch: Path) -> Source:
    """The rows of a dataset, to be read once.

    Args:
        dataset: with a `file_path` or with `rows`.
        scratch: an existing folder for temporary files.

    Raises:
        DatasetError: there is no such file, or it is of a kind that cannot be read; while reading, a row is broken.
    """
    if (dataset.file_path is None) == (dataset.rows is None):
        given = "both file_path and rows" if dataset.rows is not None else "neither file_path nor rows"
        raise DatasetError(f"Dataset {dataset.name!r} has {given}: give one of them.")
    if dataset.rows is not None:
        return Source("rows", _dict_rows(dataset.rows), "[{}]")
    name = str(dataset.file_path)
    path, suffix = _regular_file(name)
    if suffix == ".parquet":
        return Source(name, _parquet_rows(path, name, scratch), ", row {}")
    if suffix in (".csv", ".tsv"):
        return Source(name, _csv_rows(path, name, "," if suffix == ".csv" else "\t"), ", line {}")
    return Source(name, _jsonl_rows(path, name), ", line {}")


def _regular_file(name: str) -> tuple[Path, str]:
    path = Path(name).expanduser().absolute()
    with _read_errors(name, path):
        mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise DatasetError(f"{name} is a folder ({path}): file_path names one {', '.join(SUFFIXES)} file.")
    if path.suffix.lower() not in SUFFIXES:
        remedy = " Write one JSON object a line and call it .jsonl." if path.suffix.lower() == ".json" else ""
        raise DatasetError(f"{name}: files of kind {path.suffix or 'without a suffix'!r} cannot be read; these can: {', '.join(SUFFIXES)}.{remedy}")
    return path, path.suffix.lower()


@contextlib.contextmanager
def _read_errors(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file {name!r}: looked for {path}. A relative file_path starts at the working folder.") from error
    except PermissionError as error:
        raise DatasetError(f"{name} cannot be read: permission denied for {path}. Make the file readable for the user who runs this.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name} cannot be read: {error} ({path}).") from error


@contextlib.contextmanager
def _open_utf8(path: Path, name: str) -> Iterator[BinaryIO]:
    """The file behind its byte order mark, if it has one."""
    with _read_errors(name, path):
        opened = path.open("rb", buffering=1 << 20)
    with opened as file:
        head = file.peek(4)[:4]
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in head:
            raise DatasetError(f"{name} is not UTF-8, it looks like UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`).")
        if head.startswith(_BOM):
            file.read(len(_BOM))
        yield file


# ---- JSON lines


def _jsonl_rows(path: Path, name: str) -> Rows:
    with _open_utf8(path, name) as file:
        for number, line in enumerate(iter(partial(file.readline, _MAX_LINE_BYTES), b""), 1):
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise too_big(f"{name}, line {number}", _MAX_LINE_BYTES, at_least=True)
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if line.isspace():
                    continue
                raise _broken(line, error, f"{name}, line {number}") from error
            yield number, _checked(row, line, f"{name}, line {number}")


def _checked(row: Any, text: bytes, where: str) -> dict[str, Any]:
    if type(row) is not dict:
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(row), "a number")
        raise DatasetError(f"{where}: this is {kind}, not an object. Each line must be one whole JSON object, as in {{\"question\": \"…\"}}.")
    if _needs_a_look(row.values(), where) and (wide := _wide_integer(text)):
        raise DatasetError(f"{where}: the integer {_clip(wide)} does not fit into 64 bits, and its last digits would be lost. Write it as a string.")
    return row


def _needs_a_look(values: Iterable[Any], where: str, depth: int = 1) -> bool:
    """Whether a number in here may have been an integer of more than 64 bits."""
    if depth > _MAX_DEPTH:
        raise _too_deep(where)
    for value in values:
        kind = type(value)
        if kind is float:
            if not -_WIDE < value < _WIDE:
                return True
        elif (kind is list and _needs_a_look(value, where, depth + 1)) or (kind is dict and _needs_a_look(value.values(), where, depth + 1)):
            return True
    return False


def _wide_integer(text: bytes) -> str | None:
    """The first integer in a JSON text that does not fit into 64 bits."""
    wide: list[str] = []

    def note(digits: str) -> None:
        # Nobody's limit on the length of an integer is met: only the length is looked at, then 19 or 20 digits.
        if len(digits.lstrip("-")) > 20 or not -(2**63) <= int(digits) < 2**64:
            wide.append(digits)

    json.loads(text, parse_int=note)
    return wide[0] if wide else None


def _broken(line: bytes, error: orjson.JSONDecodeError, where: str) -> DatasetError:
    """Why a line cannot be read, in words that help to mend it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return _not_utf8(line, bad, where)
    constants: list[str] = []
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(text, parse_constant=constants.append)
        if constants:
            return DatasetError(f"{where}: {constants[0]} is not JSON and stands for no value. Write null, or leave the column out.")
    if "depth" in error.msg:
        return _too_deep(where)
    start = max(0, error.pos - 30)
    snippet = ("…" if start else "") + text[start : error.pos + 30].rstrip("\r\n")
    reason = error.msg.partition(": line ")[0]
    return DatasetError(f"{where}, column {error.pos + 1}: not valid JSON ({reason}) near {snippet!r}. Each line must be one whole JSON object.")


def _not_utf8(line: bytes, error: UnicodeDecodeError, where: str) -> DatasetError:
    return DatasetError(f"{where}: byte 0x{line[error.start]:02x} at position {error.start + 1} is not UTF-8. Save the file as UTF-8.")


def too_big(where: str, size: int, *, at_least: bool = False) -> DatasetError:
    """A row over the limit."""
    count = f"{'at least ' if at_least else ''}{size:,}"
    return DatasetError(f"{where}: this row has {count} bytes; a row may have {MAX_ROW_BYTES:,}. Split it, or keep its large text elsewhere.")


def _too_deep(where: str) -> DatasetError:
    return DatasetError(f"{where}: lists and objects are nested more than {_MAX_DEPTH} levels deep. Store the inner part as a string.")


def _clip(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
