"""Checks of a dataset while its rows pass: its columns, and whether its ids are good."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from promptlab.assets.json_rows import clip
from promptlab.assets.sources import Source
from promptlab.domain.assets import Column
from promptlab.errors import DatasetError

ColumnType = Literal["string", "integer", "number", "boolean", "json"]

_TYPES: Mapping[type, ColumnType] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ID_LENGTH = 1_000
_NAMED = 200
"""How many names a misspelt one is compared with."""
_MOST_INTEGER = 2**63 - 1


class SeenColumns:
    """The columns that were seen so far. Rows of one shape after another are counted, not looked at."""

    def __init__(self) -> None:
        self._shape: tuple[Any, ...] | None = None
        self._start = self._width = 0
        self._seen: dict[str, int] = {}
        """Rows that have the column."""
        self._missing: dict[str, int] = {}
        self._nulls: dict[str, int] = {}
        self._kinds: dict[str, set[type]] = {}

    @property
    def count(self) -> int:
        """How many columns there are so far."""
        return len(self._seen)

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Count the next row; its number is 0-based."""
        for name, value in row.items():
            if type(value) is int and value > _MOST_INTEGER:
                self._kinds.setdefault(name, set()).add(
                    dict
                )  # as JSON text its digits stay: no column of whole numbers has room for them
        shape = (*row, *map(type, row.values()))
        if shape != self._shape:
            self._close(number)
            self._shape, self._start, self._width = shape, number, len(row)
            for name in row:
                self._seen.setdefault(name, 0)

    def _close(self, end: int) -> None:
        if self._shape is None:
            return
        for name, kind in zip(self._shape[: self._width], self._shape[self._width :], strict=True):
            seen = self._seen[name]
            if seen != self._start and name not in self._missing:
                self._missing[name] = (
                    seen  # every row up to here had it, so the next one is the first without
                )
            self._seen[name] = seen + end - self._start
            if kind is type(None):
                self._nulls[name] = self._nulls.get(name, 0) + end - self._start
            self._kinds.setdefault(name, set()).add(kind)

    def result(self, rows: int) -> tuple[Column, ...]:
        """The columns, in order of first use, of a dataset of so many rows."""
        self._close(rows)
        return tuple(
            Column(
                name=name,
                type=_type_of(self._kinds[name]),
                rows=seen,
                first_missing=self._missing.get(name, seen) if seen < rows else None,
                nulls=self._nulls.get(name, 0),
            )
            for name, seen in self._seen.items()
        )


def _type_of(kinds: set[type]) -> ColumnType:
    types = {_TYPES.get(kind, "json") for kind in kinds if kind is not type(None)}
    if types == {"integer", "number"}:
        return "number"
    return types.pop() if len(types) == 1 else "json"


class Ids:
    """Holds the ids against each other in SQLite's sorter, on disk: a set of them
    would grow with the rows."""

    def __init__(self, folder: Path, column: str | None, source: Source) -> None:
        self._column, self._given, self._source = column or "id", column is not None, source
        self._batch: list[tuple[str, int]] = []
        self._wrong: str | None = None
        self._alive = True
        self._table = sqlite3.connect(folder / "ids.sqlite", isolation_level=None, check_same_thread=False)
        self._table.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE ids (id TEXT, number "
            "INTEGER); BEGIN"
        )

    def close(self) -> None:
        """Let go of the table."""
        self._table.close()

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take the id of a row, whose number is the source's.

        Raises:
            DatasetError: the row lacks the id_column.
        """
        if not self._alive:
            return
        if self._column not in row:
            if self._given:
                raise DatasetError(self._no_column(number, list(row)))
            self._alive = False
            return
        value = row[self._column]
        if type(value) is int or (type(value) is str and 0 < len(value) <= _ID_LENGTH):
            self._batch.append((str(value), number))
            if len(self._batch) == 1_000:
                self._write()
        elif self._wrong is None:
            self._wrong = (
                f"{self._source.where(number)}: the id in column {self._column!r} is "
                f"{_called(value)}. {self._remedy()}"
            )

    def checked(self) -> str | None:
        """The column that names a row, or None: by their numbers.

        Raises:
            DatasetError: an id is not usable, or is there twice.
        """
        if not self._alive:
            return None
        if self._wrong:
            raise DatasetError(self._wrong)
        self._write()
        (twice,) = self._table.execute(
            "SELECT count(*) FROM (SELECT 1 FROM ids GROUP BY id HAVING count(*) > 1)"
        ).fetchone()
        if twice:
            raise DatasetError(self._duplicates(twice))
        return self._column

    def _write(self) -> None:
        self._table.executemany("INSERT INTO ids VALUES (?, ?)", self._batch)
        self._batch = []

    def _duplicates(self, twice: int) -> str:
        query = "SELECT id, count(*) FROM ids GROUP BY id HAVING count(*) > 1 ORDER BY min(number) LIMIT 3"
        named = []
        for text, times in self._table.execute(query).fetchall():
            places = self._table.execute(
                "SELECT number FROM ids WHERE id = ? ORDER BY number LIMIT 4", (text,)
            ).fetchall()
            listed = ", ".join(self._source.pattern.format(n).removeprefix(", ") for (n,) in places)
            named.append(f"{clip(text)!r} ({listed}{f' and {times - 4:,} more' if times > 4 else ''})")
        more = f" and {twice - 3:,} more ids" if twice > 3 else ""
        return (
            f"{self._source.name}: duplicate ids in column {self._column!r}: {', '.join(named)}{more}. "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        other = (
            ""
            if self._given
            else " Name another column with id_column=…, or call this one something else to have rows "
            "named by their numbers."
        )
        return (
            f"Ids are strings or integers, each there once and at most {_ID_LENGTH:,} characters long.{other}"
        )

    def _no_column(self, number: int, names: Sequence[str]) -> str:
        column, short = clip(self._column), [clip(name) for name in names[:_NAMED]]
        near = difflib.get_close_matches(column, short, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        has = ", ".join(map(repr, short[:20])) or "no columns"
        return (
            f"{self._source.where(number)}: no column {column!r}, which is the id_column; this row has "
            f"{has}.{hint}"
        )


def _called(value: Any) -> str:
    if type(value) is str:
        return "empty" if not value else f"{len(value):,} characters long"
    return {
        type(None): "null",
        bool: "a boolean",
        float: "a number with a decimal point",
        list: "a list",
        dict: "an object",
    }[type(value)]
