"""sql_result: the response's SQL gives the rows of the reference's, in a database that only the case has."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.extraction import without_reasoning
from promptlab.evaluators.structure import fenced_blocks
from promptlab.evaluators.text import STRICT, quote, references_of, response_of, short, text_of

MAX_ROWS = 10_000
MAX_SQL = 1_000_000
MAX_VALUE_BYTES = 1_000_000
MAX_BYTES = 10 << 20
"""Bytes of the values that a statement may give."""
_PAGES = 64 * 2**20 // 4096
"""Pages of 4 KB that a database may have."""
_STEPS = 10_000
"""SQLite's instructions between two looks at the clock: less than a millisecond."""
_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_NOT_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class SqlResult(Evaluator):
    """The SQL of the response gives the same rows as the reference's, in an SQLite database of its own."""

    inputs = {"response": "$inference", "reference": None, "database": None}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    database: str | None = Field(
        None,
        max_length=MAX_SQL,
        description="The SQL that makes the database (CREATE TABLE, INSERT), in place of the input.",
    )
    order: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether the order of rows counts; auto where the reference has an ORDER BY."
    )
    tolerance: float = Field(
        1e-9, ge=0, description="How far apart two numbers may be, as a share of the larger."
    )
    timeout_s: float = Field(
        5.0, gt=0, le=60, description="Seconds that one statement may take; beyond, the response fails."
    )

    def __post_init__(self) -> None:
        if self.database is not None:
            object.__setattr__(self, "inputs", {"response": "$inference", "reference": None})
            with self._opened(self.database):  # SQL that makes no database is an error now
                pass

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: 1 if the rows are the same, with as many columns in the same order; names of
        columns do not count."""
        sql, references = _sql(response_of(data)), references_of(data)
        script = self.database if self.database is not None else text_of(data.get("database"), "database")
        with self._opened(script) as connection:
            wanted = [self._wanted(connection, reference) for reference in references]
            try:
                got = self._rows(connection, sql)
            except (sqlite3.Error, _TooMuchError) as error:
                return Score(passed=False, judged=sql, reason=short(f"it gives no rows: {error}"))
        for reference, found in zip(references, wanted, strict=True):
            if got.columns == found.columns and self._same(got.rows, found.rows, self._ordered(reference)):
                return Score(passed=True, judged=sql)
        return Score(passed=False, judged=sql, reason=_difference(got, wanted[0]))

    def _wanted(self, connection: sqlite3.Connection, reference: str) -> _Found:
        try:
            return self._rows(connection, reference)
        except (sqlite3.Error, _TooMuchError) as error:
            raise ValueError(f"the reference {quote(reference)} gives no rows: {error}") from None

    def _ordered(self, reference: str) -> bool:
        written = "order by" in " ".join(reference.lower().split())
        return self.order == "always" or (self.order == "auto" and written)

    @contextmanager
    def _opened(self, script: str) -> Iterator[sqlite3.Connection]:
        """Make a database of a script, in memory; from then on it can only be read.

        Raises:
            ValueError: the script cannot be run.
        """
        if len(script) > MAX_SQL:
            raise ValueError(f"database has {len(script):,} characters; at most {MAX_SQL:,} are run")
        with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            # Sorting and joining spill to a file that SQLite removes at once, and not into memory.
            connection.executescript(
                f"PRAGMA max_page_count={_PAGES}; PRAGMA temp_store=FILE; PRAGMA cache_size=-16000"
            )
            connection.set_authorizer(_allow_making)
            self._bound(connection)
            try:
                connection.executescript(script)
            except sqlite3.Error as error:
                raise ValueError(f"the SQL of database cannot be run: {error}") from None
            connection.set_authorizer(_allow_reading)
            yield connection

    def _bound(self, connection: sqlite3.Connection) -> None:
        until = monotonic() + self.timeout_s
        connection.set_progress_handler(lambda: monotonic() > until, _STEPS)

    def _rows(self, connection: sqlite3.Connection, sql: str) -> _Found:
        self._bound(connection)
        try:
            return _fetched(connection.execute(sql))
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise _TooMuchError(f"it took more than timeout_s {self.timeout_s:g}") from None
            raise
        except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
            raise _TooMuchError(str(error)) from None

    def _same(self, got: Sequence[Any], wanted: Sequence[Any], ordered: bool) -> bool:
        if len(got) != len(wanted):
            return False
        if not ordered:
            if Counter(map(_rounded, got)) == Counter(map(_rounded, wanted)):
                return True
            got, wanted = sorted(got, key=_sortable), sorted(wanted, key=_sortable)
        return all(
            len(a) == len(b) and all(self._equal(x, y) for x, y in zip(a, b, strict=True))
            for a, b in zip(got, wanted, strict=True)
        )

    def _equal(self, a: Any, b: Any) -> bool:
        if isinstance(a, int | float) and isinstance(b, int | float):
            return math.isclose(a, b, rel_tol=self.tolerance, abs_tol=0.0) or a == b
        return bool(type(a) is type(b) and a == b)


class _TooMuchError(Exception):
    """A statement gives too much, takes too long, or is none that gives rows."""


class _Found(NamedTuple):
    """What a query gives."""

    columns: int
    rows: list[tuple[Any, ...]]


def _fetched(cursor: sqlite3.Cursor) -> _Found:
    if cursor.description is None:  # no statement at all, or one that does something else
        raise _TooMuchError("it is no query")
    rows, size = list[tuple[Any, ...]](), 0
    for row in cursor:
        rows.append(row)
        size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
        if len(rows) > MAX_ROWS or size > MAX_BYTES:
            raise _TooMuchError(f"it gives more than {MAX_ROWS:,} rows or {MAX_BYTES >> 20} MB")
    return _Found(len(cursor.description), rows)


def _sql(text: str) -> str:
    """The statement of an answer: its last fenced block, else all but what was thought."""
    text = without_reasoning(text) or ""
    blocks = [body for language, body in fenced_blocks(text) if language in ("sql", "sqlite", "")]
    return (blocks[-1] if blocks else text).strip().rstrip(";").strip()


def _allow_making(action: int, first: str | None, second: str | None, *_: Any) -> int:
    forbidden = action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA)
    return sqlite3.SQLITE_DENY if forbidden or _is_forbidden(action, second) else sqlite3.SQLITE_OK


def _allow_reading(action: int, first: str | None, second: str | None, *_: Any) -> int:
    allowed = action in _READS and not _is_forbidden(action, second)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _is_forbidden(action: int, name: str | None) -> bool:
    return action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in _NOT_FUNCTIONS


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        ("n", value) if isinstance(value, int | float) else (type(value).__name__, value) for value in row
    )


def _sortable(row: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """A row's place among others: null, numbers (to nine digits), texts, bytes."""
    return [
        (0, 0)
        if value is None
        else (1, float(f"{value:.9g}"))
        if isinstance(value, int | float)
        else (2, value)
        if isinstance(value, str)
        else (3, value)
        for value in row
    ]


def _difference(found: _Found, expected: _Found) -> str:
    got, wanted = found.rows, expected.rows
    if len(got) != len(wanted):
        return f"expected {len(wanted):,} rows, got {len(got):,}"
    if found.columns != expected.columns:
        return f"expected {expected.columns} columns, got {found.columns}"
    other = next((a for a in got if a not in wanted), None) if len(got) <= 1_000 else None
    return short(f"other rows than expected{'' if other is None else f': {other!r} is none of them'}")
