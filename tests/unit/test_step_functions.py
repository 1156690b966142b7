"""Runs as executions, against moto's Step Functions: who starts them, whether they go on, and what throttling
does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pytest

from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.aws.step_functions import FRESH_S, KEPT_S, StepFunctionsRunner
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.errors import RunBusyError
from tests import aws
from tests.aws_faults import Asked, FaultyAws, QuickClock
from tests.contract.builders import run

STARTED = "2026-11-23T09:00:00.000000Z"


@dataclass(slots=True)
class Noon(QuickClock):
    """A clock whose time of day goes on with its seconds."""

    def now(self) -> str:
        moment = datetime.fromisoformat(STARTED) + timedelta(seconds=self.seconds)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class World:
    """A runner over a ledger, and AWS behind a proxy."""

    runner: StepFunctionsRunner
    ledger: SqliteLedger
    clock: Noon
    faulty: FaultyAws


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    aws.credentials(monkeypatch)
    client = boto3.client("stepfunctions", region_name=aws.REGION, endpoint_url=aws.moto_url())
    waiting = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 3600, "End": True}}}
    machine = client.create_state_machine(
        name=f"machine-{tmp_path.name[-40:]}",
        definition=json.dumps(waiting),
        roleArn="arn:aws:iam::123456789012:role/any",
    )["stateMachineArn"]
    client.close()
    async with FaultyAws() as faulty:
        ledger, clock = SqliteLedger(tmp_path / "lab.db"), Noon()
        session = AwsSession(region=aws.REGION, endpoint_url=faulty.url, patience_s=5)
        runner = StepFunctionsRunner(machine, ledger, clock, session=session)
        yield World(runner, ledger, clock, faulty)
        await runner.close()
        await ledger.close()


RUNNING = replace(run(), status="running", created_at=STARTED, started_at=STARTED)


async def test_within_a_minute_of_its_start_a_run_goes_on_whatever_step_functions_knows(world: World) -> None:
    """DescribeExecution finds a new execution only after a while; afterwards its word counts."""
    assert await world.runner.is_active(RUNNING)
    assert world.faulty.count("DescribeExecution") == 0
    world.clock.seconds = FRESH_S + 1
    assert not await world.runner.is_active(RUNNING)
    assert world.faulty.count("DescribeExecution") == 1


async def test_a_run_whose_worker_was_just_seen_goes_on_without_a_question(world: World) -> None:
    """The ledger's mark stands for Step Functions'; an old one does not."""
    world.clock.seconds = 7200
    fresh = replace(RUNNING, beat_at=world.clock.now())
    assert await world.runner.is_active(fresh)
    assert world.faulty.count("DescribeExecution") == 0
    world.clock.seconds += FRESH_S + 1
    assert not await world.runner.is_active(fresh)
    ended = replace(fresh, status="cancelled", beat_at=world.clock.now())
    assert not await world.runner.is_active(ended)


async def test_a_list_that_looks_often_asks_once_in_a_while(world: World) -> None:
    """Eight runs of half an hour that wait for their provider: a page each second."""
    await world.runner.hand_over(RUNNING)
    world.clock.seconds = 1800
    for _ in range(60):
        assert await world.runner.is_active(RUNNING)
        world.clock.seconds += 1
    assert world.faulty.count("DescribeExecution") == 60 / KEPT_S


async def test_what_is_remembered_of_executions_is_bounded(world: World) -> None:
    world.runner.most_kept = 3
    world.clock.seconds = 1800
    for number in range(10):
        one = replace(RUNNING, run_id=f"run-{number}")
        await world.runner.hand_over(one)
        await world.runner.is_active(one)
        assert len(world.runner._seen) <= 3


@pytest.mark.parametrize("status", ["running", "cancelled"])
async def test_throttling_makes_no_list_fail(world: World, status: str) -> None:
    """What cannot be asked now is as the ledger has it."""
    world.clock.seconds = 1800
    world.faulty.fault = lambda asked: "throttled" if asked.operation == "DescribeExecution" else None
    assert await world.runner.is_active(replace(RUNNING, status=status)) == (status == "running")
    world.faulty.fault = lambda asked: "refused"
    with pytest.raises(Exception, match="AccessDenied"):
        await world.runner.is_active(replace(RUNNING, run_id="other"))


async def test_a_run_is_claimed_only_when_nothing_works_on_it(world: World) -> None:
    """A claim asks anew, whatever was remembered for lists."""
    await world.ledger.add_run(RUNNING)
    async with world.runner.claimed(RUNNING.run_id):
        pass
    await world.runner.hand_over(RUNNING)
    world.clock.seconds = 1800
    assert await world.runner.is_active(RUNNING)
    with pytest.raises(RunBusyError):
        async with world.runner.claimed(RUNNING.run_id):
            pass
    await world.runner.cancel(RUNNING)
    async with world.runner.claimed(RUNNING.run_id):
        pass
    await world.ledger.update_run(RUNNING.run_id, {"beat_at": world.clock.now()})
    with pytest.raises(RunBusyError):
        async with world.runner.claimed(RUNNING.run_id):
            pass


async def test_a_cancellation_takes_effect_where_step_functions_has_no_time_for_it(world: World) -> None:
    """The ledger has it, and workers look there; what is refused for good is an error."""
    await world.runner.hand_over(RUNNING)
    world.faulty.fault = lambda asked: "throttled" if asked.operation == "StopExecution" else None
    await world.runner.cancel(RUNNING)
    assert world.faulty.count("StopExecution") == 3
    world.faulty.fault = lambda asked: "refused"
    with pytest.raises(Exception, match="AccessDenied"):
        await world.runner.cancel(RUNNING)


async def test_handing_over_again_starts_what_was_not_started_and_nothing_twice(world: World) -> None:
    def first_is_refused(asked: Asked) -> str | None:
        return "refused" if asked.operation == "StartExecution" and asked.number == 0 else None

    world.faulty.fault = first_is_refused  # type: ignore[assignment]
    with pytest.raises(Exception, match="AccessDenied"):
        await world.runner.hand_over(RUNNING)
    for _ in range(2):
        assert await world.runner.hand_over(RUNNING)
    world.clock.seconds = 1800
    assert await world.runner.is_active(RUNNING)
