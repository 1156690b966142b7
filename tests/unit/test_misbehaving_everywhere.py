"""Every kind of misbehaving evaluator in one run: from the command line, a script and the Studio. Each
costs one score of its own, says why, and can be done again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptlab import PromptLab
from tests.unit.misbehaving import HARD, KEPT, WAYS, Async, Blocking, Sync

ROWS = 6
TIMEOUT_S = 1.0
KINDS = [*WAYS, *HARD]
FAILING = {way for way in KINDS if way not in KEPT} | {"blocks", "hangs on the loop"}
ROOT = Path(__file__).parents[2]


def experiment(metrics: list[dict[str, Any]], **dataset: Any) -> dict[str, Any]:
    return {
        "name": "odd",
        "model": "simulated/echo",
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", **dataset},
        "evaluation": [{"timeout_s": TIMEOUT_S, **metric} for metric in metrics],
    }


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'studio'}"}


def promptlab(folder: Path, *args: str) -> dict[str, Any]:
    """What a command prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "promptlab", *args, "--json", "--db", "lab.db"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=folder,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def check(rows: list[Mapping[str, Any]]) -> None:
    """Exactly what misbehaves has no score, and says why."""
    errors = {
        (row["case"], name.removeprefix("score_error."))
        for row in rows
        for name, error in row.items()
        if name.startswith("score_error.") and error
    }
    assert errors == {(3, way) for way in FAILING}
    said = {name.removeprefix("score_error."): error for name, error in rows[3].items()}
    assert all(said[way].startswith(f"{way}: ") for way in FAILING)
    for way in ("hangs", "computes too long", "holds the interpreter lock", "blocks", "hangs on the loop"):
        assert said[way].endswith(f"no score within timeout_s={TIMEOUT_S:g} s")


TOKEN = "the token of this test"


@contextmanager
def studio(folder: Path) -> Iterator[str]:
    """`promptlab studio`; the address of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "promptlab", "studio", "--db", "lab.db", "--port", str(port)],
        cwd=folder,
        env={**environment(), "PROMPTLAB_STUDIO_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/api/v1"
        for _ in range(600):
            try:
                httpx.get(f"{url}/health", timeout=200)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(200)


@pytest.mark.long
def test_the_command_line_and_the_studio_end_their_runs_whatever_evaluators_do(tmp_path: Path) -> None:
    """With code from a file; the Studio does what failed again, and serves its pages meanwhile."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"n": str(n)}) + "\n" for n in range(ROWS)))
    (tmp_path / "mine.py").write_text("from tests.unit.misbehaving import Async, Blocking, Sync\n")
    metrics: list[dict[str, Any]] = [
        {"metric": way, "evaluator": "mine.py:Sync", "params": {"way": way}} for way in KINDS
    ]
    metrics.append({"metric": "blocks", "evaluator": "mine.py:Blocking"})
    metrics.append({"metric": "hangs on the loop", "evaluator": "mine.py:Async"})
    # JSON is YAML.
    (tmp_path / "odd.yaml").write_text(json.dumps(experiment(metrics, file_path="rows.jsonl")))
    for args in (["run", "odd.yaml"], ["resume", "latest", "--failed"]):
        facts = promptlab(tmp_path, *args)
        assert (facts["status"], facts["succeeded"]) == ("completed", ROWS)
    with (
        studio(tmp_path) as url,
        httpx.Client(timeout=200, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        run_id = facts["run_id"]
        begun = client.post(f"{url}/runs/{run_id}/resume", json={"failed": True})
        assert begun.status_code == 202 and begun.json()["status"] == "running"
        while client.get(f"{url}/runs/{run_id}").json()["status"] == "running":
            time.sleep(0.2)
        assert client.get(f"{url}/runs/{run_id}").json()["status"] == "completed"
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        check(pl.experiment.get(run_id).results())


@pytest.mark.long
def test_a_script_ends_its_run_whatever_its_objects_do(tmp_path: Path) -> None:
    """In threads and in the loop; isolated, where nothing else bears it."""
    metrics: list[dict[str, Any]] = [
        {"metric": way, "evaluator": Sync(way), **({"isolated": True} if way in HARD else {})}
        for way in KINDS
    ]
    metrics.append({"metric": "blocks", "evaluator": Blocking()})
    metrics.append({"metric": "hangs on the loop", "evaluator": Async()})
    config = experiment(metrics, rows=[{"n": str(n)} for n in range(ROWS)])
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(config)
        check(run.results())
        again = run.resume(config, failed=True)
        assert run.status == again.status == "completed"
        check(again.results())
