"""The plan of 1,000,000 rows."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import orjson

from functions import plan, runtime
from promptlab import Dataset, PromptTemplate
from promptlab.domain.assets import DatasetContent, Shard
from tests.functions.conftest import Context, Machine

ROWS, SHARDS, SHARD = 1_000_000, 20_000, 50
BOUND_BYTES = 22 << 20
"""Beyond what is loaded anyway. The index is 1.7 MB and is streamed; the S3 of this process copies what
it is sent, and is measured with it: 12 to 17.5 MB. 20,000 lines as objects would be 12 MB more."""


def test_a_million_rows_are_planned_in_bounded_memory(machine: Machine) -> None:
    """20,000 shards, each once and whole, from the index of the dataset alone: no row is read."""
    run = machine.start(
        {
            "name": "million",
            "dataset": Dataset(name="rows", rows=[{"q": "x"}]),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
            "model": {"name": "simulated/demo", "max_concurrent_tasks": 5000},
        }
    )
    grow(machine, run.run_id)
    plan.handler({"run_id": run.run_id, "generation": 0}, Context())  # once, so that everything is loaded
    tracemalloc.start()
    try:
        planned = plan.handler({"run_id": run.run_id, "generation": 0}, Context())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (planned["shards"], planned["max_concurrency"]) == (SHARDS, 7)
    assert peak < BOUND_BYTES
    lines = [
        orjson.loads(line) for line in runtime.run(machine.lab.blobs.get(planned["manifest"])).splitlines()
    ]
    shards = [shard for line in lines for shard in (line, *line.get("more", ()))]
    assert [(shard["number"], shard["first"], shard["count"]) for shard in shards] == [
        (n, n * SHARD, SHARD) for n in range(SHARDS)
    ]


def grow(machine: Machine, run_id: str) -> None:
    """Make the run's dataset one of a million rows: only its index is there."""
    index = b"".join(
        orjson.dumps(Shard(n, n * SHARD, SHARD, n * 5000, 5000), option=orjson.OPT_APPEND_NEWLINE)
        for n in range(SHARDS)
    )
    runtime.run(machine.lab.blobs.put("datasets/million.index.jsonl", index))
    asset = runtime.run(machine.lab.ledger.get_asset("dataset", "rows"))
    content = replace(
        DatasetContent.from_json(asset.content),
        index="datasets/million.index.jsonl",
        rows=ROWS,
        shards=SHARDS,
    )
    runtime.run(machine.lab.ledger.add_asset(replace(asset, version=1, content=content.to_json())))
    run = runtime.run(machine.lab.ledger.get_run(run_id))
    runtime.run(
        machine.lab.ledger.update_run(
            run_id,
            {
                "experiment": {**run.experiment, "dataset": {**run.experiment["dataset"], "version": 1}},
                "cases": ROWS,
            },
        )
    )
