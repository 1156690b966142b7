"""Questions in SQL about one run: read-only, over one table, `cases`, in a process that can be stopped.

The table is the run's results.parquet. A statement that is no SELECT is refused, and DuckDB opens no other
file and no address (`promptlab/duck.py`). Time and address space are the kernel's to bound: DuckDB's own
limit of memory does not count everything (`length(repeat(…))` took 2 GB in one of 256 MB).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.bounded import Bounded, BoundExceededError, Bounds, RefusedError
from promptlab.domain.texts import cut
from promptlab.duck import connect, given, parquet, quoted
from promptlab.errors import SqlError

if TYPE_CHECKING:
    import duckdb

MOST_SQL_CHARS = 20_000
MOST_ROWS = 1_000
"""Rows of an answer."""
CELL_CHARS = 20_000
"""Characters of one value."""
MOST_CHARS = 2_000_000
"""Characters of an answer: with more the rows end."""
BOUNDS = Bounds(cpu_s=2.0, memory_bytes=1_500 * 2**20, wall_s=10.0)
MEMORY, SPILL = "256MB", "500MB"
"""DuckDB's own limits: what a query holds, and what it writes beside that."""
# The types whose values are JSON's as they are; all others are given as text.
_EXACT = frozenset(
    {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
)
_KINDS = ("kind", "category", "topic", "subject", "language", "difficulty", "level", "split", "source")
"""Names of columns that rows are usually grouped by."""
_NESTED = ("STRUCT", "MAP", "UNION")
_asked = Bounded(BOUNDS, children=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAnswer:
    """The rows that a question gave."""

    columns: tuple[str, ...]
    """Their names; two may be equal."""
    types: tuple[str, ...]
    """DuckDB's type of each."""
    rows: tuple[tuple[Any, ...], ...]
    """JSON values, in the order of `columns`; dates, decimals and the like as text, lists and structs as
    JSON's text, bytes as DuckDB writes them."""
    more: bool
    """Whether rows were left out: there are more than MOST_ROWS, or MOST_CHARS characters."""

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": [
                {"name": name, "type": kind} for name, kind in zip(self.columns, self.types, strict=True)
            ],
            "rows": [list(row) for row in self.rows],
            "more": self.more,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SqlAnswer:
        """Read what `to_json` wrote."""
        return cls(
            columns=tuple(column["name"] for column in value["columns"]),
            types=tuple(column["type"] for column in value["columns"]),
            rows=tuple(map(tuple, value["rows"])),
            more=value["more"],
        )


async def ask(results: Path, folder: Path, sql: str) -> SqlAnswer:
    """Answer a question about a results file.

    Args:
        results: the file.
        folder: a scratch folder of this question, where DuckDB spills to.
        sql: one SELECT over `cases`.

    Raises:
        SqlError: it is no such statement, DuckDB refuses it, or it needs more than BOUNDS.
    """
    if len(sql) > MOST_SQL_CHARS:
        raise SqlError(f"The question has {len(sql):,} characters; at most {MOST_SQL_CHARS:,} are taken.")
    source = parquet(given(results, folder))
    try:
        answer = await _asked.call_async("promptlab.queries.sql:answer", source, str(folder), sql)
    except BoundExceededError as error:
        raise SqlError(
            f"The question was stopped: {error}. Ask for less (WHERE, LIMIT, fewer texts), or export the run "
            "and ask its results.parquet with a DuckDB of your own."
        ) from None
    except RefusedError as error:
        raise SqlError(str(error).partition(": ")[2] or str(error)) from None
    return SqlAnswer.from_json(answer)


def answer(source: str, folder: str, sql: str) -> dict[str, Any]:
    """Answer a question; runs in the child process.

    Raises:
        SqlError: it is no single SELECT.
        duckdb.Error: DuckDB refuses it.
    """
    with connect(Path(folder), MEMORY, settings=(f"max_temp_directory_size = '{SPILL}'",)) as con:
        con.execute(f"CREATE VIEW cases AS SELECT * FROM {source}")
        only = _only(con, sql)
        asked = con.sql(only)
        # Names may be equal, and the question may end in a comment.
        places = [f"c{place}" for place in range(len(asked.columns))]
        kinds = [str(kind) for kind in asked.types]
        chosen = ", ".join(map(_given_as, places, kinds))
        con.execute(f"SELECT {chosen} FROM ({only}\n) AS asked({', '.join(places)})")
        rows, more = _rows(con)
        return SqlAnswer(
            columns=tuple(asked.columns), types=tuple(kinds), rows=tuple(rows), more=more
        ).to_json()


def _only(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one statement, up to the semicolon that ends it."""
    import duckdb

    statements = con.extract_statements(sql)
    if not statements:
        raise SqlError("There is no question; one is: SELECT error_type, count(*) FROM cases GROUP BY ALL")
    if len(statements) > 1:
        raise SqlError(f"These are {len(statements)} statements: one at a time is answered.")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise SqlError("Only SELECT is answered: a run's results never change.")
    text = sql.encode()  # places are counted in bytes
    said = [place for place, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    return text[: said[-1]].decode() if text[said[-1] :].startswith(b";") else sql


def _given_as(place: str, kind: str) -> str:
    if kind in _EXACT:
        return place
    if kind in ("DOUBLE", "FLOAT"):  # JSON has no NaN
        return f"CASE WHEN isfinite({place}) THEN {place}::DOUBLE END"
    if kind.startswith(_NESTED) or kind.endswith("]"):
        return f"left(to_json({place})::VARCHAR, {CELL_CHARS + 1})"
    return f"left({place}::VARCHAR, {CELL_CHARS + 1})"


def _rows(con: duckdb.DuckDBPyConnection) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows that fit, and whether there are more."""
    rows, chars = list[tuple[Any, ...]](), 0
    while row := con.fetchone():
        chars += sum(len(value) if isinstance(value, str) else 8 for value in row)
        if len(rows) == MOST_ROWS or (rows and chars > MOST_CHARS):
            return rows, True
        rows.append(tuple(cut(value, CELL_CHARS) if isinstance(value, str) else value for value in row))
    return rows, False


def examples(columns: dict[str, str]) -> list[str]:
    """Questions to begin from, about a table with these columns."""
    asked = ["SELECT error_type, count(*) AS n FROM cases GROUP BY ALL ORDER BY n DESC"]
    score = next((name for name in columns if name.startswith("score.")), None)
    if score is not None:
        by = next((name for name in columns if name.removeprefix("input.") in _KINDS), "finish_reason")
        mean = f"round(avg({quoted(score)}), 3) AS mean"
        asked.insert(
            0, f"SELECT {quoted(by)}, count(*) AS n, {mean}\nFROM cases GROUP BY ALL ORDER BY mean LIMIT 20"
        )
        wrong = f"FROM cases WHERE {quoted(score)} = 0 ORDER BY latency_ms DESC LIMIT 20"
        asked.append(f'SELECT "case", trial, id, response\n{wrong}')
    return asked
