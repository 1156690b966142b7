"""A learned rate is everybody's: of processes over one ledger, in virtual time."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, ExperimentConfig, PromptTemplate, get_model
from promptlab.domain.records import RATE, Swap
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.engine.shared_rate import FORGOTTEN_S, SharedRate
from promptlab.errors import ModelError
from promptlab.models.retry import RetryPolicy, Slot, with_retries
from promptlab.store_lab import StoreLab
from tests.servers import ModelServer
from tests.unit.test_pacing import Provider
from tests.virtual import VirtualClock, run_virtual


class Kept:
    """A ledger's records in memory, with the time that a write takes."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.writes = 0

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        await asyncio.sleep(0.005)
        return self.records.get(key)

    async def swap_records(self, swaps: list[Swap]) -> bool:
        await asyncio.sleep(0.005)
        (swap,) = swaps
        if self.records.get(swap.key) != swap.was:
            return False
        self.writes += 1
        self.records[swap.key] = swap.now
        return True


class Process:
    """What one process does until it is ended, with or without a word."""

    def __init__(self, ledger: Any, provider: Provider) -> None:
        self.clock, self.provider = VirtualClock(), provider
        loop = asyncio.get_running_loop()
        self.limiter = AdaptiveLimiter(50, clock=self.clock)
        self.shared = SharedRate(ledger, self.clock, "a-model", self.limiter.pacer, wall=loop.time)
        self.refused, self.calls = 0, 0
        self.task = asyncio.create_task(self.work())

    async def call(self) -> str:
        self.calls += 1
        try:
            return await self.provider.call()
        except ModelError:
            self.refused += 1
            raise

    async def case(self) -> None:
        async with Slot(self.limiter) as slot:
            await with_retries(self.call, RetryPolicy(5), clock=self.clock, slot=slot)

    async def work(self) -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            await stack.enter_async_context(self.shared.shared())
            while True:
                await self.limiter.hungry()
                group.create_task(self.case())
                await asyncio.sleep(0)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_who_begins_starts_at_what_was_learned() -> None:
    """A second process, beside the first, and a third one after both: few of their calls are refused, where
    one that knows nothing has 50 in flight at once."""
    provider, ledger = Provider(20.0, 20.0), Kept()

    async def main() -> tuple[list[float], int]:
        first = Process(ledger, provider)
        await asyncio.sleep(40)
        second = Process(ledger, provider)
        await asyncio.sleep(20)
        began = second.refused / second.calls
        before = len(provider.answers)
        await asyncio.sleep(60)
        both = len(provider.answers) - before
        await first.end()
        await second.end()
        await asyncio.sleep(60)
        third = Process(ledger, provider)
        await asyncio.sleep(20)
        await third.end()
        return [began, third.refused / third.calls], both

    shares, both = run_virtual(main())
    assert max(shares) <= 0.15
    assert both >= 0.85 * 20 * 60


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_one_had_is_the_others_when_it_is_gone(is_killed: bool) -> None:
    """Within the time after which a process is forgotten that says nothing any more."""
    provider, ledger = Provider(40.0, 40.0), Kept()

    async def main() -> int:
        one = Process(ledger, provider)
        await asyncio.sleep(30)
        other = Process(ledger, provider)
        await asyncio.sleep(60)
        if is_killed:
            one.shared._is_in = False  # it says no word at its end
        await one.end()
        await asyncio.sleep(FORGOTTEN_S + 4)
        before = len(provider.answers)
        await asyncio.sleep(20)
        await other.end()
        return len(provider.answers) - before

    assert run_virtual(main()) >= 0.85 * 40 * 20


def test_a_process_that_meets_no_limit_writes_nothing() -> None:
    """Nobody pays for what is not there."""
    ledger = Kept()

    async def main() -> None:
        process = Process(ledger, Provider())
        await asyncio.sleep(30)
        await process.end()

    run_virtual(main())
    assert ledger.writes == 0


async def test_a_run_starts_at_the_rate_that_another_run_of_the_store_learned(tmp_path: Path) -> None:
    """As it is in the ledger, under a hash of model, endpoint and key: ten calls a second."""
    with ModelServer() as server:
        lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
        model = {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 100}
        key = get_model(model).counted_by
        await lab.ledger.put_record(RATE, key, {"rate": 10.0, "parts": {}}, expires_at=time.time() + 60)
        config = ExperimentConfig.parse(
            {
                "dataset": Dataset(name="numbers", rows=[{"n": str(n)} for n in range(20)]),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<n>"),
                "model": model,
            }
        )
        began = time.monotonic()
        run = await lab.run(config)
        assert run.status == "completed" and time.monotonic() - began >= 1.5
        assert await lab.ledger.get_record(RATE, key) == {"rate": pytest.approx(10.0, rel=0.2), "parts": {}}
        await lab.close()
