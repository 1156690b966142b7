"""Batch mode in the cloud: the state Batch, again and again, with Waits between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from functions import infer, plan, runtime
from promptlab import Dataset, PromptTemplate
from promptlab.domain.summary import Summary
from tests.batch_server import BatchServer
from tests.functions.conftest import Context, Machine


def said(prompt: str) -> str:
    """The model gives the number; a judge passes all."""
    judged = "<<<RESPONSE>>>" in prompt
    return '{"reasoning": "It is.", "label": "yes"}' if judged else f"it is {prompt}"


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer(said) as running:
        yield running


def experiment(server: BatchServer) -> dict[str, Any]:
    return {
        "name": "night",
        "dataset": Dataset(name="numbers", rows=[{"n": f"{n}"} for n in range(120)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<n>"),
        "model": {"name": "anthropic/claude", "endpoint": server.url, "batch": True},
        "evaluation": [{"metric": "length"}],
    }


def answers(machine: Machine, run_id: str) -> list[str | None]:
    async def rows() -> list[str | None]:
        return [row["response"] async for row in machine.lab.results(run_id)]

    return runtime.run(rows())


def test_a_run_in_batch_mode_is_waited_for_by_the_state_machine(
    machine: Machine, server: BatchServer
) -> None:
    """One batch for all shards; a function looks at it, and none waits for it."""
    server.looks = 3
    run = machine.start(experiment(server))
    assert machine.execute(run.run_id) == {"status": "completed"}
    assert machine.invocations == ["plan", *["infer"] * 5, *["infer", "evaluate"] * 3, "summarize"]
    assert machine.waits == [10] * 4
    assert len(server.batches) == 1
    assert server.direct == []
    assert answers(machine, run.run_id) == [f"it is {n}" for n in range(120)]
    assert runtime.run(machine.lab.progress(run.run_id)).batched is None


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.long
def test_judges_in_batch_mode_are_waited_for_between_the_answers_and_the_scores(
    batch: bool, machine: Machine, server: BatchServer
) -> None:
    """No judge is called; where the model is not in batch mode its answers are planned first."""
    config = experiment(server)
    config["model"]["batch"] = batch
    judge = {"name": "anthropic/judge", "endpoint": server.url, "batch": True, "structured": "none"}
    params = {"criterion": "It is a number."}
    config["evaluation"] = [{"metric": "rubric", "judge": judge, "params": params}]
    run = machine.start(config)
    assert machine.execute(run.run_id) == {"status": "completed"}
    assert machine.invocations.count("plan") == (1 if batch else 2)
    assert len([prompt for prompt in server.direct if "RESPONSE" in prompt]) == 0
    assert [made.model for made in server.batches] == (["claude"] if batch else []) + ["judge"]
    found = runtime.run(machine.lab.get_run(run.run_id))
    rubric = Summary.from_json(found.summary or {}).metrics["rubric"]
    assert (rubric.scored, rubric.values.mean) == (120, 1.0)


def test_an_invocation_with_little_time_leaves_the_rest_to_the_next(
    machine: Machine, server: BatchServer
) -> None:
    """Nothing is submitted that could not be recorded."""
    machine.remaining_s = lambda time: 5 if time == 1 else 900
    run = machine.start(experiment(server))
    assert machine.execute(run.run_id) == {"status": "completed"}
    assert len(server.batches) == 1


def test_two_invocations_at_the_same_time_submit_once(machine: Machine, server: BatchServer) -> None:
    """The batches of a run belong to one worker at a time, and the pages see how far they are."""
    run = machine.start(experiment(server))
    event = {"run_id": run.run_id, "generation": 0}
    assert plan.handler(event, Context())["batch"] is True
    assert infer.handler(event, Context())["remaining"] == 120
    batched = runtime.run(machine.lab.progress(run.run_id)).batched
    assert batched is not None
    assert (batched.open, batched.cases) == (1, 120)
    runtime.run(
        machine.lab.ledger.put_record("LEASE", f"{run.run_id}#batch", {"owner": "other"}, expires_at=1e12)
    )
    assert infer.handler(event, Context()) == {"remaining": 120, "wait_s": 15}
    assert len(server.batches) == 1


@pytest.mark.long
def test_a_refused_submission_stops_the_run(machine: Machine, server: BatchServer) -> None:
    """With the provider's words; resumed, it is submitted once."""
    server.refuse = [(401, "invalid x-api-key")]
    run = machine.start(experiment(server))
    machine.execute(run.run_id)
    stopped = runtime.run(machine.lab.get_run(run.run_id))
    assert stopped.status == "stopped"
    assert "invalid x-api-key" in (stopped.error or "")
    runtime.run(machine.lab.start_resume(run.run_id))
    assert machine.execute(run.run_id, 1) == {"status": "completed"}
    assert len(server.batches) == 1


@pytest.mark.long
def test_a_budget_is_kept_by_batches_in_the_cloud(machine: Machine, server: BatchServer) -> None:
    """Each invocation goes on with what the one before set aside; what was answered is scored."""
    config = experiment(server)
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0, "max_tokens": 20}
    config["model"] |= prices
    run = machine.start({**config, "max_cost_usd": 0.002})
    assert machine.execute(run.run_id) == {"status": "budget_reached"}
    found = runtime.run(machine.lab.get_run(run.run_id))
    asked = [prompt for made in server.batches for prompt in made.requests.values()]
    cost = sum(len(prompt) + 2 * len(f"it is {prompt}") for prompt in asked) / 1e6
    assert 0 < cost <= 0.002 and 0 < len(asked) < 120 and server.direct == []
    assert Summary.from_json(found.summary or {}).metrics["length"].scored == len(asked)
    again = runtime.run(machine.lab.start_resume(run.run_id, max_cost_usd=1.0))
    assert machine.execute(run.run_id, again.generation) == {"status": "completed"}
    asked = [prompt for made in server.batches for prompt in made.requests.values()]
    assert sorted(asked, key=int) == [f"{n}" for n in range(120)] and server.direct == []
    record = runtime.run(machine.lab.ledger.get_record("BUDGET", f"run/{run.run_id}"))
    spent = sum(len(prompt) + 2 * len(f"it is {prompt}") for prompt in asked) / 1e6
    assert record is not None and record["spent"] == pytest.approx(spent)
