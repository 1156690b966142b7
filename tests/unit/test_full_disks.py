"""A disk, quota or count of inodes that is used up at any step: the run says so, and nothing stands for the
whole."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from promptlab import PromptLab
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.runner import LocalRunner
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.cli import commands as cli
from promptlab.domain.results import Progress
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.servers import ModelServer
from tests.unit.test_store_faults import IN_FLIGHT, ROWS, Impatient, experiment

FULL = [errno.ENOSPC, errno.EDQUOT]


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own, with the mount options that the test gives."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class FullBlobs(FileBlobs):
    """Takes no blob whose key has a word in it, as long as it is full."""

    def __init__(self, folder: Path, word: str, code: int) -> None:
        super().__init__(folder)
        self.word, self.code, self.full = word, code, True

    def _check(self, key: str) -> None:
        if self.full and self.word in key:
            raise OSError(self.code, os.strerror(self.code), key)

    async def put(self, key: str, data: bytes) -> None:
        self._check(key)
        await super().put(key, data)

    async def put_file(self, key: str, path: Path) -> None:
        self._check(key)
        await super().put_file(key, path)


class FullLedger(SqliteLedger):
    """Refuses one kind of write, as long as it is full."""

    def __init__(self, path: Path, method: str, code: int) -> None:
        super().__init__(path)
        self.code, self.full = code, True
        whole = getattr(self, method)

        async def refusing(*args: Any, **named: Any) -> Any:
            if self.full and (method != "update_run" or _brings_summary(args[1])):
                raise OSError(self.code, os.strerror(self.code), "lab.db")
            return await whole(*args, **named)

        setattr(self, method, refusing)


def _brings_summary(changes: Mapping[str, Any]) -> bool:
    return changes.get("summary") is not None


STEPS = {
    "infer": ("ledger", "put_completions"),
    "evaluate: scores": ("ledger", "put_scores"),
    "evaluate: the part": ("blobs", "/parts/"),
    "evaluate: the shard's summary": ("ledger", "put_shard"),
    "summarize: results": ("blobs", "/results"),
    "summarize: the summary": ("ledger", "update_run"),
}


@pytest.mark.parametrize("code", FULL, ids=["disk", "quota"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_store_that_gets_full_at_a_step_fails_the_run_and_keeps_its_answers(
    tmp_path: Path, step: str, code: int
) -> None:
    """With its reason; no results file and no summary stand for the run. With room again it is done, and no
    answer is paid for twice."""
    where, what = STEPS[step]
    path = tmp_path / "lab.db"
    parts, clock = open_parts({"db_file": str(path)}), Impatient()
    ledger, blobs, full = parts.ledger, parts.blobs, cast(Any, None)
    if where == "ledger":
        ledger = full = FullLedger(path, what, code)
    else:
        blobs = full = FullBlobs(tmp_path / "blobs", what, code)
    runner = LocalRunner(ledger, blobs, clock, tmp_path / "locks")
    lab = StoreLab(replace(parts, ledger=ledger, blobs=blobs, clock=clock, runner=runner))
    with ModelServer() as server:
        run = await lab.run(experiment(server))
        assert run.status == "failed"
        assert os.strerror(code) in str(run.error) and "Resume" in str(run.error)
        assert run.results is None and run.summary is None
        made, done = len(server.requests), (await lab.progress(run.run_id)).done
        assert made <= done + IN_FLIGHT
        assert len([row async for row in lab.results(run.run_id)]) == done
        full.full = False
        run = await lab.resume(run.run_id)
        assert run.status == "completed" and run.results is not None
        assert len(server.requests) == made + ROWS - done
        assert len([row async for row in lab.results(run.run_id)]) == ROWS
    await lab.close()


@pytest.mark.parametrize("disk", ["size=20m,nr_inodes=60"], indirect=True)
async def test_without_an_inode_left_the_run_is_recorded_as_failed(disk: Path) -> None:
    """There is room in the files that are there, and none for a further file."""
    lab = StoreLab.open({"db_file": str(disk / "lab.db")})
    ballast = disk / "ballast"
    with ModelServer() as server:

        def fill(progress: Progress) -> None:
            if progress.done >= 100 and not ballast.exists():
                ballast.mkdir()
                for number in range(os.statvfs(disk).f_ffree):
                    (ballast / str(number)).touch()

        run = await lab.run(experiment(server), on_progress=fill)
        assert run.status == "failed" and "No space left" in str(run.error)
        assert run.results is None and run.summary is None
        done = (await lab.progress(run.run_id)).done
        for path in ballast.iterdir():
            path.unlink()
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(disk)], check=True)
        assert (await lab.resume(run.run_id)).status == "completed"
        assert len(server.requests) <= ROWS + IN_FLIGHT and done > 0
    await lab.close()


@pytest.mark.parametrize("disk", ["size=64k"], indirect=True)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_export_to_a_full_disk_fails_and_leaves_nothing(tmp_path: Path, disk: Path, kind: str) -> None:
    """Neither half a file nor a temporary one; an older export stays as it was."""
    path, target = tmp_path / "lab.db", disk / f"out.{kind}"
    with PromptLab({"db_file": str(path)}, quiet=True) as pl, ModelServer() as server:
        # Random text, which no format makes smaller.
        rows = [{"question": os.urandom(2000).hex(), "answer": "ok"} for _ in range(60)]
        config = experiment(server)
        run = pl.experiment.run({**config, "dataset": {"name": "long", "rows": rows}})
        target.write_text("the export of yesterday")
        with pytest.raises(Exception, match="No space left"):
            run.export(target)
    done = CliRunner().invoke(cli, ["export", run.run_id, "--db", str(path), "--output", str(target)])
    assert done.exit_code == 1 and "No space left" in done.output, done.output
    assert "Traceback" not in done.output and not isinstance(done.exception, OSError)
    assert "as it was" in done.output
    assert [p.name for p in disk.iterdir()] == [target.name]
    assert target.read_text() == "the export of yesterday"


@pytest.mark.parametrize("disk", ["size=1m"], indirect=True)
def test_the_command_of_a_run_on_a_full_disk_exits_with_1(disk: Path, tmp_path: Path) -> None:
    """And says what is missing, and how to go on."""
    rows = "".join(f'{{"question": "{n} {os.urandom(2000).hex()}"}}\n' for n in range(400))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "e.yaml").write_text(
        "name: full\ndataset: {name: d, file_path: rows.jsonl}\n"
        "prompt_template: {name: p, user_prompt: <question>}\nmodel: simulated/echo\n"
    )
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "e.yaml"), "--db", str(disk / "lab.db")])
    assert done.exit_code == 1, done.output
    assert "No space left" in done.output or "full" in done.output.lower(), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
