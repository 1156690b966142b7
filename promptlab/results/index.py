"""The index of a run's results: what filters, sorts and searches read, and where each row's whole text is.

results.parquet is for people and their tools. A page of 50 cases sorted by a score has rows from all
over it, and takes 80–160 ms at 100,000 rows, because each row's texts are decompressed together with
thousands of others. So beside it lie two files with its rows in the same order: the index, with all that is
narrow, and the search texts, one lower-cased text a row. The rows themselves are read from the run's
parts (50 cases each), which cost the same however long the run is.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from promptlab.domain.results import RunRecord
from promptlab.duck import given, literal, parquet, quoted, with_room
from promptlab.errors import StoreDamagedError
from promptlab.ports import Blobs
from promptlab.program import program
from promptlab.results.clusters import CLUSTER, cluster_column
from promptlab.results.files import MIN_OBJECT_BYTES
from promptlab.results.table import Columns
from promptlab.scratch import ScratchFolder

if TYPE_CHECKING:
    import duckdb

logger = logging.getLogger(__name__)

FORM = 2
"""The form of an index; 2 has the answers' hashes, and errors are those of calls."""
PREFIX_CHARS = 48
"""The sort key of texts: their beginning, lower-cased."""
SEARCH_CHARS = 20_000
"""How much of each text a search looks into: rows of 10 MB would otherwise be searched, and held, whole."""
ANSWER_HASH = "answer_hash"
"""A number that is the same for equal answers; none of a case without an answer."""
NARROW, TEXTS = "index.parquet", "search.parquet"
_INDEX = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '8MB'"
# A search reads all of its file: 64 MB of text took 43–65 ms of CPU so, 85–105 with zstd, for 27 MB and
# 16 MB of file. With 5,120 rows a group, threads share the work on 100,000 rows evenly; with 10,240 a search
# took as long and 27 MB more memory, with 2,048 it was a fifth slower.
_SEARCH = (
    "FORMAT parquet, COMPRESSION lz4_raw, PARQUET_VERSION v2, ROW_GROUP_SIZE 5120, ROW_GROUP_SIZE_BYTES '4MB'"
)
_PLAIN = (
    "case",
    "trial",
    "prompt_tokens",
    "completion_tokens",
    "latency_ms",
    "cost_usd",
    "attempts",
    "finish_reason",
)


class IndexKeys(NamedTuple):
    """The keys of a run's index."""

    narrow: str
    search: str
    parts: str
    """A list of the run's parts (`IndexParts`)."""


def index_keys(run: RunRecord) -> IndexKeys:
    """The keys of a run's index. Each pass over the run writes new ones, so that a file never
    changes under a reader."""
    # The form of the files is in their names: a run whose index is of an older form gets a new one when it is
    # opened.
    stem = f"runs/{run.run_id}/index-{run.generation}-v{FORM}"
    return IndexKeys(f"{stem}.parquet", f"{stem}.search.parquet", f"{stem}.parts.json.gz")


@dataclass(frozen=True, slots=True)
class IndexParts:
    """The parts of the index, and the rows of the results table that each holds."""

    keys: Sequence[str]
    ends: Sequence[int]
    """Per part, the number of rows up to and with it."""

    @property
    def rows(self) -> int:
        return self.ends[-1] if self.ends else 0

    def find(self, row: int) -> tuple[str, int]:
        """The key of the part that holds a row (0-based), and the row's line in it."""
        part = bisect_right(self.ends, row)
        return self.keys[part], row - (self.ends[part - 1] if part else 0)

    @staticmethod
    def dump(parts: Sequence[tuple[str, int]]) -> bytes:
        """The stored form of (key, rows) of each part, in order."""
        return gzip.compress(
            orjson.dumps([[key for key, _ in parts], [count for _, count in parts]]), compresslevel=1, mtime=0
        )

    @classmethod
    def load(cls, data: bytes) -> IndexParts:
        """The inverse of `dump`."""
        try:
            keys, counts = orjson.loads(gzip.decompress(data))
        except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
            raise _damaged("The index", error) from error
        return cls(keys, list(accumulate(counts)))


