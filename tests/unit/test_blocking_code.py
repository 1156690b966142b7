"""Coroutines of users that compute or sleep without await: they hold up their own case only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptlab import Evaluator, Model, ModelResponse, PromptLab, Run

ROWS = 12
TIMEOUT_S = 1.0
"""Half of it was too little for the other cases on a machine with four times more to do than it can."""


def spin() -> None:
    """Compute for far longer than any test."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def spin_on() -> None:
    """Compute for long, whatever is raised."""
    end = time.monotonic() + 6
    while time.monotonic() < end:
        try:
            spin()
        except BaseException:  # noqa: BLE001 - as users do it
            continue


async def sleeps() -> None:
    time.sleep(60)


async def computes() -> None:
    spin()


async def computes_on() -> None:
    spin_on()


async def sleeps_in_steps() -> None:
    for _ in range(200):
        time.sleep(0.3)
        await asyncio.sleep(0)


async def in_a_task_of_its_own() -> None:
    await asyncio.gather(sleeps(), asyncio.sleep(0))


async def leaves_a_task() -> None:
    async def later() -> None:
        await asyncio.sleep(0.05)
        spin()

    asyncio.create_task(later())  # noqa: RUF006 - as users do it


WAYS: dict[str, Callable[[], Any]] = {
    "sleeps": sleeps,
    "computes": computes,
    "computes on": computes_on,
    "sleeps in steps": sleeps_in_steps,
    "in a task of its own": in_a_task_of_its_own,
    "leaves a task": leaves_a_task,
}


class Odd(Evaluator):
    inputs = {"response": "$inference"}

    def __init__(self, way: str) -> None:
        self.way = way

    async def evaluate(self, data: dict[str, Any]) -> bool:
        await asyncio.sleep(0.01)
        if data["response"] == "3":
            await WAYS[self.way]()
        return True


class OddModel(Model):
    def __init__(self, way: str) -> None:
        super().__init__({"name": "custom/Odd", "timeout_s": TIMEOUT_S, "max_retries": 0})
        self.way = way

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        await asyncio.sleep(0.01)
        if user_prompt == "3":
            await WAYS[self.way]()
        return ModelResponse(response=user_prompt)


def config(**fields: Any) -> dict[str, Any]:
    return {
        "model": "simulated/echo",
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(ROWS)]},
        **fields,
    }


def ends_twice(tmp_path: Path, experiment: dict[str, Any]) -> Run:
    """The run after its failures were done again."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        first = pl.experiment.run(experiment)
        again = first.resume(experiment, failed=True)
        assert first.status == again.status == "completed"
        return again


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_that_holds_its_loop_costs_its_own_score(tmp_path: Path, way: str) -> None:
    """The others are scored, though they wait in the same loop."""
    metric = {"metric": "m", "evaluator": Odd(way), "timeout_s": TIMEOUT_S}
    run = ends_twice(tmp_path, config(evaluation=[metric]))
    errors = {row["case"]: row["score_error.m"] for row in run.results() if row.get("score_error.m")}
    late = {3: f"m: no score within timeout_s={TIMEOUT_S:g} s"}
    assert errors == ({} if way == "leaves a task" else late)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_holds_its_loop_costs_its_own_case(tmp_path: Path, way: str) -> None:
    """The others are answered."""
    run = ends_twice(tmp_path, config(model=OddModel(way)))
    errors = {row["case"]: row["error_type"] for row in run.results() if row["error_type"]}
    assert errors == ({} if way == "leaves a task" else {3: "timeout"})


async def test_in_a_loop_of_the_users_own_their_code_shares_it(tmp_path: Path) -> None:
    """What an agent waits for may come from the rest of the program."""
    asked, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def agent(row: dict[str, Any]) -> str:
        asked.set()
        return str(await answer)

    async def tell() -> None:
        await asked.wait()
        answer.set_result("yes")

    pl = PromptLab({"db_file": str(tmp_path / "lab.db")})
    telling = asyncio.create_task(tell())
    experiment = {"dataset": {"name": "d", "rows": [{"n": "1"}, {"n": "2"}]}, "agent_proxy": agent}
    run = await pl.experiment.run_async(experiment)
    await telling
    assert [row["response"] for row in await run.results_async()] == ["yes", "yes"]
    await pl.aclose()
