"""The pool of processes that evaluate: what comes back of a case, whatever becomes of its process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import Evaluator, PromptLab, Score, get_model
from promptlab.domain.experiment import Metric
from promptlab.domain.results import Failure, Usage
from promptlab.engine import isolation
from promptlab.engine.isolation import Isolation, by_value
from promptlab.engine.processes import LOAD_S, CannotLoadError, MovedError, Processes, Recipe, cores
from promptlab.errors import ConfigError
from promptlab.models.retry import Postponed
from promptlab.threads import Threads

REAL_TIME = signal.SIGRTMIN + 3
"""A signal without a name of its own."""


class Does(Evaluator):
    """Does what the case says, in the process that evaluates it."""

    def evaluate(self, data: dict[str, Any]) -> Any:
        match data["do"]:
            case "value":
                return data["value"]
            case "pid":
                return float(os.getpid())
            case "slow pid":
                time.sleep(0.2)
                return float(os.getpid())
            case "children":
                return float(subprocess.Popen(["sleep", "60"]).pid)
            case "sleep":
                time.sleep(data["seconds"])
                return 1.0
            case "exit":
                os._exit(data["code"])
            case "signal":
                os.kill(os.getpid(), data["signal"])
            case "raise":
                raise data["error"]
            case "runs":
                with PromptLab({"db_file": data["db"]}, quiet=True) as pl:
                    return pl.experiment.run(
                        {
                            "model": "simulated/echo",
                            "prompt_template": {"name": "p", "user_prompt": "<q>"},
                            "dataset": {"name": "d", "rows": [{"q": "x"}]},
                        }
                    ).status
            case "awaits":
                return asyncio.sleep(0, result=0.25)
            case "scores":
                usage = Usage(calls=2, prompt_tokens=3, completion_tokens=4, cost_usd=0.5)
                return Score(0.5, label="half", reason="why", metadata={"a": [1]}, usage=usage)
        return None


def recipe(evaluator: Evaluator | None = None, metric: str = "m") -> Recipe:
    return by_value(metric, evaluator or Does())


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[None]:
    """Nothing that asyncio would complain of is left: errors that nobody saw, callbacks that raise."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(f"{context['message']}: {context}"))
    yield
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert found == []


@pytest.fixture
async def pool() -> AsyncIterator[Processes]:
    pool = Processes()
    yield pool
    await pool.close()


async def test_a_score_comes_back_as_the_evaluator_gave_it(pool: Processes) -> None:
    """All of its parts; numbers, words and coroutines are scores, too."""
    made = recipe()
    cases: list[tuple[dict[str, Any], Score]] = [
        ({"do": "value", "value": 0.5}, Score(0.5)),
        ({"do": "value", "value": True}, Score(passed=True)),
        ({"do": "value", "value": "good"}, Score(label="good")),
        ({"do": "awaits"}, Score(0.25)),
        ({"do": "raise", "error": AssertionError("too short")}, Score(passed=False, reason="too short")),
        (
            {"do": "raise", "error": KeyError("x")},
            Score(error=Failure("evaluator_error", "m: KeyError: 'x'")),
        ),
        (
            {"do": "scores"},
            Score(
                0.5,
                label="half",
                reason="why",
                metadata={"a": [1]},
                usage=Usage(calls=2, prompt_tokens=3, completion_tokens=4, cost_usd=0.5),
            ),
        ),
    ]
    found = await asyncio.gather(*(pool.call(made, data, 30.0) for data, _ in cases))
    assert found == [score for _, score in cases]


async def test_cases_behind_some_that_end_their_process_are_evaluated(pool: Processes) -> None:
    """However many went before them in the same message: they were not begun."""
    made = recipe()
    for _ in range(40):  # so quick that further ones come many at a time
        await pool.call(made, {"do": "value", "value": 1.0}, 30.0)
    cases = [{"do": "exit", "code": 3}] * 5 + [{"do": "value", "value": 0.5}] * 5
    scores = await asyncio.gather(*(pool.call(made, data, 30.0) for data in cases))
    assert [score.error is None for score in scores] == [False] * 5 + [True] * 5


