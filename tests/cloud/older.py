"""A stack as an older commit deploys it, beside the one under test, on the same local AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cloud.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
_DEPLOY = """
import json, sys
from pathlib import Path
sys.path.insert(0, "infra")
import local_cloud
folder, port, stack, built = sys.argv[1:]
cloud = local_cloud.Cloud(folder=Path(folder), port=int(port), stack=stack)
facts = local_cloud.deploy(cloud, {}, **({"built": Path(built)} if built else {}))
print("FACTS", json.dumps(facts))
"""


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit, with the tools of the local AWS in place. Its pages are not built: tests of an
    upgrade ask the API."""
    archive = folder / "commit.tar"
    with archive.open("wb") as file:
        done = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=file, check=False)
    if done.returncode:
        pytest.skip(f"this clone does not have the commit {commit}: git fetch --unshallow")
    tree = folder / "tree"
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
    manifest = tree / "studio" / "static" / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("{}")
    (tree / ".cloud").mkdir()
    for tools in ("ministack", "sam"):
        (tree / ".cloud" / tools).symlink_to(ROOT / ".cloud" / tools)
    return tree


def deployed(tree: Path, folder: Path, name: str, built: str = "") -> Stack:
    """Deploy what a tree has with its own commands; the stack."""
    port = os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _DEPLOY, str(folder), port, name, built]
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    facts = json.loads(done.stdout.rpartition("FACTS ")[2])
    return Stack(facts["StudioUrl"], facts["AdminToken"], facts)
