"""Code of data in child processes: what it may take, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from promptlab.bounded import Bounded, BoundExceededError, RefusedError, bounded


def test_a_call_gives_what_the_function_gives() -> None:
    """Arguments and result are JSON; the same process serves call after call."""
    pool = Bounded()
    assert pool.call("math:hypot", 3, 4) == 5.0
    first = pool.call("os:getpid")
    assert pool.call("os:getpid") == first != os.getpid()
    pool.close()


def test_an_error_of_the_function_is_said_and_the_process_lives_on() -> None:
    """Its class and its words come back."""
    pool = Bounded()
    pid = pool.call("os:getpid")
    with pytest.raises(RefusedError, match="ValueError"):
        pool.call("math:sqrt", -1)
    assert pool.call("os:getpid") == pid
    pool.close()


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        ("time:sleep", [100], "more than 0.5 s"),
        ("builtins:eval", ["10 ** 10 ** 9"], "0.5 s of processor time"),
        ("builtins:eval", ["[0] * 10 ** 9"], "memory"),
        ("builtins:eval", ["'a' * 33 * 2 ** 20"], "its result is larger than"),
        ("os:_exit", [3], r"broke down \(exit code 3\)"),
        ("os:abort", [], "broke down"),
    ],
)
def test_what_takes_too_much_is_stopped_and_the_next_call_works(
    function: str, args: list[object], said: str
) -> None:
    """Time, memory, size, a crash: each is an error in words, also inside of C code."""
    pool = Bounded()
    wall_s = 0.5 if function == "time:sleep" else 60.0
    with pytest.raises(BoundExceededError, match=said):
        pool.call(function, *args, wall_s=wall_s)
    assert pool.call("math:hypot", 3, 4) == 5.0
    pool.close()


def test_a_child_knows_no_keys() -> None:
    """The environment of this process stays here."""
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert bounded.call("os:getenv", "PYTEST_CURRENT_TEST") is None


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """A call that takes its whole time leaves the loop and the interpreter free."""
    ticks = 0
    working = asyncio.ensure_future(bounded.call_async("builtins:eval", "10 ** 10 ** 9"))
    while not working.done():
        await asyncio.sleep(0.01)
        ticks += 1
    with pytest.raises(BoundExceededError):
        working.result()
    assert ticks > 5


def test_many_threads_share_the_children() -> None:
    """No answer goes astray."""
    pool, wrong = Bounded(), list[int]()

    def work(start: int) -> None:
        for n in range(start, start + 50):
            if pool.call("operator:neg", n) != -n:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_children_of_its_own() -> None:
    """Two processes that read from one pipe would take each other's answers."""
    script = (
        "import os\nfrom promptlab.bounded import bounded\nfirst = bounded.call('os:getpid')\n"
        "pid = os.fork()\nother = bounded.call('os:getpid')\n"
        "if pid == 0:\n    os._exit(0 if other != first else 1)\n"
        "assert other == first\nraise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
