"""One run of the bench, in a process that loads what a script of a user would.

python -m tests.bench.one_run DATASET URL CALLS_IN_FLIGHT DB
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from typing import Any

import orjson

from promptlab import PromptLab


async def measured(dataset: str, url: str, in_flight: int, db: str) -> dict[str, Any]:
    """Run once here, with a heartbeat that finds the longest time the event loop was blocked."""
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - before - 0.01)

    lab = PromptLab({"type": "sqlite", "db_file": db})
    beat = asyncio.create_task(heartbeat())
    started = time.perf_counter()
    run = await lab.run_experiment_async(
        {
            "name": "bench",
            "dataset": {"name": "qa", "file_path": dataset},
            "prompt_template": {
                "name": "quiz",
                "system_prompt": "You are a terse quiz assistant. Reply with the answer only.",
                "user_prompt": "Question: <question>\nAnswer with one short phrase.",
            },
            "model": {"name": "openai/mock", "endpoint": url, "max_concurrent_tasks": in_flight},
            "evaluation": [
                {"metric": "exact_match", "column_mapping": {"response": "$inference", "reference": "answer"}}
            ],
        }
    )
    wall_s = time.perf_counter() - started
    beat.cancel()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    assert run.summary is not None
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": usage.ru_maxrss / 1024,
        "blocked_ms": longest * 1000,
        "succeeded": run.summary.succeeded,
        "accuracy": run.summary.metrics["exact_match"].mean,
    }


if __name__ == "__main__":
    found = asyncio.run(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    sys.stdout.buffer.write(orjson.dumps(found))
