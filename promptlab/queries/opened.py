"""A run's results, opened: its index file, and its rows out of the run's parts."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.queries.filters import Filter, condition
from promptlab.queries.matches import Matches
from promptlab.queries.pool import DuckDBPool
from promptlab.results.index import IndexParts, part_rows
from promptlab.results.table import Columns


class PartFiles(Protocol):
    """The parts of a run as files: blobs, or what is kept of a run that goes on."""

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        """A file for each key, in the same order; copies go into `folder`."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StoredRun:
    """A run with an index, as far as it was read. It holds no file open."""

    run: RunRecord
    columns: Columns
    metrics: Sequence[Metric]
    index: str
    """The index, as an SQL source."""
    search: str
    """The search texts, as an SQL source; the same rows."""
    parts: IndexParts
    blobs: PartFiles
    pool: DuckDBPool
    matches: Matches
    folder: Path
    """The folder for copies of parts, for blobs that are not files."""
    edges: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """The bins of histograms, by column and wished number of bins."""
    compared: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    """What this run and some others, by their indexes, are judged by."""
    aligned: dict[tuple[str, ...], bool] = field(default_factory=dict)
    """Whether row n of this run is the same case as row n of some others, by their indexes."""

    @property
    def total(self) -> int:
        return self.parts.rows

    @asynccontextmanager
    async def matching(self, filter: Filter) -> AsyncIterator[tuple[str, list[Any]]]:
        """A filter as a condition on the index, and its parameters; it holds until the context ends.

        Raises:
            UnknownNameError: it names a column or a metric that the table does not have.
        """
        where, values = condition(filter, self.columns)
        if not filter.text:
            yield where, values
            return
        async with self.matches.found(self.search, filter.text) as table:
            yield f"{where} AND file_row_number IN (SELECT r FROM {table})", values

    async def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Whole rows by their numbers in the results table, in that order."""
        wanted: dict[str, list[tuple[int, int]]] = {}
        for at, number in enumerate(numbers):
            key, line = self.parts.find(number)
            wanted.setdefault(key, []).append((at, line))
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            paths = await self.blobs.files(list(wanted), Path(folder))
            found = await self.pool.call(
                _read, paths, [[line for _, line in places] for places in wanted.values()]
            )
        rows: list[dict[str, Any]] = [{}] * len(numbers)
        for places, lines in zip(wanted.values(), found, strict=True):
            for (at, _), row in zip(places, lines, strict=True):
                rows[at] = {name: row.get(name) for name in self.columns.types}
        return rows


def _read(paths: Sequence[Path], lines: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
    return [part_rows(path.read_bytes(), wanted) for path, wanted in zip(paths, lines, strict=True)]


def counted(row: Mapping[str, Any]) -> dict[str, int]:
    """Count the calls of tools and the turns of a case."""
    parts = (part for message in row.get("messages") or () for part in message["parts"])
    turns = (orjson.loads(row["trace"]).get("turns") or ()) if row.get("trace") else ()
    return {"calls": sum(part["type"] == "tool_call" for part in parts), "turns": len(turns)}


def cut(row: dict[str, Any], chars: int) -> dict[str, Any]:
    """The row with its long texts cut, and `cut`: the names of those columns; of an answer that is more than
    a text also `calls` and `turns`, how many it has."""
    if row.get("messages") or row.get("trace"):
        row = row | counted(row)
    long = [name for name, value in row.items() if isinstance(value, str) and len(value) > chars]
    return {**row, **{name: row[name][:chars] for name in long}, "cut": long}
