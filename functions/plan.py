"""Plan: writes the manifest of the shards that have work left."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import RunEvent, config, logger, parsed, run, worker_of
from promptlab.adapters.aws.function_versions import FunctionVersions


class PlanEvent(RunEvent):
    """The input of a plan; of a run that may end early there are several."""

    done: int = 0
    """The rows of the plan before, which was worked through; 0 for the first of an execution."""


@cache
def versions() -> FunctionVersions:
    """The versions of this stack's functions."""
    return FunctionVersions()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Give the state machine what it maps over."""
    task: PlanEvent = parsed(PlanEvent, event)
    planned = run(worker_of(task).plan(task.run_id, task.generation, task.done))
    functions = task.functions or run(versions().pinned(config().functions))
    logger.info("planned", shards=planned.shards, functions=functions)
    return {
        "run_id": task.run_id,
        "generation": task.generation,
        "project": task.project,
        "bucket": config().bucket,
        "manifest": planned.manifest,
        "map_prefix": planned.map_prefix,
        "shards": planned.shards,
        "max_concurrency": planned.max_concurrency,
        "functions": functions,
        "batch": planned.batch,
        "rows": planned.rows,
        "more": planned.more,
    }
