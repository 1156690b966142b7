"""SIGTERM and a closed terminal keep what was answered, in the SDK as in commands."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab import PromptLab
from tests.servers import ModelServer, Reply, Request

SCRIPT = """
import asyncio, sys
from promptlab import Dataset, PromptLab, PromptTemplate
db, url, how = sys.argv[1:]
config = {{
    "name": "quiz",
    "dataset": Dataset(name="q", rows=[{{"question": f"Q{{n}}"}} for n in range(200)]),
    "prompt_template": PromptTemplate(name="p", user_prompt="<question>"),
    "model": {{"name": "openai/mini", "endpoint": url, "max_concurrent_tasks": 10}},
    "evaluation": [{{"metric": "length"}}],
}}
pl = PromptLab({{"db_file": db}})
print("begins", flush=True)
pl.experiment.run(config) if how == "sync" else asyncio.run(pl.run_experiment_async(config))
"""


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_is_ended_keeps_the_answers_in_flight(
    tmp_path: Path, how: str, number: signal.Signals
) -> None:
    """Every call that was made is recorded, and the process ends by the signal that it was sent."""

    def answer(request: Request) -> Reply:
        return Reply(text="ok", delay_s=0.3)

    with ModelServer(answer) as server:
        arguments = [str(tmp_path / "lab.db"), server.openai_url, how]
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(), *arguments], stdout=subprocess.PIPE
        )
        try:
            server.wait_for_requests(25, 60)
            process.send_signal(number)
            assert process.wait(200) == -number
        finally:
            process.kill()
            process.communicate()
        with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
            [run] = pl.experiment.list()
            assert run.status == "interrupted"
            assert len(list(run.results())) == len(server.requests) < 200
