"""Batch mode: whole runs against a server that plays the batches of four providers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.adapters.local.runner import LocalRunner
from promptlab.clock import SystemClock
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import Progress, RunRecord
from promptlab.domain.worst_case import worst_case
from promptlab.errors import ConfigError
from promptlab.models.batches.base import Limits
from promptlab.models.batches.registry import BatchModes, batches_of
from promptlab.models.bedrock import BedrockModel
from promptlab.outbound import Outbound
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests import aws
from tests.batch_server import BatchServer, Life, Outcome

KINDS = ("openai", "azure", "anthropic", "gemini", "bedrock")


Serve = Callable[..., BatchServer]


class Killed(BaseException):
    """The process is dead: nothing that it would do happens."""


class FastClock(SystemClock):
    """Waits of seconds pass at once, and the time of day with them."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time(self) -> float:
        return datetime.fromisoformat(self.now()).timestamp()

    def now(self) -> str:
        now = datetime.now(UTC) + timedelta(seconds=self.ahead_s)
        return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def sleep(self, seconds: float) -> None:
        if seconds >= 5:
            self.ahead_s += seconds
        await asyncio.sleep(min(seconds, 0.2) if seconds < 5 else 0)


class MortalLedger:
    """A ledger of a process that may die before or after a step."""

    def __init__(self, ledger: Any, life: Life) -> None:
        self._ledger, self._life = ledger, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        steps = ("put_record", "get_record", "put_completions", "update_run", "put_shard", "swap_records")
        if name not in steps:
            return found

        async def step(*args: Any, **kwargs: Any) -> Any:
            dies = self._life.step()
            if self._life.dead and not (dies and self._life.after):
                raise Killed
            result = await found(*args, **kwargs)
            if dies:
                raise Killed
            return result

        return step


def mortal_lab(db: Path, clock: SystemClock, life: Life, limits: Limits | None = None) -> StoreLab:
    """The lab of a process that may die, with batches of other bounds than the provider's."""
    parts, modes = open_parts({"type": "sqlite", "db_file": str(db)}), BatchModes(limits)
    ledger: Any = MortalLedger(parts.ledger, life)
    runner = LocalRunner(ledger, parts.blobs, clock, db.with_name(db.name + ".blobs") / ".locks", modes)
    return StoreLab(replace(parts, ledger=ledger, clock=clock, runner=runner, batches=modes))


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def serve(clock: FastClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server for a provider."""
    running: list[BatchServer] = []
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")

    def start(kind: str, answer: Callable[[str], Outcome] = lambda prompt: f"it is {prompt}") -> BatchServer:
        s3 = None
        if kind == "bedrock":
            aws.credentials(monkeypatch)
            monkeypatch.setenv("AWS_REGION", aws.REGION)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws.moto_url())
            monkeypatch.setenv("PROMPTLAB_BATCH_S3_URI", f"s3://{aws.new_bucket()}/batches")
            monkeypatch.setenv("PROMPTLAB_BATCH_ROLE_ARN", "arn:aws:iam::123456789012:role/batches")
            s3 = aws._client("s3")
        running.append(BatchServer(answer, s3=s3))
        running[-1].now = clock.time
        return running[-1].__enter__()

    yield start
    for server in running:
        server.__exit__()


def small(kind: str, requests: int) -> tuple[int, Limits]:
    """Bounds of batches so small that a run has a few, and the rows of three of them."""
    if kind == "bedrock":
        return 22, Limits(10, 1_000_000, 4)
    return 2 * requests + 2, Limits(requests, 1_000_000)


def experiment(kind: str, server: BatchServer, rows: int, **changes: Any) -> dict[str, Any]:
    model = {
        "openai": {"name": "openai/mini", "endpoint": f"{server.url}/v1", "api_key_env": "OPENAI_API_KEY"},
        "azure": {"name": "azure/mini", "endpoint": server.url, "api_key_env": "OPENAI_API_KEY"},
        "anthropic": {"name": "anthropic/claude", "endpoint": server.url},
        "gemini": {
            "name": "openai/gemini-9",
            "endpoint": f"{server.url}/v1beta/openai",
            "api_key_env": "OPENAI_API_KEY",
        },
        "bedrock": {"name": "bedrock/amazon.nova-lite-v1:0", "endpoint": server.url},
    }[kind]
    return {
        "name": "night",
        "dataset": Dataset(name="numbers", rows=[{"n": f"{n}"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", system_prompt="Be brief.", user_prompt="<n>"),
        "model": {**model, "batch": True, "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        "evaluation": [{"metric": "length"}],
        **changes,
    }


async def answers(lab: StoreLab, run: RunRecord) -> list[tuple[int, int, str | None, str | None]]:
    return [(r["case"], r["trial"], r["response"], r["error_type"]) async for r in lab.results(run.run_id)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_is_answered_by_batches_and_scored(
    kind: str,
    tmp_path: Path,
    serve: Serve,
    clock: FastClock,
) -> None:
    """Each case is in one batch, no call is made, and usage and cost are those of the provider's counts."""
    rows, limits = small(kind, 5)
    server = serve(kind)
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), limits)
    seen: list[Progress] = []
    run = await lab.run(experiment(kind, server, rows), on_progress=seen.append)
    found = await answers(lab, run)
    await lab.close()
    assert (run.status, run.error) == ("completed", None)
    assert found == [(n, 0, f"it is {n}", None) for n in range(rows)]
    sizes = [10, 8, 4] if kind == "bedrock" else [5, 5, 2]
    assert [len(made.requests) for made in server.batches] == sizes
    assert server.direct == []
    read = sum(len(f"{n}") for n in range(rows))
    assert run.summary is not None
    assert run.summary["prompt_tokens"] == read
    assert run.summary["cost_usd"] == pytest.approx((read + 2 * (read + 6 * rows)) / 1e6)
    waits = [progress.batched for progress in seen if progress.batched]
    assert (waits[0].open, waits[0].cases) == (3, rows)
    assert waits[0].since is not None
    assert seen[-1].batched is None
    assert not await lab.blobs.keys(f"runs/{run.run_id}/batches/")


