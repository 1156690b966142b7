"""A judge's 429 is its provider's: the limiter of its model is told of it."""

from __future__ import annotations

import asyncio

import pytest

from promptlab import Model, get_model
from promptlab.clock import SystemClock
from promptlab.engine.limits import AdaptiveLimiter, ScoringLimits
from promptlab.models.retry import RetryPolicy, Slot, with_retries
from tests.servers import ModelServer, Reply


class Judged:
    """Holds a judge, as an evaluator does."""

    def __init__(self, judge: Model) -> None:
        self.judge = judge


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_judges_429_is_told_to_the_limiter_of_its_model(in_thread: bool) -> None:
    """Here that of the model under test, which is its own judge; from a thread with its own loop, too."""
    with ModelServer() as server:
        server.script(Reply(status=429, headers={"retry-after-ms": "1"}), Reply(status=429), prompt="good?")
        judge = get_model("openai/judge", endpoint=server.openai_url)
        calls = AdaptiveLimiter(4, clock=SystemClock())
        limits = ScoringLimits(judge, calls, clock=SystemClock())
        async with limits.slots(Judged(judge), "threads" if in_thread else "loop"):
            asked = asyncio.to_thread(judge.invoke, "", "good?") if in_thread else judge.ainvoke("", "good?")
            assert (await asked).response == "ok"
        await asyncio.sleep(0)
        await judge.aclose()
    assert (calls.throttles, calls.in_use) == (2, 0)


async def test_a_model_of_which_no_slot_is_held_tells_nobody() -> None:
    """What an evaluator makes by itself is not known."""
    with ModelServer() as server:
        server.script(Reply(status=429, headers={"retry-after-ms": "1"}))
        judge, other = (
            get_model(f"openai/{name}", endpoint=server.openai_url) for name in ("judge", "other")
        )
        calls = AdaptiveLimiter(4, clock=SystemClock())
        async with ScoringLimits(judge, calls, clock=SystemClock()).slots(Judged(judge), "loop"):
            assert (await other.ainvoke("", "hi")).response == "ok"
        await other.aclose()
    assert calls.throttles == 0


@pytest.mark.parametrize("of_judge", [False, True])
async def test_what_an_answer_says_is_left_reaches_the_limiter(of_judge: bool) -> None:
    """From the headers of an answer 200, of the model under test and of a judge."""
    left = {"limit": "60", "remaining": "1", "reset": "59s"}
    with ModelServer() as server:
        headers = {f"x-ratelimit-{name}-requests": value for name, value in left.items()}
        server.script(Reply(text="yes", headers=headers))
        model = get_model("openai/mini", endpoint=server.openai_url)
        calls = AdaptiveLimiter(4, clock=SystemClock())
        if of_judge:
            async with ScoringLimits(model, calls, clock=SystemClock()).slots(Judged(model), "loop"):
                await model.ainvoke("", "good?")
        else:
            async with Slot(calls) as slot:
                asked = [{"role": "user", "content": "good?"}]
                await with_retries(lambda: model.achat(asked), RetryPolicy(0), clock=SystemClock(), slot=slot)
        await asyncio.sleep(0)
        await model.aclose()
    assert 0 < calls.pacer.heard.rate < 2
