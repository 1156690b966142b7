"""How long a case may take, and how long a run."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, ExperimentConfig, PromptLab, PromptTemplate
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.engine.outage import Outage
from promptlab.errors import ConfigError, ModelError
from promptlab.models.retry import Postponed, RetryPolicy, Slot, Tries, with_retries
from tests.servers import ModelServer, Reply
from tests.virtual import VirtualClock, run_virtual

PATIENT = RetryPolicy(max_retries=1000)


def broken(after_s: float | None = None) -> ModelError:
    return ModelError("no", type="server_error", status=500, retryable=True, retry_after_s=after_s)


def test_a_case_has_its_time_over_all_attempts_and_waits() -> None:
    """Attempts of 1 s with waits between them: none begins after the time, and the last is said."""

    async def main() -> tuple[ModelError, float]:
        async def ask() -> str:
            await asyncio.sleep(1)
            raise broken()

        with pytest.raises(ModelError) as caught:
            await with_retries(ask, PATIENT, clock=VirtualClock(), deadline_s=60)
        return caught.value, asyncio.get_running_loop().time()

    error, seconds = run_virtual(main())
    assert error.type == "deadline" and not error.retryable
    assert str(error) == "no answer within case_deadline_s=60 s; the last attempt: no"
    assert error.attempts >= 3
    assert 20 <= seconds <= 60.1


def test_a_wait_that_would_end_too_late_is_not_begun() -> None:
    """A provider that asks for 50 s, of a case that has 30."""

    async def main() -> float:
        async def ask() -> str:
            raise broken(50)

        with pytest.raises(ModelError, match="case_deadline_s=30 s; the last attempt: no"):
            await with_retries(ask, PATIENT, clock=VirtualClock(), deadline_s=30)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


def test_an_attempt_is_cut_off_at_the_end_of_the_time_and_may_have_been_billed() -> None:
    seen: list[Any] = []

    async def main() -> float:
        with pytest.raises(ModelError, match=r"^no answer within case_deadline_s=2\.5 s$"):
            await with_retries(
                lambda: asyncio.sleep(100),
                PATIENT,
                clock=VirtualClock(),
                deadline_s=2.5,
                on_attempt=seen.append,
            )
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(2.5)
    assert [(one.type, one.cost_usd) for one in seen] == [("deadline", None)]


def test_the_time_begins_with_the_first_attempt_and_not_in_the_queue() -> None:
    """Ten calls of 1 s, one at a time, each of which has 2 s."""

    async def main() -> list[Any]:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(1, clock=clock)

        async def one() -> Any:
            async with Slot(limiter) as slot:
                return await with_retries(
                    lambda: asyncio.sleep(1, "yes"), PATIENT, clock=clock, slot=slot, deadline_s=2
                )

        return await asyncio.gather(*(one() for _ in range(10)))

    assert run_virtual(main()) == [("yes", 1)] * 10


def test_waiting_for_a_turn_again_counts() -> None:
    """A case that failed once, and whose limiter then holds all calls for a minute."""

    async def main() -> float:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(5, clock=clock)

        async def ask() -> str:
            limiter.hold(60)
            raise broken()

        async with Slot(limiter) as slot:
            with pytest.raises(ModelError, match="case_deadline_s=10 s; the last attempt: no"):
                await with_retries(ask, PATIENT, clock=clock, slot=slot, deadline_s=10)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(10)


def test_another_worker_counts_on_with_the_wait_between_them() -> None:
    """The state machine waits 40 s of a case's 60; after 70 no attempt is made at all."""
    asked: list[float] = []

    async def attempt(before: Tries) -> Tries:
        async def ask() -> str:
            asked.append(asyncio.get_running_loop().time())
            raise broken(40)

        with pytest.raises(Postponed) as caught:
            await with_retries(
                ask, PATIENT, clock=VirtualClock(), before=before, deadline_s=60, max_pause_s=5
            )
        return caught.value.tries

    async def main() -> None:
        first = await attempt(Tries())
        await asyncio.sleep(40)
        with pytest.raises(ModelError, match="case_deadline_s=60 s"):
            await attempt(first)  # another 40 s are too long
        await asyncio.sleep(30)
        with pytest.raises(ModelError, match="case_deadline_s=60 s"):
            await attempt(first)

    run_virtual(main())
    assert asked == [0, 40]


