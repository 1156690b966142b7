"""Code of users that holds the interpreter lock for good in the run's process: that is ended, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promptlab import PromptLab

ROWS = 12

SCRIPT = """
import re, sys, time
from promptlab import Evaluator, Model, ModelResponse, PromptLab

def bomb(text):
    if text == "3":
        re.match(r"(a+)+$", "a" * 60 + "b")

class Odd(Evaluator):
    inputs = {"response": "$inference"}
    def evaluate(self, data):
        bomb(data["response"])
        return True

class OddAsync(Odd):
    async def evaluate(self, data):
        return super().evaluate(data)

class OddModel(Model):
    def __init__(self):
        super().__init__({"name": "custom/odd", "timeout_s": 1, "max_retries": 0})
    def invoke(self, system_prompt, user_prompt):
        bomb(user_prompt)
        return ModelResponse(response=user_prompt)

class Slow(Odd):
    def evaluate(self, data):
        time.sleep(1)
        return True

def config(kind, isolated):
    metric = {"metric": "m", "timeout_s": 1, "evaluator": globals()[kind](), "isolated": isolated}
    return {
        "model": OddModel() if kind == "OddModel" else "simulated/echo",
        "evaluation": [] if kind == "OddModel" else [metric],
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(12)]},
    }

if __name__ == "__main__":
    with PromptLab({"db_file": "lab.db"}) as pl:
        if sys.argv[2] == "run":
            print("ended", pl.experiment.run(config(sys.argv[1], False)).status)
        else:
            run = pl.experiment.resume(pl.experiment.list()[0].run_id, config(sys.argv[1], True))
            print("resumed", run.status, sum(bool(row.get("score_error.m")) for row in run.results()))
"""


def start(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "script.py", *args],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Odd", "OddAsync", "OddModel"])
def test_a_process_that_stands_still_for_good_is_ended_with_the_reason(tmp_path: Path, kind: str) -> None:
    """Which call it was, and what to do; what was recorded is kept, and the remedy works."""
    process = start(tmp_path, kind, "run")
    out, err = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL and "ended" not in out
    name = "custom/odd" if kind == "OddModel" else "m"
    assert f"{name} (row 3)" in err and "isolated: true" in err and "promptlab resume" in err
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        (run,) = pl.experiment.list()
        assert run.status in ("running", "interrupted")
    if kind != "OddModel":
        out, err = start(tmp_path, kind, "resume").communicate(timeout=200)
        assert out == "resumed completed 1\n", err


@pytest.mark.long
def test_a_process_that_was_stopped_is_not_ended(tmp_path: Path) -> None:
    """Whoever stopped it with a signal has it go on when they like."""
    process = start(tmp_path, "Slow", "run")
    assert process.stderr is not None
    time.sleep(3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(15)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (0, "ended completed\n"), err