@pytest.mark.parametrize(
    ("kind", "has_budget"),
    [("openai", False), ("anthropic", False), ("gemini", False), ("bedrock", False), ("anthropic", True)],
)
@pytest.mark.long
async def test_a_run_that_is_killed_anywhere_asks_each_case_once(
    kind: str,
    has_budget: bool,
    tmp_path: Path,
    serve: Serve,
    clock: FastClock,
) -> None:
    """Killed before or after any step of the ledger or the provider, and resumed: no batch is made twice."""
    rows, limits = small(kind, 4)
    server = serve(kind)
    config = experiment(kind, server, rows)
    if has_budget:  # enough for all of it twice: nothing is counted more than once
        config, _ = with_budget(kind, server, rows, 2.0)
    whole = Life()
    server.life = whole
    lab = mortal_lab(tmp_path / "whole.db", clock, whole, limits)
    await lab.run(config)
    await lab.close()
    chance, died = random.Random(kind), 0
    for number, at in enumerate(chance.sample(range(4, whole.steps), 8)):
        server.batches.clear()
        db = tmp_path / f"{number}.db"
        life = server.life = Life(at=at, after=chance.random() < 0.5)
        lab = mortal_lab(db, clock, life, limits)
        with suppress(BaseException):  # dead is dead, whatever it died of
            await lab.run(config)
        died += life.dead  # unless it had fewer steps this time: the watch beside a run takes some
        server.life = Life()
        lab = mortal_lab(db, clock, Life(), limits)
        runs, _ = await lab.list_runs()
        # Killed before the run was recorded, it is begun anew.
        run = await (lab.resume(runs[0].run_id) if runs else lab.run(config))
        assert (run.status, run.error) == ("completed", None), (at, life.after)
        assert await answers(lab, run) == [(n, 0, f"it is {n}", None) for n in range(rows)], (at, life.after)
        asked = [prompt for made in server.batches for prompt in made.requests.values()]
        assert sorted(asked, key=int) == [f"{n}" for n in range(rows)], (at, life.after)
        assert server.direct == []
        await lab.close()
    assert died > 0


async def test_a_run_can_be_left_and_is_collected_the_next_day(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """Left once all is submitted, the run says so; whoever resumes it finds the answers."""
    server = serve("openai")
    server.looks = 3
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.run(experiment("openai", server, 7), leave=True)
    progress = await lab.progress(run.run_id)
    assert (run.status, run.error, progress.done) == ("interrupted", None, 0)
    assert progress.batched is not None
    assert (progress.batched.open, progress.batched.cases, progress.batched.done) == (1, 7, 0)
    await lab.close()
    clock.ahead_s += 86_400
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.resume(run.run_id)
    assert run.status == "completed"
    assert [row[2] for row in await answers(lab, run)] == [f"it is {n}" for n in range(7)]
    assert len(server.batches) == 1
    assert (await lab.progress(run.run_id)).batched is None
    await lab.delete_run(run.run_id)
    assert await lab.ledger.get_record("BATCH", run.run_id) is None
    assert await lab.ledger.get_record("BATCH", f"{run.run_id}#0") is None
    await lab.close()


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "bedrock"])
@pytest.mark.parametrize("ends", ["expired", "cancelled"])
async def test_cases_without_an_answer_are_errors_that_can_be_done_again(
    kind: str,
    ends: str,
    tmp_path: Path,
    serve: Serve,
    clock: FastClock,
) -> None:
    """What an ended batch left, and what was refused in it, are failed cases; resume --failed asks those."""
    rows = 9
    limits = Limits(100, 1_000_000, 4) if kind == "bedrock" else None
    open_rows = {f"{n}" for n in range(rows) if n % 2}

    def first(prompt: str) -> Outcome:
        if prompt == "0":
            return 400, "too spicy"
        return None if prompt in open_rows else f"it is {prompt}"

    server = serve(kind, first)
    server.ends = ends if kind in ("openai", "anthropic") else "completed"
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), limits)
    run = await lab.run(experiment(kind, server, rows))
    assert run.summary is not None
    kind_of_error = f"batch_{ends if kind in ('openai', 'anthropic') else 'failed'}"
    assert run.status == "completed"
    assert run.summary["errors"] == {kind_of_error: len(open_rows), "bad_request": 1}
    assert run.summary["cost_usd"] is not None
    server.answer, server.ends = (lambda prompt: f"it is {prompt}"), "completed"
    run = await lab.resume(run.run_id, failed=True)
    assert [row[2:] for row in await answers(lab, run)] == [(f"it is {n}", None) for n in range(rows)]
    assert sorted(server.batches[1].requests.values(), key=int) == sorted({"0", *open_rows}, key=int)
    await lab.close()


