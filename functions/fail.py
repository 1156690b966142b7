"""RecordFault and RecordFailure: put into the ledger why a shard, or the run, could not be finished."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

from functions.runtime import ManifestLine, RunEvent, logger, parsed, run, worker_of

LONGEST = 2000
"""Characters of a cause that are kept."""


class Caught(BaseModel):
    """The error that the state machine caught."""

    error: str = Field(default="", alias="Error")
    cause: str = Field(default="", alias="Cause")


class FaultEvent(RunEvent):
    """A shard's fault; without a shard, the run's."""

    shard: ManifestLine | None = None
    error: Caught


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record the fault."""
    task: FaultEvent = parsed(FaultEvent, event)
    reason = f"{task.error.error}: {task.error.cause}"[:LONGEST]
    if task.shard and task.shard.more:
        reason = f"{reason} (its worker was given {len(task.shard.shards())} shards, this one first)"
    logger.error("fault", reason=reason)
    run(worker_of(task).fail(task.run_id, task.generation, reason, task.shard.number if task.shard else None))
    return {}
