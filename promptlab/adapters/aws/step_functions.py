"""Runs as executions of the state machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from promptlab.adapters.aws.session import AwsSession
from promptlab.domain.results import FINAL, Progress, RunRecord
from promptlab.errors import RunBusyError
from promptlab.ports import Clock, Ledger

POLL_S = 2.0


class StepFunctionsRunner:
    """Starts one execution for each pass over a run, under a name that makes a second start of
    the same pass harmless."""

    def __init__(
        self, state_machine: str, ledger: Ledger, clock: Clock, *, session: AwsSession | None = None
    ) -> None:
        self._machine, self._ledger, self._clock = state_machine, ledger, clock
        self._clients = (session or AwsSession()).clients(
            "stepfunctions", retries={"mode": "standard", "total_max_attempts": 5}
        )

    @asynccontextmanager
    async def claimed(self, run_id: str) -> AsyncIterator[None]:
        """Nothing to hold: the execution's name holds the pass.

        Raises:
            RunBusyError: an execution works on the run.
        """
        run = await self._ledger.get_run(run_id)
        if run is not None and await self.is_active(run):
            raise RunBusyError(f"Run {run_id} is being worked on. Wait for it, or cancel it, then resume.")
        yield

    async def is_active(self, run: RunRecord) -> bool:
        """Whether the execution of the run's newest pass goes on."""
        client = await self._clients.get()
        try:
            found: dict[str, Any] = await client.describe_execution(executionArn=self._arn(run))
        except client.exceptions.ExecutionDoesNotExist:
            return False
        return bool(found["status"] in ("RUNNING", "PENDING_REDRIVE"))

    async def hand_over(self, run: RunRecord) -> bool:
        """Start the execution of this pass, unless it was started before."""
        client = await self._clients.get()
        body = orjson.dumps({"run_id": run.run_id, "generation": run.generation}).decode()
        with suppress(client.exceptions.ExecutionAlreadyExists):  # the same pass, handed over twice
            await client.start_execution(stateMachineArn=self._machine, name=_name(run), input=body)
        return True

    async def run(
        self, run: RunRecord, work: Any, on_progress: Callable[[Progress], None] | None = None
    ) -> RunRecord:
        """Start the execution and wait for the run's end. Cancelling the wait leaves the execution going."""
        await self.hand_over(run)
        while True:
            now = await self._ledger.get_run(run.run_id)
            assert now is not None
            if on_progress:
                on_progress(await self._ledger.progress(run.run_id))
            if now.status in FINAL:
                return now
            await self._clock.sleep(POLL_S)

    async def cancel(self, run: RunRecord) -> None:
        """Stop the execution, and with it its shards. What was answered stays."""
        client = await self._clients.get()
        with suppress(client.exceptions.ExecutionDoesNotExist):  # it never began
            await client.stop_execution(
                executionArn=self._arn(run), error="Cancelled", cause="The run was cancelled."
            )

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()

    def _arn(self, run: RunRecord) -> str:
        return f"{self._machine.replace(':stateMachine:', ':execution:')}:{_name(run)}"


def _name(run: RunRecord) -> str:
    return f"{run.run_id}-{run.generation}"