def index_types(shape: Columns, cluster: str | None = None) -> dict[str, str]:
    """The index's columns for one table: name → SQL expression over the table; of runs with `cluster_by` a
    number for each value of that column."""
    selected = {name: quoted(name) for name in _PLAIN}
    # Ids such as 2 and 10, or q-2 and q-10, are in the order of their numbers.
    selected |= {
        "id": "id",
        "id_text": r"regexp_replace(id, '[0-9]{1,15}$', '')",
        "id_number": r"TRY_CAST(regexp_extract(id, '[0-9]{1,15}$') AS BIGINT)",
    }
    selected[ANSWER_HASH] = "CASE WHEN response IS NOT NULL THEN hash(response) END"
    selected["error"] = "error_type"
    for name in ("response", "error_message", *(name for _, name, _ in shape.inputs)):
        selected[name] = (
            f"lower(left({quoted(name)}, {PREFIX_CHARS}))" if shape.types[name] == "VARCHAR" else quoted(name)
        )
    for _, metric in shape.scores:
        selected |= {
            name: quoted(name) for name in (f"score.{metric}", f"passed.{metric}", f"label.{metric}")
        }
        selected[f"unscored.{metric}"] = f"{quoted(f'score_error.{metric}')} IS NOT NULL"
    if cluster is not None:
        selected[CLUSTER] = f"hash({quoted(cluster)})"
    return selected


def _texts(shape: Columns) -> list[str]:
    """The text columns that a search looks into."""
    inputs = [name for _, name, _ in shape.inputs]
    return [
        "id",
        *inputs,
        "response",
        "error_message",
        *(f"{part}.{metric}" for _, metric in shape.scores for part in ("label", "reason", "score_error")),
    ]


def clusters_of(run: RunRecord, shape: Columns) -> str | None:
    """The table's column that a run's cases are clustered by; None for none."""
    return cluster_column(run.experiment.get("evaluation", ()), shape)


def write_index(
    con: duckdb.DuckDBPyConnection, results: Path, shape: Columns, cluster: str | None = None
) -> None:
    """Write the index (NARROW) and the search texts (TEXTS) of a results file, beside it."""
    source = parquet(results)
    selected = ", ".join(
        f"{expression} AS {quoted(name)}" for name, expression in index_types(shape, cluster).items()
    )
    index, search = (literal(str(results.with_name(name))) for name in (NARROW, TEXTS))
    con.execute(f"COPY (SELECT {selected} FROM {source}) TO {index} ({_INDEX})")
    texts = ", ".join(f"left(CAST({quoted(name)} AS VARCHAR), {SEARCH_CHARS})" for name in _texts(shape))
    text = f"lower(concat_ws(chr(31), {texts}))"
    con.execute(f"COPY (SELECT {text} AS search FROM {source}) TO {search} ({_SEARCH})")


def part_rows(data: bytes, lines: Sequence[int]) -> list[dict[str, Any]]:
    """Some rows of a part, by their lines.

    Raises:
        StoreDamagedError: the part cannot be read.
    """
    try:
        found = gzip.decompress(data).split(b"\n")
        return [orjson.loads(found[line]) for line in lines]
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError, IndexError) as error:
        raise _damaged("A part", error) from error


def _damaged(what: str, error: Exception) -> StoreDamagedError:
    return StoreDamagedError(
        f"{what} of the run's results is damaged ({error}). Save the rest with: {program()} doctor --repair"
    )


async def put_index(blobs: Blobs, run: RunRecord, folder: Path, parts: Sequence[tuple[str, int]]) -> None:
    """Keep the index that `write_index` wrote into a folder, of parts (key, rows)."""
    keys = index_keys(run)
    await blobs.put(keys.parts, IndexParts.dump(parts))
    await blobs.put_file(keys.narrow, folder / NARROW)
    await blobs.put_file(keys.search, folder / TEXTS)


async def index_again(
    blobs: Blobs,
    run: RunRecord,
    results: Path,
    shape: Columns,
    parts: Sequence[tuple[str, int]],
    largest_row_bytes: int,
) -> None:
    """Write and keep the index of a results file that was kept without one."""
    with ScratchFolder() as folder:
        own = given(results, folder)
        await asyncio.to_thread(
            with_room,
            lambda con: write_index(con, own, shape, clusters_of(run, shape)),
            folder,
            large=largest_row_bytes > MIN_OBJECT_BYTES,
        )
        await put_index(blobs, run, folder, parts)


async def forget_old_indexes(blobs: Blobs, run: RunRecord) -> None:
    """Remove the indexes of earlier passes and of older forms, once the run's new one is in place.

    They only take room: what stands in the way of that is logged, and costs the run nothing.
    """
    keys = index_keys(run)
    try:
        for key in await blobs.keys(f"runs/{run.run_id}/index-"):
            if key not in keys:
                await blobs.delete(key)
    except Exception as error:  # noqa: BLE001 - of whichever store; the run is whole without it
        logger.warning("old indexes of run %s are left behind: %s", run.run_id, error)
