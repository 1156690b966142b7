"""Infer: answers the open cases of a shard, or of a few."""

from __future__ import annotations

from math import ceil
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import ShardEvent, each_shard, logger, metrics, parsed, run, worker_of
from promptlab.domain.assets import Shard
from promptlab.engine.job import Outcome
from promptlab.worker import Tally


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer as many cases as time allows; the state machine comes again for the rest."""
    task: ShardEvent = parsed(ShardEvent, event)

    def infer(shard: Shard, left_s: float) -> Outcome:
        outcome, tally = run(worker_of(task).infer(task.run_id, task.generation, shard, left_s))
        _count(tally)
        logger.info(
            "inferred",
            number=shard.number,
            cases=tally.cases,
            failed=tally.failures,
            remaining=outcome.remaining,
        )
        return outcome

    outcome = each_shard(task.shard, context, infer)
    return {"remaining": outcome.remaining, "wait_s": ceil(outcome.wait_s)}


def _count(tally: Tally) -> None:
    metrics.add_metric("Cases", MetricUnit.Count, tally.cases)
    metrics.add_metric("Failures", MetricUnit.Count, tally.failures)
    metrics.add_metric("PromptTokens", MetricUnit.Count, tally.prompt_tokens)
    metrics.add_metric("CompletionTokens", MetricUnit.Count, tally.completion_tokens)
    metrics.add_metric("CostUsd", MetricUnit.NoUnit, tally.cost_usd)
    metrics.add_metric("Throttles", MetricUnit.Count, tally.throttles)
