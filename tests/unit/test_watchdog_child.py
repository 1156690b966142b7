"""The process that watches another: which calls are over their time, and what it says when it ends one."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptlab.engine import watchdog_child
from promptlab.engine.watchdog_child import SLOT, SLOTS, _is_stopped, _overdue


@pytest.fixture
def slots() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, SLOT.size * SLOTS) as made:
        yield made


def under_way(slots: mmap.mmap, number: int, ago_s: float, limit_s: float, name: str) -> None:
    SLOT.pack_into(slots, number * SLOT.size, time.monotonic() - ago_s, limit_s, name.encode())


@pytest.mark.parametrize(
    ("ago_s", "limit_s", "still_s", "over"),
    [
        (100, 1, 100, True),
        (100, 1, 10.5, False),
        (100, 1, 11, True),
        (10, 1, 100, False),
        (11.5, 1, 100, True),
        (100, 20, 39, False),
        (100, 20, 40, True),
        (39, 20, 100, False),
        (100, 60, 100, False),
    ],
)
def test_a_call_is_over_when_it_had_its_time_and_as_much_again(
    slots: mmap.mmap, ago_s: float, limit_s: float, still_s: float, over: bool
) -> None:
    """Or ten seconds more, if those are longer: of a process that stood still for as long."""
    under_way(slots, 3, ago_s, limit_s, "mine (row 7)")
    assert _overdue(slots, still_s) == (["mine (row 7)"] if over else [])


def test_a_process_is_ended_when_all_its_calls_are_over(slots: mmap.mmap) -> None:
    """As long as one of them may go on, it may be the one that holds the lock."""
    assert _overdue(slots, 1_000) == []
    under_way(slots, 0, 100, 1, "first")
    under_way(slots, SLOTS - 1, 100, 1, "größe (row 2)")
    assert _overdue(slots, 100) == ["first", "größe (row 2)"]
    under_way(slots, 5, 1, 1, "new")
    assert _overdue(slots, 100) == []
    under_way(slots, 5, 100, 1, "x" * 200)
    assert _overdue(slots, 100) == ["first", "x" * 112, "größe (row 2)"]


def test_a_stopped_process_is_told_from_one_that_stands_still() -> None:
    """By a signal or a debugger: it is left alone."""
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not _is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        for _ in range(5_000):
            if _is_stopped(process.pid):
                break
            time.sleep(0.01)
        assert _is_stopped(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not _is_stopped(process.pid)


@pytest.mark.parametrize(
    ("calls", "shown"),
    [(1, "c0."), (20, ", ".join(f"c{n}" for n in range(20)) + "."), (22, "c18, c19 and 2 more.")],
)
def test_the_last_words_name_the_calls(capfd: pytest.CaptureFixture[str], calls: int, shown: str) -> None:
    """Twenty of them; then the process is gone."""
    process = subprocess.Popen(["sleep", "60"])
    watchdog_child._end(process.pid, [f"c{n}" for n in range(calls)])
    assert process.wait() == -signal.SIGKILL
    said = capfd.readouterr().err
    assert shown in said and "c20" not in said and "promptlab resume latest" in said


def test_it_ends_with_the_process_that_it_watches(tmp_path: Path) -> None:
    """Its input ends, or it is somebody else's child: nobody is killed."""
    (tmp_path / "slots").write_bytes(b"\0" * SLOT.size * SLOTS)
    with (tmp_path / "slots").open("r+b") as file:
        for parent in (os.getpid(), 1):
            watch = [sys.executable, watchdog_child.__file__, str(parent), str(file.fileno())]
            child = subprocess.Popen(watch, stdin=subprocess.PIPE, pass_fds=[file.fileno()])
            assert child.stdin is not None
            child.stdin.write(b".")
            child.stdin.flush()
            if parent == os.getpid():
                with pytest.raises(subprocess.TimeoutExpired):
                    child.wait(1.0)
                child.stdin.close()
            assert child.wait() == 0
            child.stdin.close()
