"""Evaluators in processes of their own: which ones, and what they can do no harm with there."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from promptlab import Evaluator, PromptLab, Run, Score
from promptlab.errors import ConfigError
from tests.servers import ModelServer, Reply

ROWS = 12
TIMEOUT_S = 1.0

MINE = """
import asyncio, ctypes, os, re, signal, subprocess, sys, threading, time
from promptlab import Evaluator, PromptLab, Score, get_model

def here(more=None):
    return Score(value=os.getpid(), reason=str(more))

class Where(Evaluator):
    inputs = {"response": "$inference"}
    def __init__(self, way="", url=""):
        self.way, self.url = way, url
    def evaluate(self, data):
        if data["response"] == "3" and self.way:
            WAYS[self.way](self)
        return here()

class Waits(Where):
    async def evaluate(self, data):
        await asyncio.sleep(0)
        if data["response"] == "3" and self.way:
            WAYS[self.way](self)
        return here()

class Heavy(Where):
    def evaluate(self, data):
        end = time.thread_time() + 0.06
        while time.thread_time() < end:
            pass
        return here()

class Judged(Where):
    def evaluate(self, data):
        return here(get_model("openai/judge", endpoint=self.url).invoke("", data["response"]).response)

def function(data, *, least=0):
    return here(least)

def bomb(self):
    re.match(r"(a+)+$", "a" * 60 + "b")

def forks(self):
    if not os.fork():
        time.sleep(30)
        os._exit(0)

def starts(self):
    PromptLab({"db_file": "other.db"}).experiment.run({"model": "simulated/echo",
        "dataset": {"name": "d", "rows": [{}]}, "prompt_template": {"name": "p", "user_prompt": "x"}})

WAYS = {
    "holds the interpreter lock": bomb,
    "sleeps": lambda self: time.sleep(60),
    "ends the process": lambda self: os._exit(3),
    "is killed": lambda self: os.kill(os.getpid(), signal.SIGKILL),
    "breaks the memory": lambda self: ctypes.string_at(0),
    "starts a run": starts,
    "leaves a process behind": forks,
    "prints": lambda self: print("from afar", "ö" * 5000),
    "prints by itself": lambda self: subprocess.run(["echo", "by itself"], stdout=sys.stdout),
    "closes what it finds": lambda self: (sys.stdin.close(), sys.stdout.close()),
}
"""

SAID = {
    "holds the interpreter lock": "no score within timeout_s=1 s",
    "sleeps": "no score within timeout_s=1 s",
    "ends the process": "its process ended (exit code 3)",
    "is killed": "its process ended (SIGKILL)",
    "breaks the memory": "its process ended (SIGSEGV)",
    "starts a run": "an evaluator's process starts no runs",
}
"""Way → what the case's score says; of the others nothing."""


def run(tmp_path: Path, *metrics: dict[str, Any], rows: int = ROWS, resume: bool = False) -> Run:
    (tmp_path / "mine.py").write_text(MINE)
    config = {
        "name": "apart",
        "model": "simulated/echo",
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(rows)]},
        "evaluation": [
            {
                "metric": f"m{number}",
                "column_mapping": {"response": "$inference"},
                "timeout_s": TIMEOUT_S,
                **metric,
            }
            for number, metric in enumerate(metrics)
        ],
    }
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        done = pl.experiment.run(config)
        if resume:
            again = done.resume(failed=True)
            assert again.status == "completed" and again.summary and done.summary
            assert again.summary.metrics["m0"].n == done.summary.metrics["m0"].n
        assert done.status == "completed"
        return done


def pids(done: Run, metric: str = "m0") -> set[int]:
    """The processes that scored."""
    return {int(row[f"score.{metric}"]) for row in done.results() if row[f"score.{metric}"] is not None}


def named(tmp_path: Path, name: str, **params: Any) -> dict[str, Any]:
    return {"evaluator": f"{tmp_path}/mine.py:{name}", "params": params}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Where", "Waits"])
@pytest.mark.parametrize("way", [*SAID, "leaves a process behind", "closes what it finds"])
def test_what_an_evaluator_does_in_its_process_costs_its_own_score(
    tmp_path: Path, way: str, kind: str
) -> None:
    """And no other of the same message; so also when it is done again."""
    # What does not hang has the time that a busy machine takes: to open a store took more than a second.
    timeout_s = TIMEOUT_S if SAID.get(way, "").startswith("no score") else 60
    metric = {**named(tmp_path, kind, way=way), "isolated": True, "timeout_s": timeout_s}
    done = run(tmp_path, metric, resume=way in SAID)
    assert done.summary is not None and os.getpid() not in pids(done)
    assert done.summary.metrics["m0"].n == (ROWS - 1 if way in SAID else ROWS)
    errors = {row["case"]: row["score_error.m0"] for row in done.results() if row["score_error.m0"]}
    assert list(errors) == ([3] if way in SAID else [])
    assert way not in SAID or SAID[way] in errors[3]


