"""The pool that asks the sandbox: what comes back of a case, whatever the sandbox does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
import pytest

from promptlab.clock import SystemClock
from promptlab.engine import sandboxed
from promptlab.engine.limits import Deadline
from promptlab.engine.processes import SANDBOX, CannotLoadError, Recipe
from promptlab.engine.sandboxed import SandboxPool
from promptlab.errors import ModelError, SandboxBusyError, SandboxError, SandboxLostError
from promptlab.models.retry import Postponed

Answering = Callable[[dict[str, Any]], Any]


class Box:
    """A sandbox that answers as a test says, by the number of the question; afterwards with one for all."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.slow_s = 0.0

    async def ask(self, bundle_hash: str, event: Mapping[str, Any]) -> dict[str, Any]:
        found = orjson.loads(orjson.dumps(event))
        self.asked.append(found)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.slow_s)
            answer = self.answers.pop(0) if self.answers else ones
            if isinstance(answer, Exception):
                raise answer
            given: dict[str, Any] = answer(found) if callable(answer) else answer
            return given
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        """There is nothing to release."""


def ones(event: dict[str, Any]) -> dict[str, Any]:
    """Every case with its own input as the score."""
    found = [{"n": case["n"], "score": {"value": case["data"]["x"]}} for case in event["cases"]]
    return {"answers": found, "wall_s": 0.001 * len(found)}


def recipe(role: str = "evaluate", **more: Any) -> Recipe:
    ref = {"module": "m", "qualname": "f", "params": None}
    return Recipe("own", SANDBOX, orjson.dumps({"role": role, "hash": "0" * 64, "ref": ref, **more}))


