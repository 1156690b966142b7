"""Whole runs, in process, against a real endpoint."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from promptlab import (
    Dataset,
    Evaluator,
    ExperimentConfig,
    Model,
    ModelConfig,
    ModelError,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Run,
    Score,
    get_model,
)
from promptlab.domain.results import Progress
from promptlab.store_lab import StoreLab
from tests.servers import ModelServer, Reply, Request

ROWS = [{"question": f"What is {n}?", "answer": f"it is {n}"} for n in range(130)]


def right(request: Request) -> str:
    """The right answer to every question."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def experiment(server: ModelServer | None = None, **changes: Any) -> dict[str, Any]:
    endpoint = {"endpoint": server.openai_url} if server else {}
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", **endpoint},
        "evaluation": [
            {"metric": "exact_match", "column_mapping": {"response": "$inference", "reference": "answer"}}
        ],
        **changes,
    }


@pytest.fixture
def pl(tmp_path: Path) -> PromptLab:
    return PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})


def mean(run: Run, metric: str = "exact_match") -> float | None:
    assert run.summary is not None
    return run.summary.metrics[metric].mean


async def test_every_row_is_asked_once_and_scored(pl: PromptLab) -> None:
    """A run asks once a row and keeps inputs, answer and score of each."""
    with ModelServer(lambda r: "it is 7" if r.prompt.endswith(" 8?") else right(r)) as server:
        run = await pl.run_experiment_async(experiment(server))
        assert sorted(r.prompt for r in server.requests) == sorted(row["question"] for row in ROWS)
    rows = await run.results_async()
    assert run.status == "completed"
    assert mean(run) == 129 / 130
    assert [row["case"] for row in rows] == list(range(130))
    assert (
        rows[8]["input.question"],
        rows[8]["response"],
        rows[8]["passed.exact_match"],
        rows[8]["score.exact_match"],
    ) == (
        "What is 8?",
        "it is 7",
        False,
        0.0,
    )


def test_calls_in_flight_never_exceed_the_limit(pl: PromptLab) -> None:
    """max_concurrent_tasks is kept, and used."""
    with ModelServer(lambda r: Reply(text=right(r), delay_s=0.01)) as server:
        pl.experiment.run(
            experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 7},
            )
        )
        assert server.peak == 7


async def test_a_failing_case_is_recorded_and_the_run_goes_on(pl: PromptLab) -> None:
    """One bad request is one failed case, with the provider's words."""
    with ModelServer(right) as server:
        server.script(Reply(status=400, text="prompt is too spicy"), prompt="What is 3?")
        run = await pl.run_experiment_async(experiment(server))
    assert run.summary is not None
    assert (run.status, run.summary.succeeded, run.summary.failed, run.summary.errors) == (
        "completed",
        129,
        1,
        {"bad_request": 1},
    )
    (failed,) = [row for row in await run.results_async() if row["error_type"]]
    assert failed["case"] == 3
    assert "prompt is too spicy" in failed["error_message"]
    assert failed["score.exact_match"] is None


@pytest.mark.long
def test_a_run_keeps_its_good_rows_beside_a_thousand_failing_ones(pl: PromptLab) -> None:
    """10,000 rows, every tenth failing: the other 9,000 are kept."""

    class Flaky(Model):
        async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            if int(user_prompt) % 10 == 0:
                raise RuntimeError("no")
            return ModelResponse(response=user_prompt)

    run = pl.experiment.run(
        experiment(
            dataset=Dataset(name="numbers", rows=[{"n": str(n)} for n in range(10_000)]),
            prompt_template=PromptTemplate(name="echo", user_prompt="<n>"),
            model=Flaky(),
            evaluation=[{"metric": "exact_match", "column_mapping": {"reference": "n"}}],
        )
    )
    assert run.summary is not None
    assert (run.summary.succeeded, run.summary.failed, run.summary.errors) == (
        9_000,
        1_000,
        {"RuntimeError": 1_000},
    )
    assert mean(run) == 1.0
    assert sum(row["response"] is not None for row in run.results()) == 9_000


def test_throttled_and_broken_answers_are_asked_again(pl: PromptLab) -> None:
    """Every twentieth first answer is a 429, every fiftieth a 500: all rows are good in the end."""

    def faulty(request: Request) -> Reply | str:
        number = int(request.prompt.split()[-1].rstrip("?"))
        if request.attempt == 1 and number % 20 == 0:
            return Reply(status=429, headers={"Retry-After": "0.01"})
        return Reply(status=500) if request.attempt == 1 and number % 50 == 1 else right(request)

    with ModelServer(faulty) as server:
        run = pl.experiment.run(
            experiment(
                server,
                dataset=Dataset(
                    name="many",
                    rows=[{"question": f"What is {n}?", "answer": f"it is {n}"} for n in range(400)],
                ),
            )
        )
    assert run.summary is not None
    assert (run.summary.succeeded, run.summary.attempts, mean(run)) == (400, 428, 1.0)
    assert sum(row["attempts"] == 2 for row in run.results()) == 28


