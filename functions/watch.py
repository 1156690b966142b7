"""Watch: looks at a run that goes on, beside its execution, and counts for how long it has made no
progress."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

from functions.runtime import RunEvent, lab, logger, metrics, parsed, run
from promptlab.domain.results import FINAL


class Seen(BaseModel):
    """The state of the run at an earlier look."""

    done: int
    """Cases that had ended."""
    since: datetime
    """When that was first so."""


class WatchEvent(RunEvent):
    """One look; the first has no earlier one."""

    seen: Seen | None = None


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Look once. The state machine comes again until the run, or this pass over it, is over."""
    task: WatchEvent = parsed(WatchEvent, event)
    seen = run(_look(task))
    return {
        "run_id": task.run_id,
        "generation": task.generation,
        "project": task.project,
        "seen": seen.model_dump(mode="json") if seen else None,
        "over": seen is None,
    }


async def _look(task: WatchEvent) -> Seen | None:
    """Return what is there to see; None when there is nothing to look at any more."""
    its = lab().for_project(task.project)
    record = await its.ledger.get_run(task.run_id)
    if record is None or record.status in FINAL or record.generation > task.generation:
        return None
    done, now = (await its.progress(task.run_id)).done, datetime.fromisoformat(its.clock.now())
    seen = task.seen if task.seen and task.seen.done == done else Seen(done=done, since=now)
    minutes = (now - seen.since).total_seconds() / 60
    # Only while a run goes on: without data the alarm is quiet, and nothing is paid for.
    metrics.add_metric("MinutesWithoutProgress", MetricUnit.NoUnit, minutes)
    metrics.flush_metrics()
    logger.info("looked", done=done, minutes_without_progress=round(minutes, 1))
    return seen
