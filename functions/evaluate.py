"""Evaluate: scores a shard's answers and sums the shard up."""

from __future__ import annotations

from math import ceil
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import ShardEvent, logger, parsed, run, worker


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Score the answers; cases without one go back to Infer."""
    task: ShardEvent = parsed(ShardEvent, event)
    left_s = context.get_remaining_time_in_millis() / 1000
    outcome = run(worker().evaluate(task.run_id, task.generation, task.shard.shard(), left_s))
    logger.info("evaluated", remaining=outcome.remaining)
    return {"remaining": outcome.remaining, "wait_s": ceil(outcome.wait_s)}
