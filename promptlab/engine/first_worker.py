"""Of the workers that a run begins with one goes first: a wrong key is not tried by all of them at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable

from promptlab.domain.records import LEASE
from promptlab.domain.results import HALTED, RunRecord
from promptlab.engine.job import Job
from promptlab.engine.limits import models_of
from promptlab.errors import RunNotFoundError
from promptlab.ports import Clock, Ledger

PROBE_WAIT_S = 2.0
"""How long the workers that a run begins with wait for the first answer to one of them."""
LOOK_S = 0.25
FIRST_S = 15.0
"""For how long nobody else goes first."""
JUDGED_S = 86_400.0
"""For how long it is kept that the models of a pass's metrics answer."""
KEPT = 8
"""Passes of which a worker knows that."""


class FirstWorker:
    """Lets one worker of a pass go first, with the calls and with the evaluations that ask models."""

    def __init__(self, ledger: Ledger, clock: Clock, wait_s: float) -> None:
        """Ask the ledger who goes first; the others wait so many seconds for its first answer."""
        self._ledger, self._clock, self._wait_s = ledger, clock, wait_s
        self._judged = deque[str](maxlen=KEPT)

    async def may_call(self, job: Job) -> bool:
        """Whether the calls of a shard may begin; False where the run is over."""

        async def proven(now: RunRecord) -> bool:
            return now.proven == now.generation

        if job.workers > 1 and not job.prospects.is_proven:
            found = await self._after_the_first(job.run, "probe", proven)
            if found is not None:
                return found
        job.prospects.begin()
        return True

    async def may_judge(self, job: Job) -> bool:
        """Whether the evaluations of a shard may begin; False where the run is over."""
        asks = any(True for _, evaluator in job.bindings.evaluators for _ in models_of(evaluator))
        if job.workers == 1 or not asks or await self.is_judged(job.run):
            return True
        return await self._after_the_first(job.run, "judge", self.is_judged) is not False

    async def is_judged(self, run: RunRecord) -> bool:
        """Whether a model of a metric is known to have answered in this pass."""
        name = _judged(run)
        if name not in self._judged and await self._ledger.get_record(LEASE, name) is not None:
            self._judged.append(name)
        return name in self._judged

    async def record_judged(self, run: RunRecord) -> bool:
        """Record that a model of a metric answered in this pass, once."""
        if _judged(run) in self._judged:
            return True
        self._judged.append(_judged(run))
        ends = time.time() + JUDGED_S
        return await self._ledger.put_record(LEASE, _judged(run), {"owner": ""}, expires_at=ends)

    async def _after_the_first(
        self, run: RunRecord, what: str, is_proven: Callable[[RunRecord], Awaitable[bool]]
    ) -> bool | None:
        """Wait until the worker that went first has its first answer, for a while: True once it has, False
        where the run is over, None for who goes first, or waited long enough.

        Raises:
            RunNotFoundError: the run is deleted.
        """
        name, ends = f"{run.run_id}#{run.generation}#{what}", time.time() + FIRST_S
        if await self._ledger.put_record(LEASE, name, {"owner": ""}, expires_at=ends, only_if_absent=True):
            return None
        patience = self._clock.monotonic() + self._wait_s
        while self._clock.monotonic() < patience:
            await self._clock.sleep(LOOK_S)
            now = await self._ledger.get_run(run.run_id)
            if now is None or now.deleting_since:
                raise RunNotFoundError(run.run_id)
            if now.status in HALTED or now.generation > run.generation:
                return False
            if await is_proven(now):
                return True
        return None


def _judged(run: RunRecord) -> str:
    return f"{run.run_id}#{run.generation}#judged"