class Length(Evaluator):
    """As in the documentation: the length, as a string."""

    def evaluate(self, data: dict[str, Any]) -> str:
        return str(len(data.get("response", "")))


class Fragile(Evaluator):
    """Fails for one answer until it is mended."""

    mended = False

    async def evaluate(self, data: dict[str, Any]) -> Score:
        if data["text"] == "it is 5" and not Fragile.mended:
            raise ZeroDivisionError("cannot judge a five")
        return Score(value=0.5, reason="fair")


def test_custom_evaluators_sync_and_async_score_beside_built_in_ones(pl: PromptLab) -> None:
    """A string that reads as a number is a value; a raised exception is a failed score; both ways of writing
    `$inference` work."""
    Fragile.mended = False
    with ModelServer(right) as server:
        run = pl.experiment.run(
            experiment(
                server,
                evaluation=[
                    {
                        "metric": "Length",
                        "column_mapping": {"response": "$completion"},
                        "evaluator": Length(),
                    },
                    {"metric": "Fragile", "column_mapping": {"text": "$inference"}, "evaluator": Fragile()},
                ],
            )
        )
        assert run.summary is not None
        assert run.summary.metrics["Length"].values.min == len("it is 1")
        fragile = run.summary.metrics["Fragile"]
        assert (fragile.n, fragile.failed, run.summary.failed, run.summary.errors) == (129, 1, 0, {})
        assert "ZeroDivisionError: cannot judge a five" in run.results()[5]["score_error.Fragile"]

        asked = len(server.requests)
        Fragile.mended = True
        again = run.resume(failed=True)
        assert len(server.requests) == asked, "a case whose evaluator failed must not be paid for again"
    assert again.summary is not None
    fragile = again.summary.metrics["Fragile"]
    assert (again.status, fragile.failed, fragile.n) == ("completed", 0, 130)


def test_resume_with_failed_asks_only_for_the_failed_cases(pl: PromptLab) -> None:
    """After the cause is gone, `resume(failed=True)` asks for what failed and for nothing else."""
    with ModelServer(
        lambda r: Reply(status=401, text="bad key") if r.attempt == 1 and "1?" in r.prompt else right(r)
    ) as server:
        run = pl.experiment.run(experiment(server))
        assert run.summary is not None
        failed, asked = run.summary.failed, len(server.requests)
        assert failed == 13
        assert run.resume().summary == run.summary, "without failed, a completed run is left as it is"
        again = run.resume(failed=True)
        assert len(server.requests) == asked + failed
    assert again.summary is not None
    assert (again.summary.succeeded, mean(again), again.record.generation) == (130, 1.0, 1)


async def test_a_cancelled_run_keeps_its_answers_and_resumes(pl: PromptLab) -> None:
    """Cancelling waits for the calls in flight, records them, says how to go on, and
    nothing is asked twice."""
    with ModelServer(lambda r: Reply(text=right(r), delay_s=0.02)) as server:
        config = experiment(server)
        task = asyncio.create_task(pl.run_experiment_async(config))
        await asyncio.to_thread(server.wait_for_requests, 40)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as stopped:
            await task
        (run,) = await pl.experiment.list_async()
        answered = len(await run.results_async())
        assert run.status == "interrupted"
        assert 40 <= len(server.requests) == answered < 130
        assert f"promptlab resume {run.run_id}" in stopped.value.__notes__[0]
        assert f"{answered} of 130 cases are done and kept" in stopped.value.__notes__[0]

        again = await run.resume_async()
        assert len(server.requests) == 130
    assert (again.status, mean(again)) == ("completed", 1.0)


async def test_two_passes_over_one_run_at_once_are_refused(pl: PromptLab) -> None:
    """A run that is being worked on cannot be resumed a second time."""
    with ModelServer(lambda r: Reply(text=right(r), hang=True)) as server:
        task = asyncio.create_task(pl.run_experiment_async(experiment(server)))
        await asyncio.to_thread(server.wait_for_requests, 1)
        (run,) = await pl.experiment.list_async()
        assert run.status == "running"
        with pytest.raises(Exception, match="being worked on by another process"):
            await run.resume_async()
        server.release()
        assert (await task).status == "completed"


