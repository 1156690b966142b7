"""Reads what the columns of a dataset hold: over all of its rows, with memory that
does not grow with them."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.assets.rows import rows_page
from promptlab.domain.assets import Column, DatasetContent
from promptlab.duck import connect, given, json_lines, quoted
from promptlab.ports import Blobs
from promptlab.scratch import ScratchFolder

if TYPE_CHECKING:
    import duckdb

MOST_COLUMNS = 60
QUICK_BYTES = 1 << 20
"""A dataset of this size is read in some 20 ms: a page may wait for it."""
MOST_BYTES = 400 << 20
"""The most bytes that are read where blobs are not files: a copy is made, and a Lambda function has 512 MB
for it. Of a larger dataset the first rows are read."""
SAMPLE = 500
MOST_COUNTED = 500_000
"""Different values of all columns together that are counted one by one, the columns with the fewest first;
beyond, they are estimated (to some 5%)."""
MEMORY = "96MB"
AT_ONCE = 10
"""Columns whose different values one pass over the rows counts: each takes some 4 MB, however few rows there
are, and 22 columns took all of MEMORY."""
_TYPES = {
    "string": "VARCHAR",
    "integer": "HUGEINT",
    "number": "VARCHAR",  # as it is written: a double would round whole numbers of 17 digits and more
    "boolean": "BOOLEAN",
    "json": "JSON",
}
_NUMBERS = ("integer", "number")
_REMEMBERED = 64
_known: OrderedDict[str, Statistics] = OrderedDict()
_one_at_a_time = asyncio.Semaphore(1)


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """The figures of a column."""

    column: Column
    different: int
    """How many different values."""
    estimated: bool
    """Whether `different` is an estimate, within some 5%."""
    low: Any
    """The lowest number, exactly as the data has it, or the length of the shortest
    text; None without a value."""
    high: Any
    example: Any
    """The first value."""
    missing: int
    """In how many of the rows there is none: null, or not the column at all."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures of all columns, and how many rows they are of."""

    columns: Sequence[ColumnFigures]
    rows: int


def is_quick(content: DatasetContent) -> bool:
    """Whether the page may wait for them."""
    return content.bytes <= QUICK_BYTES or content.blob in _known


async def statistics(
    blobs: Blobs, content: DatasetContent, *, most_counted: int = MOST_COUNTED
) -> Statistics:
    """The statistics of a dataset version, of which the newest are remembered: its rows never change.

    Args:
        blobs: where its rows are.
        content: what the version has.
        most_counted: different values of all columns together that are counted one by one.

    Raises:
        BlobNotFoundError: the dataset's rows are gone.
    """
    async with _one_at_a_time:
        found = _known.pop(content.blob, None) or await _made(blobs, content, most_counted)
        _known[content.blob] = found
        while len(_known) > _REMEMBERED:
            _known.popitem(last=False)
        return found


async def _made(blobs: Blobs, content: DatasetContent, most_counted: int) -> Statistics:
    columns = content.columns[:MOST_COLUMNS]
    first = await rows_page(blobs, content, 0, SAMPLE)
    if content.rows <= len(first) or content.bytes > MOST_BYTES:
        return Statistics([_looked_at(c, first) for c in columns], len(first))
    read = dict[str, ColumnFigures]()
    with ScratchFolder("columns") as folder:
        (path,) = await blobs.files([content.blob], folder)
        for group in _apart(columns):
            found = await asyncio.to_thread(
                _read, path, group, content.largest_row_bytes, folder, most_counted
            )
            for column, (different, estimated, low, high, there) in zip(group, found, strict=True):
                read[column.name] = _figures_of(
                    column, first, different, estimated, low, high, content.rows - there
                )
    return Statistics([read[column.name] for column in columns], content.rows)


def _apart(columns: Sequence[Column]) -> list[list[Column]]:
    """Put columns that differ in case only into groups of their own: DuckDB takes them for the same."""
    groups: list[list[Column]] = []
    seen = Counter[str]()
    for column in columns:
        name = column.name.casefold()
        if seen[name] == len(groups):
            groups.append([])
        groups[seen[name]].append(column)
        seen[name] += 1
    return groups


def _read(
    path: Path, columns: Sequence[Column], largest_row_bytes: int, folder: Path, most_counted: int
) -> list[tuple[int, bool, Any, Any, int]]:
    """Read different values, lowest, highest, and how many rows have a value, of each column. DuckDB reads in
    its own threads, so that pages go on being served."""
    types = {column.name: _TYPES[column.type] for column in columns}
    rows = json_lines([given(path, folder)], types, max(16 << 20, 2 * largest_row_bytes))
    with connect(folder, MEMORY) as connection:
        return _figures(connection, rows, columns, most_counted)


def _figures(
    connection: duckdb.DuckDBPyConnection, rows: str, columns: Sequence[Column], most_counted: int
) -> list[tuple[int, bool, Any, Any, int]]:
    asked = []
    for column in columns:
        asked += _asked(column)
    (found,) = connection.execute(f"SELECT {', '.join(asked)} FROM {rows}").fetchall()
    groups = [found[at : at + 4] for at in range(0, len(found), 4)]
    order = sorted(range(len(columns)), key=lambda n: groups[n][0])
    few = [
        n
        for n, so_far in zip(order, accumulate(groups[n][0] for n in order), strict=True)
        if so_far <= most_counted
    ]
    exact: dict[int, int] = {}
    for begin in range(0, len(few), AT_ONCE):
        some = few[begin : begin + AT_ONCE]
        counts = ", ".join(
            f"count(DISTINCT hash({_value(columns[n])})) FILTER ({_value(columns[n])} IS NOT NULL)"
            for n in some
        )
        (counted,) = connection.execute(f"SELECT {counts} FROM {rows}").fetchall()
        exact |= zip(some, counted, strict=True)
    return [
        (exact.get(n, different), n not in exact, low, high, there)
        for n, (different, low, high, there) in enumerate(groups)
    ]


def _value(column: Column) -> str:
    """A column's value, so that the same number written in two ways is one."""
    name = quoted(column.name)
    return f"TRY_CAST({name} AS DOUBLE)" if column.type == "number" else name


def _asked(column: Column) -> list[str]:
    """Give the SQL of the number of different values, the lowest, the highest and
    the number of all values."""
    name, value = quoted(column.name), _value(column)
    if column.type == "number":
        low, high = f"arg_min({name}, {value})", f"arg_max({name}, {value})"
    else:
        measure = name if column.type == "integer" else f"length(CAST({name} AS VARCHAR))"
        low, high = f"min({measure})", f"max({measure})"
    return [f"approx_count_distinct({value})", low, high, f"count({name})"]


def _figures_of(
    column: Column,
    first: Sequence[Mapping[str, Any]],
    different: int,
    estimated: bool,
    low: Any,
    high: Any,
    missing: int,
) -> ColumnFigures:
    example = next((row[column.name] for row in first if row.get(column.name) is not None), None)
    return ColumnFigures(column, different, estimated, low, high, example, missing)


def _looked_at(column: Column, rows: Sequence[Mapping[str, Any]]) -> ColumnFigures:
    """The same figures, of rows that are at hand."""
    values = [row[column.name] for row in rows if row.get(column.name) is not None]
    texts = [v if isinstance(v, str) else orjson.dumps(v, default=str).decode() for v in values]
    measured = values if column.type in _NUMBERS else [len(text) for text in texts]
    low, high = min(measured, default=None), max(measured, default=None)
    return _figures_of(column, rows, len(set(texts)), False, low, high, len(rows) - len(values))
