"""Experiments against a model server of the test's own, and what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cloud.conftest import ENDED, Stack
from tests.servers import ModelServer, Request

PATIENCE_S = 240.0
"""A run here is a handful of shards; the rest is cold starts, and leases of workers that were killed."""


def right(request: Request) -> str:
    """The right answer to every question."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def experiment(server: ModelServer, rows: int = 50, **changes: Any) -> dict[str, Any]:
    """An experiment as `POST /runs` takes it."""
    model = {
        "name": "openai/mini",
        "endpoint": server.openai_url,
        "max_concurrent_tasks": 10,
        **changes.pop("model", {}),
    }
    return {
        "name": "quiz",
        "prompt_template": {"name": "ask", "user_prompt": "<question>"},
        "dataset": {
            "name": f"questions-{rows}",
            "rows": [{"question": f"What is {n}?", "answer": f"it is {n}"} for n in range(rows)],
        },
        "model": model,
        "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
        **changes,
    }


def started(stack: Stack, body: dict[str, Any], **headers: str) -> str:
    """The id of the run that a request started."""
    answer = stack.api.post("/runs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


def until(true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until `true` gives something true, and return it."""
    deadline = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(0.2)
    return found


def ended(
    stack: Stack, run_id: str, status: str = "completed", patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """The run once it has ended, as it should."""
    until(
        lambda: stack.api.get(f"/runs/{run_id}/progress").json()["status"] in ENDED,
        f"run {run_id} ends",
        patience_s,
    )
    run: dict[str, Any] = stack.api.get(f"/runs/{run_id}").json()
    assert run["status"] == status, run
    return run


def cases(stack: Stack, run_id: str) -> list[dict[str, Any]]:
    """Every row of a run."""
    found, cursor = [], None
    while True:
        page = (
            stack.api.get(
                f"/runs/{run_id}/cases", params={"limit": 500, **({"cursor": cursor} if cursor else {})}
            )
            .raise_for_status()
            .json()
        )
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def each_once(stack: Stack, run_id: str, rows: int) -> None:
    """Every case is answered rightly, in the API and in the table, and none twice."""
    found = cases(stack, run_id)
    assert [row["case"] for row in found] == list(range(rows))
    assert all(row["response"] == row["input.answer"] for row in found)
    assert len(stack.answered(run_id, -(-rows // 50))) == rows


def execution(stack: Stack, run_id: str, generation: int = 0) -> dict[str, Any]:
    """The execution of a pass over a run."""
    arn = (
        stack.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:") + f":{run_id}-{generation}"
    )
    found: dict[str, Any] = stack.aws("stepfunctions").describe_execution(executionArn=arn)
    return found


def logged(stack: Stack, run_id: str) -> list[str]:
    """Return what the functions logged of a run."""
    logs = stack.aws("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    found = [
        event["message"] for group in groups for event in logs.filter_log_events(logGroupName=group)["events"]
    ]
    mine = [line for line in found if run_id in line]
    assert any("inferred" in line for line in mine), "the workers logged nothing of this run"
    return found


def processes(function: str) -> list[int]:
    """The processes in which the local AWS runs a function."""
    mine = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode()
    port = os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # not ours, or gone
        if mine in environment and f"GATEWAY_PORT={port}".encode() in environment:
            found.append(int(folder.name))
    return found