def test_an_outage_takes_no_case_its_time() -> None:
    """Five minutes without a connection, of cases that have 20 s."""

    async def main() -> list[Any]:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(5, clock=clock)
        outage = Outage(limiter, lambda halt: None, clock)

        async def ask() -> str:
            await asyncio.sleep(0.1)
            if clock.monotonic() < 300:
                raise ModelError("gone", type="connection", retryable=True, sent=False)
            return "yes"

        async def one() -> str:
            async with Slot(limiter, outage) as slot:
                return (await with_retries(ask, PATIENT, clock=clock, slot=slot, deadline_s=20))[0]

        return await asyncio.gather(*(one() for _ in range(5)))

    assert run_virtual(main()) == ["yes"] * 5


def test_a_wait_between_attempts_ends_where_the_run_does() -> None:
    """Nobody sits out a pause of a minute after the last call may have started."""

    async def main() -> float:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(5, clock=clock)

        async def ask() -> str:
            raise broken(60)

        async def one() -> None:
            async with Slot(limiter) as slot:
                await with_retries(ask, PATIENT, clock=clock, slot=slot)

        task = asyncio.create_task(one())
        await asyncio.sleep(1)
        limiter.stop()
        with pytest.raises(Postponed):
            await task
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(1)


def experiment(server: ModelServer, **more: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(10)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 10},
        **more,
    }


def test_a_case_without_an_answer_in_its_time_fails_and_can_be_done_again(tmp_path: Path) -> None:
    """Its error says so; `resume` does the cases again that failed with this type of error."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.script(Reply(hang=True), prompt="What is 7?")
        run = pl.experiment.run(experiment(server, case_deadline_s=1), quiet=True)
        failed = [row for row in run.results() if row["error_type"]]
        assert [row["error_type"] for row in failed] == ["deadline"]
        assert failed[0]["error_message"] == "no answer within case_deadline_s=1 s"
        assert failed[0]["cost_usd"] is None  # it may have been billed
        assert run.status == "completed"
        whole = run.resume(errors=["deadline"], quiet=True)
        assert whole.summary is not None and whole.summary.succeeded == 10


def test_a_run_whose_time_is_over_is_interrupted_and_a_resume_does_the_rest(tmp_path: Path) -> None:
    """What was answered is kept, no further call starts, and waits between attempts end."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.script(*[Reply(status=500, headers={"Retry-After": "250"})] * 3, prompt="What is 7?")
        run = pl.experiment.run(experiment(server, run_deadline_s=5), quiet=True)
        assert run.status == "interrupted"
        assert "run_deadline_s: 5 s" in (run.record.error or "") and "resume" in (run.record.error or "")
        server.script(prompt="What is 7?")
        whole = run.resume(quiet=True)
        assert whole.status == "completed" and whole.summary is not None and whole.summary.succeeded == 10
        asked = Counter(request.prompt for request in server.requests)
        assert asked.pop("What is 7?") in (1, 2) and set(asked.values()) == {1}


@pytest.mark.parametrize("name", ["case_deadline_s", "run_deadline_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**9, "soon"])
def test_a_deadline_is_a_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        ExperimentConfig.parse(
            {"dataset": "q", "prompt_template": "p", "model": "simulated/demo", name: value}
        )


def test_no_case_of_a_batch_has_a_time_of_its_own(tmp_path: Path) -> None:
    """The provider answers all of them within a day."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        config = experiment(server, case_deadline_s=60)
        config["model"] |= {"batch": True}
        with pytest.raises(ConfigError, match="case_deadline_s: 60: a provider answers a batch within a day"):
            pl.experiment.run(config, quiet=True)
