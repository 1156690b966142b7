"""Infer: answers a shard's open cases."""

from __future__ import annotations

from math import ceil
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import ShardEvent, logger, metrics, parsed, run, worker


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer as many cases as time allows; the state machine comes again for the rest."""
    task: ShardEvent = parsed(ShardEvent, event)
    left_s = context.get_remaining_time_in_millis() / 1000
    outcome, tally = run(worker().infer(task.run_id, task.generation, task.shard.shard(), left_s))
    metrics.add_metric("Cases", MetricUnit.Count, tally.cases)
    metrics.add_metric("Failures", MetricUnit.Count, tally.failures)
    metrics.add_metric("PromptTokens", MetricUnit.Count, tally.prompt_tokens)
    metrics.add_metric("CompletionTokens", MetricUnit.Count, tally.completion_tokens)
    metrics.add_metric("CostUsd", MetricUnit.NoUnit, tally.cost_usd)
    metrics.add_metric("Throttles", MetricUnit.Count, tally.throttles)
    logger.info("inferred", cases=tally.cases, failed=tally.failures, remaining=outcome.remaining)
    return {"remaining": outcome.remaining, "wait_s": ceil(outcome.wait_s)}
