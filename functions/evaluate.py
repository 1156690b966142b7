"""Evaluate: scores the answers of a shard, or of a few, and sums each shard up."""

from __future__ import annotations

from math import ceil
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import ShardEvent, each_shard, logger, parsed, run, worker_of


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Score the answers; cases without one go back to Infer."""
    task: ShardEvent = parsed(ShardEvent, event)
    outcome = each_shard(
        task.shard,
        context,
        lambda shard, left_s: run(worker_of(task).evaluate(task.run_id, task.generation, shard, left_s)),
    )
    logger.info("evaluated", remaining=outcome.remaining)
    return {"remaining": outcome.remaining, "wait_s": ceil(outcome.wait_s)}
