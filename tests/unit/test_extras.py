"""The packages that are installed only where they are wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_the_aws_extra_fits_beside_a_current_boto3() -> None:
    """A pinned boto3 would push out the one that a project has, or could not be installed at all."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", *extras["aws"]]
    done = subprocess.run([*command, "boto3"], capture_output=True, text=True, check=False, timeout=240)
    if "No matching distribution" in done.stderr or "onnection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    chosen = {item["metadata"]["name"]: item["metadata"] for item in json.loads(done.stdout)["install"]}
    major, minor, *_ = map(int, chosen["boto3"]["version"].split("."))
    assert (major, minor) > (1, 40), "newer than the functions' own pin"
