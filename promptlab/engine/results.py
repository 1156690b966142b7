"""Reads and exports the results table of a run."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.engine.ingest import read_index, read_rows
from promptlab.engine.summarize import connect, with_room, write_parquet
from promptlab.engine.table import Case, columns, literal, safe_csv_columns, table_row
from promptlab.errors import ConfigError
from promptlab.ports import Blobs, Ledger

if TYPE_CHECKING:
    import duckdb

ExportFormat = Literal["csv", "jsonl", "parquet"]
FETCH = 100
"""Rows in memory at once."""


def export_format(path: Path) -> ExportFormat:
    """The format of a path's suffix.

    Raises:
        ConfigError: it is none of .csv, .jsonl and .parquet.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise ConfigError(f"Cannot tell the format from {path.name!r}: name it .csv, .jsonl or .parquet, or give the format.")
    return suffix[1:]  # type: ignore[return-value]


@asynccontextmanager
async def results_file(ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric]) -> AsyncIterator[Path]:
    """A Parquet file of the run's results; for a run that is not summarized, of what the ledger has."""
    with tempfile.TemporaryDirectory(prefix="promptlab-") as name:
        folder = Path(name)
        if run.results:
            (path,) = await blobs.files([run.results], folder)
            yield path
            return
        parts, largest = list[Path](), 0
        async for shard in read_index(blobs, content):
            lines = await _lines(ledger, blobs, run, content, metrics, shard)
            if lines:
                parts.append(folder / f"{shard.number:06}.jsonl.gz")
                largest = max(largest, *map(len, lines))
                await asyncio.to_thread(parts[-1].write_bytes, gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1))
        path = folder / "results.parquet"
        await asyncio.to_thread(write_parquet, parts, path, columns(content, metrics).types, largest)
        yield path


async def _lines(ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric], shard: Shard) -> list[bytes]:
    completions = await ledger.get_completions(run.run_id, shard.number)
    if not completions:
        return []
    rows = await read_rows(blobs, content, shard)
    scores = {s.key: s for s in await ledger.get_scores(run.run_id, shard.number)}
    cases = (Case(rows[c.case - shard.first], c, scores.get(c.key)) for c in completions)
    return [orjson.dumps(table_row(content, metrics, case)) for case in cases]


async def read_results(ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric]) -> AsyncIterator[dict[str, Any]]:
    """The rows of the results table, by case and trial, streamed."""
    async with results_file(ledger, blobs, run, content, metrics) as path, aclosing(read_file(path, None if run.results else path.parent)) as rows:
        async for row in rows:
            yield row


async def read_file(path: Path, spill: Path | None) -> AsyncGenerator[dict[str, Any], None]:
    """The rows of a results file, streamed; what does not fit into memory goes to the folder `spill`."""
    con = await asyncio.to_thread(connect, spill)
    try:
        cursor = await asyncio.to_thread(con.execute, f"SELECT * FROM read_parquet({literal(str(path))})")
        names = [column[0] for column in cursor.description or ()]
        while rows := await asyncio.to_thread(cursor.fetchmany, FETCH):
            for row in rows:
                yield dict(zip(names, row, strict=True))
    finally:
        con.close()


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
    con.execute(f"COPY (SELECT {safe_csv_columns(types)} FROM read_parquet({literal(str(source))})) TO {literal(str(path))} (FORMAT csv, HEADER true)")


def _write_lines(con: duckdb.DuckDBPyConnection, source: Path, path: Path) -> None:
    # DuckDB's own JSON writer buffers more than the memory we give it.
    rows = con.execute(f"SELECT to_json(t) FROM read_parquet({literal(str(source))}) t")
    with path.open("w", encoding="utf-8") as file:
        while lines := rows.fetchmany(FETCH):
            file.writelines(f"{line}\n" for (line,) in lines)
