"""The event loop, connections and settings that every function keeps between invocations.

The Python runtime knows no coroutines. One `asyncio.Runner` for the life of the process keeps the
event loop, and with it the connections; `asyncio.run` would close both after each invocation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import AfterValidator, BaseModel, ConfigDict

from promptlab.adapters.aws.lambda_sandbox import LambdaSandbox
from promptlab.domain.assets import Shard
from promptlab.domain.projects import DEFAULT_PROJECT, checked_project
from promptlab.engine.job import Outcome
from promptlab.store_lab import StoreLab
from promptlab.wiring import CloudConfig, open_cloud
from promptlab.worker import Worker

T = TypeVar("T")

RESERVE_S = 30.0
"""With less than this left, an invocation begins no further shard."""

logger = Logger()
metrics = Metrics(namespace="PromptLab")


@cache
def runner() -> asyncio.Runner:
    """The process's event loop."""
    return asyncio.Runner()


@cache
def config() -> CloudConfig:
    """Read from the environment where the stack keeps its things."""
    return CloudConfig.from_environment(os.environ)


@cache
def lab() -> StoreLab:
    """The lab of the stack."""
    return StoreLab(open_cloud(config()))


@cache
def worker() -> Worker:
    """The steps over it."""
    return Worker(lab())


def worker_of(task: RunEvent) -> Worker:
    """The steps over the project of a task, with the sandbox that its execution keeps to."""
    # An invocation has the process for itself.
    if isinstance(sandbox := lab().sandbox_or_none, LambdaSandbox):
        sandbox.call(task.functions.get("sandbox"))
    return worker().of(task.project)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, on the process's loop."""
    return runner().run(coroutine)


class RunEvent(BaseModel):
    """The input of a step: one pass over one run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    generation: int
    project: Annotated[str, AfterValidator(checked_project)] = DEFAULT_PROJECT
    """An execution that an older version started names none."""
    functions: Mapping[str, str] = {}
    """The ARNs of the versions of functions that the execution keeps to, by the step."""


class ManifestLine(BaseModel):
    """One line of the manifest: where the rows of a shard are, and of those that its
    worker is given besides."""

    model_config = ConfigDict(frozen=True)

    number: int
    first: int
    count: int
    offset: int
    length: int
    more: tuple[ManifestLine, ...] = ()

    def shards(self) -> list[Shard]:
        """The line as the engine knows it."""
        return [
            Shard(
                number=line.number, first=line.first, count=line.count, offset=line.offset, length=line.length
            )
            for line in (self, *self.more)
        ]


class ShardEvent(RunEvent):
    """The input of a step for one shard of a pass."""

    shard: ManifestLine


def each_shard(
    line: ManifestLine, context: LambdaContext, step: Callable[[Shard, float], Outcome]
) -> Outcome:
    """Do a step for the shards of a line and return those that are left; `step` is given a shard
    and the seconds that remain.

    A fault of one shard takes nothing from the others: it is raised once they are done. Where the step
    has to wait, or time is short, the rest counts as remaining and is done in another invocation.
    """
    shards, fault, outcome, remaining = line.shards(), None, Outcome(), 0
    while shards and not outcome.wait_s:
        left_s = context.get_remaining_time_in_millis() / 1000
        if left_s < RESERVE_S and len(shards) <= len(line.more):
            break
        try:
            outcome = step(shards.pop(0), left_s)
            remaining += outcome.remaining
        except Exception as error:  # noqa: BLE001 - raised below
            fault = fault or error
    if fault:
        raise fault
    return Outcome(remaining + sum(shard.count for shard in shards), outcome.wait_s)


def parsed(model: type[BaseModel], event: dict[str, Any]) -> Any:
    """The event, typed; its run and shard are in every log line from here on."""
    found = model.model_validate(event)
    names = {name: getattr(found, name, None) for name in ("project", "run_id", "generation")}
    shard = getattr(found, "shard", None)
    logger.append_keys(**names, shard=shard.number if shard else None)
    return found
