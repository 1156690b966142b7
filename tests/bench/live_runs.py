"""Long runs that are worked on, made quickly: one shard's answers under the number of every shard."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from promptlab.assets.rows import read_index, read_rows
from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.domain.summary import Summary
from promptlab.engine.evaluate import summarize_cases
from promptlab.results.so_far import VALID_S, SoFar
from promptlab.results.table import Case
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import METRICS, Made, _case, make_dataset, make_run

AT_ONCE = 20
"""Shards that are written in one go."""


async def make_live_run(db: Path, cases: int) -> str:
    """The id of a run of `cases` answered cases in a store, without results."""
    lab = StoreLab.open({"db_file": str(db)})
    try:
        dataset = await make_dataset(lab, cases)
        assert dataset.content is not None
        run = await make_run(lab, dataset, Made(results=False, shards=0))
        shards = [shard async for shard in read_index(lab.blobs, dataset.content)]
        rows, chance = await read_rows(lab.blobs, dataset.content, shards[0]), random.Random(1)
        made = [_case(chance, 0, at, 0, row, chance.random() < 0.7) for at, row in enumerate(rows)]
        summary = summarize_cases(METRICS, made).to_json()
        for begin in range(0, len(shards), AT_ONCE):
            some = shards[begin : begin + AT_ONCE]
            flat = [_at(case, s.number, s.first) for s in some for case in made[: s.count]]
            await lab.ledger.put_completions(run.run_id, [case.completion for case in flat])
            await lab.ledger.put_scores(run.run_id, [case.scores for case in flat if case.scores])
            await asyncio.gather(
                *(
                    lab.ledger.put_shard(
                        run.run_id,
                        ShardSummary(number=s.number, generation=0, summary=summary, part="none"),
                    )
                    for s in some
                )
            )
        return run.run_id
    finally:
        await lab.close()


def _at(case: Case, shard: int, first: int) -> Case:
    number = first + case.completion.case
    scores = case.scores and replace(case.scores, shard=shard, case=number)
    return Case(case.row, replace(case.completion, shard=shard, case=number), scores)


@contextlib.asynccontextmanager
async def worked_on(db: Path, run_id: str) -> AsyncIterator[RunRecord]:
    """Hold a run as the process that works on it does: locked, with the sum of its shards kept."""
    lab = StoreLab.open({"db_file": str(db)})
    run = await lab.ledger.get_run(run_id)
    assert run is not None
    so_far = SoFar(lab.ledger, run)
    async for shard in lab.ledger.shards(run_id):
        so_far.keep(shard)

    async def keep() -> None:
        number = -1
        while True:
            so_far.add(number, Summary())
            await so_far.record()
            number -= 1
            await asyncio.sleep(VALID_S / 3)

    async with lab._parts.runner.claimed(run_id):
        keeping = asyncio.create_task(keep())
        try:
            yield run
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await lab.close()