def test_trials_ask_every_row_as_often_and_count_it_once(pl: PromptLab) -> None:
    """Three trials are 390 cases; the metric has one observation a row."""
    with ModelServer(lambda r: right(r) if r.attempt > 1 else "wrong") as server:
        run = pl.experiment.run(experiment(server, trials=3))
    assert run.summary is not None
    metric = run.summary.metrics["exact_match"]
    assert (run.record.cases, run.summary.cases, metric.scored, metric.n) == (390, 390, 390, 130)
    assert metric.mean == pytest.approx(2 / 3)


class OnlyInvoke(Model):
    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(
            response=user_prompt.replace("What is", "it is").rstrip("?"), prompt_tokens=1, completion_tokens=2
        )


class OnlyAinvoke(Model):
    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        await asyncio.sleep(0)
        return ModelResponse(response=user_prompt.replace("What is", "it is").rstrip("?"), cost_usd=0.5)


@pytest.mark.parametrize("model", [OnlyInvoke(), OnlyAinvoke()])
def test_a_model_of_ones_own_runs_with_either_call(pl: PromptLab, model: Model) -> None:
    """One of `invoke` and `ainvoke` is enough, also for calling it by hand either way."""
    run = pl.experiment.run(experiment(model=model))
    assert mean(run) == 1.0
    assert (
        model.invoke("", "What is 1?").response
        == asyncio.run(model.ainvoke("", "What is 1?")).response
        == "it is 1"
    )


def test_a_cost_that_a_model_states_is_summed_and_an_unknown_one_is_none(pl: PromptLab) -> None:
    """Cost is what the model says; where nobody knows it, it is None and not 0."""
    known, unknown = (pl.experiment.run(experiment(model=m)).summary for m in (OnlyAinvoke(), OnlyInvoke()))
    assert known is not None
    assert unknown is not None
    assert (known.cost_usd, unknown.cost_usd, unknown.prompt_tokens) == (65.0, None, 130)


def test_an_agent_stands_in_for_prompt_and_model(pl: PromptLab) -> None:
    """Sync and async functions of the row, returning a text or a ModelResponse."""

    def sync_agent(row: dict[str, Any]) -> str:
        return str(row["answer"])

    async def async_agent(row: dict[str, Any]) -> ModelResponse:
        return ModelResponse(response=row["answer"])

    for agent in (sync_agent, async_agent):
        config = {
            k: v for k, v in experiment(agent_proxy=agent).items() if k not in ("model", "prompt_template")
        }
        assert mean(pl.experiment.run(config)) == 1.0


async def test_sync_calls_work_inside_a_running_loop(pl: PromptLab) -> None:
    """As in a notebook: the sync SDK from a coroutine."""
    run = pl.experiment.run(experiment(model=OnlyAinvoke()))
    assert mean(run) == 1.0
    assert len(run.results()) == 130


def test_dict_and_typed_configurations_are_the_same_experiment(pl: PromptLab) -> None:
    """Both forms resolve to one experiment, with equal hashes; `completion_model_config` is another name for
    the model."""
    written = experiment(model={"name": "simulated/echo"})
    typed = ExperimentConfig(**written)
    old = {
        **{k: v for k, v in written.items() if k != "model"},
        "completion_model_config": {"name": "simulated/echo"},
    }
    hashes = {pl.experiment.run(config).record.experiment["hash"] for config in (written, typed, old)}
    assert len(hashes) == 1


def test_a_model_object_can_be_used_from_both_worlds(pl: PromptLab) -> None:
    """One provider object: sync call, async call, sync run, async run."""
    with ModelServer(right) as server:
        model = get_model("openai/mini", endpoint=server.openai_url, temperature=0)
        assert model.invoke("", "What is 4?").response == "it is 4"

        async def both() -> None:
            assert (await model.ainvoke("Be terse.", "What is 5?")).response == "it is 5"
            await pl.run_experiment_async(experiment(model=model))
            await model.aclose()

        asyncio.run(both())
        assert mean(pl.experiment.run(experiment(model=model))) == 1.0
        assert server.requests[0].json["temperature"] == 0


def test_progress_is_told_as_cases_end(pl: PromptLab) -> None:
    """The callback sees every case once, and the last call sees all, also what is scored."""
    seen: list[Progress] = []
    pl.experiment.run(experiment(model=OnlyAinvoke()), on_progress=seen.append)
    assert [p.done for p in seen][:131] == list(range(131))
    assert {p.done for p in seen[131:]} <= {130} and seen[-1].scored == 130
    assert (seen[-1].total, seen[-1].failed, seen[-1].cost_usd) == (130, 0, 65.0)


