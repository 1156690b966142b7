"""A provider that is gone is waited for: the run pauses as a whole, asks with one call, and goes on."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.domain.results import Progress
from promptlab.engine.halting import Halt
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.engine.outage import LONGEST_PAUSE_S, Outage, Paused
from promptlab.errors import ModelError
from promptlab.models.retry import Postponed, RetryPolicy, Slot, with_retries
from tests.servers import ModelServer, Reply


class StepClock:
    """A clock whose time goes on when everybody sleeps, to the next who wakes."""

    def __init__(self) -> None:
        self.at, self._begun = 0.0, 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> str:
        return "2026-01-01T00:00:00.000000Z"

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._begun += 1
        self._sleepers.append((self.at + max(0.0, seconds), self._begun, future))
        await future

    async def run(self, work: asyncio.Future[Any]) -> None:
        """Let time go on until `work` is done."""
        while not work.done():
            for _ in range(200):
                await asyncio.sleep(0)
            self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[2].done()]
            if not work.done() and self._sleepers:
                first = min(self._sleepers)
                self.at = max(self.at, first[0])
                self._sleepers.remove(first)
                first[2].set_result(None)


def gone() -> ModelError:
    return ModelError("m: the connection failed: refused", type="connection", retryable=True, sent=False)


class Provider:
    """A provider that is gone from one moment to another, and counts who asks it."""

    def __init__(self, clock: StepClock, down: tuple[float, float]) -> None:
        self.clock, self.down = clock, down
        self.asked: list[float] = []

    async def __call__(self) -> str:
        await self.clock.sleep(0.2)
        self.asked.append(self.clock.at)
        if self.down[0] <= self.clock.at < self.down[1]:
            raise gone()
        return "fine"


async def answers(
    clock: StepClock, provider: Provider, *, calls: int, in_flight: int, policy: RetryPolicy, outage_s: float
) -> tuple[list[Any], list[Halt], list[Paused | None]]:
    """What calls of one run come to."""
    limiter = AdaptiveLimiter(in_flight, clock=clock)
    halts, told = list[Halt](), list[Paused | None]()

    def halt(reason: Halt) -> None:
        halts.append(reason)
        limiter.stop()

    outage = Outage(limiter, halt, clock, outage_s=outage_s, on_change=told.append)

    async def one() -> str:
        async with Slot(limiter, outage) as slot:
            return (await with_retries(provider, policy, clock=clock, slot=slot))[0]

    work = asyncio.gather(*(one() for _ in range(calls)), return_exceptions=True)
    await clock.run(work)
    return list(await work), halts, told


@pytest.mark.parametrize("in_flight", [1, 10, 50])
async def test_an_outage_is_waited_out_and_costs_no_case_its_retries(in_flight: int) -> None:
    """A minute without an answer, with a call now and then; afterwards as many in flight as before."""
    clock = StepClock()
    provider = Provider(clock, (1.0, 61.0))
    policy = RetryPolicy(max_retries=3)
    found, halts, told = await answers(
        clock, provider, calls=400, in_flight=in_flight, policy=policy, outage_s=600
    )
    assert found == ["fine"] * 400 and not halts
    while_down = [at for at in provider.asked if 1.0 <= at < 61.0]
    assert len(while_down) <= 2 * in_flight + 20
    assert told[-1] is None and len([paused for paused in told if paused]) >= 5
    alone = [at for at in while_down if at > 10]
    assert all(later - sooner >= 1 for sooner, later in itertools.pairwise(alone))
    assert min(at for at in provider.asked if at >= 61.0) <= 61.0 + LONGEST_PAUSE_S


async def test_an_outage_that_does_not_end_interrupts_the_run() -> None:
    """After outage_s; cases that were not answered are left open, and have not failed."""
    clock = StepClock()
    found, halts, _ = await answers(
        clock,
        Provider(clock, (1.0, 1e9)),
        calls=100,
        in_flight=10,
        policy=RetryPolicy(max_retries=3),
        outage_s=60,
    )
    assert halts[0].status == "interrupted" and "outage_s" in halts[0].reason
    assert {type(one) for one in found} == {str, Postponed}
    assert 60 <= clock.at <= 63


async def test_one_row_that_breaks_connections_is_no_outage() -> None:
    """It fails for good after its retries, and all others are answered."""
    clock = StepClock()
    limiter = AdaptiveLimiter(4, clock=clock)
    outage = Outage(limiter, lambda halt: None, clock)

    async def one(number: int) -> str:
        async def ask() -> str:
            await clock.sleep(0.2)
            if number == 3:
                raise gone()
            return "fine"

        async with Slot(limiter, outage) as slot:
            return (await with_retries(ask, RetryPolicy(max_retries=2), clock=clock, slot=slot))[0]

    work = asyncio.gather(*(one(number) for number in range(20)), return_exceptions=True)
    await clock.run(work)
    found = await work
    assert [number for number, one in enumerate(found) if isinstance(one, ModelError)] == [3]


def experiment(url: str) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(60)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": url, "max_concurrent_tasks": 10, "max_retries": 1},
    }


def test_a_server_that_restarts_costs_no_case(tmp_path: Path) -> None:
    """Gone for 3 seconds, while nothing listens at its address; the progress says what it waits for."""
    seen: list[Progress] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    first = ModelServer(port=port)
    first.answer = lambda request: "fine" if len(first.requests) <= 20 else Reply(drop=True)
    again = ModelServer(lambda request: "fine", port=port)

    def restart() -> None:
        first.wait_for_requests(25)
        first.__exit__(None)
        time.sleep(3)
        again.__enter__()

    first.__enter__()
    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        with PromptLab(str(tmp_path / "lab.db")) as pl:
            run = pl.experiment.run(experiment(first.openai_url), on_progress=seen.append)
    finally:
        restarting.join()
        again.__exit__(None)
    assert run.status == "completed"
    assert run.summary is not None and run.summary.succeeded == 60
    assert any(progress.waiting and "openai/mini" in progress.waiting for progress in seen)
    assert seen[-1].waiting is None and run.record.outage is None


def test_gateways_that_say_502_or_503_are_an_outage_and_a_resume_does_the_rest(tmp_path: Path) -> None:
    """The run ends as interrupted after outage_s; no case failed."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.answer = lambda request: "fine" if len(server.requests) <= 20 else Reply(status=502)
        config = experiment(server.openai_url)
        config["model"] |= {"outage_s": 1, "max_retries": 3}
        run = pl.experiment.run(config, quiet=True)
        assert run.status == "interrupted"
        assert "Nothing answered for 1 s (outage_s)" in (run.record.error or "")
        assert not any(row["error_type"] for row in run.results())
        server.answer = lambda request: "fine"
        whole = run.resume(quiet=True)
        assert whole.status == "completed" and whole.summary is not None and whole.summary.succeeded == 60
