"""Processes in batch mode that are killed with SIGKILL at any moment, and resumed by others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from promptlab.models.batches.base import Limits
from tests.batch_server import BatchServer, Life
from tests.unit.test_batches import FastClock, answers, experiment, mortal_lab

LIMITS = Limits(4, 1_000_000)
SCRIPT = """
import asyncio, sys, orjson
from pathlib import Path
from promptlab.clock import SystemClock
from tests.batch_server import Life
from tests.unit.test_batches import mortal_lab
from tests.unit.test_batches_killed import LIMITS
asyncio.run(mortal_lab(Path(sys.argv[1]), SystemClock(), Life(), LIMITS).run(orjson.loads(sys.argv[2])))
"""
ROWS = 10
REQUESTS = {"openai": 15, "anthropic": 9}
"""Requests to the provider of a whole run, or fewer."""


class Killing(Life):
    """The life of a process that is killed a moment after its request of some number has arrived."""

    def __init__(self, at: int, after_s: float) -> None:
        super().__init__()
        self._kill_at, self._after_s = at, after_s
        self.came = threading.Event()

    def step(self) -> bool:
        super().step()
        if self.steps == self._kill_at:
            self.came.set()
        return False

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the moment, and kill."""
        while not self.came.wait(0.01) and process.poll() is None:
            pass
        time.sleep(self._after_s)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 30))])
async def test_a_killed_process_in_batch_mode_loses_and_repeats_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far it was: each case is asked in one batch, and no batch is made twice."""
    chance, kind = random.Random(seed), ("openai", "anthropic")[seed % 2]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    clock = FastClock()
    with BatchServer(lambda prompt: f"it is {prompt}") as server:
        server.now = clock.time
        life = server.life = Killing(chance.randrange(1, REQUESTS[kind] + 1), chance.random() * 0.03)
        config = experiment(kind, server, ROWS)
        as_json = {
            **config,
            "dataset": {"name": "numbers", "rows": [{"n": f"{n}"} for n in range(ROWS)]},
            "prompt_template": {"name": "ask", "system_prompt": "Be brief.", "user_prompt": "<n>"},
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "lab.db"), orjson.dumps(as_json).decode()]
        )
        life.kill(process)
        server.life = Life()
        lab = mortal_lab(tmp_path / "lab.db", clock, Life(), LIMITS)
        runs, _ = await lab.list_runs()
        assert len(runs) == 1
        run = await lab.resume(runs[0].run_id)
        assert (run.status, run.error) == ("completed", None)
        assert await answers(lab, run) == [(n, 0, f"it is {n}", None) for n in range(ROWS)]
        asked = [prompt for made in server.batches for prompt in made.requests.values()]
        assert sorted(asked, key=int) == [f"{n}" for n in range(ROWS)]
        assert server.direct == []
        await lab.close()
