"""Reads and exports the results table of a run."""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.assets.rows import read_index, read_rows
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.ports import Blobs, Ledger
from promptlab.results.duck import connect, literal, with_room
from promptlab.results.table import Case, columns, table_row

if TYPE_CHECKING:
    pass

FETCH = 100
"""Rows in memory at once."""


@asynccontextmanager
async def results_file(
    ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric]
) -> AsyncIterator[Path]:
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
                await asyncio.to_thread(
                    parts[-1].write_bytes, gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1)
                )
        path = folder / "results.parquet"
        await asyncio.to_thread(write_parquet, parts, path, columns(content, metrics).types, largest)
        yield path


async def _lines(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    shard: Shard,
) -> list[bytes]:
    completions = await ledger.get_completions(run.run_id, shard.number)
    if not completions:
        return []
    rows = await read_rows(blobs, content, shard)
    scores = {s.key: s for s in await ledger.get_scores(run.run_id, shard.number)}
    cases = (Case(rows[c.case - shard.first], c, scores.get(c.key)) for c in completions)
    return [orjson.dumps(table_row(content, metrics, case)) for case in cases]


async def read_results(
    ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric]
) -> AsyncIterator[dict[str, Any]]:
    """The rows of the results table, by case and trial, streamed."""
    async with (
        results_file(ledger, blobs, run, content, metrics) as path,
        aclosing(read_file(path, None if run.results else path.parent)) as rows,
    ):
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


# By rows alone, 20,000 rows of 10 KB did not fit into the memory.
ROW_GROUP = "ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
MIN_OBJECT_BYTES = 1 << 20


def write_parquet(parts: Sequence[Path], out: Path, types: dict[str, str], largest_row_bytes: int) -> None:
    """One Parquet file of all parts, in their order."""
    shape = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    # DuckDB takes buffers of twice this size: no more than the longest line needs.
    size = max(MIN_OBJECT_BYTES, largest_row_bytes + 1024)
    if parts:
        source = f"read_json(?, format='newline_delimited', compression='gzip', columns={{{shape}}}, maximum_object_size={size})"
    else:
        source = f"(SELECT {', '.join(f'NULL::{kind} AS {chr(34)}{name}{chr(34)}' for name, kind in types.items())} LIMIT 0)"
    sql = f"COPY (SELECT * FROM {source}) TO {literal(str(out))} (FORMAT parquet, COMPRESSION zstd, {ROW_GROUP})"
    values = [[str(p) for p in parts]] if parts else []
    with_room(lambda con: con.execute(sql, values), out.parent, large=largest_row_bytes > MIN_OBJECT_BYTES)
