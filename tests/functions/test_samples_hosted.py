"""The samples against a hosted lab, changed in nothing but their line `PromptLab(…)`: their own code is sent,
runs in the sandbox, and scores case by case as on a laptop."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.auth import Auth

from functions import runtime
from promptlab import PromptLab
from promptlab.adapters.http.lab import RemoteLab
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from tests.functions.conftest import Elsewhere, Machine
from tests.functions.test_sandbox import Invoked, _with_sandbox, invoked  # noqa: F401 - a fixture
from tests.samples import HOSTED, assert_same, copied, environment, rows_here, rows_of
from tests.studio.live import BEARER, TOKEN, LiveStudio

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's"),
    pytest.mark.timeout(180),
]


class Handed(Elsewhere):
    """Notes the runs that the Studio hands over; this file's state machine works on them."""

    def __init__(self) -> None:
        self.runs: queue.Queue[tuple[str, int]] = queue.Queue()

    async def hand_over(self, run: RunRecord) -> bool:
        self.runs.put((run.run_id, run.generation))
        return True

    @asynccontextmanager
    async def claimed(self, run_id: str) -> Any:
        yield


@pytest.fixture
def hosted(tmp_path: Path, machine: Machine, invoked: Invoked) -> Iterator[tuple[LiveStudio, Handed]]:  # noqa: F811
    """A Studio over the stack, which hands its runs over."""
    handed = Handed()
    parts = replace(open_cloud(runtime.config()), runner=handed, sandbox=_with_sandbox(machine).sandbox)
    with LiveStudio(tmp_path, lab=StoreLab(parts), auth=Auth(TOKEN, secure=False)) as studio:
        yield studio, handed


def worked_on(command: list[str], folder: Path, env: dict[str, str], machine: Machine, handed: Handed) -> int:
    """Run a program, and meanwhile work on the runs that it starts; give its exit code."""
    process = subprocess.Popen(command, cwd=folder, env=env)
    try:
        while process.poll() is None:
            try:
                machine.execute(*handed.runs.get(timeout=0.2))
            except queue.Empty:
                continue
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    return process.returncode


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("async_example", "custom_metric", "custom_model", "agent")
        ),
    ],
)
def test_a_sample_scores_in_a_hosted_lab_as_on_a_laptop(
    tmp_path: Path, machine: Machine, hosted: tuple[LiveStudio, Handed], name: str
) -> None:
    """Answer by answer, score by score, reason by reason."""
    studio, handed = hosted
    expected = rows_here(name, tmp_path / "here")
    remote = {"PROMPTLAB_ENDPOINT": studio.url, "PROMPTLAB_API_KEY": TOKEN}
    (tmp_path / "there").mkdir()
    script = copied(name, tmp_path / "there", HOSTED)
    command = [sys.executable, str(script)]
    assert worked_on(command, script.parent, environment(**remote), machine, handed) == 0
    with PromptLab({"type": "remote", "endpoint": studio.url, "api_key": TOKEN}) as pl:
        assert_same(rows_of(pl), expected)
        sent = {asset.name for asset in pl.asset.list("code")}
    assert bool(sent) == (name != "quickstart")


def started(studio: LiveStudio, config: dict[str, Any]) -> str:
    """Send an experiment, and give its run's id; nobody waits for it."""

    async def start() -> str:
        lab = RemoteLab(studio.url, TOKEN)
        try:
            return (await lab.start(config)).run_id
        finally:
            await lab.close()

    return asyncio.run(start())