async def test_a_batch_that_is_refused_as_a_whole_fails_its_cases(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """The provider's words are in each case's error."""
    server = serve("openai")
    server.ends = "failed"
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.run(experiment("openai", server, 3))
    rows = [row async for row in lab.results(run.run_id)]
    await lab.close()
    assert {row["error_type"] for row in rows} == {"batch_failed"}
    assert "model_not_found: There is no such model" in rows[0]["error_message"]
    assert rows[0]["cost_usd"] == 0.0


async def test_a_submission_that_is_refused_ends_the_run_and_loses_nothing(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """A wrong key ends the run with the provider's words; resumed with a right one, all is asked once."""
    server = serve("anthropic")
    server.refuse = [(401, "invalid x-api-key")]
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.run(experiment("anthropic", server, 3))
    assert run.status == "stopped"
    assert "invalid x-api-key" in (run.error or "")
    assert (await lab.progress(run.run_id)).done == 0
    run = await lab.resume(run.run_id)
    assert run.status == "completed"
    assert len(server.batches) == 1
    await lab.close()


def paid(server: BatchServer) -> float:
    """What the batches at a server cost, by the prices of `experiment`."""
    asked = [prompt for made in server.batches for prompt in made.requests.values()]
    return sum(len(prompt) + 2 * len(f"it is {prompt}") for prompt in asked) / 1e6


def with_budget(kind: str, server: BatchServer, rows: int, share: float) -> tuple[dict[str, Any], float]:
    """An experiment whose budget is a share of what its calls may cost at most; and that budget."""
    config = experiment(kind, server, rows)
    config["model"]["max_tokens"] = 20
    worst = worst_case(ModelConfig.model_validate(config["model"]))
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "10"}]
    budget = share * rows * worst.usd(chat)
    return {**config, "max_cost_usd": budget}, budget


