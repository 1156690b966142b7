"""The Studio as a process of this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from promptlab_studio.server import bind

from promptlab import PromptLab
from promptlab.errors import ConfigError, PortInUseError

SERVE = (
    "from promptlab import PromptLab; import sys; PromptLab({'type': 'sqlite', 'db_file': "
    "'lab.db'}).studio.start(int(sys.argv[1]))"
)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, once it answers."""
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=0)) as client:
            while process.poll() is None:
                try:
                    assert client.get(f"{url}/api/v1/health").status_code == 200
                    break
                except httpx.ConnectError:
                    continue
        assert process.poll() is None, process.stderr
        yield process, url
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """Exit code 0 and no word but its address, though a browser keeps a connection open."""
    with serving(tmp_path) as (process, url), httpx.Client() as browser:
        assert browser.get(f"{url}/api/v1/runs").json()["items"] == []
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Traceback" not in err + out
    assert err == f"The Studio of {tmp_path / 'lab.db'}: {url} (Ctrl-C ends it)\n"


def test_a_port_that_is_taken_names_the_next_free_one(tmp_path: Path) -> None:
    """The named port then works."""
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with (
            PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as pl,
            pytest.raises(PortInUseError) as error,
        ):
            pl.studio.start(port)
        named = re.search(r"Port (\d+) is free: --port \1", str(error.value))
        assert named is not None, error.value
        with bind("127.0.0.1", int(named[1])) as free:
            assert isinstance(free, socket.socket)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_nobody_but_this_machine_is_served_without_a_login(tmp_path: Path, host: str) -> None:
    """The message says how to reach it from elsewhere."""
    with (
        PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as pl,
        pytest.raises(ConfigError, match="ssh -L 8000"),
    ):
        pl.studio.start(8000, host=host)
