"""What every function keeps between invocations.

The Python runtime knows no coroutines. One `asyncio.Runner` for the life of the process keeps the
event loop, and with it the connections; `asyncio.run` would close both after each invocation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from aws_lambda_powertools import Logger, Metrics
from pydantic import BaseModel, ConfigDict

from promptlab.domain.assets import Shard
from promptlab.lab import Lab
from promptlab.wiring import CloudConfig, open_cloud
from promptlab.worker import Worker

T = TypeVar("T")

logger = Logger()
metrics = Metrics(namespace="PromptLab")


@cache
def runner() -> asyncio.Runner:
    """The process's event loop."""
    return asyncio.Runner()


@cache
def config() -> CloudConfig:
    """Where the stack keeps its things."""
    return CloudConfig.from_environment(os.environ)


@cache
def lab() -> Lab:
    """The lab of the stack."""
    return Lab(open_cloud(config()))


@cache
def worker() -> Worker:
    """The steps over it."""
    return Worker(lab(), max_concurrency=config().max_concurrency)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, on the process's loop."""
    return runner().run(coroutine)


class RunEvent(BaseModel):
    """Which pass over which run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    generation: int


class ManifestLine(BaseModel):
    """One line of the manifest: where the shard's rows are."""

    model_config = ConfigDict(frozen=True)

    number: int
    first: int
    count: int
    offset: int
    length: int

    def shard(self) -> Shard:
        """The line as the engine knows it."""
        return Shard(number=self.number, first=self.first, count=self.count, offset=self.offset, length=self.length)


class ShardEvent(RunEvent):
    """Which shard of it."""

    shard: ManifestLine


def parsed(model: type[BaseModel], event: dict[str, Any]) -> Any:
    """The event, typed; its run and shard are in every log line from here on."""
    found = model.model_validate(event)
    names = {"run_id": getattr(found, "run_id", None), "generation": getattr(found, "generation", None)}
    shard = getattr(found, "shard", None)
    logger.append_keys(**names, shard=shard.number if shard else None)
    return found
