"""Infer: answers the open cases of a shard, or of a few; of a run in batch mode, all of them."""

from __future__ import annotations

from math import ceil
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import RunEvent, ShardEvent, each_shard, logger, metrics, parsed, run, worker_of
from promptlab.domain.assets import Shard
from promptlab.engine.job import Outcome
from promptlab.worker import Tally


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer as many cases as time allows; the state machine comes again for the rest.

    An event without a shard is of the state Batch: the whole run, in batches of its provider.
    """
    if "shard" not in event:
        return _batch(parsed(RunEvent, event), context)
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


def _batch(task: RunEvent, context: LambdaContext) -> dict[str, Any]:
    left_s = context.get_remaining_time_in_millis() / 1000
    outcome, tally = run(worker_of(task).batch(task.run_id, task.generation, left_s))
    _count(tally)
    logger.info(
        "batched",
        cases=tally.cases,
        failed=tally.failures,
        remaining=outcome.remaining,
        wait_s=outcome.wait_s,
    )
    return {"remaining": outcome.remaining, "wait_s": ceil(outcome.wait_s)}


def _count(tally: Tally) -> None:
    metrics.add_metric("Cases", MetricUnit.Count, tally.cases)
    metrics.add_metric("Failures", MetricUnit.Count, tally.failures)
    metrics.add_metric("PromptTokens", MetricUnit.Count, tally.prompt_tokens)
    metrics.add_metric("CompletionTokens", MetricUnit.Count, tally.completion_tokens)
    metrics.add_metric("CostUsd", MetricUnit.NoUnit, tally.cost_usd)
    metrics.add_metric("Throttles", MetricUnit.Count, tally.throttles)
