"""Runs as executions of the state machine."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

import orjson

from promptlab.adapters.aws.busy import is_busy
from promptlab.adapters.aws.session import AwsSession
from promptlab.domain.projects import DEFAULT_PROJECT, is_project_name
from promptlab.domain.results import FINAL, Progress, RunRecord, waits_for
from promptlab.errors import RunBusyError
from promptlab.ports import Clock, Ledger

POLL_S = 2.0
FRESH_S = 60.0
"""For how long a run whose pass began, or whose worker was seen, needs no further proof that it goes on:
workers are seen every 20 to 30 seconds, and Step Functions knows an execution only some time after its
start."""
KEPT_S = 30.0
"""How long an answer of DescribeExecution is used again: an account has 15 of them a second, and a list of
runs asks for each that goes on."""
MOST_KEPT = 1_000

logger = logging.getLogger(__name__)


class StepFunctionsRunner:
    """Starts one execution for each pass over a run, under a name that makes a second start of the same pass
    harmless."""

    def __init__(
        self, state_machine: str, ledger: Ledger, clock: Clock, *, session: AwsSession | None = None
    ) -> None:
        self._machine, self._ledger, self._clock = state_machine, ledger, clock
        self._clients = (session or AwsSession()).clients(
            "stepfunctions", retries={"mode": "standard", "total_max_attempts": 5}
        )
        self._project = DEFAULT_PROJECT
        self.most_kept = MOST_KEPT
        self._seen: dict[str, tuple[float, bool]] = {}
        """Per execution when it was described, and whether it went on."""

    def for_project(self, project: str, ledger: Ledger) -> Self:
        """The runner of one project's runs, over the same connections."""
        part = copy.copy(self)
        part._project, part._ledger = project, ledger
        return part

    @asynccontextmanager
    async def claimed(self, run_id: str) -> AsyncIterator[None]:
        """Nothing to hold: the execution's name holds the pass.

        Raises:
            RunBusyError: an execution works on the run.
        """
        run = await self._ledger.get_run(run_id)
        # That its pass began a moment ago holds nobody off: who claims it may be about to start it.
        if run is not None and (self._is_fresh(run, run.beat_at) or await self._goes_on(run)):
            raise RunBusyError(f"Run {run_id} is being worked on. Wait for it, or cancel it, then resume.")
        yield

    async def is_active(self, run: RunRecord) -> bool:
        """Whether the newest pass goes on: by the ledger where it can tell, else by Step Functions.

        What Step Functions cannot say now is believed to be as the ledger has it: no list fails for that.
        """
        if self._is_fresh(run, run.beat_at, run.started_at or run.created_at):
            return True
        described_at, active = self._seen.get(self._name(run), (float("-inf"), False))
        if self._clock.monotonic() - described_at < KEPT_S:
            return active
        try:
            return await self._goes_on(run)
        except Exception as error:
            if not is_busy(error):
                raise
            logger.warning("whether run %s goes on cannot be asked now: %s", run.run_id, error)
            return run.status not in FINAL

    async def hand_over(self, run: RunRecord) -> bool:
        """Start the execution of this pass, unless it was started before."""
        client = await self._clients.get()
        task = {"run_id": run.run_id, "generation": run.generation, "project": self._project}
        with suppress(client.exceptions.ExecutionAlreadyExists):  # the same pass, handed over twice
            await client.start_execution(
                stateMachineArn=self._machine, name=self._name(run), input=orjson.dumps(task).decode()
            )
        return True

    async def run(
        self,
        run: RunRecord,
        work: Any,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        leave: bool = False,
    ) -> RunRecord:
        """Start the execution and wait for the run's end. Cancelling the wait leaves the execution going."""
        await self.hand_over(run)
        if leave:
            return run
        while True:
            now = await self._ledger.get_run(run.run_id)
            assert now is not None
            if on_progress:
                seen = await self._ledger.progress(run.run_id)
                on_progress(replace(seen, waiting=waits_for(now)))
            if now.status in FINAL:
                return now
            await self._clock.sleep(POLL_S)

    async def cancel(self, run: RunRecord) -> None:
        """Stop the execution, and with it its shards. What was answered stays.

        The ledger has it already, and workers look there: where Step Functions has no time for it now, the
        cancellation takes effect all the same, some seconds later.
        """
        client = await self._clients.get()
        try:
            await client.stop_execution(
                executionArn=self._arn(run), error="Cancelled", cause="The run was cancelled."
            )
        except (client.exceptions.ExecutionDoesNotExist, client.exceptions.ValidationException):
            return  # it never began, or it is over
        except Exception as error:
            if not is_busy(error):
                raise
            logger.warning("the execution of run %s is left to end by itself: %s", run.run_id, error)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()

    def _is_fresh(self, run: RunRecord, *signs: str | None) -> bool:
        """Whether the ledger alone tells that a pass goes on: by the moments of signs that it does."""
        if run.status in FINAL:
            return False
        now = datetime.fromisoformat(self._clock.now())
        ages = [(now - datetime.fromisoformat(sign)).total_seconds() for sign in signs if sign]
        return any(age < FRESH_S for age in ages)

    async def _goes_on(self, run: RunRecord) -> bool:
        client = await self._clients.get()
        try:
            found: dict[str, Any] = await client.describe_execution(executionArn=self._arn(run))
        except client.exceptions.ExecutionDoesNotExist:
            return False
        active = found["status"] in ("RUNNING", "PENDING_REDRIVE")
        if len(self._seen) >= self.most_kept:
            self._seen.clear()
        self._seen[self._name(run)] = self._clock.monotonic(), active
        return active

    def _arn(self, run: RunRecord) -> str:
        return f"{self._machine.replace(':stateMachine:', ':execution:')}:{self._name(run)}"

    def _name(self, run: RunRecord) -> str:
        return execution_name(self._project, run.run_id, run.generation)


def execution_name(project: str, run_id: str, generation: int) -> str:
    """The name of the execution of a pass; equal ids of two projects are two executions."""
    name = f"{run_id}-{generation}"
    return name if project == DEFAULT_PROJECT else f"{project}.{name}"


def named_by(name: str) -> tuple[str, str, int] | None:
    """Project, run and pass of an execution's name; None for one that somebody chose by hand."""
    project, _, rest = name.rpartition(".")
    run_id, _, generation = rest.rpartition("-")
    if not generation.isdecimal() or (project and not is_project_name(project)):
        return None
    return project or DEFAULT_PROJECT, run_id, int(generation)
