"""What the steps of one run work with in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import Experiment, Metric
from promptlab.domain.results import Completion, Failure, RunRecord
from promptlab.engine.limits import AdaptiveLimiter, Deadline
from promptlab.evaluators.base import Evaluator
from promptlab.models.base import Model
from promptlab.ports import Blobs, Clock, Ledger

Row = dict[str, Any]

WRITE_PAUSES_S = (0.5, 2.0)
"""Before each further try to write what could not be written."""
MAX_BATCH = 25
"""Completions in one write: what DynamoDB takes, and so few that those who waited for it do not all want the event loop at once."""


@dataclass(slots=True)
class Bindings:
    """The live objects that an experiment names."""

    model: Model
    """The model; for an agent, the agent as one."""
    messages: Callable[[Row], Awaitable[Sequence[dict[str, str]]]]
    """A row's rendered chat messages; for an agent, one message that stands for the row."""
    content: DatasetContent
    evaluators: Sequence[tuple[Metric, Evaluator]]
    embedding_model: Model | None = None

    async def aclose(self) -> None:
        """Release the models' connections."""
        for model in (self.model, self.embedding_model):
            if model is not None:
                await model.aclose()


@dataclass(slots=True)
class Job:
    """One run, in one process: what every step is given."""

    ledger: Ledger
    blobs: Blobs
    clock: Clock
    run: RunRecord
    experiment: Experiment
    bindings: Bindings
    limiter: AdaptiveLimiter
    recorder: Recorder
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step has left to do."""

    remaining: int = 0
    """Cases not yet done, because time ran out or the provider asked for a long pause."""
    wait_s: float = 0.0
    """Seconds to wait before the step is worth another try."""


@dataclass(slots=True)
class Recorder:
    """Group commit: one write at a time, and all that arrives meanwhile goes into the next.

    A batch is as large as the store is slow, so nothing waits for a timer. What cannot be written is
    tried again, for it was paid for; when that does not help, `limiter` lets no further call start.
    """

    write: Callable[[Sequence[Completion]], Awaitable[None]]
    limiter: AdaptiveLimiter
    clock: Clock
    on_record: Callable[[Completion], None] | None = None
    _pending: list[tuple[Completion, asyncio.Future[None]]] = field(default_factory=list)
    _flusher: asyncio.Task[None] | None = None

    async def record(self, completion: Completion) -> None:
        """Return when the completion is durable. A cancelled caller does not take its completion back."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((completion, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        await future

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
            error = await self._written([completion for completion, _ in batch])
            for completion, future in batch:
                if error is None and self.on_record:
                    self.on_record(completion)
                if future.done():
                    continue  # its caller was cancelled
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        self._flusher = None

    async def _written(self, batch: Sequence[Completion]) -> BaseException | None:
        """Write a batch, or say why that is not possible."""
        for pause_s in WRITE_PAUSES_S:
            (error,) = await asyncio.gather(self.write(batch), return_exceptions=True)
            if error is None:
                return None
            await self.clock.sleep(pause_s)
        (error,) = await asyncio.gather(self.write(batch), return_exceptions=True)
        if error is not None:
            self.limiter.stop()
        return error

    async def drain(self) -> None:
        """Wait until all that was handed over is written, or its callers know why not."""
        while self._flusher is not None:
            await asyncio.shield(self._flusher)


def redo(error: Failure | None, generation: int, run: RunRecord) -> bool:
    """Whether a recorded result is to be made again: it failed, in a pass before the one that asks for that."""
    return error is not None and generation < run.redo_before


def cancelled_from_outside() -> bool:
    """Whether the running task itself was asked to stop; else a CancelledError is one that a user's code let out."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
