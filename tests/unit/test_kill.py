"""Runs that are killed with SIGKILL at any moment and resumed."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from promptlab import PromptLab
from tests.servers import ModelServer, Reply, Request

ROWS = 500
IN_FLIGHT = 20

SCRIPT = """
import sys
from promptlab import PromptLab
PromptLab({"type": "sqlite", "db_file": sys.argv[1]}).experiment.run({
    "name": "killed",
    "dataset": {"name": "numbers", "file_path": sys.argv[2]},
    "prompt_template": {"name": "ask", "user_prompt": "<n>"},
    "model": {"name": "openai/mini", "endpoint": sys.argv[3], "max_concurrent_tasks": int(sys.argv[4])},
    "evaluation": [
        {"metric": "exact_match", "column_mapping": {"reference": "answer"}}, {"metric": "length"},
    ],
})
"""


def answer(request: Request) -> Reply:
    """Right but for every tenth; a moment's wait, so that calls are in flight at the kill."""
    number = int(request.prompt)
    return Reply(text=str(number) if number % 10 else "no idea", delay_s=0.005)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "numbers.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"n": n, "answer": str(n)}) + b"\n" for n in range(ROWS)))
    return path


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.long) for n in range(4, 20))]
)
def test_a_killed_run_is_completed_by_resume_and_nothing_is_lost_or_doubled(
    seed: int, tmp_path: Path, numbers: Path
) -> None:
    """Each case has one completion and one score set, few calls are made twice, and the summary is that of an
    unbroken run."""
    db = tmp_path / "lab.db"
    when = random.Random(seed).randrange(1, ROWS)
    with ModelServer(answer) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(db), str(numbers), server.openai_url, str(IN_FLIGHT)]
        )
        server.wait_for_requests(when)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

        with PromptLab({"type": "sqlite", "db_file": str(db)}) as pl:
            (run,) = pl.experiment.list()
            assert run.status == "interrupted"
            run = run.resume()
            assert len(server.requests) <= ROWS + IN_FLIGHT
            rows = run.results()

    assert run.status == "completed"
    assert [(row["case"], row["response"]) for row in rows] == [
        (n, str(n) if n % 10 else "no idea") for n in range(ROWS)
    ]
    summary = run.summary
    assert summary is not None
    assert (summary.cases, summary.succeeded, summary.failed, summary.completion_tokens) == (
        500,
        500,
        0,
        sum(len(str(n)) if n % 10 else 7 for n in range(ROWS)),
    )
    assert (summary.metrics["exact_match"].n, summary.metrics["exact_match"].mean) == (500, 0.9)
    with sqlite3.connect(db) as con:
        for table in ("completion", "score_set"):
            assert con.execute(f"SELECT count(*), count(DISTINCT case_number) FROM {table}").fetchone() == (
                ROWS,
                ROWS,
            )
    con.close()
