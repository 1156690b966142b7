"""The front-end files are built without a Node on the machine, and an installed package needs none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
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


@pytest.mark.long
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


TOKEN = "the token of this test"


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
        "studio",  # over the store of its working folder, which it may make
        "--port",
        str(port),
    ]
    with (folder / "said.txt").open("w+") as said:
        env = {**environment, "PROMPTLAB_STUDIO_TOKEN": TOKEN}
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said)
        try:
            wait_for(port, process, folder / "said.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(200)


def wait_for(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    """Until it listens, for at most 200 seconds."""
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    pytest.fail(f"It does not listen: {said.read_text()}")


def fetched(url: str) -> tuple[int, str, bytes]:
    """Status, type and body."""
    headers = {"Accept": "text/html,*/*", "Authorization": f"Bearer {TOKEN}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=200) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read()


@pytest.mark.skipif(not shutil.which("npm"), reason="this machine has no Node")
@pytest.mark.long
def test_the_machines_own_node_is_used_where_it_is_new_enough(tmp_path: Path) -> None:
    """Then nothing is fetched but the packages of the front end."""
    shutil.copytree(
        ROOT / "frontend", tmp_path / "frontend", ignore=shutil.ignore_patterns("node_modules", ".node")
    )
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    subprocess.run(
        [str(tmp_path / "frontend/build.sh"), sys.executable], check=True, capture_output=True, timeout=300
    )
    assert (tmp_path / "frontend/.node").exists() == (int(node[1:].partition(".")[0]) < 20)
    assert (tmp_path / "studio/promptlab_studio/static/manifest.json").exists()


def source_of(folder: Path) -> Path:
    """A copy of what a fresh clone has, and of the front end as it is built here."""
    names = subprocess.run(["git", "ls-files", "-z"], check=True, cwd=ROOT, capture_output=True, text=True)
    static = [str(path.relative_to(ROOT)) for path in (ROOT / "studio/promptlab_studio/static").iterdir()]
    kept = ("promptlab/", "studio/", "frontend/")
    for name in {*filter(None, names.stdout.split("\0")), *static}:
        if (name.startswith(kept) or "/" not in name) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(call: str, source: Path, out: Path, environment: dict[str, str]) -> Path:
    """Build a folder with setuptools, by its own entry point for builders."""
    code = f"from setuptools.build_meta import {call}; print({call}({str(out)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.mark.long
def test_the_source_distribution_gives_the_wheel_that_serves_the_studio(tmp_path: Path) -> None:
    """Out of the archive alone, on a machine without Node."""
    environment = without_node(tmp_path)
    archive = built("build_sdist", source_of(tmp_path / "source"), tmp_path, environment)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = built("build_wheel", unpacked, tmp_path, environment)
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "install", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    assert not (installed / "studio").exists(), "a script studio.py would be shadowed"
    environment["PYTHONPATH"] = str(installed)
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
