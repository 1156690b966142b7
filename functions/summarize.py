"""Summarize: adds up the shards and gives the run its final status."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import RunEvent, logger, parsed, run, worker_of


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """End the run."""
    task: RunEvent = parsed(RunEvent, event)
    record, summary = run(worker_of(task).summarize(task.run_id, task.generation))
    logger.info("summarized", status=record.status, cases=summary.cases, failed=summary.failed)
    return {"status": record.status}
