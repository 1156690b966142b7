"""Reads rows from CSV files as spreadsheets and programs write them."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from promptlab.assets.json_rows import MAX_ROW_BYTES, clip, not_utf8, too_big
from promptlab.assets.sources import MAX_COLUMNS, Broken, Rows, open_text
from promptlab.errors import DatasetError

DELIMITERS = (",", ";", "\t", "|")
"""The delimiters to try where none is given, the most likely first."""
_LOOKED_AT = 64 << 10
"""How many bytes of a file tell its delimiter."""
_RECORDS = 20
_SEP = re.compile(rb'"?sep=(.)"?\r?\n', re.IGNORECASE)


class _Lines:
    """The lines of a CSV file as text, counted, and no more of them in one record than a row may have."""

    def __init__(self, file: io.BufferedReader, name: str) -> None:
        self.file, self.name = file, name
        self.number = 0
        self.first = 1
        """The line that the record being read began on."""
        self.size = 0
        """Bytes of that record so far."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        if self.size > MAX_ROW_BYTES:
            raise DatasetError(
                f"{too_big(f'{self.name}, line {self.first}', self.size, at_least=True)} "
                "Or is a quote never closed?"
            )
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(line, error, f"{self.name}, line {self.number}") from error

    def next_record(self) -> int:
        """Begin a record, and give the line that the last one began on."""
        first, self.first, self.size = self.first, self.number + 1, 0
        return first


def csv_rows(path: Path, name: str, delimiter: str | None) -> Rows:
    """Read the rows of a CSV file.

    Args:
        path: the file.
        name: the file as the user gave it.
        delimiter: what stands between fields; None: what the file says (`sep=;`) or looks like.
    """
    broken = Broken()
    with _wide_csv_fields, open_text(path, name) as file:
        lines = _Lines(file, name)
        said = _said_delimiter(lines)
        records = csv.reader(lines, delimiter=delimiter or said or _likely_delimiter(file), strict=True)
        header: Sequence[str] | None = None
        try:
            for fields in records:
                line = lines.next_record()
                if not any(fields):  # blank, or a spreadsheet's row of empty cells
                    continue
                if header is None:
                    header = _header(fields, f"{name}, line {line}")
                    continue
                while len(fields) > len(header) and not fields[-1]:
                    fields.pop()
                if len(fields) == len(header):
                    yield line, dict(zip(header, fields, strict=True))
                else:
                    broken.add(DatasetError(_uneven(f"{name}, line {line}", fields, header)))
        except csv.Error as error:
            broken.add(
                DatasetError(
                    f"{name}, line {lines.first}: not valid CSV ({error}). A quote inside quotes is "
                    "doubled, and "
                    "lines end with LF or CRLF."
                )
            )
    broken.check()


def _said_delimiter(lines: _Lines) -> str | None:
    """The delimiter of a first line `sep=;`, as Excel reads and writes it; the line is passed over."""
    found = _SEP.match(lines.file.peek(16)[:16])
    if found is None:
        return None
    next(lines)
    lines.next_record()
    return found[1].decode("latin-1")


def _likely_delimiter(file: io.BufferedReader) -> str:
    """The delimiter that cuts the first records evenly, or at least the header."""
    text = file.peek(_LOOKED_AT)[:_LOOKED_AT].decode("utf-8", "replace")
    whole = len(text) < _LOOKED_AT // 4
    widths = {delimiter: _widths(text, delimiter, whole) for delimiter in DELIMITERS}
    cut = [delimiter for delimiter in DELIMITERS if widths[delimiter][:1] > [1]]
    even = [delimiter for delimiter in cut if len(set(widths[delimiter])) == 1]
    return even[0] if even else max(cut or [","], key=lambda delimiter: widths[delimiter][0:1])


def _widths(text: str, delimiter: str, whole: bool) -> list[int]:
    """How many fields the first records have."""
    widths: list[int] = []
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if any(fields):
                widths.append(len(fields))
            if len(widths) > _RECORDS:
                break
    except csv.Error:
        pass
    return widths if whole or len(widths) < 2 else widths[:-1]  # the last may be cut


def _header(fields: list[str], where: str) -> Sequence[str]:
    while fields and not fields[-1]:  # columns that a spreadsheet once used
        fields.pop()
    if len(fields) > MAX_COLUMNS:
        raise DatasetError(
            f"{where}: the header has {len(fields):,} columns; a dataset may have {MAX_COLUMNS:,}. "
            "Put what varies into one column, as JSON."
        )
    if "" in fields:
        raise DatasetError(
            f"{where}: column {fields.index('') + 1} of the header has no name. Name every column."
        )
    name, times = Counter(fields).most_common(1)[0]
    if times > 1:
        raise DatasetError(
            f"{where}: the header has the column {clip(repr(name))} {times} times. Give each column its "
            "own name."
        )
    return fields


def _uneven(where: str, fields: Sequence[str], header: Sequence[str]) -> str:
    more = len(fields) > len(header)
    remedy = (
        "Quote fields that have the delimiter in them, or name another with delimiter=…"
        if more
        else "Write an empty field where there is no value, and look for a line break without quotes."
    )
    plural = "" if len(fields) == 1 else "s"
    return (
        f"{where}: this row has {len(fields)} field{plural}, {'more' if more else 'fewer'} than the "
        f"{len(header)} of the header. {remedy}"
    )


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
