"""The command line against a deployed stack, as one uses it after `source .cloud/env`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.conftest import Stack

pytestmark = pytest.mark.cloud
EXPERIMENT = """
name: from the command line
prompt_template: {name: ask, user_prompt: "<question>"}
dataset: {name: by-cli, file_path: rows.jsonl}
model: {name: simulated/demo}
evaluation: [{metric: length}]
"""


def promptlab(*arguments: str, folder: Path, code: int = 0, stdin: str = "", **environment: str) -> str:
    """Run a command and return its standard output."""
    command = [sys.executable, "-m", "promptlab", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout


def test_a_run_is_started_watched_shown_and_exported(stack: Stack, tmp_path: Path) -> None:
    """The same commands as for a local store, with the two variables that .cloud/env exports."""
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"question": f"What is {n}?"}) + "\n" for n in range(12))
    )
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    run = json.loads(promptlab("run", "experiment.yaml", "--json", folder=tmp_path))
    assert (run["status"], run["cases"], run["succeeded"]) == ("completed", 12, 12)
    assert run["run_id"] in promptlab("runs", folder=tmp_path, COLUMNS="200")
    assert "from the command line" in promptlab("show", run["run_id"], folder=tmp_path)
    promptlab("export", run["run_id"], "--output", "results.csv", folder=tmp_path)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 13


def test_the_token_and_the_address_are_had_with_aws_credentials(stack: Stack, tmp_path: Path) -> None:
    """The token opens the Studio; it comes from the secret, and not from the environment."""
    hidden = {"PROMPTLAB_ENDPOINT": "", "PROMPTLAB_API_KEY": ""}
    assert promptlab("cloud", "token", folder=tmp_path, **hidden).strip() == stack.token
    assert "execute-api" in promptlab("cloud", "url", folder=tmp_path, **hidden)


def test_provider_keys_are_set_listed_by_name_and_deleted(stack: Stack, tmp_path: Path) -> None:
    """No command shows a key; where it may be sent stands beside its name, and is replaced with it."""
    for host in ("api.example.com", "eu.api.example.com"):
        command = ("cloud", "secrets", "set", "BY_CLI", "--host", host)
        promptlab(*command, folder=tmp_path, stdin="sk-by-cli-0123456789\n")
        listed = promptlab("cloud", "secrets", "list", folder=tmp_path)
        assert "BY_CLI" in listed and host in listed and "sk-by-cli" not in listed
    promptlab("cloud", "secrets", "delete", "BY_CLI", "--yes", folder=tmp_path)
    assert "BY_CLI" not in promptlab("cloud", "secrets", "list", folder=tmp_path)
