"""Runs whose disk, limits, store's path or machine fail."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptlab import awake
from promptlab.adapters.local.descriptors import SPARE, calls_that_fit
from promptlab.errors import ConfigError, RunBusyError
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.servers import ModelServer
from tests.unit.test_store_faults import experiment


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_on_a_full_disk_the_run_is_recorded_as_failed(disk: Path) -> None:
    """With its reason; every answer that was recorded is in its results, and it goes
    on once there is room."""
    lab = StoreLab.open({"db_file": str(disk / "lab.db")})
    ballast = disk / "ballast"

    with ModelServer() as server:

        def fill(_: object) -> None:
            free = os.statvfs(disk)
            if not ballast.exists():
                ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 150_000)))

        run = await lab.run(experiment(server), on_progress=fill)
        assert run.status == "failed" and run.error, run
        assert "grow" in run.error or "No space" in run.error
        done = (await lab.progress(run.run_id)).done
        assert len([row async for row in lab.results(run.run_id)]) == done
        assert run.results is None and run.summary is None
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert (await lab.resume(run.run_id)).status == "completed"
    await lab.close()


def test_the_limit_of_open_files_is_raised_or_bounds_the_calls() -> None:
    """As far as the hard limit goes, and never below one call."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert calls_that_fit(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 300 + SPARE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_hard_limit_bounds_the_calls_and_says_so() -> None:
    """In a process of its own, since a hard limit cannot be raised again."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "from promptlab.adapters.local.descriptors import calls_that_fit\n"
        "print(calls_that_fit(300))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 < int(done.stdout) < 256 - SPARE
    assert "max_concurrent_tasks is 300" in done.stderr


async def test_a_link_is_the_store_that_it_points_at(tmp_path: Path) -> None:
    """A run that is held by one name is held by the other."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link.db").symlink_to(tmp_path / "lab.db")
    one = open_parts({"db_file": str(tmp_path / "lab.db")})
    two = open_parts({"db_file": str(tmp_path / "other" / "link.db")})
    async with one.runner.claimed("r"):
        with pytest.raises(RunBusyError):
            async with two.runner.claimed("r"):
                pass


def test_paths_that_cannot_be_a_store_are_clear_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe, a name that is not UTF-8, a working folder that is gone."""
    os.mkfifo(tmp_path / "pipe.db")
    with pytest.raises(ConfigError, match="pipe or a device"):
        open_parts({"db_file": str(tmp_path / "pipe.db")})
    with pytest.raises(ConfigError, match="not UTF-8"):
        open_parts({"db_file": os.fsdecode(b"lab\xff.db")})
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="working folder"):
        open_parts({"db_file": "lab.db"})


async def test_a_store_that_is_deleted_stops_the_run(tmp_path: Path) -> None:
    """No further calls are paid for, and the error says what happened."""
    lab = StoreLab.open({"db_file": str(tmp_path / "lab.db")})
    with ModelServer() as server:

        def delete(progress: object) -> None:
            if getattr(progress, "done", 0) >= 100:
                for path in tmp_path.glob("lab.db*"):
                    if path.is_file():
                        path.unlink()

        with pytest.raises(Exception, match="no longer in its store"):
            await lab.run(experiment(server), on_progress=delete)
        assert len(server.requests) < 300
    await lab.close()


async def test_a_timeout_does_not_count_the_time_in_which_the_process_was_stopped() -> None:
    """A child sleeps through its time limit while it is stopped, and has its answer all the same."""
    code = (
        "import asyncio; from promptlab import awake\n"
        "async def main():\n"
        "    async with awake.timeout(4):\n"
        "        print('begun', flush=True)\n"
        "        await asyncio.sleep(0.5); await asyncio.sleep(0.5)\n"
        "    print('ended', flush=True)\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(5)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=200)
    assert (out, process.returncode) == ("ended\n", 0)


async def test_a_timeout_still_ends_what_takes_too_long() -> None:
    """As asyncio's own."""
    with pytest.raises(TimeoutError):
        async with awake.timeout(0.05):
            await asyncio.sleep(60)


@pytest.mark.parametrize("timeout_s", [0.6, 0.2])
async def test_a_timeout_does_not_count_the_time_in_which_the_loop_was_held(timeout_s: float) -> None:
    """By a coroutine that computes, say: in the middle of the wait, and where it would have ended."""
    async with awake.timeout(timeout_s):
        await asyncio.sleep(0.01)
        time.sleep(1.5)
        await asyncio.sleep(0.1)