def test_keys_reach_no_file_of_the_store(pl: PromptLab, tmp_path: Path) -> None:
    """A key given in the configuration is sent, and is in no file afterwards."""
    key = "sk-very-secret-0123456789"
    with ModelServer(right) as server:
        pl.experiment.run(
            experiment(server, model={"name": "openai/mini", "endpoint": server.openai_url, "api_key": key})
        )
        assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    pl.close()
    stored = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(stored) > 3
    assert not [p for p in stored if key.encode() in p.read_bytes()]


def test_a_custom_model_that_never_answers_is_timed_out(pl: PromptLab) -> None:
    """timeout_s bounds a call of any model; the case is a recorded failure."""

    class Stuck(Model):
        async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            if user_prompt == "What is 2?":
                await asyncio.Event().wait()
            return ModelResponse(response="x")

    run = pl.experiment.run(
        experiment(model=Stuck(ModelConfig(name="custom/stuck", timeout_s=2, max_retries=0)))
    )
    assert run.summary is not None
    assert run.summary.errors == {"timeout": 1}


def test_a_retryable_error_of_a_custom_model_is_tried_again(pl: PromptLab) -> None:
    """A custom model says with ModelError whether another try may help."""
    tries: list[str] = []

    class Second(Model):
        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            tries.append(user_prompt)
            if tries.count(user_prompt) == 1 and user_prompt == "What is 2?":
                raise ModelError("warming up", type="server_error", retryable=True, retry_after_s=0.0)
            return ModelResponse(response="x")

    run = pl.experiment.run(experiment(model=Second()))
    assert run.summary is not None
    assert (run.summary.failed, run.summary.attempts) == (0, 131)


@pytest.mark.parametrize(
    "answer", ["a text", None, ModelResponse(response=7), ModelResponse(response="x", prompt_tokens="many")]
)  # type: ignore[arg-type]
def test_a_custom_model_that_answers_nonsense_fails_the_case_in_words(pl: PromptLab, answer: Any) -> None:
    """An answer that is not a ModelResponse with a text is a recorded failure, not a broken run."""

    class Odd(Model):
        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            return answer  # type: ignore[no-any-return]

    run = pl.experiment.run(experiment(model=Odd()))
    assert run.summary is not None
    assert run.summary.errors == {"invalid_response": 130}
    assert "custom/Odd answered what is not a ModelResponse" in run.results()[0]["error_message"]


def test_an_own_model_that_does_not_tell_its_latency_is_measured(pl: PromptLab) -> None:
    """In milliseconds, from the call to its answer; what it tells is kept."""

    class Slow(Model):
        async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            await asyncio.sleep(1.5)
            return ModelResponse(response="x", latency_ms=7.0 if user_prompt == "What is 2?" else None)

    began = time.monotonic()
    run = pl.experiment.run(
        experiment(model=Slow(config={"name": "custom/slow", "max_concurrent_tasks": 130}))
    )
    took_ms = 1000 * (time.monotonic() - began)
    told = {row["id"]: row["latency_ms"] for row in run.results()}
    assert sorted(told.values())[0] == 7.0
    assert all(1_490 <= ms <= took_ms for ms in told.values() if ms != 7.0)


def test_text_that_utf8_cannot_hold_is_mended(pl: PromptLab) -> None:
    """A lone surrogate in an answer, a reason or an error loses no case."""

    class Half(Evaluator):
        def evaluate(self, data: dict[str, Any]) -> Score:
            if data["response"].startswith("1"):
                raise ValueError("\ud83d")
            return Score(label="\ud83d!", reason="because \ude00")

    class Surrogate(Model):
        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            return ModelResponse(
                response=user_prompt.split()[-1] + " \ud83d\ude00 \ud83d", metadata={"seen": (1, 2)}
            )

    run = pl.experiment.run(
        experiment(
            model=Surrogate(),
            evaluation=[
                {"metric": "half", "column_mapping": {"response": "$inference"}, "evaluator": Half()}
            ],
        )
    )
    assert run.summary is not None
    assert (run.summary.cases, run.summary.metrics["half"].failed) == (130, 41)
    assert (
        run.results()[2]["response"],
        run.results()[2]["label.half"],
        run.results()[2]["reason.half"],
    ) == (
        "2? \U0001f600 \ufffd",
        "\ufffd!",
        "because \ufffd",
    )


