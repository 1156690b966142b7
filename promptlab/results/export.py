"""Writes the results of a run into a file for other programs: CSV, JSON lines or Parquet."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.ports import Blobs, Ledger
from promptlab.results.duck import literal, quoted, with_room
from promptlab.results.files import FETCH, results_file
from promptlab.results.table import columns

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


async def export_results(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    path: Path,
    format: ExportFormat,
) -> None:
    """Write the results table to `path`, whole or not at all.

    Raises:
        ConfigError: there is no such folder, or the file cannot be written.
    """
    async with results_file(ledger, blobs, run, content, metrics) as source:
        await asyncio.to_thread(_export, source, path, format, columns(content, metrics).types)


def _export(source: Path, path: Path, format: ExportFormat, types: dict[str, str]) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.absolute().parent}.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if format == "parquet":
            shutil.copyfile(source, draft)
        else:
            write = _write_lines if format == "jsonl" else partial(_write_csv, types)
            with_room(lambda con: write(con, source, draft), source.parent)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_csv(types: dict[str, str], con: duckdb.DuckDBPyConnection, source: Path, path: Path) -> None:
    con.execute(
        f"COPY (SELECT {safe_csv_columns(types)} FROM read_parquet({literal(str(source))})) TO {literal(str(path))} (FORMAT csv, HEADER true)"
    )


def _write_lines(con: duckdb.DuckDBPyConnection, source: Path, path: Path) -> None:
    # DuckDB's own JSON writer buffers more than the memory we give it.
    rows = con.execute(f"SELECT to_json(t) FROM read_parquet({literal(str(source))}) t")
    with path.open("w", encoding="utf-8") as file:
        while lines := rows.fetchmany(FETCH):
            file.writelines(f"{line}\n" for (line,) in lines)


def safe_csv_columns(types: dict[str, str]) -> str:
    """A select list for CSV files: a text that a spreadsheet would run as a formula gets a `'` before it; a number does not."""
    parts = []
    for name, kind in types.items():
        column = quoted(name)
        if kind == "VARCHAR":
            parts.append(
                f"CASE WHEN regexp_matches({column}, {literal(_FORMULA)}) AND TRY_CAST({column} AS DOUBLE) IS NULL THEN '''' || {column} ELSE {column} END AS {column}"
            )
        else:
            parts.append(column)
    return ", ".join(parts)