async def test_a_budget_is_set_aside_for_a_batch_before_it_is_submitted(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """What may be spent is asked in several batches, as the ones before leave of it; what was answered is
    scored, and a resume with more does the rest."""
    rows, server = 40, serve("openai")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config, budget = with_budget("openai", server, rows, 0.3)
    run = await lab.run(config)
    assert (run.status, run.summary is not None) == ("budget_reached", True)
    assert "max_cost_usd" in (run.error or "") and 0 < paid(server) <= budget
    found = [row async for row in lab.results(run.run_id)]
    done = [row for row in found if row["response"] is not None]
    assert len(done) == sum(len(made.requests) for made in server.batches) < rows
    assert all(row["score.length"] is not None for row in done)
    assert server.direct == []
    whole = await lab.resume(run.run_id, max_cost_usd=100 * budget)
    assert whole.status == "completed"
    assert await answers(lab, whole) == [(n, 0, f"it is {n}", None) for n in range(rows)]
    asked = [prompt for made in server.batches for prompt in made.requests.values()] + server.direct
    assert sorted(asked, key=int) == [f"{n}" for n in range(rows)]
    assert (await lab.ledger.get_record("BUDGET", f"run/{run.run_id}"))["spent"] == pytest.approx(
        paid(server)
    )
    await lab.close()


async def test_a_budget_that_batches_do_not_use_up_is_enough(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """All of the run at once might cost more than it may; batch by batch it does not."""
    server = serve("openai", lambda prompt: "")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config, _ = with_budget("openai", server, 40, 0.8)
    run = await lab.run(config)
    assert (run.status, run.error) == ("completed", None)
    assert len(server.batches) >= 2
    await lab.close()


async def test_what_is_set_aside_for_a_batch_outlives_whoever_submitted_it(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """While a batch is open nobody else has its dollars; another process collects it, and it costs what it
    did."""
    server = serve("openai")
    server.looks = 3
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config, budget = with_budget("openai", server, 10, 2.5)
    run = await lab.run(config, leave=True)
    assert run.status == "interrupted"
    record = await lab.ledger.get_record("BUDGET", f"run/{run.run_id}")
    (lease,) = record["leases"].values()
    assert lease[0] == pytest.approx(budget / 2.5, rel=0.05)
    await lab.close()
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.resume(run.run_id)
    assert run.status == "completed"
    record = await lab.ledger.get_record("BUDGET", f"run/{run.run_id}")
    assert record["spent"] == pytest.approx(paid(server)) and not record["leases"]
    await lab.close()


async def test_a_server_error_while_submitting_makes_no_second_batch(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """After a 503 the provider's list says whether the batch is there."""
    server = serve("openai")
    server.refuse = [(503, "overloaded"), (429, "slow down")]
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.run(experiment("openai", server, 3))
    await lab.close()
    assert run.status == "completed"
    assert len(server.batches) == 1
    assert server.calls["batches"] >= 1


async def test_a_batch_without_room_in_the_queue_is_submitted_again_later(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """OpenAI's limit of enqueued tokens is waited out."""
    server = serve("openai")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())

    def on_start(run: RunRecord) -> None:
        server.no_room.append(f"{run.run_id}-g0-b0")

    run = await lab.run(experiment("openai", server, 3), on_start=on_start)
    found = await answers(lab, run)
    await lab.close()
    assert [row[2] for row in found] == ["it is 0", "it is 1", "it is 2"]
    assert [made.name for made in server.batches] == [f"{run.run_id}-g0-b0", f"{run.run_id}-g0-b0-r1"]


async def test_trials_and_rows_whose_prompt_cannot_be_made(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """Each trial is a request of its own."""
    server = serve("anthropic")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    run = await lab.run(experiment("anthropic", server, 3, trials=2))
    found = await answers(lab, run)
    await lab.close()
    assert [row[:3] for row in found] == [(n, t, f"it is {n}") for n in range(3) for t in range(2)]
    assert len(server.batches[0].requests) == 6


async def test_a_request_larger_than_a_batch_is_a_failed_case(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """The bound of bytes splits, too; what fits in no batch says so."""
    server = serve("openai")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), Limits(1000, 600))
    texts = ["a", "b" * 600, "c", "d", "e"]
    data = Dataset(name="texts", rows=[{"n": text} for text in texts])
    run = await lab.run(experiment("openai", server, 0, dataset=data))
    rows = [row async for row in lab.results(run.run_id)]
    await lab.close()
    assert [row["error_type"] for row in rows] == [None, "bad_request", None, None, None]
    assert "a batch at most 600" in rows[1]["error_message"]
    assert len(server.batches) > 1
    assert all(made.requests for made in server.batches)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "simulated/echo", "batch": True}, "has no batch mode"),
        ({"name": "openai/mini", "batch": True, "service_tier": "flex"}, "leave service_tier out"),
        ({"name": "bedrock/amazon.nova-lite-v1:0", "batch": True, "region": "us-east-1"}, "batch_s3_uri"),
    ],
)
async def test_batch_mode_that_cannot_be_is_refused_before_anything_is_stored(
    model: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what is missing, and what to do."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    config = {
        "name": "night",
        "dataset": Dataset(name="numbers", rows=[{"n": "1"}]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<n>"),
        "model": model,
    }
    with pytest.raises(ConfigError, match=words):
        await lab.run(config)
    assert await lab.list_runs() == ([], None)
    await lab.close()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"batch_s3_uri": "s3://somewhere-else/batches"}, "leave batch_s3_uri out"),
        ({}, "deploy it with BedrockModels"),
    ],
)
def test_a_deployed_lab_has_its_own_place_for_batches_of_bedrock(model: dict[str, Any], words: str) -> None:
    """Whoever starts a run names neither a bucket nor a role."""
    found = BedrockModel(ModelConfig(name="bedrock/amazon.nova-lite-v1:0", batch=True, **model))
    found.guard(Outbound(hosted=True))
    with pytest.raises(ConfigError, match=words):
        batches_of(found)


async def test_too_few_cases_for_a_batch_are_refused(tmp_path: Path, serve: Serve, clock: FastClock) -> None:
    """Bedrock takes no batch of less than 100 records."""
    server = serve("bedrock")
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    with pytest.raises(ConfigError, match="at least 100 requests, and this run has 99"):
        await lab.run(experiment("bedrock", server, 99))
    await lab.close()
