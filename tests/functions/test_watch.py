"""The look at a run that goes on: what it counts, and when it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions import runtime, watch
from promptlab import Dataset
from tests.functions.conftest import Context, Machine

EXPERIMENT = {
    "name": "quiz",
    "dataset": Dataset(name="rows", rows=[{"q": "1"}, {"q": "2"}]),
    "prompt_template": {"name": "ask", "user_prompt": "<q>"},
    "model": {"name": "simulated/demo"},
    "evaluation": [{"metric": "length"}],
}


def look(run_id: str, seen: Any = None, generation: int = 0) -> dict[str, Any]:
    """One invocation, as infra/watch.asl.json has it."""
    answer = watch.handler({"run_id": run_id, "generation": generation, "seen": seen}, Context())
    found: dict[str, Any] = json.loads(json.dumps(answer))
    return found


def minutes(printed: str) -> list[float]:
    """The metric's values in what was printed for CloudWatch."""
    lines = [json.loads(line) for line in printed.splitlines() if "_aws" in line]
    return [value for line in lines for value in line["MinutesWithoutProgress"]]


def test_minutes_count_from_the_last_case_that_ended(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has happened since an hour: sixty minutes. A case more than then: none."""
    machine.lab.clock = runtime.lab().clock
    run_id = machine.start(EXPERIMENT).run_id
    first = look(run_id)
    assert (first["over"], first["seen"]["done"]) == (False, 0)
    hour_ago = {"done": 0, "since": "2026-01-01T00:00:00+00:00"}
    assert look(run_id, hour_ago)["seen"] == hour_ago | {"since": "2026-01-01T00:00:00Z"}
    assert look(run_id, hour_ago | {"done": 1})["seen"]["done"] == 0
    started, stalled, moved = minutes(capsys.readouterr().out)
    assert started == 0 and moved == 0
    assert stalled > 60


def test_a_look_at_what_is_over_counts_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that has ended, an earlier pass, a deleted run: the watch ends, and no metric is paid for."""
    run_id = machine.start(EXPERIMENT).run_id
    machine.execute(run_id)
    capsys.readouterr()
    assert look(run_id)["over"] and look("20260101-000000-aaaaaa")["over"]
    runtime.run(machine.lab.start_resume(run_id, failed=True))
    assert look(run_id, generation=0)["over"]
    assert minutes(capsys.readouterr().out) == []
