"""Reads rows from files of JSON: an object a line, or one array of objects."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from promptlab.assets.json_rows import MAX_ROW_BYTES, clip, parse_row, too_big
from promptlab.assets.sources import BUFFER, Broken, Rows, Source, open_text
from promptlab.errors import DatasetError

# A line may be longer than its canonical row: `\u0627` is six bytes for two. Twice as much was parsed in 2 s,
# with the interpreter held.
MAX_LINE_BYTES = 3 * MAX_ROW_BYTES
# Possessive: a text that is cut off by the end of the buffer is looked at once, and not again from its end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)


def json_lines_rows(path: Path, name: str) -> Rows:
    """Read an object a line; blank lines are skipped."""
    broken = Broken()
    with open_text(path, name) as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), 1):
            if line.isspace():
                continue
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise too_big(f"{name}, line {number}", MAX_LINE_BYTES, at_least=True)
            try:
                row = parse_row(line, name, ", line {}", number)
            except DatasetError as error:
                broken.add(error)
            else:
                yield number, row
    broken.check()


def json_source(path: Path, name: str) -> Source:
    """The rows of a `.json` file: one array of objects, or JSON lines under that name.

    Raises:
        DatasetError: it cannot be opened.
    """
    with open_text(path, name) as file:
        start = file.peek(BUFFER)[:BUFFER].lstrip()[:1]
    if start == b"[":
        return Source(name, ", row {}", _array_rows(path, name))
    return Source(name, ", line {}", json_lines_rows(path, name))


def _array_rows(path: Path, name: str) -> Rows:
    broken, number = Broken(), 0
    with open_text(path, name) as file:
        for text in _items(file, name):
            number += 1
            try:
                row = parse_row(text, name, ", row {}", number)
            except DatasetError as error:
                broken.add(error)
            else:
                yield number, row
    broken.check()


def _items(file: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The objects and arrays of an array, as text, with memory for the longest of them."""
    data, number, depth = b"", 0, 0
    at = begin = 0  # what is looked at next, and what is not used yet
    while True:
        for token in _TOKEN.finditer(data, at):
            what = token[0]
            if what == b'"':
                break  # a text that is not here whole
            at = token.end()
            if what[0] == 0x22:
                continue
            depth += 1 if what in b"{[" else -1
            if depth == 2 and what in b"{[":
                _check_between(data[begin : token.start()], name, number)
                begin = token.start()
            elif depth == 1 and what in b"}]":
                number += 1
                yield data[begin:at]
                begin = at
            elif depth == 1:
                _check_between(data[begin : token.start()], name, -1)
                begin = at
            elif depth == 0:
                _check_end(data[begin:], file.read(BUFFER), name, number)
                return
        data, at, begin = data[begin:], at - begin, 0
        if len(data) > MAX_LINE_BYTES:
            raise too_big(f"{name}, row {number + 1}", len(data), at_least=True)
        # Twice as much each time, so that a long text is not looked through for every piece of it.
        more = file.read(max(BUFFER, len(data)))
        if not more:
            raise DatasetError(f"{name}, row {number + 1}: the file ends inside of its array. Is it cut off?")
        data += more


def _check_between(text: bytes, name: str, number: int) -> None:
    """Only a comma stands between two objects, and nothing before the first."""
    if text.strip() != (b"," if number > 0 else b""):
        where = f"{name}, row {number + 1}" if number >= 0 else name
        raise DatasetError(
            f"{where}: {clip(repr(text.strip().decode('utf-8', 'replace')))} stands where an object should. "
            "A .json file is one array of objects, as in [{…}, {…}]."
        )


def _check_end(text: bytes, more: bytes, name: str, number: int) -> None:
    inside, _, after = text.rpartition(b"]")
    if inside.strip() or after.strip() or more.strip():
        left = clip(repr((inside.strip() or after.strip() or more.strip()).decode("utf-8", "replace")))
        raise DatasetError(f"{name}, after row {number}: {left} does not belong there. Remove it.")
