"""The front-end files are built without a Node on the machine, and an installed package needs none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.browser.conftest import ROOT


def without_node(folder: Path) -> dict[str, str]:
    """An environment whose PATH has the usual programs but no Node."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "dirname", "env", "uname", "sed", "mkdir", "rm", "cat"):
        (programs / name).symlink_to(shutil.which(name) or name)
    return {**os.environ, "PATH": str(programs)}


@pytest.mark.slow
def test_the_files_are_built_where_there_is_no_node(tmp_path: Path) -> None:
    """Node comes from PyPI then, into a folder of its own, and writes the same files."""
    shutil.copytree(
        ROOT / "frontend", tmp_path / "frontend", ignore=shutil.ignore_patterns("node_modules", ".node")
    )
    subprocess.run(
        [str(tmp_path / "frontend/build.sh"), sys.executable],
        check=True,
        env=without_node(tmp_path),
        capture_output=True,
        timeout=300,
    )
    assert (tmp_path / "frontend/.node/bin/npm").exists()
    names = {path.name for path in (tmp_path / "studio/promptlab_studio/static").iterdir()}
    assert {path.name for path in (ROOT / "studio/promptlab_studio/static").iterdir()} - {".gitkeep"} == names


@contextlib.contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`promptlab studio` of the package in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "promptlab",
        "studio",
        "--db",
        str(folder / "lab.db"),
        "--port",
        str(port),
    ]
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        try:
            wait_for(port, process, folder / "said.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    """Until it listens, for at most 30 seconds."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    pytest.fail(f"It does not listen: {said.read_text()}")


def fetched(url: str) -> tuple[int, str, bytes]:
    """Status, type and body."""
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": "text/html,*/*"}), timeout=30
    ) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read()


def test_an_installed_wheel_serves_the_studio_with_its_files(tmp_path: Path) -> None:
    """Out of the wheel alone, on a machine without Node."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    for name in ("promptlab", "studio"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # The environment's own setuptools saves a download, where it is new enough for pyproject.toml.
    here = ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    subprocess.run(
        [*pip, "wheel", "--no-deps", *here, "--wheel-dir", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(installed), str(wheel)],
        check=True,
        capture_output=True,
    )
    environment = {**without_node(tmp_path), "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import promptlab_studio; print(promptlab_studio.__file__)"],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(installed))
    with served(tmp_path, environment) as url:
        status, kind, body = fetched(url + "/")
        assert (status, "are not built" in body.decode()) == (200, False) and kind.startswith("text/html")
        files = set(re.findall(r'"(/static/[^"]+)"', body.decode()))
        assert {Path(name).suffix for name in files} == {".css", ".js", ".svg"}
        assert all(fetched(url + name)[0] == 200 for name in files)
