"""Rows to which two runs gave the same answer, byte for byte, and what a metric makes of it in either."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.duck import given, parquet, quoted, reading_results, with_room
from promptlab.errors import UnknownNameError
from promptlab.queries.opened import StoredRun

if TYPE_CHECKING:
    import duckdb


async def same_answers(
    runs: Sequence[StoredRun], files: Sequence[Path], metric: str, folder: Path
) -> list[tuple[float, float]]:
    """Pair the scores of rows with the same answer; of several trials those that have the same, as means.

    Args:
        runs: the base and the other.
        files: their results, as files.
        metric: the metric.
        folder: where DuckDB may write.

    Raises:
        UnknownNameError: a run has no such metric.
    """
    same = len({run.run.experiment["dataset"]["hash"] for run in runs}) == 1
    by = '"case"' if same else "id"
    halves = []
    for run, path in zip(runs, files, strict=True):
        names = dict(run.columns.scores)
        if metric not in names:
            raise UnknownNameError("metric", metric, list(names))
        score = quoted(f"score.{names[metric]}")
        # Texts are long, and the join is held in memory: their hashes are not.
        halves.append(
            f'SELECT {by} AS k, trial, "case" AS c, sha256(response) AS said, {score} AS score '
            f"FROM {parquet(given(path, folder))} WHERE response IS NOT NULL AND {score} IS NOT NULL"
        )
    sql = (
        f"SELECT avg(a.score)::DOUBLE, avg(b.score)::DOUBLE FROM ({halves[0]}) a JOIN ({halves[1]}) b "
        "USING (k, trial, said) GROUP BY k ORDER BY min(a.c)"
    )
    return await asyncio.to_thread(_asked, sql, folder)


def _asked(sql: str, folder: Path) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []

    def ask(con: duckdb.DuckDBPyConnection) -> None:
        found[:] = [(a, b) for a, b in con.execute(sql).fetchall()]

    with reading_results():
        with_room(ask, folder)
    return found
