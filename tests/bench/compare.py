"""`python -m tests.bench.compare`: two runs of 100,000 cases with five metrics, compared and
sliced (bound 0.3 s each)."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from promptlab.duck import connect, literal, parquet
from promptlab.queries.compare_sql import Counting, Pairing, Selected
from promptlab.queries.pool import DuckDBPool

ROWS, METRICS = 100_000, 5


def write(path: Path, seed: int, folder: Path) -> None:
    """An index: three metrics of pass/fail, two of numbers, 1% of the cases failed."""
    failed = "hash(r, 7) % 100 = 0"
    columns = ["'kind ' || (r % 37) AS kind", "r % 9000 AS cluster_key"]
    columns += ['r AS "case"', "0 AS trial", "'q-' || r AS id", "hash(r) AS answer_hash"]
    columns.append(f"CASE WHEN {failed} THEN 'timeout' END AS error")
    for n in range(METRICS):
        draw = f"(hash(r, {n}, {seed}) % 1000) / 1000.0"
        value = f"({draw} < 0.6)::INTEGER::DOUBLE" if n < 3 else draw
        columns.append(f'CASE WHEN NOT {failed} THEN {value} END AS "score.m{n}"')
        columns += [
            f'NULL::BOOLEAN AS "passed.m{n}"',
            f'NULL::VARCHAR AS "label.m{n}"',
            f'false AS "unscored.m{n}"',
        ]
    with connect(folder) as con:
        con.execute(
            f"COPY (SELECT {', '.join(columns)} FROM range({ROWS}) t(r)) TO {literal(str(path))} "
            "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"
        )


async def main() -> None:
    """Print the time of the first page, its statistics, and of the next page, which has them already."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(2):
            write(folder / f"{seed}.parquet", seed, folder)
        for aligned, complete in ((True, True), (True, False), (False, False)):
            pool = DuckDBPool(folder)
            pairing = Pairing(
                sources=[parquet(folder / f"{seed}.parquet") for seed in range(2)],
                totals=[ROWS, ROWS],
                names=[{f"m{n}": f"m{n}" for n in range(METRICS)}] * 2,
                pairs=[(f"m{n}", 0) for n in range(METRICS)],
                higher={f"m{n}": True for n in range(METRICS)},
                facts=(),
                bounded=(),
                joined_on="case",
                trials=1,
                counting=[Counting(0.0, (0.0, 1.0), complete, "true")] * METRICS,
                aligned=aligned,
            )
            cases = " ".join(f"WHEN 'kind {n}' THEN {n}" for n in range(37))
            key = f"CASE kind {cases} END"
            grouped = replace(pairing, clustered={f"m{n}" for n in range(METRICS)})
            await pool.fetch("SELECT 1")
            times = []
            for sql in (
                pairing.query(Selected("all", [], [], False, False), 25, 0)[0],
                pairing.statistics(0)[0],
                pairing.means_by(key)[0],
                pairing.statistics_by(key, 0)[0],
                grouped.clusters_by("0", 0)[0],
            ):
                for _ in range(2):
                    began, cpu = time.perf_counter(), time.process_time()
                    await pool.fetch(sql)
                    times.append(f"{time.perf_counter() - began:.3f} s ({time.process_time() - cpu:.3f} CPU)")
            names = ("page", "statistics", "slices of one", "slices of both", "clusters")
            said = [f"{name} {times[2 * n]}, {times[2 * n + 1]}" for n, name in enumerate(names)]
            print(f"aligned {aligned}, complete {complete}: {'; '.join(said)}")
            await pool.close()


if __name__ == "__main__":
    asyncio.run(main())
