"""Deleting runs of a lab: what its user sees, and what is left in the store's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab.errors import RunBusyError, RunNotFoundError
from promptlab.store_lab import StoreLab

CANARY = "kingfisher-7741"
EXPERIMENT: dict[str, Any] = {
    "name": "quiz",
    "dataset": {"name": "birds", "rows": [{"q": f"{n}"} for n in range(70)]},
    "prompt_template": {"name": "ask", "user_prompt": f"Say {CANARY} <q>"},
    "model": {"name": "simulated/echo"},
    "evaluation": [{"metric": "length"}],
}


def opened(folder: Path) -> StoreLab:
    return StoreLab.open({"type": "sqlite", "db_file": str(folder / "lab.db")})


def holding(folder: Path, text: str) -> list[str]:
    """The files of a store that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path.relative_to(folder)) for path in files if text.encode() in path.read_bytes()]


async def test_the_answers_of_a_deleted_run_are_in_no_file(tmp_path: Path) -> None:
    """Neither in the ledger's free pages nor in its log; the prompt, which another run needs, stays."""
    lab = opened(tmp_path)
    rows = [{"q": f"{n}", "x": CANARY[::-1] * 3} for n in range(70)]
    config = {**EXPERIMENT, "dataset": {"name": "birds", "rows": rows}}
    config["prompt_template"] = {"name": "ask", "user_prompt": "<q> and <x>"}
    run = await lab.run(config)
    answer = f"and {CANARY[::-1]}"
    assert "lab.db" in " ".join(holding(tmp_path, answer))
    await lab.results_of(run)
    assert await lab.delete_run(run.run_id) is True
    assert holding(tmp_path, answer) == []
    await lab.close()


async def test_a_run_that_is_being_deleted_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    """No list, page, count or change finds it; asking for its deletion again removes the rest."""
    lab = opened(tmp_path)
    run = await lab.run(EXPERIMENT)
    other = await lab.run(EXPERIMENT)
    assert await lab.delete_run(run.run_id, by="ada", within_s=0) is False
    assert [r.run_id for r in (await lab.list_runs())[0]] == [other.run_id]
    assert [run_id async for run_id in lab.run_ids()] == [other.run_id]
    for call in (
        lab.get_run(run.run_id),
        lab.progress(run.run_id),
        lab.summary(run.run_id),
        lab.cases(run.run_id),
        lab.resume(run.run_id),
        lab.cancel(run.run_id),
        lab.edit_run(run.run_id, archived=False),
        anext(lab.results(run.run_id)),
        lab.compare([other.run_id, run.run_id]),
    ):
        with pytest.raises(RunNotFoundError):
            await call
    await lab.close()
    lab = opened(tmp_path)
    assert await lab.delete_run(run.run_id, by="bob") is True
    with pytest.raises(RunNotFoundError):
        await lab.delete_run(run.run_id)
    ((_, deletion),) = await lab.journal.done()
    assert (deletion.id, deletion.by) == (run.run_id, "ada")
    assert len([row async for row in lab.results(other.run_id)]) == 70
    await lab.close()


async def test_what_was_interrupted_goes_on_by_itself(tmp_path: Path) -> None:
    """`go_on_deleting` finishes all of them, and leaves alone what nobody deleted."""
    lab = opened(tmp_path)
    runs = [await lab.run(EXPERIMENT) for _ in range(3)]
    for run in runs[:2]:
        await lab.delete_run(run.run_id, within_s=0)
    assert await lab.go_on_deleting(within_s=0) == 0
    assert await lab.go_on_deleting() == 2
    assert await lab.go_on_deleting() == 0
    assert await lab.ledger.get_run(runs[0].run_id) is None
    assert (await lab.get_run(runs[2].run_id)).status == "completed"
    await lab.close()


async def test_a_run_that_goes_on_is_not_deleted(tmp_path: Path) -> None:
    """It says so, and the run keeps its rows."""
    lab, other = opened(tmp_path), opened(tmp_path)
    model = {"name": "simulated/echo", "options": {"latency_ms": 200}, "max_concurrent_tasks": 2}
    run = await lab.start({**EXPERIMENT, "model": model})
    with pytest.raises(RunBusyError, match="cancel it first"):
        await other.delete_run(run.run_id)
    assert (await other.get_run(run.run_id)).deleting_since is None
    await lab.cancel(run.run_id)
    await lab.close()
    await other.close()
