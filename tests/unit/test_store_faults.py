"""A store that cannot be written, or only be read: nothing is paid for that could not be kept."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.runner import LocalRunner
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.clock import SystemClock
from promptlab.domain.results import Completion
from promptlab.engine.job import MAX_BATCH
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.servers import ModelServer

ROWS, IN_FLIGHT = 600, 10


class Impatient(SystemClock):
    """Waits for nothing."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0)


class Full(SqliteLedger):
    """Takes so many completions, then refuses so many writes of further ones."""

    def __init__(self, path: Path, *, takes: int, refuses: int) -> None:
        super().__init__(path)
        self._takes, self._refuses = takes, refuses

    async def put_completions(self, run_id: str, completions: Sequence[Completion]) -> None:
        self._takes -= len(completions)
        if self._takes < 0 and self._refuses:
            self._refuses -= 1
            raise OSError(errno.ENOSPC, "No space left on device", "lab.db")
        await super().put_completions(run_id, completions)


def lab_with(tmp_path: Path, *, takes: int, refuses: int) -> StoreLab:
    """A lab whose ledger gets full."""
    parts = open_parts({"db_file": str(tmp_path / "lab.db")})
    ledger, clock = Full(tmp_path / "lab.db", takes=takes, refuses=refuses), Impatient()
    return StoreLab(
        replace(
            parts,
            ledger=ledger,
            clock=clock,
            runner=LocalRunner(ledger, parts.blobs, clock, tmp_path / "locks"),
        )
    )


def experiment(server: ModelServer) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(
            name="questions", rows=[{"question": f"What is {n}?", "answer": "ok"} for n in range(ROWS)]
        ),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": IN_FLIGHT},
        "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
    }


async def test_a_full_store_ends_the_run_before_further_calls_are_paid_for(tmp_path: Path) -> None:
    """No more calls are lost than were in flight, however many rows are left;
    resuming does what is missing."""
    lab = lab_with(tmp_path, takes=100, refuses=10**6)
    with ModelServer() as server:
        run = await lab.run(experiment(server))
        assert run.status == "failed" and "No space left on device" in str(run.error)
        done = (await lab.progress(run.run_id)).done
        assert 100 - MAX_BATCH < done <= 100
        assert len(server.requests) <= done + IN_FLIGHT
        await lab.close()
        again = StoreLab.open({"db_file": str(tmp_path / "lab.db")})
        run = await again.resume(run.run_id)
        assert (run.status, len(server.requests) <= ROWS + IN_FLIGHT) == ("completed", True)
        await again.close()


async def test_a_store_that_refuses_for_a_moment_costs_no_call(tmp_path: Path) -> None:
    """Answers that were paid for are written again, and not asked for again."""
    lab = lab_with(tmp_path, takes=100, refuses=2)
    with ModelServer() as server:
        run = await lab.run(experiment(server))
        assert (run.status, len(server.requests)) == ("completed", ROWS)
    await lab.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    path = Path(tempfile.mkdtemp(prefix="promptlab-test-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """For root, for whom nothing is read only: another user."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    yield
    if me == 0:
        os.seteuid(me)


def test_a_store_that_may_only_be_read_shows_its_runs(folder: Path, request: pytest.FixtureRequest) -> None:
    """As one on a read-only disk, or a colleague's; writing says what is in the way."""
    path = folder / "lab.db"
    with PromptLab({"db_file": str(path)}) as pl, ModelServer() as server:
        run_id = pl.experiment.run(experiment(server)).run_id
    # Its owner alone may open it, until they say otherwise.
    for part in folder.rglob("*"):
        part.chmod(0o755 if part.is_dir() else 0o444)
    folder.chmod(0o555)
    request.getfixturevalue("somebody_else")
    with PromptLab({"db_file": str(path)}) as pl:
        run = pl.experiment.get(run_id)
        assert (run.status, len(run.results())) == ("completed", ROWS)
        with pytest.raises(Exception, match=r"cannot be written|Permission denied"):
            pl.asset.create(PromptTemplate(name="new", user_prompt="x"))


@pytest.mark.parametrize(
    "damaged",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"garbage", lambda data: data[20:]],
    ids=["empty", "cut", "overwritten", "without its beginning"],
)
async def test_a_part_that_is_damaged_before_the_summary_is_made_again(
    tmp_path: Path, damaged: Callable[[bytes], bytes]
) -> None:
    """From the ledger, without a call; the results have every row, in order."""
    parts = open_parts({"db_file": str(tmp_path / "lab.db")})

    class Damaging(FileBlobs):
        """Damages one part as it is written, the first time."""

        done = False

        async def put(self, key: str, data: bytes) -> None:
            if key.endswith("/parts/000003.jsonl.gz") and not self.done:
                self.done, data = True, damaged(data)
            await super().put(key, data)

    blobs = Damaging(tmp_path / "blobs")
    runner = LocalRunner(parts.ledger, blobs, parts.clock, tmp_path / "locks")
    lab = StoreLab(replace(parts, blobs=blobs, runner=runner))
    with ModelServer() as server:
        run = await lab.run(experiment(server))
        assert (run.status, len(server.requests)) == ("completed", ROWS) and blobs.done
    assert [row["case"] async for row in lab.results(run.run_id)] == list(range(ROWS))
    await lab.close()
