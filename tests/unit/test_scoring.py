"""Scores of judges: recorded as they come, within one bound for the run, and never paid for twice where that
can be had."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptlab import Evaluator, Model, ModelResponse, PromptLab, get_model
from promptlab.adapters.local.runner import LocalRunner
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.domain.results import Progress, ScoreSet
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.servers import ModelServer, Reply, Request

ROWS = 300
IN_FLIGHT = 7


class Echo(Model):
    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=user_prompt)


class Judge(Evaluator):
    """Asks a model, from async code."""

    inputs = {"response": "$inference"}

    def __init__(self, url: str) -> None:
        self.judge = get_model("openai/judge", endpoint=url, max_concurrent_tasks=IN_FLIGHT)

    async def evaluate(self, data: dict[str, Any]) -> bool:
        return (await self.judge.ainvoke("", data["response"])).response == "yes"


class SyncJudge(Judge):
    """Asks a model, from sync code."""

    def evaluate(self, data: dict[str, Any]) -> bool:  # type: ignore[override]
        return self.judge.invoke("", data["response"]).response == "yes"


def experiment(evaluators: dict[str, Evaluator], rows: int = ROWS, **changes: Any) -> dict[str, Any]:
    return {
        "name": "judged",
        "model": Echo(),
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(rows)]},
        "evaluation": [
            {"metric": name, "evaluator": evaluator, "column_mapping": {"response": "$inference"}}
            for name, evaluator in evaluators.items()
        ],
        **changes,
    }


def prompts(server: ModelServer) -> list[str]:
    return [request.prompt for request in server.requests]


@pytest.mark.parametrize("kind", [Judge, SyncJudge])
def test_all_shards_and_metrics_share_the_slots_of_a_judge(tmp_path: Path, kind: type[Judge]) -> None:
    """Six shards and two metrics: never more calls in flight than the judge's max_concurrent_tasks."""
    with ModelServer(lambda request: Reply(text="yes", delay_s=0.005)) as server:
        with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
            judges = {"one": kind(server.openai_url), "two": kind(server.openai_url)}
            run = pl.experiment.run(experiment(judges))
        assert server.peak <= IN_FLIGHT and len(server.requests) == 2 * ROWS
    assert run.summary is not None and [m.n for m in run.summary.metrics.values()] == [ROWS, ROWS]


@pytest.mark.parametrize("kind", [Judge, SyncJudge])
async def test_a_stopped_run_keeps_the_judges_answers_that_are_in_flight(
    tmp_path: Path, kind: type[Judge]
) -> None:
    """They are waited for; a resume pays for none of them again."""

    stopped = False

    def slow(request: Request) -> Reply:
        return Reply(text="yes", delay_s=0.2 if len(server.requests) > 40 and not stopped else 0.0)

    with ModelServer(slow) as server:
        lab = StoreLab.open({"db_file": str(tmp_path / "lab.db")})
        config = experiment({"judge": kind(server.openai_url)})
        task = asyncio.create_task(lab.run(config))
        await asyncio.to_thread(server.wait_for_requests, 41)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (run,), _ = await lab.list_runs()
        scored = 0
        for shard in range(ROWS // 50):
            scored += len(await lab.ledger.get_scores(run.run_id, shard))
        assert run.status == "interrupted" and scored == len(server.requests) < ROWS
        stopped = True
        done = await lab.resume(run.run_id, config=config)
        assert done.status == "completed" and len(server.requests) == ROWS
        await lab.close()


SCRIPT = """
import sys
from promptlab import PromptLab
from tests.unit.test_scoring import Judge, experiment
PromptLab({"db_file": sys.argv[1]}).experiment.run(experiment({"judge": Judge(sys.argv[2])}))
"""


@pytest.mark.parametrize("when", [1, 60, 170, 290])
def test_after_a_kill_no_more_judges_are_asked_again_than_were_in_flight(tmp_path: Path, when: int) -> None:
    """Scores are durable before the next judge is asked."""
    db = str(tmp_path / "lab.db")
    with ModelServer(lambda request: Reply(text="yes", delay_s=0.01)) as server:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, db, server.openai_url])
        server.wait_for_requests(when)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with PromptLab({"db_file": db}) as pl:
            (run,) = pl.experiment.list()
            run = run.resume(experiment({"judge": Judge(server.openai_url)}))
        assert len(server.requests) <= ROWS + IN_FLIGHT and len(set(prompts(server))) == ROWS
    assert run.summary is not None and run.summary.metrics["judge"].n == ROWS


class Twice(Judge):
    """Fails the first time that it is asked of an answer that ends in 7."""

    seen: set[str] = set()

    async def evaluate(self, data: dict[str, Any]) -> bool:
        answer = await super().evaluate(data)
        if data["response"].endswith("7") and data["response"] not in self.seen:
            self.seen.add(data["response"])
            raise ValueError("undecided")
        return answer


def test_a_pass_over_failures_asks_only_the_judge_that_failed(tmp_path: Path) -> None:
    """The other judge's score of the same case is kept."""
    Twice.seen.clear()
    with ModelServer(lambda request: "yes") as server, ModelServer(lambda request: "yes") as other:
        with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
            config = experiment({"good": Judge(server.openai_url), "torn": Twice(other.openai_url)}, rows=60)
            run = pl.experiment.run(config)
            assert run.summary is not None
            assert (run.summary.failed, run.summary.metrics["torn"].failed) == (0, 6)
            again = run.resume(config, failed=True)
        assert (len(server.requests), len(other.requests)) == (60, 66)
    assert again.summary is not None and again.summary.metrics["torn"].n == 60


def test_progress_tells_how_many_cases_are_scored(tmp_path: Path) -> None:
    """To the last one; without metrics nobody counts."""
    seen: list[Progress] = []
    with ModelServer(lambda request: "yes") as server, PromptLab({"db_file": str(tmp_path / "l.db")}) as pl:
        pl.experiment.run(experiment({"judge": Judge(server.openai_url)}, rows=120), on_progress=seen.append)
        counts = [progress.scored for progress in seen]
        assert counts == sorted(counts, key=lambda n: n or 0) and counts[0] == 0 and counts[-1] == 120
        pl.experiment.run(experiment({}, rows=3), on_progress=seen.append)
        assert seen[-1].scored is None


class FullLedger(SqliteLedger):
    """A ledger on a disk that is full once the judge was asked a hundred times."""

    def __init__(self, path: Path, server: ModelServer) -> None:
        super().__init__(path)
        self._server = server

    async def put_scores(self, run_id: str, scores: Sequence[ScoreSet]) -> None:
        if len(self._server.requests) > 100:
            raise OSError("no space left")
        await super().put_scores(run_id, scores)


async def test_a_score_that_cannot_be_recorded_stops_the_judges(tmp_path: Path) -> None:
    """As with answers: the run fails with its reason, and no more judges are paid for than were in flight."""
    with ModelServer(lambda request: "yes") as server:
        parts = open_parts({"db_file": str(tmp_path / "lab.db")})
        ledger = FullLedger(tmp_path / "lab.db", server)
        runner = LocalRunner(ledger, parts.blobs, parts.clock, tmp_path / "locks")
        lab = StoreLab(replace(parts, ledger=ledger, runner=runner))
        run = await lab.run(experiment({"judge": Judge(server.openai_url)}))
        await lab.close()
        assert run.status == "failed" and "no space left" in str(run.error)
        assert len(server.requests) <= 100 + 4 * IN_FLIGHT
