"""Budgets and the cache on Lambda: shared by all workers of a run, and by the runs of a project."""

from __future__ import annotations

from typing import Any

import pytest

from functions import runtime
from promptlab import Dataset, PromptTemplate
from promptlab.engine.budget import run_key, run_usd, spent_usd
from tests.functions.conftest import Machine
from tests.servers import ModelServer, Reply

ROWS = [{"question": f"What is {n}?"} for n in range(120)]
MODEL = {
    "max_concurrent_tasks": 100,
    "input_usd_per_mtok": 0,
    "output_usd_per_mtok": 1_000_000,
    "max_tokens": 10,
}


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, **MODEL},
        "evaluation": [{"metric": "length"}],
        **changes,
    }


def answer(request: Any) -> Reply:
    """An answer of four tokens, so of four dollars."""
    body = {
        "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }
    return Reply(body=body)


@pytest.mark.long
def test_workers_of_a_run_share_its_budget(machine: Machine) -> None:
    """It ends as budget_reached with a summary, spends no more, and goes on with more."""
    with ModelServer(answer) as server:
        run = machine.start(experiment(server, max_cost_usd=300.0))
        machine.execute(run.run_id)
        there = runtime.run(machine.lab.get_run(run.run_id))
        assert there.status == "budget_reached"
        assert there.summary is not None
        assert 280 <= run_usd(there) <= 300
        assert len(server.requests) == there.summary["cases"] == there.summary["metrics"]["length"]["scored"]
        assert runtime.run(spent_usd(machine.lab.ledger, run_key(run.run_id))) == run_usd(there)
        runtime.run(machine.lab.start_resume(run.run_id, max_cost_usd=1_000.0))
        machine.execute(run.run_id, 1)
        whole = runtime.run(machine.lab.get_run(run.run_id))
        assert (whole.status, len(server.requests)) == ("completed", 120)
        assert run_usd(whole) == pytest.approx(480)


@pytest.mark.long
def test_a_projects_answers_are_given_again_in_it_alone(machine: Machine) -> None:
    """A run of another project asks anew."""
    with ModelServer(answer) as server:
        for expected in (120, 120):
            run = machine.start(experiment(server, cache=True))
            machine.execute(run.run_id)
            assert len(server.requests) == expected
        there = runtime.run(machine.lab.get_run(run.run_id))
        assert there.summary is not None
        assert (there.summary["cached"], there.summary["cost_usd"]) == (120, 0.0)
        runtime.run(machine.lab.projects.create("other"))
        other = machine.of("other")
        run = other.start(experiment(server, cache=True))
        other.execute(run.run_id)
        assert len(server.requests) == 240


@pytest.mark.long
def test_a_sweep_begins_all_of_its_runs_once_and_its_budget_is_one(machine: Machine) -> None:
    """The state machine gets a run for each cell; what the first spends the second lacks; they are ranked
    from the bucket, and the same experiment is the same sweep."""
    with ModelServer(answer) as server:
        config = experiment(server, max_cost_usd=600.0, matrix={"model.temperature": [0, 1]})
        sweep = runtime.run(machine.lab.start_sweep(config))
        assert runtime.run(machine.lab.list_sweeps()) == [sweep]
        assert len(runtime.run(machine.lab.list_runs())[0]) == 2 and not any(c.error for c in sweep.cells)
        for run_id in sweep.run_ids:
            machine.execute(run_id)
        runs = [runtime.run(machine.lab.get_run(run_id)) for run_id in sweep.run_ids]
        assert [run.status for run in runs] == ["completed", "budget_reached"]
        assert 560 <= sum(map(run_usd, runs)) <= 600
        found = runtime.run(machine.lab.rank(sweep.sweep_id))
        assert (found.metric, found.cells[0].place, found.rows) == ("length", 1, 120)
        assert found.cells[1].unranked == "its run is budget reached"
        again = runtime.run(machine.lab.start_sweep({**config, "max_cost_usd": 2_000.0}))
        assert (again.sweep_id, again.run_ids) == (sweep.sweep_id, sweep.run_ids)
        machine.execute(sweep.run_ids[1], 1)
        runs = [runtime.run(machine.lab.get_run(run_id)) for run_id in sweep.run_ids]
        assert [run.status for run in runs] == ["completed"] * 2 and len(server.requests) == 240
        assert [run.generation for run in runs] == [0, 1]