async def test_a_started_run_goes_on_by_itself_and_can_be_cancelled(tmp_path: Path) -> None:
    """`StoreLab.start` returns at once; `cancel` stops it, keeps the answers, and `resume` goes on."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    # Beyond 50 nothing is answered before the cancellation, however slow the machine is.
    with ModelServer(lambda r: Reply(text=right(r), hang=len(server.requests) > 50)) as server:
        begun = await lab.start(experiment(server))
        assert begun.status == "running"
        await asyncio.to_thread(server.wait_for_requests, 30)
        assert (await lab.cancel(begun.run_id)).status == "cancelled"
        server.release()
        while await lab.is_worked_on(begun):
            await asyncio.sleep(0.05)
        stopped = await lab.progress(begun.run_id)
        assert 30 <= stopped.done == len(server.requests) < 130
        await lab.start_resume(begun.run_id)
        while (await lab.get_run(begun.run_id)).status == "running":
            await asyncio.sleep(0.02)
        assert len(server.requests) == 130
    assert (await lab.summary(begun.run_id)).succeeded == 130
    assert (await lab.cancel(begun.run_id)).status == "completed", "a run that has ended stays as it is"
    await lab.close()


async def test_closing_the_lab_interrupts_what_it_started(tmp_path: Path) -> None:
    """As a Studio that is stopped: the runs it works on are kept and can be resumed."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    with ModelServer(lambda r: Reply(text=right(r), delay_s=0.02)) as server:
        begun = await lab.start(experiment(server))
        await asyncio.to_thread(server.wait_for_requests, 30)
        await lab.close()
        asked = len(server.requests)
    assert (await lab.get_run(begun.run_id)).status == "interrupted"
    assert (await lab.progress(begun.run_id)).done == asked
    await lab.close()


@pytest.mark.parametrize(
    "raised",
    [StopIteration(), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("where", ["invoke", "ainvoke", "agent", "evaluate", "async evaluate"])
def test_whatever_user_code_raises_is_a_failure_of_its_case(
    pl: PromptLab, where: str, raised: BaseException
) -> None:
    """Also what Python means for loops, threads and the end of a program; the other cases are kept."""

    def slip(text: str) -> None:
        if text.endswith(" 3?") or text == "it is 3":
            raise raised

    class Sync(Model):
        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            slip(user_prompt if where == "invoke" else "")
            return ModelResponse(response=user_prompt.replace("What is", "it is").rstrip("?"))

    class Async(Sync):
        async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            slip(user_prompt)
            return ModelResponse(response="x")

    def agent(row: dict[str, Any]) -> str:
        slip(row["question"])
        return "x"

    class Judge(Evaluator):
        def evaluate(self, data: dict[str, Any]) -> float:
            slip(data["response"])
            return 1.0

    class AsyncJudge(Evaluator):
        async def evaluate(self, data: dict[str, Any]) -> float:
            slip(data["response"])
            return 1.0

    judge = {"evaluate": Judge(), "async evaluate": AsyncJudge()}.get(where)
    config = experiment(
        model=Async() if where == "ainvoke" else Sync(),
        evaluation=[{"metric": "judge", "column_mapping": {"response": "$inference"}, "evaluator": judge}]
        if judge
        else [],
    )
    if where == "agent":
        config = {k: v for k, v in config.items() if k not in ("model", "prompt_template")} | {
            "agent_proxy": agent
        }
    run = pl.experiment.run(config)
    assert run.summary is not None
    failed_scores = sum(metric.failed for metric in run.summary.metrics.values())
    assert (run.status, run.summary.cases, failed_scores) == ("completed", 130, int(judge is not None))
    assert (run.summary.succeeded, run.summary.failed) == ((130, 0) if judge else (129, 1))


def test_a_row_that_its_prompt_cannot_be_filled_with_was_never_asked(pl: PromptLab) -> None:
    """No attempt is counted, and no call is made."""
    with ModelServer(right) as server:
        run = pl.experiment.run(
            experiment(
                server,
                prompt_template=PromptTemplate(
                    name="divide", user_prompt="{{ 60 // (n % 2) }}", template_format="jinja2"
                ),
                dataset=Dataset(name="few", rows=[{"n": n, "answer": "x"} for n in range(6)]),
            )
        )
    rows = run.results()
    assert [(row["error_type"], row["attempts"]) for row in rows] == [("template_error", 0), (None, 1)] * 3
    assert run.summary.attempts == len(server.requests) == 3


async def test_a_model_whose_closing_is_cancelled_by_itself_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its own code makes of it, the run has its end."""

    class Odd(OnlyAinvoke):
        async def aclose(self) -> None:
            raise asyncio.CancelledError

    async with PromptLab({"db_file": str(tmp_path / "lab.db")}, quiet=True) as lab:
        run = await lab.run_experiment_async(experiment(model=Odd()))
    assert run.status == "completed"
    assert "could not be closed" in caplog.text
