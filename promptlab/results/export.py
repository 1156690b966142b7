"""Writes the results of a run into a file for other programs: CSV, JSON lines, Parquet or OTLP JSON."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.domain.results import CaseKey
from promptlab.duck import given, json_lines, literal, parquet, quoted, reading_results, with_room
from promptlab.errors import ConfigError, DiskFullError
from promptlab.labels import CaseLabels
from promptlab.labels.columns import TYPES, people_columns
from promptlab.results.files import FETCH, copy_whole, results_file, selected
from promptlab.results.formats import PLAIN_CSV, CsvStyle, ExportFormat
from promptlab.results.otel import write_traces
from promptlab.results.run_table import RunTable
from promptlab.results.table import ATTEMPTS, MESSAGES, messages_sql

if TYPE_CHECKING:
    import duckdb

BOM = "\ufeff"
_FORMULA = r"^[=+\-@\t\r]"


async def export_results(
    table: RunTable, path: Path, format: ExportFormat, style: CsvStyle = PLAIN_CSV
) -> None:
    """Write the results table to `path`, whole or not at all.

    Raises:
        ConfigError: there is no such folder, the file may not be written, or a style is
            given for another format.
        DiskFullError: the disk, or what one may use of it, is full.
    """
    style.check(format)
    if format == "otel":
        with _draft_of(path) as draft:
            await write_traces(table, draft)
        return
    labels = people_columns(await CaseLabels(table.ledger).of(table.run.run_id))
    async with results_file(table) as source:
        types = dict(table.columns.types)
        if labels:
            source = await asyncio.to_thread(_with_people, source, labels)
            types |= TYPES
        await asyncio.to_thread(_export, source, path, format, types, style)


def _with_people(source: Path, labels: Mapping[CaseKey, Mapping[str, Any]]) -> Path:
    """Write a results file that has what people say of its cases, too; beside the one that is given."""
    said, joined = source.parent / "people.jsonl", source.parent / "with-people.parquet"
    with said.open("wb") as file:
        for key, columns in labels.items():
            file.write(orjson.dumps({"case": key.case, "trial": key.trial, **columns}) + b"\n")
    largest = max(len(line) for line in said.read_bytes().splitlines()) + 1
    types = {"case": "BIGINT", "trial": "INTEGER", **TYPES}
    people = json_lines([said], types, largest)
    names = ", ".join(f"p.{quoted(name)}" for name in TYPES)
    sql = (
        f'COPY (SELECT r.*, {names} FROM {parquet(source)} r LEFT JOIN {people} p ON r."case" = p."case" '
        f'AND r.trial = p.trial ORDER BY r."case", r.trial) TO {literal(str(joined))} (FORMAT parquet)'
    )
    with reading_results():
        with_room(lambda con: con.execute(sql), source.parent)
    return joined


def _export(source: Path, path: Path, format: ExportFormat, types: dict[str, str], style: CsvStyle) -> None:
    with _draft_of(path) as draft:
        if format == "parquet":
            copy_whole(source, draft)
        elif format == "jsonl":
            with reading_results():
                with_room(lambda con: _write_lines(con, source, draft, types), source.parent)
        else:
            draft.touch()
            target = given(draft, source.parent)
            with reading_results():
                with_room(lambda con: _write_csv(con, source, target, types, style), source.parent)


@contextmanager
def _draft_of(path: Path) -> Iterator[Path]:
    """A file beside another, which it replaces at the end of the block.

    Raises:
        ConfigError: there is no such folder, or the file may not be written.
        DiskFullError: the disk, or what one may use of it, is full.
    """
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.absolute().parent}.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, error.errno) from error
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    except DiskFullError as error:
        raise _full(path, errno.ENOSPC) from error
    finally:
        draft.unlink(missing_ok=True)


def _full(path: Path, code: int) -> DiskFullError:
    return DiskFullError(
        f"Cannot write {path}: {os.strerror(code)}. Nothing was written; what was there before is as it was."
    )


def _write_csv(
    con: duckdb.DuckDBPyConnection, source: Path, target: Path, types: dict[str, str], style: CsvStyle
) -> None:
    columns = safe_csv_columns(types, selected(con, source, types))
    if style.bom:  # DuckDB writes no mark of its own; the first name in the header may begin with it
        columns = columns.replace('AS "case"', f'AS "{BOM}case"', 1)
    con.execute(
        f"COPY (SELECT {columns} FROM {parquet(source)}) TO {literal(str(target))} "
        f"(FORMAT csv, HEADER true, DELIMITER {literal(style.delimiter)}, USE_TMP_FILE false)"
    )


def _write_lines(con: duckdb.DuckDBPyConnection, source: Path, path: Path, types: dict[str, str]) -> None:
    values = selected(con, source, types)
    values["messages"] = messages_sql(values["messages"])
    columns = ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())
    # DuckDB's own JSON writer buffers more than the memory we give it.
    rows = con.execute(f"SELECT to_json(t) FROM (SELECT {columns} FROM {parquet(source)}) t")
    with path.open("w", encoding="utf-8") as file:
        while lines := rows.fetchmany(FETCH):
            file.writelines(f"{line}\n" for (line,) in lines)


def safe_csv_text(text: str) -> str:
    """Put a `'` before a text that a spreadsheet would run as a formula, as
    `safe_csv_columns` does in SQL."""
    if not re.match(_FORMULA, text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def safe_csv_columns(types: dict[str, str], values: Mapping[str, str]) -> str:
    """Make a select list for CSV files: a text that a spreadsheet would run as a formula gets a `'`
    before it; a number does not.

    Args:
        types: DuckDB's type of each column.
        values: SQL of each column's value.
    """
    parts = []
    for name, kind in types.items():
        value, column = values[name], quoted(name)
        if kind == "VARCHAR":
            parts.append(
                f"CASE WHEN regexp_matches({value}, {literal(_FORMULA)}) AND TRY_CAST({value} AS DOUBLE) "
                "IS NULL "
                f"THEN '''' || {value} ELSE {value} END AS {column}"
            )
        elif kind == ATTEMPTS:
            parts.append(f"to_json({value})::VARCHAR AS {column}")
        elif kind == MESSAGES:
            parts.append(f"{messages_sql(value)}::VARCHAR AS {column}")
        else:
            parts.append(f"{value} AS {column}")
    return ", ".join(parts)