class Hurried(SystemClock):
    """Waits no longer than a test has to."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


def pool_of(box: Box, left_s: float | None = None) -> SandboxPool:
    clock = Hurried()
    return SandboxPool(box, clock, Deadline(clock, None if left_s is None else clock.monotonic() + left_s))


@pytest.fixture
async def pools() -> AsyncIterator[Callable[..., SandboxPool]]:
    made: list[SandboxPool] = []

    def make(box: Box, left_s: float | None = None) -> SandboxPool:
        made.append(pool_of(box, left_s))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


async def scores(pool: SandboxPool, count: int, asked: Recipe | None = None) -> list[Any]:
    asked = asked or recipe()
    return await asyncio.gather(*(pool.call(asked, {"x": n}, 5.0) for n in range(count)))


async def test_cases_go_together_and_come_back_to_whom_they_belong(pools: Any) -> None:
    box = Box()
    found = await scores(pools(box), 500)
    assert [score.value for score in found] == list(range(500))
    assert len(box.asked) <= 2
    assert box.asked[0]["budget_s"] == sandboxed.PROBE_S


async def test_a_batch_keeps_to_the_bytes_of_a_payload(pools: Any) -> None:
    box = Box()
    pool = pools(box)
    asked = recipe()
    found = await asyncio.gather(*(pool.call(asked, {"x": 1, "text": "é" * 100_000}, 5.0) for _ in range(30)))
    assert [score.value for score in found] == [1.0] * 30
    assert all(len(orjson.dumps(event)) < 1_700_000 for event in box.asked)
    assert len(box.asked) >= 4


async def test_slow_cases_are_spread_once_one_is_measured(pools: Any) -> None:
    def slow(event: dict[str, Any]) -> dict[str, Any]:
        first = event["cases"][:1]
        return {"answers": [{"n": c["n"], "score": {"value": 1}} for c in first], "wall_s": 5.0}

    box = Box(slow)
    box.slow_s = 0.02
    assert len(await scores(pools(box), 60)) == 60
    assert 4 < box.most_at_once <= sandboxed.AT_ONCE_WAITING


async def test_a_throttled_question_is_asked_again(pools: Any) -> None:
    box = Box(SandboxBusyError("no room"), SandboxBusyError("no room"))
    found = await scores(pools(box), 20)
    assert [score.value for score in found] == list(range(20))
    assert box.most_at_once == 1


async def test_a_lost_question_is_asked_again_case_by_case(pools: Any) -> None:
    """The case that breaks the sandbox is known then, and costs only itself."""

    def breaks(event: dict[str, Any]) -> dict[str, Any]:
        if any(case["data"]["x"] == 3 for case in event["cases"]):
            raise SandboxLostError("the sandbox broke down: signal: killed")
        return ones(event)

    found = await scores(pools(Box(*[breaks] * 50)), 6)
    assert [score.value for score in found] == [0.0, 1.0, 2.0, None, 4.0, 5.0]
    assert found[3].error is not None and "signal: killed" in found[3].error.message


async def test_cases_without_an_answer_are_asked_again(pools: Any) -> None:
    def half(event: dict[str, Any]) -> dict[str, Any]:
        whole = ones(event)
        return {**whole, "answers": whole["answers"][::2]}

    box = Box(half)
    assert [score.value for score in await scores(pools(box), 9)] == list(range(9))
    assert len(box.asked) == 2


async def test_a_sandbox_that_never_answers_ends_in_words(pools: Any) -> None:
    box = Box(*[{"answers": []}] * 9)
    (score,) = await scores(pools(box), 1)
    assert score.error is not None and "came back without an answer" in score.error.message
    assert len(box.asked) == sandboxed.TRIES


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([{"n": 0, "score": {"value": 1}}, {"n": 0, "score": {"value": 0}}], "no score"),
        ([{"n": 0, "score": {"value": "NaN"}}], "not a number"),
        ([{"n": 0, "score": {"label": "x" * 10_000}}], "label has 10,000 characters"),
        ([{"n": 0, "score": {"value": 1, "admin": 1}}], "unknown field"),
        ([{"n": 0}], "not an object"),
        ([{"n": 7, "score": {"value": 1}}, {"n": 0, "score": {"metadata": 5}}], "metadata is a int"),
    ],
)
async def test_answers_that_are_none_are_that_cases_failed_score(
    pools: Any, answers: list[Any], says: str
) -> None:
    (score,) = await scores(pools(Box({"answers": answers})), 1)
    assert score.value is None
    assert score.error is not None and says in score.error.message


async def test_parts_of_a_joined_score_are_looked_at_one_by_one(pools: Any) -> None:
    parts = {"a": {"value": 1.0}, "b": {"value": "1"}}
    answer = {"answers": [{"n": 0, "score": {"metadata": {"promptlab.parts": parts}}, "printed": "hi"}]}
    (score,) = await scores(pools(Box(answer)), 1, recipe(parts=["a", "b", "c"]))
    found = score.metadata["promptlab.parts"]
    assert found["a"]["value"] == 1.0 and found["a"]["reason"] == "Printed:\nhi"
    assert "no score" in found["b"]["error"]["message"] and "no score" in found["c"]["error"]["message"]


async def test_code_that_cannot_be_loaded_is_asked_once(pools: Any) -> None:
    box = Box({"error": {"type": "cannot_load", "message": "SyntaxError: m.py, line 3"}})
    pool, asked = pools(box), recipe()
    found = await asyncio.gather(*(pool.call(asked, {"x": 1}, 5.0) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, CannotLoadError) and "line 3" in str(error) for error in found)
    with pytest.raises(CannotLoadError):
        await pool.call(asked, {"x": 1}, 5.0)
    assert len(box.asked) == 1


async def test_a_sandbox_that_refuses_is_told_in_its_words(pools: Any) -> None:
    pool = pools(Box(SandboxError("it takes no code")))
    with pytest.raises(CannotLoadError, match="it takes no code"):
        await pool.call(recipe(), {"x": 1}, 5.0)


async def test_no_question_is_asked_that_would_come_too_late(pools: Any) -> None:
    box = Box()
    with pytest.raises(Postponed):
        await pools(box, left_s=2.0).call(recipe(), {"x": 1}, 5.0)
    assert box.asked == []


async def test_a_question_says_how_long_its_caller_waits(pools: Any) -> None:
    box = Box()
    await pools(box, left_s=100.0).call(recipe(), {"x": 1}, 5.0)
    assert 90 < box.asked[0]["left_s"] <= 95


async def test_what_waits_when_it_stops_is_postponed(pools: Any) -> None:
    box = Box()
    box.slow_s = 0.05
    pool, asked = pools(box), recipe()
    waiting = asyncio.gather(*(pool.call(asked, {"x": n}, 5.0) for n in range(3)), return_exceptions=True)
    await asyncio.sleep(0)
    pool.stop()
    assert all(isinstance(error, Postponed) for error in await waiting)


async def test_a_models_errors_are_the_engines(pools: Any) -> None:
    error = {"type": "rate_limit", "message": "later", "retryable": True, "retry_after_s": 3}
    box = Box(
        {"answers": [{"n": 0, "error": error}]},
        {"answers": [{"n": 0, "response": {"response": "hi", "prompt_tokens": 2}, "printed": "p"}]},
        {"answers": [{"n": 0, "response": {"response": 5}}]},
    )
    pool, asked = pools(box), recipe("infer")
    with pytest.raises(ModelError, match="later") as raised:
        await pool.answer(asked, {"messages": []}, 5.0)
    assert (raised.value.retryable, raised.value.retry_after_s) == (True, 3.0)
    answer = await pool.answer(asked, {"messages": []}, 5.0)
    assert (answer.response, answer.prompt_tokens, answer.metadata) == ("hi", 2, {"printed": "p"})
    with pytest.raises(ModelError, match="response is a int") as raised:
        await pool.answer(asked, {"messages": []}, 5.0)
    assert raised.value.type == "invalid_response"
