"""Runs that end before all of their cases are done, though nobody stopped them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.adapters.local import runner
from promptlab.engine.halting import Halt
from promptlab.engine.job import Job, Outcome
from tests.servers import ModelServer


def experiment(server: ModelServer, rows: int = 40, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 4},
        "evaluation": [{"metric": "length"}],
        **changes,
    }


@pytest.mark.parametrize("status", ["stopped", "budget_reached", "interrupted"])
def test_a_halted_run_keeps_what_was_in_flight_says_why_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: Any
) -> None:
    """Of two reasons the first one stays; a resume asks for what was never asked."""
    infer = runner.infer

    async def halting(job: Job, shard: Any, **named: Any) -> Outcome:
        count = job.recorder.on_record

        def counted(completion: Any) -> None:
            assert count is not None
            count(completion)
            job.halt(Halt(status, "the first reason"))
            job.halt(Halt("stopped", "the second reason"))

        job.recorder.on_record = counted
        return await infer(job, shard, **named)

    with ModelServer(lambda request: "fine") as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        with monkeypatch.context() as patched:
            patched.setattr(runner, "infer", halting)
            run = pl.experiment.run(experiment(server), quiet=True)
        assert (run.status, run.record.error) == (status, "the first reason")
        assert 1 <= len(server.requests) <= 8
        assert len([row for row in run.results() if row["response"]]) == len(server.requests)
        assert (run.summary, run.record.results) == (None, None)
        whole = run.resume(quiet=True)
        assert (whole.status, whole.record.error) == ("completed", None)
        assert len(server.requests) == 40
        assert [r.run_id for r in pl.experiment.list(status="completed")] == [run.run_id]
