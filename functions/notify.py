"""Notify: tells of a run's end: its webhook, an event on EventBridge, a message on SNS. EventBridge calls."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.ended import StatusChange
from functions.runtime import lab, logger, parsed, run
from promptlab.adapters.aws.announcing import announce
from promptlab.adapters.aws.step_functions import named_by
from promptlab.domain.results import FINAL
from promptlab.webhooks import deliver, news


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Tell everybody who wants to know."""
    change: StatusChange = parsed(StatusChange, event)
    named = named_by(change.detail.name)
    if named is None:
        logger.warning("not a run's execution", execution=change.detail.name)
        return {}
    project, run_id, generation = named
    taken = run(_told(project, run_id, generation))
    logger.info("told", run_id=run_id, webhook=taken)
    return {"webhook": taken}


async def _told(project: str, run_id: str, generation: int) -> bool:
    its = lab().for_project(project)
    found = await its.ledger.get_run(run_id)
    if found is None:
        return True  # deleted meanwhile
    if found.generation != generation or found.status not in FINAL:
        # The news is late, or Ended has not recorded yet what became of it: Lambda calls again in a minute.
        if found.generation > generation:
            return True
        raise RuntimeError(f"run {run_id} is {found.status}: its end is not recorded yet")
    body = await news(its, found)
    await announce(body, topic=os.environ.get("PROMPTLAB_RUNS_TOPIC"), run_id=run_id, status=found.status)
    return await deliver(its.ledger, its.outbound, its.clock, run_id, body)