async def test_a_process_that_evaluates_starts_no_runs(pool: Processes, tmp_path: Path) -> None:
    """Each would start processes of its own, which load the same file."""
    score = await pool.call(recipe(), {"do": "runs", "db": str(tmp_path / "lab.db")}, 60.0)
    assert score.error is not None and "an evaluator's process starts no runs" in score.error.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"do": "exit", "code": 0}, "its process ended (exit code 0)"),
        ({"do": "exit", "code": 7}, "its process ended (exit code 7)"),
        ({"do": "signal", "signal": signal.SIGKILL}, "its process ended (SIGKILL)"),
        (
            {"do": "signal", "signal": signal.SIGRTMIN + 3},
            f"its process ended (signal {signal.SIGRTMIN + 3})",
        ),
    ],
)
async def test_a_case_that_ends_its_process_costs_itself_only(
    pool: Processes, data: dict[str, Any], words: str
) -> None:
    """All others are evaluated, by whichever process is there."""
    made = recipe()
    first = await pool.call(made, {"do": "pid"}, 30.0)
    around = [{"do": "pid"}, data, {"do": "pid"}, {"do": "pid"}]
    before, ended, *after = await asyncio.gather(*(pool.call(made, one, 30.0) for one in around))
    assert ended.error == Failure("evaluator_error", f"m: {words}")
    assert all(score.value not in (None, float(os.getpid())) for score in (first, before, *after))


async def test_a_case_that_takes_too_long_is_ended_with_all_that_it_started(pool: Processes) -> None:
    """The words name the limit; the next case has a process again."""
    made = recipe()
    child = await pool.call(made, {"do": "children"}, 30.0)
    slow, next_one = await asyncio.gather(
        pool.call(made, {"do": "sleep", "seconds": 60}, 0.3),
        pool.call(made, {"do": "value", "value": 1}, 60.0),
    )
    assert slow.error == Failure("evaluator_timeout", "m: no score within timeout_s=0.3 s")
    assert next_one == Score(1.0)
    assert child.value is not None
    for _ in range(5_000):
        if not _lives(int(child.value)):
            return
        await asyncio.sleep(0.02)
    pytest.fail("a process that the evaluator started lives on")


