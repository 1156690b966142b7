"""The summarize step: adds up a run's shards and writes its results file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import Metric
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.engine.run_level import RunLevel, compute
from promptlab.errors import StoreDamagedError
from promptlab.ports import Blobs, Ledger
from promptlab.results.clusters import cluster_means
from promptlab.results.files import write_parquet
from promptlab.results.index import clusters_of, forget_old_indexes, put_index, write_index
from promptlab.results.table import columns
from promptlab.scratch import ScratchFolder


async def summarize(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    level: RunLevel | None = None,
) -> Summary:
    """The run's summary, from its shards' (in order, so that it is the same however the run went),
    results.parquet and its index; with the metrics of the run as a whole, where `level` has some.

    Raises:
        BlobNotFoundError: a part is gone.
        StoreDamagedError: a part has lost rows.
    """
    total, parts, largest = Summary(), list[tuple[str, int]](), 0
    async for shard in ledger.shards(run.run_id):
        total.merge(Summary.from_json(shard.summary))
        parts.append((shard.part, shard.summary["cases"]))
        largest = max(largest, shard.largest_row_bytes)
    key, shape = (
        f"runs/{run.run_id}/results.parquet",
        columns(content, metrics, [spec for spec, _ in level.bound] if level else []),
    )
    with ScratchFolder() as folder:
        files = await blobs.files([part for part, _ in parts], folder)
        out = folder / "results.parquet"
        rows = await asyncio.to_thread(
            write_parquet,
            files,
            out,
            shape.types,
            largest,
            lambda con: write_index(con, out, shape, clusters_of(run, shape)),
        )
        if rows != total.cases:
            raise StoreDamagedError(
                f"The parts of run {run.run_id} give {rows:,} rows of {total.cases:,}: one is damaged."
            )
        if any(metric.cluster_by for metric in metrics):
            await asyncio.to_thread(cluster_means, out, shape, metrics, total)
        if level is not None and level.bound:
            total.run_metrics = await compute(level, blobs, run, out, shape, content)
        await put_index(blobs, run, folder, parts)
        await blobs.put_file(key, out)
    await ledger.update_run(run.run_id, {"summary": total.to_json(), "results": key})
    await forget_old_indexes(blobs, run)
    return total
