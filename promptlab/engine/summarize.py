"""The summarize step: adds up a run's shards and writes its results file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.engine.index import Parts, index_keys, write_index
from promptlab.engine.table import Columns, columns, literal
from promptlab.ports import Blobs, Ledger

if TYPE_CHECKING:
    import duckdb

MEMORY = "128MB"
"""What DuckDB may hold: 5,000 rows of 100 KB need more than 64 MB of it, 100,000 of 1 KB took 130 MB of the process, its 75 MB before that included."""
MORE_MEMORY = ("1GB", "4GB")
"""Where that is not enough, one after the other."""
# By rows alone, 20,000 rows of 10 KB did not fit into the memory.
ROW_GROUP = "ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
_MIN_OBJECT_BYTES = 1 << 20


async def summarize(ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent, metrics: Sequence[Metric]) -> Summary:
    """The run's summary, from its shards' (in order, so that it is the same however the run went), results.parquet and its index.

    Raises:
        BlobNotFoundError: a part is gone.
    """
    total, parts, largest = Summary(), list[tuple[str, int]](), 0
    async for shard in ledger.shards(run.run_id):
        total.merge(Summary.from_json(shard.summary))
        parts.append((shard.part, shard.summary["cases"]))
        largest = max(largest, shard.largest_row_bytes)
    key, shape = f"runs/{run.run_id}/results.parquet", columns(content, metrics)
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        files = await blobs.files([part for part, _ in parts], Path(folder))
        out = Path(folder) / "results.parquet"
        await asyncio.to_thread(write_parquet, files, out, shape.types, largest)
        await put_index(blobs, run, out, shape, parts, largest)
        await blobs.put_file(key, out)
    await ledger.update_run(run.run_id, {"summary": total.to_json(), "results": key})
    return total


async def put_index(blobs: Blobs, run: RunRecord, results: Path, shape: Columns, parts: Sequence[tuple[str, int]], largest_row_bytes: int) -> None:
    """Write the index of a results file, of parts (key, rows), and forget those of earlier passes."""
    keys = index_keys(run)
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        index, search = Path(folder) / "index.parquet", Path(folder) / "search.parquet"
        await asyncio.to_thread(_write_index, results, index, search, shape, largest_row_bytes)
        await blobs.put(keys.parts, Parts.dump(parts))
        await blobs.put_file(keys.narrow, index)
        await blobs.put_file(keys.search, search)
    for key in await blobs.keys(f"runs/{run.run_id}/index-"):
        if key not in keys:
            await blobs.delete(key)


def _write_index(results: Path, index: Path, search: Path, shape: Columns, largest_row_bytes: int) -> None:
    with_room(lambda con: write_index(con, results, index, search, shape), index.parent, large=largest_row_bytes > _MIN_OBJECT_BYTES)


def with_room(work: Callable[[duckdb.DuckDBPyConnection], object], folder: Path, *, large: bool = False) -> None:
    """Do something with a DuckDB, in as little memory as it takes: long rows and a thousand columns take more."""
    import duckdb

    *less, most = MORE_MEMORY if large else (MEMORY, *MORE_MEMORY)
    for memory in less:
        with suppress(duckdb.OutOfMemoryException), connect(folder, memory) as con:
            work(con)
            return
    with connect(folder, most) as con:
        work(con)


def connect(folder: Path | str | None = None, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with bounded memory and one thread, that spills into `folder`."""
    import duckdb

    # Settings of the file format only: nothing is fetched, and nothing a user wrote is run.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": memory,
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if folder:
        config["temp_directory"] = str(folder)
    return duckdb.connect(":memory:", config=config)


def write_parquet(parts: Sequence[Path], out: Path, types: dict[str, str], largest_row_bytes: int) -> None:
    """One Parquet file of all parts, in their order."""
    shape = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    # DuckDB takes buffers of twice this size: no more than the longest line needs.
    size = max(_MIN_OBJECT_BYTES, largest_row_bytes + 1024)
    if parts:
        source = f"read_json(?, format='newline_delimited', compression='gzip', columns={{{shape}}}, maximum_object_size={size})"
    else:
        source = f"(SELECT {', '.join(f'NULL::{kind} AS {chr(34)}{name}{chr(34)}' for name, kind in types.items())} LIMIT 0)"
    sql = f"COPY (SELECT * FROM {source}) TO {literal(str(out))} (FORMAT parquet, COMPRESSION zstd, {ROW_GROUP})"
    values = [[str(p) for p in parts]] if parts else []
    with_room(lambda con: con.execute(sql, values), out.parent, large=largest_row_bytes > _MIN_OBJECT_BYTES)
