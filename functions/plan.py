"""Plan: writes the manifest of the shards that have work left."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import RunEvent, config, logger, parsed, run, worker


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Give the state machine what it maps over."""
    task: RunEvent = parsed(RunEvent, event)
    planned = run(worker().plan(task.run_id, task.generation))
    logger.info("planned", shards=planned.shards)
    return {
        "run_id": task.run_id,
        "generation": task.generation,
        "bucket": config().bucket,
        "manifest": planned.manifest,
        "shards": planned.shards,
        "max_concurrency": planned.max_concurrency,
    }
