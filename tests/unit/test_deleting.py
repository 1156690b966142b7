"""Deleting runs of a lab: what its user sees, and what is left in the store's files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.assets.store import AssetStore
from promptlab.errors import AssetNotFoundError, RunBusyError, RunNotFoundError, VersionInUseError
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


def dataset(name: str, text: str = CANARY) -> Any:
    return Dataset(name=name, rows=[{"q": f"{text} {n}"} for n in range(3)])


async def test_a_version_goes_with_its_rows_and_its_number_is_not_given_again(tmp_path: Path) -> None:
    """What it was called by says when it was deleted."""
    lab = opened(tmp_path)
    for text in ("first", CANARY):
        await lab.assets.create(dataset("birds", text))
    await lab.assets.delete("birds", version=1, by="ada")
    assert holding(tmp_path, CANARY) == []
    assert (await lab.assets.get("birds")).version == 0
    with pytest.raises(AssetNotFoundError, match=r"'birds' has no version 1 any more: it was deleted on 2"):
        await lab.assets.get("birds", version=1)
    assert (await lab.assets.create(dataset("birds", "third"))).version == 2
    await lab.assets.delete("birds", version=2)
    await lab.assets.delete("birds", version=0)
    with pytest.raises(AssetNotFoundError, match="no asset 'birds'"):
        await lab.assets.get("birds")
    assert await lab.assets.list() == []
    assert (await lab.assets.create(dataset("birds", "fourth"))).version == 3
    done = [(d.what, d.id, d.by) for _, d in await lab.journal.done()]
    assert done[0] == ("dataset", "birds@1", "ada") and len(done) == 3
    await lab.close()


async def test_rows_that_another_version_has_stay(tmp_path: Path) -> None:
    """Of another dataset, too: rows are kept by their hash."""
    lab = opened(tmp_path)
    for name in ("birds", "finches"):
        await lab.assets.create(dataset(name))
    await lab.assets.delete("birds", version=0)
    kept = await lab.assets.get("finches")
    assert isinstance(kept, Dataset)
    assert [row["q"] for row in await lab.assets.rows(kept, 0, 9)] == [f"{CANARY} {n}" for n in range(3)]
    await lab.assets.delete("finches", version=0)
    assert holding(tmp_path, CANARY) == []
    await lab.close()


async def test_a_version_in_use_is_kept_and_it_is_said_by_what(tmp_path: Path) -> None:
    """By a run, until that is deleted; by a label, until that is removed."""
    lab = opened(tmp_path)
    runs = [await lab.run(EXPERIMENT) for _ in range(2)]
    for kind, name in (("dataset", "birds"), ("prompt_template", "ask")):
        with pytest.raises(VersionInUseError, match=f"used by 2 runs .*{runs[0].run_id}"):
            await lab.assets.delete(name, version=0, kind=kind)  # type: ignore[arg-type]
    for run in runs:
        await lab.delete_run(run.run_id)
    await lab.assets.label("ask", "production")
    with pytest.raises(VersionInUseError, match="labelled production: remove the label"):
        await lab.assets.delete("ask", version=0)
    await lab.assets.unlabel("ask", "production")
    await lab.assets.delete("ask", version=0)
    with pytest.raises(AssetNotFoundError):
        await lab.assets.delete("ask", version=0)
    assert CANARY in str(EXPERIMENT) and holding(tmp_path, CANARY) == []
    await lab.close()


class Dying(FileBlobs):
    """Blobs of a process that is killed before it removes any."""

    async def erase(self, prefix: str, *, limit: int = 1000) -> int:
        raise KeyboardInterrupt


async def test_a_version_whose_deletion_was_interrupted_is_removed_by_the_next_call(tmp_path: Path) -> None:
    """It is in no list meanwhile; `go_on_deleting` does the same as the call itself."""
    lab = opened(tmp_path)
    for name in ("birds", "finches"):
        await lab.assets.create(dataset(name, f"{name} {CANARY}"))
        dying = AssetStore(lab.ledger, Dying(lab.blobs.folder or ""), lab.clock)
        with pytest.raises(KeyboardInterrupt):
            await dying.delete(name, version=0)
        with pytest.raises(AssetNotFoundError):
            await lab.assets.get(name)
    await lab.assets.delete("birds", version=0)
    assert await lab.go_on_deleting() == 1
    assert holding(tmp_path, CANARY) == []
    await lab.close()


async def test_rows_that_are_stored_while_they_are_removed_are_there_afterwards(tmp_path: Path) -> None:
    """Whoever creates a version of a hash that is just being removed waits, and stores them again."""
    lab = opened(tmp_path)
    await lab.assets.create(dataset("birds"))
    created: list[asyncio.Task[Any]] = []

    class Slow(FileBlobs):
        async def erase(self, prefix: str, *, limit: int = 1000) -> int:
            if not created:
                created.append(asyncio.create_task(lab.assets.create(dataset("finches"))))
                while not await lab.ledger.list_versions("dataset", "finches"):
                    await asyncio.sleep(0.01)
            return await super().erase(prefix, limit=limit)

    await AssetStore(lab.ledger, Slow(lab.blobs.folder or ""), lab.clock).delete("birds", version=0)
    kept = await created[0]
    assert len(await lab.assets.rows(kept, 0, 9)) == 3
    await lab.close()
