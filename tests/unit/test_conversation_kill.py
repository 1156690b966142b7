"""Conversations that are killed with SIGKILL again and again: each turn is there once, and paid once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import orjson
import pytest

from promptlab import PromptLab
from tests.servers import ModelServer, Reply, Request

ROWS, TURNS = 20, 8
IN_FLIGHT = 10

SCRIPT = """
import sys
from promptlab import PromptLab
with PromptLab({"type": "sqlite", "db_file": sys.argv[1]}) as pl:
    runs = pl.experiment.list()
    if runs:
        runs[0].resume()
    else:
        pl.experiment.run({
            "name": "killed",
            "dataset": {"name": "talks", "file_path": sys.argv[2]},
            "prompt_template": {"name": "kind", "system_prompt": "Be kind."},
            "model": {
                "name": "openai/mini", "endpoint": sys.argv[3], "max_concurrent_tasks": int(sys.argv[4]),
            },
            "conversation": {"user_turns": "$said"},
            "evaluation": [{"metric": "length"}],
        })
"""


def answer(request: Request) -> Reply:
    """A moment's wait, so that calls are in flight at the kill."""
    return Reply(text=f"to {request.prompt}", delay_s=0.03)


@pytest.mark.parametrize(
    ("kills", "seed"),
    [(2, 0), pytest.param(10, 1, marks=pytest.mark.long), pytest.param(10, 2, marks=pytest.mark.long)],
)
def test_a_killed_conversation_goes_on_from_its_last_turn(kills: int, seed: int, tmp_path: Path) -> None:
    """20 conversations of 8 turns: every turn once in the store, and calls at most the turns and those in
    flight at the kills."""
    db, rows = tmp_path / "lab.db", tmp_path / "talks.jsonl"
    said = [[f"turn {turn} of {row}" for turn in range(TURNS)] for row in range(ROWS)]
    rows.write_bytes(b"".join(orjson.dumps({"said": one}) + b"\n" for one in said))
    chance, in_flight, started = random.Random(seed), 0, 0
    with ModelServer(answer) as server:
        command = [sys.executable, "-c", SCRIPT, str(db), str(rows), server.openai_url, str(IN_FLIGHT)]
        for _ in range(kills):
            before = len(server.requests)
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            more = chance.randrange(1, max(2, 2 * ROWS * TURNS // (kills * 2)))
            waiting = threading.Thread(target=_kill, args=(server, process, before + more))
            waiting.start()
            process.wait()
            waiting.join()
            started += 1
            if process.returncode != -signal.SIGKILL:
                break
            in_flight += IN_FLIGHT
        with PromptLab({"type": "sqlite", "db_file": str(db)}) as pl:
            (run,) = pl.experiment.list()
            if run.status != "completed":
                run = run.resume()
            found = run.results()
        asked = Counter(request.prompt for request in server.requests)
    assert run.status == "completed" and started
    assert set(asked) == {text for one in said for text in one}
    assert sum(asked.values()) <= ROWS * TURNS + in_flight
    assert len(found) == ROWS
    for row, texts in zip(found, said, strict=True):
        turns = row["trace"].turns
        assert [turn["user"] for turn in turns] == texts
        assert [turn["assistant"] for turn in turns] == [f"to {text}" for text in texts]
        assert len(row["messages"]) == 2 * TURNS
        assert row["completion_tokens"] == sum(turn["completion_tokens"] for turn in turns)


def _kill(server: ModelServer, process: subprocess.Popen[bytes], after: int) -> None:
    """Kill a process once so many requests have come in all, unless it ends before."""
    while process.poll() is None and len(server.requests) < after:
        with server._arrived:
            server._arrived.wait(0.05)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
