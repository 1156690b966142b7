"""The samples on a deployed stack, changed in nothing but their line `PromptLab(…)`."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from promptlab import PromptLab
from tests.cloud.conftest import Stack
from tests.samples import HOSTED, assert_same, copied, environment, rows_here, rows_of

pytestmark = pytest.mark.cloud


@pytest.mark.parametrize("name", ["quickstart", "async_example", "custom_metric"])
def test_a_sample_scores_on_the_stack_as_on_a_laptop(stack: Stack, tmp_path: Path, name: str) -> None:
    """In a project of its own, which sees nothing of the others."""
    expected = rows_here(name, tmp_path / "here")
    project = f"{name.replace('_', '-')}-{uuid.uuid4().hex[:8]}"
    assert stack.api.post("/projects", json={"name": project}).status_code == 201
    place = {"PROMPTLAB_ENDPOINT": stack.endpoint, "PROMPTLAB_API_KEY": stack.token}
    (tmp_path / "there").mkdir()
    script = copied(name, tmp_path / "there", HOSTED)
    command = [sys.executable, str(script)]
    env = environment(**place, PROMPTLAB_PROJECT=project)
    done = subprocess.run(command, cwd=script.parent, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lab = {"type": "remote", "endpoint": stack.endpoint, "api_key": stack.token, "project": project}
    with PromptLab(lab) as pl:
        assert_same(rows_of(pl), expected)
        made = [run.record.run_id for run in pl.experiment.list()]
    assert all(stack.api.get(f"/runs/{run_id}").status_code == 404 for run_id in made)
