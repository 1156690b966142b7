"""Marks runs whose execution was stopped, timed out or failed where no step could say
so: EventBridge calls it."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

from functions.runtime import logger, parsed, run, worker
from promptlab.adapters.aws.step_functions import named_by


class Detail(BaseModel):
    """The part of a "Step Functions Execution Status Change" event that counts."""

    name: str
    status: str


class StatusChange(BaseModel):
    """The event."""

    detail: Detail


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record the end."""
    change: StatusChange = parsed(StatusChange, event)
    named = named_by(change.detail.name)
    if named is None:
        # Somebody started the machine by hand, under a name of their own.
        logger.warning("not a run's execution", execution=change.detail.name)
        return {}
    project, run_id, generation = named
    run(worker().of(project).ended(run_id, generation, change.detail.status))
    return {}
