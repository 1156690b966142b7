"""Code of users that misbehaves: it costs its own case, the run ends, and resumes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from promptlab import Model, ModelResponse, PromptLab, Run
from promptlab.domain.results import Progress
from tests.unit import misbehaving
from tests.unit.misbehaving import KEPT, TIMEOUT_S, WAYS

ROWS = 12


class Echo(Model):
    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=user_prompt)


def experiment(model: Model, *evaluators: Any, rows: int = ROWS) -> dict[str, Any]:
    return {
        "name": "odd",
        "model": model,
        "prompt_template": {"name": "p", "user_prompt": "<n>"},
        "dataset": {"name": "d", "rows": [{"n": str(n)} for n in range(rows)]},
        "evaluation": [
            {"metric": f"m{number}", "evaluator": evaluator, "timeout_s": TIMEOUT_S}
            for number, evaluator in enumerate(evaluators)
        ],
    }


def ends_and_resumes(tmp_path: Path, config: dict[str, Any]) -> Run:
    """The run after a resume of its failures, which does not change what it says."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(config)
        again = run.resume(config, failed=True)
        assert (run.status, again.status) == ("completed", "completed")
        assert run.summary and again.summary and again.summary.succeeded == run.summary.succeeded
        return again


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Sync", "Async"])
@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_that_misbehaves_costs_its_own_score(tmp_path: Path, kind: str, way: str) -> None:
    """The other cases are scored, and so is this one by the other metric."""
    odd, good = getattr(misbehaving, kind)(way), misbehaving.Sync("raises ValueError")
    run = ends_and_resumes(tmp_path, experiment(Echo(), odd, good))
    assert run.summary is not None and run.summary.failed == 0
    first, second = run.summary.metrics["m0"], run.summary.metrics["m1"]
    assert first.failed == (0 if way in KEPT else 1)
    assert (second.failed, second.n) == (1, ROWS - 1)
    (error,) = [row["score_error.m0"] for row in run.results() if row["case"] == 3]
    if way == "hangs":
        assert f"timeout_s={TIMEOUT_S:g} s" in error
    assert len(str(run.results())) < 300_000


@pytest.mark.long
@pytest.mark.parametrize("kind", ["SyncModel", "AsyncModel"])
@pytest.mark.parametrize(
    "way", [way for way in WAYS if "returns" not in way or way in ("returns an object",)]
)
def test_a_call_that_misbehaves_costs_its_own_case(tmp_path: Path, kind: str, way: str) -> None:
    """The others are answered."""
    run = ends_and_resumes(tmp_path, experiment(getattr(misbehaving, kind)(way)))
    assert run.summary is not None
    assert (run.summary.succeeded, run.summary.failed) == ((ROWS, 0) if way in KEPT else (ROWS - 1, 1))
    message = run.results()[3]["error_message"]
    assert way in KEPT or 0 < len(message) < 11_000


def test_calls_behind_those_that_hang_are_made(tmp_path: Path) -> None:
    """Waiting for a thread does not count against a call's time: no case is failed
    without having been called."""
    called: list[str] = []

    class Hanging(Model):
        def __init__(self) -> None:
            super().__init__(
                {"name": "custom/h", "timeout_s": TIMEOUT_S, "max_retries": 0, "max_concurrent_tasks": 5}
            )

        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            called.append(user_prompt)
            if int(user_prompt) < 5:
                misbehaving.hang()
            return ModelResponse(response=user_prompt)

    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(experiment(Hanging(), rows=20))
    assert sorted(map(int, called)) == list(range(20))
    assert run.summary is not None and run.summary.errors == {"timeout": 5}
    assert [row["case"] for row in run.results() if row["error_type"]] == [0, 1, 2, 3, 4]


def test_a_program_whose_code_hangs_comes_to_its_end(tmp_path: Path) -> None:
    """No thread of it keeps the interpreter."""
    code = (
        "import sys\nfrom promptlab import PromptLab\nfrom tests.unit.misbehaving import Sync, SyncModel\n"
        "from tests.unit.test_misbehaving_code import experiment\n"
        "run = PromptLab({'db_file': sys.argv[1]}).experiment.run(experiment(SyncModel(), Sync()))\n"
        "print(run.status, run.summary.failed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "lab.db")],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout == "completed 1\n"


def test_an_on_progress_that_raises_is_logged_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is called in the middle of what records answers."""
    seen: list[Progress] = []

    def told(progress: Progress) -> None:
        seen.append(progress)
        raise SystemExit(f"at {progress.done}") if progress.done == 2 else ValueError("no bar")

    with caplog.at_level(logging.ERROR), PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(experiment(Echo()), on_progress=told)
    assert run.status == "completed" and [progress.done for progress in seen] == list(range(ROWS + 1))
    assert len([record for record in caplog.records if "on_progress" in record.message]) == 1


@pytest.mark.parametrize("way", ["hangs", "raises SystemExit", "forks and returns", "returns an object"])
def test_the_command_line_ends_and_resumes_whatever_an_evaluator_does(tmp_path: Path, way: str) -> None:
    """With a summary on standard output, in a process that ends."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"n": str(n)}) + "\n" for n in range(ROWS)))
    (tmp_path / "mine.py").write_text(
        "from tests.unit.misbehaving import Sync\nclass Mine(Sync):\n    def __init__(self):\n       "
        f" self.way = {way!r}\n"
    )
    (tmp_path / "odd.yaml").write_text(
        "name: odd\nmodel: simulated/echo\nprompt_template: {name: p, user_prompt: <n>}\n"
        "dataset: {name: d, file_path: rows.jsonl}\nevaluation:\n"
        f"  - {{metric: mine, evaluator: 'mine.py:Mine', timeout_s: {TIMEOUT_S}}}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for args in (["run", "odd.yaml"], ["resume", "latest", "--failed"]):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "promptlab", *args, "--json", "--db", "lab.db"],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        facts = json.loads(done.stdout)
        assert (done.returncode, facts["status"], facts["succeeded"]) == (0, "completed", ROWS), done.stderr