def _lives(pid: int) -> bool:
    """Whether there is such a process, and it is not one that only waits for its parent to look."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_waiting_cases_get_further_processes_and_idle_ones_are_used_again(pool: Processes) -> None:
    """No more than eight, or one for each core; they are all gone when the pool is closed."""
    made = recipe()
    found = await asyncio.gather(*(pool.call(made, {"do": "slow pid"}, 30.0) for _ in range(40)))
    pids = {int(score.value or 0) for score in found}
    assert 2 <= len(pids) <= max(8, os.cpu_count() or 1)
    found = await asyncio.gather(*(pool.call(made, {"do": "pid"}, 30.0) for _ in range(200)))
    assert pids & {int(score.value or 0) for score in found}
    pids |= {int(score.value or 0) for score in found}
    assert len(pids) <= max(8, os.cpu_count() or 1)
    await pool.close()
    for _ in range(5_000):
        if not any(map(_lives, pids)):
            return
        await asyncio.sleep(0.02)
    pytest.fail("a process lives on")


async def test_cases_that_are_known_to_compute_get_a_process_a_core_at_once(pool: Processes) -> None:
    """Nobody waits for the first to be there; one that is not known to is no reason for a second."""
    known, unknown = recipe(), recipe()
    waiting = [asyncio.ensure_future(pool.call(unknown, {"do": "pid"}, 30.0)) for _ in range(50)]
    await asyncio.sleep(0)
    assert pool.size == 1
    pool.withdraw(unknown)
    await asyncio.gather(*waiting, return_exceptions=True)
    pool.expect(known, 0.1)
    calls = [asyncio.ensure_future(pool.call(known, {"do": "pid"}, 30.0)) for _ in range(10 * cores())]
    await asyncio.sleep(0)
    assert pool.size == cores()
    assert all(score.value for score in await asyncio.gather(*calls))


async def test_two_evaluators_share_the_processes_and_keep_their_names(pool: Processes) -> None:
    """Each is made once in a process."""
    one, other = recipe(metric="one"), recipe(metric="other")
    error = {"do": "raise", "error": ValueError("no")}
    found = await asyncio.gather(*(pool.call(made, error, 30.0) for made in (one, other, one)))
    assert [score.error and score.error.message for score in found] == [
        "one: ValueError: no",
        "other: ValueError: no",
        "one: ValueError: no",
    ]


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        ("promptlab.no_such_module:loads", b"", "ModuleNotFoundError"),
        ("cloudpickle:no_such_name", b"", "AttributeError"),
        ("cloudpickle:loads", b"", "EOFError"),
        ("os:_exit", b"", "TypeError"),
    ],
)
async def test_an_evaluator_that_a_process_cannot_make_is_refused(
    pool: Processes, function: str, argument: bytes, words: str
) -> None:
    """With the reason; its further cases at once, and those of others are evaluated all the same."""
    broken = Recipe("m", function, argument)
    for _ in range(2):
        with pytest.raises(CannotLoadError, match=words):
            await pool.call(broken, {}, 30.0)
    assert await pool.call(recipe(), {"do": "value", "value": 1}, 30.0) == Score(1.0)


class Ends(Evaluator):
    """Ends the process in which it is made."""

    def __reduce__(self) -> Any:
        return os._exit, (4,)


async def test_an_evaluator_that_ends_every_process_is_refused(pool: Processes) -> None:
    """It is found when it is made, before any case has begun."""
    with pytest.raises(CannotLoadError, match=r"its process ended \(exit code 4\)"):
        await pool.call(by_value("m", Ends()), {}, 30.0)


class Loads(Evaluator):
    """Takes long to be made."""

    def __reduce__(self) -> Any:
        return time.sleep, (60,)


async def test_an_evaluator_that_takes_too_long_to_be_made_is_refused(pool: Processes) -> None:
    """Its process is ended; another evaluator gets a new one."""
    await pool.call(recipe(), {"do": "value", "value": 1}, 30.0)
    pool.load_s = 0.5
    with pytest.raises(CannotLoadError, match=r"it is not loaded after 0\.5 s"):
        await pool.call(by_value("m", Loads()), {}, 30.0)
    pool.load_s = LOAD_S
    assert await pool.call(recipe(), {"do": "value", "value": 1}, 30.0) == Score(1.0)


async def test_a_stopped_pool_begins_with_nothing(pool: Processes) -> None:
    """What is under way goes on; what waits is postponed; what is withdrawn is moved."""
    made, other = recipe(), recipe()
    await pool.call(made, {"do": "value", "value": 1}, 30.0)
    slow = {"do": "sleep", "seconds": 0.5}
    begun = [asyncio.create_task(pool.call(made, slow, 30.0 + n)) for n in range(20)]
    moved = [asyncio.create_task(pool.call(other, slow, 30.0)) for _ in range(2)]
    await asyncio.sleep(0)
    pool.withdraw(other)
    for task in moved:
        with pytest.raises(MovedError):
            await task
    pool.stop()
    found = await asyncio.gather(*begun, return_exceptions=True)
    postponed = [one for one in found if isinstance(one, Postponed)]
    assert postponed and all(one.wait_s == 0 for one in postponed)
    assert all(one == Score(1.0) for one in found if not isinstance(one, Postponed))
    with pytest.raises(Postponed) as later:
        await pool.call(made, slow, 30.0)
    assert later.value.wait_s == 0


async def test_a_cancelled_caller_leaves_its_process_to_the_others(pool: Processes) -> None:
    """A case that nobody waits for is not begun."""
    made = recipe()
    pid = await pool.call(made, {"do": "pid"}, 30.0)
    tasks = [asyncio.create_task(pool.call(made, {"do": "pid"}, 30.0)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [pid, pid]


# --------------------------------------------------------------------------- which evaluators run there


def metric(**fields: Any) -> Metric:
    return Metric(name="m", metric="m", column_mapping={}, **fields)


class Waits(Evaluator):
    async def evaluate(self, data: dict[str, Any]) -> float:
        return 1.0


class Judges(Does):
    def __init__(self) -> None:
        self.judge = get_model("simulated/echo")


class Counts(Does):
    """Is another one each time that it is looked at."""

    def __init__(self) -> None:
        self.number = 0

    def __getstate__(self) -> dict[str, int]:
        self.number += 1
        return {"number": self.number}


class Locks(Does):
    def __getstate__(self) -> None:
        raise TypeError("cannot be sent")


async def _measured(apart: Isolation, evaluator: Evaluator, *cpu_s: float) -> list[bool]:
    """Measure evaluations; tell of each whether the next one would be in a process."""
    threads, found = Threads("test"), []
    assert apart.recipe(metric(), evaluator) is None
    for seconds in cpu_s:
        await apart.measured(metric(), evaluator, seconds, threads)
        found.append(apart.recipe(metric(), evaluator) is not None)
    threads.close()
    return found


@pytest.mark.parametrize(
    ("evaluator", "cpu_s", "moves"),
    [
        (Does(), [0.5, 0.01], [False, True]),
        (Does(), [0.25, 0.25, 0.01], [False, False, True]),
        (Does(), [0.49, 0.005, 0.005, 0.01], [False, False, False, True]),
        (Does(), [0.0019] * 300, [False] * 300),
        (Does(), [0.0625] * 9, [False] * 8 + [True]),
        (Does(), [0.0] * 9 + [0.5, 0.06], [False] * 10 + [True]),
        (Does(), [0.49], [False]),
        (Counts(), [0.5, 0.5, 0.5], [False] * 3),
        (Locks(), [0.5, 0.5, 0.5], [False] * 3),
        (Waits(), [0.5, 0.5], [False] * 2),
        (Judges(), [0.5, 0.5], [False] * 2),
    ],
)
async def test_an_object_moves_when_its_cases_are_heavy(
    pool: Processes, evaluator: Evaluator, cpu_s: list[float], moves: list[bool]
) -> None:
    """From half a second in all and two thousandths a case on; if it is the same from case to case, can be
    sent, and neither awaits nor calls models."""
    assert await _measured(Isolation({}, pool), evaluator, *cpu_s) == moves


async def test_an_object_that_is_too_large_stays(pool: Processes, caplog: pytest.LogCaptureFixture) -> None:
    """64 MB are sent; what stays for another reason says so once."""
    size = len(isolation._pickled(Does()))
    for most, moves in ((size, True), (size - 1, False)):
        apart = Isolation({}, pool, most_bytes=most)
        assert await _measured(apart, Does(), 0.5, 0.5) == [False, moves]
    with caplog.at_level(logging.WARNING, "promptlab"):
        await _measured(Isolation({}, pool), Counts(), 0.4, 0.4, 0.4, 0.4)
        await _measured(Isolation({}, pool), Locks(), 0.4, 0.4, 0.4, 0.4)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "m takes 400 ms of processor time a case and keeps to one core: it changes from case to case "
        "(isolated: true sends it all the same)",
        "m takes 400 ms of processor time a case and keeps to one core: it cannot be sent to other "
        "processes: TypeError: cannot be sent",
    ]


async def test_what_is_known_of_a_metric_decides(pool: Processes, caplog: pytest.LogCaptureFixture) -> None:
    """A recipe is used where `isolated` does not forbid it; without processes nothing is."""
    made, evaluator = recipe(), Does()
    assert Isolation({"m": made}, pool).recipe(metric(), evaluator) is made
    assert Isolation({"m": made}, pool).recipe(metric(isolated=True), evaluator) is made
    assert Isolation({"m": made}, pool).recipe(metric(isolated=False), evaluator) is None
    assert Isolation({"m": made}, None).recipe(metric(), evaluator) is None
    assert Isolation({"m": made}, pool).recipe(metric(needs_embedding=True), evaluator) is None
    assert Isolation({"m": made}, pool).recipe(metric(), Waits()) is None
    assert Isolation({"m": made}, pool).recipe(metric(isolated=True), Waits()) is made
    apart = Isolation({"m": made}, pool)
    with caplog.at_level(logging.WARNING, "promptlab"):
        apart.stay(metric(), "it calls models")
        apart.stay(metric(), "it calls models")
    assert [record.getMessage() for record in caplog.records] == ["m runs in this process: it calls models"]
    assert apart.recipe(metric(), evaluator) is None


def test_an_evaluator_that_cannot_be_sent_is_an_error_with_a_remedy() -> None:
    """Where it is to be isolated."""
    with pytest.raises(
        ConfigError, match=r"metric 'm' is to be isolated, .*: TypeError: cannot be sent\. Let it"
    ):
        by_value("m", Locks())


def test_a_program_that_leaves_a_case_under_way_ends_its_process(tmp_path: Path) -> None:
    """Else it would go on by itself until its time is over."""
    script = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from promptlab import Evaluator\n"
        "from promptlab.engine.isolation import by_value\n"
        "from promptlab.engine.processes import Processes\n"
        "told = Path(sys.argv[1])\n"
        "class Slow(Evaluator):\n"
        "    def evaluate(self, data):\n"
        "        told.with_suffix('.new').write_text(str(os.getpid()))\n"
        "        told.with_suffix('.new').rename(told)\n"
        "        time.sleep(60)\n"
        "pool = Processes()\n"
        "async def main():\n"
        "    task = asyncio.create_task(pool.call(by_value('m', Slow()), {}, 60.0))\n"
        "    while not told.exists():\n"
        "        await asyncio.sleep(0.05)\n"
        "    asyncio.get_running_loop().stop()\n"
        "asyncio.new_event_loop().run_until_complete(main())\n"
    )
    told = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", script, str(told)], capture_output=True, timeout=120, check=False)
    end = time.monotonic() + 100
    while time.monotonic() < end and is_there(int(told.read_text())):
        time.sleep(0.1)
    assert not is_there(int(told.read_text()))


def is_there(pid: int) -> bool:
    """Whether a process is there, and not only its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_that_leaves_a_pool_open_comes_to_its_end() -> None:
    """Its processes are ended with it."""
    script = (
        "import asyncio, os\n"
        "from promptlab.engine.processes import Processes, Recipe\n"
        "pool = Processes()\n"
        "async def main():\n"
        "    task = asyncio.create_task(pool.call(Recipe('m', 'time:sleep', b''), {}, 60.0))\n"
        "    await asyncio.wait((task,), timeout=0.5)\n"
        "    print(type(task.exception()).__name__ if task.done() else 'waits')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip() in ("CannotLoadError", "waits")) == (0, True), done.stderr