def test_evaluators_given_by_name_run_in_processes_and_objects_in_this_one(tmp_path: Path) -> None:
    """Also functions with arguments; async ones, and those that are to stay, do not."""

    class Here(Evaluator):
        def evaluate(self, data: dict[str, Any]) -> Score:
            return Score(value=os.getpid())

    done = run(
        tmp_path,
        named(tmp_path, "Where"),
        named(tmp_path, "function", least=2),
        named(tmp_path, "Waits"),
        {**named(tmp_path, "Where"), "isolated": False},
        {"evaluator": Here()},
        {"evaluator": Here(), "isolated": True},
    )
    where = [os.getpid() in pids(done, f"m{number}") for number in range(6)]
    assert where == [False, False, True, True, True, False]
    assert done.results()[0]["reason.m1"] == "2"


def test_nothing_is_left_of_the_processes_of_a_run(tmp_path: Path) -> None:
    """When it has ended."""
    left = pids(run(tmp_path, named(tmp_path, "Where")))
    for _ in range(500):
        left = {pid for pid in left if lives(pid)}
        if not left:
            return
        time.sleep(0.02)
    pytest.fail("a process lives on")


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_an_evaluator_prints_elsewhere_is_printed_here(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a program that it starts prints goes to standard error."""
    run(tmp_path, named(tmp_path, "Where", way="prints"), named(tmp_path, "Where", way="prints by itself"))
    out, err = capfd.readouterr()
    assert f"from afar {'ö' * 5000}\n" in out and "by itself\n" in err


def test_a_judge_that_nobody_could_know_of_keeps_to_its_models_calls(tmp_path: Path) -> None:
    """Its calls are counted wherever they are made, and once seen are made from this process."""
    with ModelServer(lambda request: Reply(text="yes")) as server:
        done = run(tmp_path, {**named(tmp_path, "Judged", url=server.openai_url), "timeout_s": 60}, rows=40)
    assert done.summary is not None
    usage = done.summary.metrics["m0"].usage
    assert usage is not None and usage.calls == 40 == len(server.requests)
    assert os.getpid() in pids(done)


class Computes(Evaluator):
    """Takes 0.06 s of processor time."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def evaluate(self, data: dict[str, Any]) -> Score:
        end = time.thread_time() + 0.06
        while time.thread_time() < end:
            pass
        self.note(data["response"])
        return Score(value=os.getpid())

    def note(self, response: str) -> None:
        """Remember nothing."""


class Counts(Computes):
    def note(self, response: str) -> None:
        self.seen.append(response)


class Locks(Computes):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_objects_that_compute_for_long_move_to_processes_if_they_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What keeps state, or cannot be sent, stays, and says so once."""
    counts = Counts()
    with caplog.at_level(logging.WARNING, "promptlab"):
        done = run(
            tmp_path, *({"evaluator": one, "timeout_s": 60} for one in (Computes(), counts, Locks())), rows=24
        )
    assert os.getpid() in pids(done) and len(pids(done)) > 1
    assert pids(done, "m1") == pids(done, "m2") == {os.getpid()}
    assert sorted(counts.seen, key=int) == [str(n) for n in range(24)]
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 2
    assert "m1 takes" in said[0] and "it changes from case to case" in said[0]
    assert "m2 takes" in said[1] and "cannot pickle '_thread.lock' object" in said[1]


def test_what_is_to_be_isolated_and_cannot_be_is_an_error_before_the_first_call(tmp_path: Path) -> None:
    """With the reason, and what to do."""
    with pytest.raises(
        ConfigError, match=r"cannot be sent to a process: TypeError: cannot pickle '_thread.lock'"
    ):
        run(tmp_path, {"evaluator": Locks(), "isolated": True})
    with pytest.raises(ConfigError, match="isolated is for evaluators of your own"):
        run(tmp_path, {"metric": "length", "isolated": True})


def test_where_an_evaluator_runs_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    """It is what a run that was ended is told to do."""
    (tmp_path / "mine.py").write_text(MINE)
    config: dict[str, Any] = {
        "model": "simulated/echo",
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(ROWS)]},
        "evaluation": [
            {
                "metric": "m0",
                "timeout_s": TIMEOUT_S,
                "isolated": False,
                **named(tmp_path, "Where", way="sleeps"),
            }
        ],
    }
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        done = pl.experiment.run(config)
        assert pids(done) == {os.getpid()}
        config["evaluation"][0]["isolated"] = True
        again = done.resume(config, failed=True)
    assert again.status == "completed" and again.results()[3]["score_error.m0"]
    assert again.record.experiment["evaluation"][0]["isolated"] is False
