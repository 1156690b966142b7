"""Two processes over one store: one works on a run, others look at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from promptlab import PromptLab
from tests.servers import ModelServer, Reply, Request
from tests.unit.test_kill import IN_FLIGHT, ROWS, SCRIPT, answer


@pytest.mark.long
def test_looking_at_a_running_run_takes_nothing_from_it(tmp_path: Path) -> None:
    """However often another process opens and closes the store, the run's log stays, and after SIGKILL so
    does every answer."""
    db, numbers = tmp_path / "lab.db", tmp_path / "numbers.jsonl"
    numbers.write_bytes(b"".join(orjson.dumps({"n": n, "answer": str(n)}) + b"\n" for n in range(ROWS)))
    killed = False

    def slow(request: Request) -> Reply:
        """It cannot end before the last look, however long each takes."""
        if killed:
            return answer(request)
        return replace(answer(request), delay_s=0.2, hang=len(server.requests) > ROWS // 2)

    with ModelServer(slow) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(db), str(numbers), server.openai_url, str(IN_FLIGHT)]
        )
        for seen in (50, 100, 150):
            server.wait_for_requests(seen)
            look = [sys.executable, "-m", "promptlab", "runs", "--db", str(db), "--json"]
            (run,) = orjson.loads(subprocess.run(look, check=True, capture_output=True).stdout)
            assert run["status"] == "running"
            opened = [os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir() if fd.is_symlink()]
            assert not [path for path in opened if path.startswith(str(db)) and path.endswith("(deleted)")]
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = True
        server.release()
        with PromptLab(db) as pl:
            run = pl.experiment.list()[0].resume()
            assert len(server.requests) <= ROWS + IN_FLIGHT
    assert run.summary is not None
    assert (run.status, run.summary.succeeded) == ("completed", ROWS)
