"""Jobs: makes datasets from uploaded files, and files of results: the Studio invokes it."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import AfterValidator, BaseModel, ConfigDict

from functions.runtime import RESERVE_S, lab, logger, parsed, run
from promptlab.domain.projects import DEFAULT_PROJECT, checked_project
from promptlab.jobs import Jobs, TaskStarter


class JobEvent(BaseModel):
    """The job to do."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    project: Annotated[str, AfterValidator(checked_project)] = DEFAULT_PROJECT


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do the job; whatever becomes of it is recorded with it."""
    task: JobEvent = parsed(JobEvent, event)
    logger.append_keys(job_id=task.job_id)
    limit_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    job = run(Jobs(lab().for_project(task.project), TaskStarter()).work(task.job_id, limit_s=limit_s))
    logger.info("job", kind=job.kind, status=job.status, attempts=job.attempts)
    return {"status": job.status}
