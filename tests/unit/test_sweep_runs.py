"""Sweeps at work: interrupted, over a budget, with a cell that fails, and from the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab.cli import commands
from promptlab.domain.results import RunRecord
from promptlab.engine.budget import run_usd
from promptlab.errors import ConfigError
from promptlab.lab import Lab, open_lab
from tests.servers import ModelServer, Reply, Request
from tests.studio.builders import ROWS, right

PRICES = {"input_usd_per_mtok": 100, "output_usd_per_mtok": 1000, "max_tokens": 50}


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A provider that answers right."""
    with ModelServer(right) as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab with nothing in it."""
    opened = open_lab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield opened
    await opened.close()


def sweep(server: ModelServer, **changes: Any) -> dict[str, Any]:
    """Two prompts over 30 rows."""
    return {
        "name": "quiz",
        "prompt_template": [
            {"name": "ask", "user_prompt": "<question>"},
            {"name": "wrong", "user_prompt": "<question> none"},
        ],
        "dataset": {"name": "questions", "rows": ROWS[:30]},
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_retries": 0, "cache": False},
        "evaluation": [
            {"metric": "exact_match", "column_mapping": {"response": "$inference", "reference": "answer"}}
        ],
        **changes,
    }


async def test_a_sweep_that_was_stopped_goes_on_and_asks_nothing_twice(lab: Lab, model: ModelServer) -> None:
    """In the middle of its second run: the first is left as it is, the second does what it is missing."""
    held = asyncio.Event()

    def answer(request: Request) -> Reply | str:
        if (
            request.prompt.endswith("none")
            and not held.is_set()
            and request.prompt.startswith(ROWS[9]["question"])
        ):
            return Reply(text="no", hang=True)
        return right(request)

    model.answer = answer
    begun: list[RunRecord] = []
    task = asyncio.create_task(lab.sweep(sweep(model), on_start=begun.append))
    while len(model.requests) < 60:
        await asyncio.sleep(0.01)
    task.cancel()
    held.set()
    model.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    first = await lab.get_run(begun[0].run_id)
    done = await lab.sweep(sweep(model), on_start=begun.append)
    assert await lab.get_run(first.run_id) == first
    assert [(await lab.get_run(run_id)).status for run_id in done.run_ids] == ["completed"] * 2
    asked = Counter(request.prompt for request in model.requests)
    assert len(asked) == 60 and sum(asked.values()) <= 61  # the call in flight, once more
    assert {run.run_id for run in begun} == set(done.run_ids)


@pytest.mark.long
def test_a_sweep_whose_process_was_killed_goes_on_by_its_id(tmp_path: Path, model: ModelServer) -> None:
    """Without the experiment's file, and with a process of its own: the run that was complete is left as it
    is, the other one does what it is missing, and those that had not begun begin."""
    file, db = tmp_path / "sweep.yaml", str(tmp_path / "lab.db")
    third = {"name": "third", "user_prompt": "Now: <question>"}
    config = sweep(model)
    config["model"]["max_concurrent_tasks"] = 2
    file.write_text(json.dumps({**config, "prompt_template": [*config["prompt_template"], third]}))
    came = threading.Event()

    def answer(request: Request) -> Reply | str:
        if request.prompt == f"{ROWS[9]['question']} none":
            came.set()
            return Reply(text="no", hang=True)
        return right(request)

    model.answer = answer
    begun = [sys.executable, "-m", "promptlab", "run", str(file), "--db", db, "--quiet"]
    with subprocess.Popen(begun, stdout=subprocess.DEVNULL) as process:
        assert came.wait(120)
        process.kill()
    model.answer = right
    model.release()
    file.unlink()
    runner = CliRunner(env={"COLUMNS": "200"})

    def command(*arguments: str, code: int = 0) -> Any:
        found = runner.invoke(commands, [*arguments, "--db", db])
        assert found.exit_code == code, found.output
        return found

    killed = json.loads(command("sweep", "latest", "--json").stdout)
    assert Counter(cell["status"] for cell in killed["cells"])["waiting"] == 1
    wrong = command("resume", killed["sweep_id"], "--failed", code=2)
    assert "are of one run" in wrong.stderr
    assert "No sweep 'sweep-0'" in command("resume", "sweep-0", code=2).stderr
    done = json.loads(command("resume", killed["sweep_id"], "--quiet", "--json").stdout)
    assert {cell["status"] for cell in done["cells"]} == {"completed"} and done["ended"]
    assert [cell["n"] for cell in done["cells"]] == [30] * 3
    asked = Counter(request.prompt for request in model.requests)
    assert len(asked) == 90 and sum(asked.values()) <= 92  # the two calls in flight, once more
    assert [asked[row["question"]] for row in ROWS[:30]] == [1] * 30
    again = command("resume", killed["sweep_id"][:12])
    assert "the best" in again.stdout and sum(asked.values()) == len(model.requests)


async def test_one_budget_holds_over_all_runs_of_a_sweep(lab: Lab, model: ModelServer) -> None:
    """What the first spends the second lacks; what is left is not begun, and more money goes on with it."""
    config = sweep(model, max_cost_usd=0.2, matrix={"model.temperature": [0, 1]})
    config["model"] = {**config["model"], **PRICES}
    found = await lab.rank((await lab.sweep(config)).sweep_id)
    statuses = [cell.status for cell in found.cells]
    assert "budget_reached" in statuses and not found.ended
    runs = [await lab.get_run(cell.run_id) for cell in found.cells if cell.status != "waiting"]
    spent = sum(map(run_usd, runs))
    assert 0.1 < spent <= 0.2 and {run.max_cost_usd for run in runs} == {0.2}
    assert "Its sweep's budget of $0.2" in next(run.error or "" for run in runs if run.status != "completed")
    with pytest.raises(ConfigError, match="a sum of dollars above 0, not 0"):
        await lab.resume_sweep(found.sweep.sweep_id, max_cost_usd=0)
    again = await lab.rank((await lab.resume_sweep(found.sweep.sweep_id, max_cost_usd=5.0)).sweep_id)
    assert again.sweep.sweep_id == found.sweep.sweep_id and again.ended
    assert {cell.status for cell in again.cells} == {"completed"} and again.sweep.max_cost_usd == 5.0
    assert len({request.prompt + str(request.json["temperature"]) for request in model.requests}) == 120


async def test_a_cell_that_fails_leaves_the_others(lab: Lab, model: ModelServer) -> None:
    """It says why, has no place, and is not in the way of the ranking."""
    model.answer = lambda r: Reply(status=400) if r.prompt.endswith("none") else right(r)
    ranking = await lab.rank((await lab.sweep(sweep(model, max_failures=2))).sweep_id)
    good, bad = ranking.cells
    assert (good.status, good.place, bad.status, bad.place) == ("completed", 1, "stopped", None)
    assert bad.error and ranking.leader == good and ranking.rows == 30


def test_the_command_runs_ranks_and_estimates(tmp_path: Path, model: ModelServer) -> None:
    """One command, one table; again it does nothing; its exit code is that of the worst run."""
    file, store = tmp_path / "sweep.yaml", ["--db", str(tmp_path / "lab.db")]
    file.write_text(json.dumps(sweep(model)))
    runner = CliRunner(env={"COLUMNS": "200"})

    def command(*arguments: str, code: int = 0) -> str:
        found = runner.invoke(commands, [*arguments, *store])
        assert found.exit_code == code, found.output
        return found.stdout

    ran = command("run", str(file), "-q")
    assert "the best" in ran and "-1.0000 worse" in ran and len(model.requests) == 60
    found = json.loads(
        command("run", str(file), "-q", "--json", "--fail-if", "exact_match.mean < 0.5", code=4)
    )
    assert len(model.requests) == 60 and found["cells"][0]["choices"] == {"prompt_template": "ask"}
    assert found["sweep_id"] in command("sweep")
    assert json.loads(command("sweep", "latest", "--json")) == found
    assert command("sweep", found["sweep_id"][:9]) == ran
    assert "No sweep 'x'" in runner.invoke(commands, ["sweep", "x", *store]).stderr
    gated = runner.invoke(commands, ["gate", str(file), "--baseline", "latest", *store])
    assert gated.exit_code == 2 and "one experiment is wanted" in gated.stderr
