"""The samples as scripts: on a laptop, and with another line `PromptLab(…)` in a hosted lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from promptlab import PromptLab

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
LOCAL = 'PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})'
HOSTED = 'PromptLab({"type": "remote"})'
NOT_COMPARED = ("latency_ms", "created_at", "cost_usd", "attempts", "shard", "queued_ms", "time")


def copied(name: str, to: Path, line: str) -> Path:
    """A copy of a sample with another line `PromptLab(…)`."""
    folder = Path(shutil.copytree(SAMPLES / name, to / name, ignore=shutil.ignore_patterns("promptlab.db*")))
    script = folder / f"{name}.py"
    text = script.read_text("utf-8")
    assert text.count(LOCAL) == 1
    script.write_text(text.replace(LOCAL, line), "utf-8")
    return script


def environment(**changes: str) -> dict[str, str]:
    """The environment of a sample, with the simulated model and none of this process's labs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PROMPTLAB_"))}
    return {**kept, "PROMPTLAB_SAMPLE_MODEL": "simulated/demo", "PROMPTLAB_SAMPLE_SERVE": "0", **changes}


def rows_of(pl: PromptLab) -> dict[str, list[dict[str, Any]]]:
    """The rows of every run by its experiment's name and model, without what no two runs have alike."""
    found = {}
    for run in pl.experiment.list():
        assert run.status == "completed", run
        rows = [{k: v for k, v in row.items() if not k.startswith(NOT_COMPARED)} for row in run.results()]
        found[f"{run.record.name} {run.record.experiment['model']['name']}"] = rows
    return found


def rows_here(name: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a sample's runs on a laptop."""
    folder.mkdir()
    script = copied(name, folder, LOCAL)
    subprocess.run([sys.executable, str(script)], cwd=script.parent, env=environment(), check=True)
    with PromptLab({"type": "sqlite", "db_file": str(script.parent / "promptlab.db")}) as pl:
        return rows_of(pl)


def assert_same(found: dict[str, list[dict[str, Any]]], expected: dict[str, list[dict[str, Any]]]) -> None:
    """Answer by answer, score by score, reason by reason."""
    assert found.keys() == expected.keys()
    for run, rows in expected.items():
        for here, there in zip(rows, found[run], strict=True):
            assert there == here, f"{run}: {sorted(there.items() ^ here.items(), key=str)}"
