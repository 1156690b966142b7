"""Reads the results table of a run: from its results file, or from the ledger while there is none."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.assets.rows import read_index
from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.duck import connect, given, json_lines, literal, parquet, quoted, reading_results, with_room
from promptlab.results.run_table import RunTable
from promptlab.results.table import known_type, natural, with_answer_columns
from promptlab.scratch import ScratchFolder

if TYPE_CHECKING:
    import duckdb

FETCH = 100
"""Rows in memory at once."""


@asynccontextmanager
async def results_file(table: RunTable) -> AsyncIterator[Path]:
    """A Parquet file of the run's results, in a scratch folder that DuckDB may work in; for a run that is not
    summarized, of what the ledger has."""
    with ScratchFolder() as folder:
        if table.run.results:
            (path,) = await table.blobs.files([table.run.results], folder)
            yield given(path, folder)
            return
        path = folder / "results.parquet"
        answered = await answered_parts(table, folder)
        await asyncio.to_thread(answered.write, path, table.columns.types)
        yield path


@dataclass(frozen=True, slots=True)
class AnsweredParts:
    """What is answered so far of a run: files of JSON lines, gzipped, one for each shard with answers."""

    paths: Sequence[Path]
    rows: Sequence[int]
    """Per file, how many rows it has."""
    largest_row_bytes: int
    """The longest line of all."""

    def write(self, path: Path, types: dict[str, str]) -> None:
        """Write them as one Parquet file, into a scratch folder."""
        write_parquet(self.paths, path, types, self.largest_row_bytes)


async def answered_parts(table: RunTable, folder: Path) -> AnsweredParts:
    """Read what is answered of a run that is not summarized, into `folder`.

    The part of a shard that this pass finished is taken as it is; all else is read from the ledger, as the
    part of an earlier pass may be of answers that were asked for again.
    """
    shards = table.ledger.shards(table.run.run_id)
    finished = {s.number: s async for s in shards if _is_whole(s, table.run)}
    kept = await table.blobs.files([shard.part for shard in finished.values()], folder)
    found = {n: (path, int(finished[n].summary["cases"])) for n, path in zip(finished, kept, strict=True)}
    largest = max((shard.largest_row_bytes for shard in finished.values()), default=0)
    async for shard in read_index(table.blobs, table.content):
        if shard.number in found:
            continue
        lines = [orjson.dumps(table.row(case)) for case in await table.answered(shard)]
        if lines:
            path = folder / f"{shard.number:06}.jsonl.gz"
            largest = max(largest, *map(len, lines))
            packed = await asyncio.to_thread(gzip.compress, b"\n".join(lines) + b"\n", compresslevel=1)
            await asyncio.to_thread(path.write_bytes, packed)
            found[shard.number] = (path, len(lines))
    paths, rows = zip(*(found[n] for n in sorted(found)), strict=True) if found else ((), ())
    return AnsweredParts(paths, rows, largest)


def _is_whole(shard: ShardSummary, run: RunRecord) -> bool:
    return shard.generation == run.generation and not shard.partial


async def read_results(table: RunTable) -> AsyncIterator[dict[str, Any]]:
    """The rows of the results table, by case and trial, streamed."""
    empty = dict.fromkeys(table.columns.types)
    async with results_file(table) as path, aclosing(read_file(path)) as rows:
        async for row in rows:
            yield empty | row


def selected(con: duckdb.DuckDBPyConnection, source: Path, types: Mapping[str, str]) -> dict[str, str]:
    """Say what each of the table's columns is in a results file, as SQL; NULL where an
    older version left it out."""
    there = {name for name, *_ in con.execute(f"DESCRIBE SELECT * FROM {parquet(source)}").fetchall()}
    return {name: quoted(name) if name in there else f"NULL::{kind}" for name, kind in types.items()}


def _whole(con: duckdb.DuckDBPyConnection, source: Path) -> str | None:
    """SQL of a results file with the columns that an older version left out; None if it has all."""
    names = [name for name, *_ in con.execute(f"DESCRIBE SELECT * FROM {parquet(source)}").fetchall()]
    whole = with_answer_columns(names)
    if whole == names:
        return None
    values = (quoted(n) if n in names else f"NULL::{known_type(n)} AS {quoted(n)}" for n in whole)
    return f"SELECT {', '.join(values)} FROM {parquet(source)}"


def copy_whole(source: Path, target: Path) -> None:
    """Copy a results file from a scratch folder, with the columns that an older version left out.

    Raises:
        OSError: it cannot be written.
        StoreDamagedError: the file is damaged.
    """
    with reading_results():
        with connect(source.parent) as con:
            sql = _whole(con, source)
        if sql is None:
            shutil.copyfile(source, target)
            return
        target.touch()
        out = literal(str(given(target, source.parent)))
        copy = f"COPY ({sql}) TO {out} (FORMAT parquet, COMPRESSION zstd, {ROW_GROUP}, USE_TMP_FILE false)"
        with_room(lambda con: con.execute(copy), source.parent)


async def read_file(path: Path) -> AsyncGenerator[dict[str, Any], None]:
    """The rows of a results file in a scratch folder, streamed; what does not fit into
    memory goes there, too."""
    con = await asyncio.to_thread(connect, path.parent)
    try:
        with reading_results():
            cursor = await asyncio.to_thread(
                lambda: con.execute(_whole(con, path) or f"SELECT * FROM {parquet(path)}")
            )
            names = [column[0] for column in cursor.description or ()]
            while rows := await asyncio.to_thread(cursor.fetchmany, FETCH):
                for row in rows:
                    yield natural(dict(zip(names, row, strict=True)))
    finally:
        con.close()


# By rows alone, 20,000 rows of 10 KB did not fit into the memory.
ROW_GROUP = "ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
MIN_OBJECT_BYTES = 1 << 20
JOINED = 32
"""Parts that DuckDB reads as one file."""


def write_parquet(
    parts: Sequence[Path],
    out: Path,
    types: dict[str, str],
    largest_row_bytes: int,
    then: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> int:
    """Write one Parquet file of all parts, in their order, into a scratch folder.

    Args:
        parts: the parts.
        out: the file.
        types: DuckDB's type for each column.
        largest_row_bytes: the longest line of a part.
        then: what is done next with the same DuckDB: opening another takes 10 ms.

    Returns:
        How many rows were written.
    """
    if parts:
        # DuckDB takes buffers of twice this size: no more than the longest line needs.
        size = max(MIN_OBJECT_BYTES, largest_row_bytes + 1024)
        source = json_lines(_joined(parts, out.parent), types, size, compressed=True)
    else:
        empty = ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in types.items())
        source = f"(SELECT {empty} LIMIT 0)"
    sql = (
        f"COPY (SELECT * FROM {source}) TO {literal(str(out))} (FORMAT parquet, COMPRESSION zstd, "
        f"{ROW_GROUP})"
    )
    rows = list[int]()

    def write(con: duckdb.DuckDBPyConnection) -> None:
        rows.extend(con.execute(sql).fetchone() or ())
        if then is not None:
            then(con)

    with_room(write, out.parent, large=largest_row_bytes > MIN_OBJECT_BYTES)
    return rows[-1]


def _joined(parts: Sequence[Path], folder: Path) -> list[Path]:
    """Write the parts one after the other into fewer files, which gzip allows.

    DuckDB holds 9 KB for each file that it is given, 6,000 parts (300,000 cases) took 36 MB; and of one file
    it holds on to what it has read: of all of these in one the process took 56 MB more, in files of 32 it
    takes 25.
    """
    joined = list[Path]()
    for first in range(0, len(parts), JOINED):
        joined.append(folder / f"joined-{first:06}.jsonl.gz")
        with joined[-1].open("wb") as file:
            for part in parts[first : first + JOINED]:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
    return joined