@pytest.mark.long
def test_a_run_goes_on_with_the_code_that_it_recorded(
    tmp_path: Path, machine: Machine, hosted: tuple[LiveStudio, Handed]
) -> None:
    """The user's file is gone, and a newer version is there: failed cases are done again as before."""
    studio, handed = hosted
    script = tmp_path / "own.py"
    script.write_text("def agent(row):\n    return 'first ' + str(1 / row['n'])\n", "utf-8")
    config = {
        "name": "goes on",
        "agent_proxy": f"{script}:agent",
        "dataset": {"name": "numbers", "rows": [{"n": 1}, {"n": 0}]},
    }
    with studio.client(headers=BEARER) as api:
        run_id = started(studio, config)
        machine.execute(*handed.runs.get(timeout=60))
        script.write_text("def agent(row):\n    return 'second'\n", "utf-8")
        started(studio, config)
        machine.execute(*handed.runs.get(timeout=60))
        script.unlink()
        assert api.post(f"/runs/{run_id}/resume", json={"failed": True}).status_code == 202
        machine.execute(*handed.runs.get(timeout=60))
        rows = api.get(f"/runs/{run_id}/cases").json()["items"]
        run = api.get(f"/runs/{run_id}").json()
    assert [row["response"] for row in rows] == ["first 1.0", None]
    assert rows[1]["error_type"] == "ZeroDivisionError" and "own.py, line 2" in rows[1]["error_message"]
    assert (run["generation"], run["configuration"]["agent"]["bundle"]) == (1, "own@0")


NOTEBOOK = """
from promptlab import Evaluator, PromptLab

LIMIT = 3

class Long(Evaluator):
    def __init__(self, at):
        self.at = at
    def evaluate(self, data):
        print("looked")
        return len(data["response"]) > self.at + LIMIT

run = PromptLab({"type": "remote"}).experiment.run({
    "name": "own", "prompt_template": {"name": "p", "user_prompt": "<q>"}, "model": "simulated/demo",
    "dataset": {"name": "d", "rows": [{"q": "What is 2 + 2?"}]},
    "evaluation": [
        {"metric": "long", "evaluator": Long(0), "column_mapping": {"response": "q"}},
        {"metric": "even", "evaluator": lambda data: len(data["response"]) % 2 == 0,
         "column_mapping": {"response": "q"}},
    ],
})
"""
FILE = """
name: own
prompt_template: {name: p, user_prompt: <q>}
model: simulated/demo
dataset: {name: d, rows: [{q: "What is 2 + 2?"}]}
evaluation:
  - {metric: long, evaluator: "mine.py:Long", params: {at: 3}, column_mapping: {response: q}}
  - {metric: even, evaluator: "mine.py:even", column_mapping: {response: q}}
code: {files: [words.txt]}
"""
MODULE = """
from pathlib import Path

class Long:
    def __init__(self, at):
        self.at = at
    def evaluate(self, data):
        assert (Path(__file__).parent / "words.txt").read_text() == "a word"
        print("looked")
        return len(data["response"]) > self.at

def even(data):
    return len(data["response"]) % 2 == 0
"""


@pytest.mark.parametrize("way", ["notebook", "file"])
@pytest.mark.long
def test_a_notebook_and_the_command_line_send_code_too(
    tmp_path: Path, machine: Machine, hosted: tuple[LiveStudio, Handed], way: str
) -> None:
    """Objects without a file go by value, those of a file by its name and with what they read."""
    studio, handed = hosted
    for name, text in (("own.yaml", FILE), ("mine.py", MODULE), ("words.txt", "a word")):
        (tmp_path / name).write_text(text, "utf-8")
    command = ["-c", NOTEBOOK] if way == "notebook" else ["-m", "promptlab", "run", "own.yaml"]
    remote = environment(PROMPTLAB_ENDPOINT=studio.url, PROMPTLAB_API_KEY=TOKEN)
    assert worked_on([sys.executable, *command], tmp_path, remote, machine, handed) == 0
    with studio.client(headers=BEARER) as api:
        run = api.get("/runs").json()["items"][0]["run_id"]
        (row,) = api.get(f"/runs/{run}/cases").json()["items"]
    assert (row["passed.long"], row["passed.even"]) == (True, True)
    assert row["reason.long"] == "Printed:\nlooked\n"
