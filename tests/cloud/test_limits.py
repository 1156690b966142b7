"""What providers refuse and limit, through the URL of a deployed stack: a run that cannot succeed costs two
workers' first calls; the workers of all runs keep to a limit together, and use it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptlab.worker import IN_FLIGHT
from tests.cloud.conftest import Stack
from tests.cloud.runs import each_once, ended, experiment, processes, right, started, until
from tests.cloud.test_cli import promptlab
from tests.servers import ModelServer, Reply, Request
from tests.unit.test_halting import NO_CREDIT, NO_MODEL, WRONG_KEY
from tests.unit.test_permits import most_in_a_minute

pytestmark = pytest.mark.cloud
ROWS = 10_000
REFUSALS = 20
"""Those one after another after which a worker stops its run."""
LIMIT, WORKERS = 600, 8
SHARDS = 6
"""Of each run under a limit: they last two minutes."""
FULL_AGAIN_S, LOOKED_AT_S = 30.0, 20.0
"""When a limit is used to the full again after a worker was killed, and for how long that is looked at."""


def test_ten_thousand_rows_that_cannot_be_answered_cost_two_workers_first_calls(
    stack: Stack, tmp_path: Path
) -> None:
    """A wrong key from the command line, with its exit code; an unknown model and no credit beside it. Each
    ends with the provider's words."""
    with ExitStack() as open_:
        key, name, credit = (
            open_.enter_context(ModelServer(lambda _, reply=reply: reply))  # type: ignore[misc]
            for reply in (WRONG_KEY, NO_MODEL, NO_CREDIT)
        )
        rows = "".join(json.dumps({"question": f"What is {n}?", "answer": ""}) + "\n" for n in range(ROWS))
        (tmp_path / "rows.jsonl").write_text(rows)
        body = experiment(key, model={"max_concurrent_tasks": 400})
        body["dataset"] = {"name": "ten-thousand", "file_path": "rows.jsonl"}
        (tmp_path / "quiz.yaml").write_text(yaml.safe_dump(body))
        run = json.loads(promptlab("run", "quiz.yaml", "--json", folder=tmp_path, code=1))
        assert run["status"] == "stopped" and "Incorrect API key provided" in run["error"]
        others = {
            server: started(stack, {**body, "dataset": "ten-thousand", "model": model})
            for server in (name, credit)
            for model in [{**body["model"], "endpoint": server.openai_url}]
        }
        for server, words in ((name, "does not exist"), (credit, "exceeded your current quota")):
            assert words in ended(stack, others[server], "stopped")["error"]
        for server in (key, name, credit):
            assert REFUSALS <= len(server.requests) <= 2 * IN_FLIGHT


@pytest.fixture
def limited() -> Iterator[tuple[ModelServer, list[float]]]:
    """A provider that answers once it is let, and when it was asked."""
    arrivals: list[float] = []

    def answer(request: Request) -> Reply:
        arrivals.append(time.monotonic())
        return Reply(text=right(request), hang=True)

    with ModelServer(answer) as server:
        yield server, arrivals


def test_eight_workers_keep_to_a_limit_together_and_use_it(
    stack: Stack, limited: tuple[ModelServer, list[float]]
) -> None:
    """Of several runs: in no 60 s more than the limit, and in the best of them most of it. A worker that is
    killed takes nothing with it: half a minute later the others use the limit, and its cases are done.
    Nine tenths are held in virtual time (tests/unit/test_permits.py): here workers begin late on a busy
    machine (0.89)."""
    server, arrivals = limited
    machine = stack.aws("stepfunctions").describe_state_machine(
        stateMachineArn=stack.outputs["StateMachineArn"]
    )
    of_a_run: int = json.loads(machine["definition"])["States"]["Shards"]["MaxConcurrency"]
    bounds = {"max_concurrent_tasks": 50 * of_a_run, "requests_per_minute": LIMIT}
    body: dict[str, Any] = experiment(server, SHARDS * 50, model=bounds)
    runs = [started(stack, {**body, "name": f"limited {n}"}) for n in range(-(-WORKERS // of_a_run))]
    until(lambda: len(processes(stack.function("Infer"))) >= WORKERS, "as many workers are at work")
    server.release()  # not before: on a busy machine a run would be over when the last of them begins
    os.kill(processes(stack.function("Infer"))[0], signal.SIGKILL)
    full_from = time.monotonic() + FULL_AGAIN_S
    for run_id in runs:
        ended(stack, run_id)
        each_once(stack, run_id, SHARDS * 50)
    asked = len(runs) * SHARDS * 50
    assert asked <= len(arrivals) <= asked + IN_FLIGHT
    assert 0.8 * LIMIT <= most_in_a_minute(arrivals) <= LIMIT
    later = [one for one in arrivals if full_from <= one < full_from + LOOKED_AT_S]
    assert len(later) >= 0.5 * LIMIT * LOOKED_AT_S / 60, "on a quiet machine 0.9: make bench PERMITS=1"
