"""Writes the results of a run into a file for other programs: CSV, JSON lines or Parquet."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from promptlab.duck import given, literal, parquet, quoted, reading_results, with_room
from promptlab.errors import ConfigError
from promptlab.results.files import FETCH, results_file
from promptlab.results.run_table import RunTable

if TYPE_CHECKING:
    import duckdb

ExportFormat = Literal["csv", "jsonl", "parquet"]
_FORMULA = r"^[=+\-@\t\r]"


def export_format(path: Path) -> ExportFormat:
    """The format of a path's suffix.

    Raises:
        ConfigError: it is none of .csv, .jsonl and .parquet.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise ConfigError(
            f"Cannot tell the format from {path.name!r}: name it .csv, .jsonl or .parquet, or give the format."
        )
    return suffix[1:]  # type: ignore[return-value]


async def export_results(table: RunTable, path: Path, format: ExportFormat) -> None:
    """Write the results table to `path`, whole or not at all.

    Raises:
        ConfigError: there is no such folder, or the file cannot be written.
    """
    async with results_file(table) as source:
        await asyncio.to_thread(_export, source, path, format, table.columns.types)


def _export(source: Path, path: Path, format: ExportFormat, types: dict[str, str]) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.absolute().parent}.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if format == "parquet":
            shutil.copyfile(source, draft)
        elif format == "jsonl":
            with reading_results():
                with_room(lambda con: _write_lines(con, source, draft), source.parent)
        else:
            draft.touch()
            target = given(draft, source.parent)
            with reading_results():
                with_room(lambda con: _write_csv(con, source, target, types), source.parent)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_csv(con: duckdb.DuckDBPyConnection, source: Path, target: Path, types: dict[str, str]) -> None:
    con.execute(
        f"COPY (SELECT {safe_csv_columns(types)} FROM {parquet(source)}) TO {literal(str(target))} "
        "(FORMAT csv, HEADER true, USE_TMP_FILE false)"
    )


def _write_lines(con: duckdb.DuckDBPyConnection, source: Path, path: Path) -> None:
    # DuckDB's own JSON writer buffers more than the memory we give it.
    rows = con.execute(f"SELECT to_json(t) FROM {parquet(source)} t")
    with path.open("w", encoding="utf-8") as file:
        while lines := rows.fetchmany(FETCH):
            file.writelines(f"{line}\n" for (line,) in lines)


def safe_csv_text(text: str) -> str:
    """Put a `'` before a text that a spreadsheet would run as a formula, as `safe_csv_columns` does in SQL."""
    if not re.match(_FORMULA, text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def safe_csv_columns(types: dict[str, str]) -> str:
    """Make a select list for CSV files: a text that a spreadsheet would run as a formula gets a `'` before it; a
    number does not."""
    parts = []
    for name, kind in types.items():
        column = quoted(name)
        if kind == "VARCHAR":
            parts.append(
                f"CASE WHEN regexp_matches({column}, {literal(_FORMULA)}) AND TRY_CAST({column} AS DOUBLE) IS NULL "
                f"THEN '''' || {column} ELSE {column} END AS {column}"
            )
        else:
            parts.append(column)
    return ", ".join(parts)
