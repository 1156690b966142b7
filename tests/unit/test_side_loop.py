"""The event loop beside ours, where coroutines of users run: what they return, raise and hold up."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from promptlab.engine.side_loop import OverdueError, aside, is_beside, outcome_of
from promptlab.sync import run_here

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="")


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[None]:
    """Nothing that asyncio would complain of is left: errors that nobody saw, callbacks that raise."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(f"{context['message']}: {context}"))
    yield
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert found == []


async def answers(value: Any = 1) -> Any:
    await asyncio.sleep(0)
    return value


async def raises(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def spins(seconds: float) -> str:
    """Hold the loop in Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "span"


async def blocks(seconds: float) -> str:
    """Hold the loop in C, where nothing can be raised."""
    time.sleep(seconds)
    return "blocked"


async def test_an_outcome_is_an_answer_or_an_error() -> None:
    """Whatever the error is: none ends a loop."""
    assert await aside(answers, 10.0) == (1, None)
    for error in (
        ValueError("x"),
        KeyboardInterrupt(),
        SystemExit(3),
        asyncio.CancelledError(),
        TimeoutError(),
    ):
        answer, found = await aside(lambda error=error: raises(error), 10.0)  # type: ignore[misc]
        assert (answer, type(found)) == (None, type(error))
    assert await aside(answers, 10.0) == (1, None)
    assert is_beside()


def test_a_coroutine_that_is_collected_with_its_loop_complains_of_nothing() -> None:
    """As those of a loop that was left behind are: where no loop runs, there is no task to ask."""

    async def forever() -> None:
        await asyncio.Event().wait()

    left = outcome_of(forever)
    with contextlib.suppress(StopIteration):
        left.send(None)
    left.close()


async def test_calls_run_in_one_other_thread_with_the_callers_context() -> None:
    """Each has its own."""

    async def seen() -> tuple[str, int]:
        await asyncio.sleep(0)
        return WORD.get(), threading.get_ident()

    async def asked(word: str) -> tuple[str, int]:
        WORD.set(word)
        outcome, _ = await aside(seen, 10.0)
        found: tuple[str, int] = outcome
        return found

    found = await asyncio.gather(*(asked(word) for word in ("a", "b", "c")))
    assert [word for word, _ in found] == ["a", "b", "c"]
    assert len({thread for _, thread in found}) == 1 and found[0][1] != threading.get_ident()


@pytest.mark.parametrize("holds", [asyncio.sleep, spins, blocks])
async def test_a_call_that_takes_too_long_is_overdue_and_the_others_have_their_time(holds: Any) -> None:
    """Whether it waits, computes or sleeps without await."""
    slow = asyncio.create_task(aside(lambda: holds(30.0), 0.5))
    await asyncio.sleep(0.05)
    others = [
        asyncio.create_task(aside(lambda: asyncio.sleep(0.1, result="in time"), 60.0)) for _ in range(3)
    ]
    with pytest.raises(OverdueError):
        await slow
    assert await asyncio.gather(*others) == [("in time", None)] * 3
    assert await aside(answers, 60.0) == (1, None)


async def test_time_in_which_another_call_holds_the_loop_does_not_count() -> None:
    """Its own two seconds are not over when somebody else has taken three."""
    waits = asyncio.create_task(aside(lambda: asyncio.sleep(0.3, result="in time"), 2.0))
    await asyncio.sleep(0.05)
    holds = asyncio.create_task(aside(lambda: blocks(3.0), 30.0))
    assert await holds == ("blocked", None)
    assert await waits == ("in time", None)


async def test_a_call_that_ignores_its_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once."""

    async def ignores() -> None:
        for _ in range(100):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    with caplog.at_level(logging.WARNING, "promptlab"), pytest.raises(OverdueError):
        await aside(ignores, 0.3)
    assert [record.getMessage() for record in caplog.records] == [
        "code of yours does not end when it is told to: it is left behind"
    ]
    assert await aside(answers, 60.0) == (1, None)


async def test_a_call_may_tidy_up_when_its_time_is_over() -> None:
    """For a second; it is overdue all the same."""
    done = threading.Event()

    async def tidies() -> str:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.2)
            done.set()
        return "never"

    with pytest.raises(OverdueError):
        await aside(tidies, 0.3)
    assert done.is_set()


async def test_a_caller_that_is_cancelled_ends_its_call() -> None:
    """And has the cancellation."""
    ended = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.set()
            raise

    task = asyncio.create_task(aside(waits, 60.0))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_task_that_a_call_left_running_does_not_hold_the_loop_for_ever() -> None:
    """It belongs to no call any more; what comes after it is answered."""

    async def leaves() -> str:
        task = asyncio.get_running_loop().create_task(asyncio.sleep(0.2))
        task.add_done_callback(lambda _: time.sleep(600))
        return "left"

    assert await aside(leaves, 5.0) == ("left", None)
    await asyncio.sleep(0.3)
    assert await aside(answers, 60.0) == (1, None)


def test_its_thread_ends_with_the_last_coroutine_of_a_loop_of_ours() -> None:
    """Also where a task of the user's is still under way."""
    before = beside()

    async def leaves() -> str:
        leaves.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))  # type: ignore[attr-defined]
        return "left"

    assert run_here(aside(leaves, 10.0)) == ("left", None)
    assert beside() <= before


def beside() -> set[threading.Thread]:
    """The threads of loops beside others."""
    return {thread for thread in threading.enumerate() if thread.name == "promptlab-async"}
