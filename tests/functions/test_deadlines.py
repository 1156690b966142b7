"""Deadlines of cases and runs where the state machine does the waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions import runtime
from promptlab import Dataset, PromptTemplate
from promptlab.domain.records import TRIED
from tests.functions.conftest import Machine
from tests.servers import ModelServer, Reply, Request

ROWS = [{"question": f"What is {n}?"} for n in range(120)]


def right(request: Request) -> str:
    """The answer to a question."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 100},
        **changes,
    }


def test_a_wait_of_the_state_machine_counts_in_a_cases_time(machine: Machine) -> None:
    """A provider that asks for 40 s of a case that has 60: the first wait is left to the state machine, and
    by the second the case has no time for it."""
    with ModelServer(right) as server:
        server.script(*[Reply(status=429, headers={"Retry-After": "40"})] * 9, prompt="What is 7?")
        run = machine.start(experiment(server, case_deadline_s=60))

        def let_time_pass(seconds: float) -> None:
            name = f"{run.run_id}#0#0"
            record = runtime.run(machine.lab.ledger.get_record(TRIED, name))
            assert record is not None
            (*tried, began_at) = record["cases"][0]
            record["cases"][0] = [*tried, began_at - seconds]
            kept = runtime.run(machine.lab.ledger.put_record(TRIED, name, record, expires_at=None))
            assert kept

        machine.on_wait = let_time_pass
        assert machine.execute(run.run_id) == {"status": "completed"}
    found = runtime.run(machine.lab.get_run(run.run_id))
    assert found.summary is not None and found.summary["errors"] == {"deadline": 1}
    asked = [request for request in server.requests if request.prompt == "What is 7?"]
    assert len(asked) == 2 and len(machine.waits) == 1


@pytest.mark.long
def test_a_run_whose_time_is_over_ends_as_interrupted_and_goes_on_with_a_resume(machine: Machine) -> None:
    """Whichever worker comes next says so, and makes no call."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server, run_deadline_s=600))
        past = (datetime.now(UTC) - timedelta(seconds=601)).isoformat()
        runtime.run(machine.lab.ledger.update_run(run.run_id, {"started_at": past}))
        assert machine.execute(run.run_id) == {"status": "interrupted"}
        found = runtime.run(machine.lab.get_run(run.run_id))
        assert (found.status, server.requests) == ("interrupted", [])
        assert "run_deadline_s: 600 s" in (found.error or "") and found.finished_at is not None
        again = runtime.run(machine.lab.start_resume(run.run_id))
        assert machine.execute(run.run_id, again.generation) == {"status": "completed"}
        assert len(server.requests) == len(ROWS)


def test_no_wait_of_the_state_machine_goes_beyond_the_runs_time(machine: Machine) -> None:
    """A provider that asks for 200 s in a run that has 100."""
    with ModelServer(right) as server:
        server.script(Reply(status=429, headers={"Retry-After": "200"}), prompt="What is 7?")
        run = machine.start(experiment(server, run_deadline_s=100))
        assert machine.execute(run.run_id) == {"status": "completed"}  # this test's machine does not wait
    assert machine.waits and all(wait_s <= 100 for wait_s in machine.waits)
