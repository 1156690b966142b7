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

TOKEN = "the token of this test"
SERVE = (
    "from promptlab import PromptLab; import sys; PromptLab({'type': 'sqlite', 'db_file': "
    "'lab.db'}).studio.start(int(sys.argv[1]))"
)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, once it answers."""
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PROMPTLAB_STUDIO_TOKEN": TOKEN}
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
        mine = {"Authorization": f"Bearer {TOKEN}"}
        assert browser.get(f"{url}/api/v1/runs", headers=mine).json()["items"] == []
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Traceback" not in err + out
    said = rf"The Studio of {tmp_path / 'lab.db'}: {url}/open\?code=[\w-]{{43}} \(Ctrl-C ends it\)\n"
    assert re.fullmatch(said, err), err


def test_nobody_but_who_saw_the_printed_address_gets_in(tmp_path: Path) -> None:
    """Another user of the machine reaches the port, and neither reads runs nor starts them; the address opens
    one browser, and the next one is printed."""
    with serving(tmp_path) as (process, url), httpx.Client() as mine, httpx.Client() as other:
        assert process.stderr is not None
        printed = process.stderr.readline()
        found = re.search(r"http://\S+", printed)
        assert found is not None, printed
        for path in ("/", "/new", "/prompts", "/runs/x"):
            assert other.get(url + path).headers["location"].startswith("/login")
        for method, path in (("GET", "runs"), ("POST", "runs"), ("GET", "prompts"), ("GET", "openapi.json")):
            assert other.request(method, f"{url}/api/v1/{path}").status_code == 401
        assert "Open the address" in other.get(f"{url}/login").text
        for code in ("", "x", found[0][-43:-1], found[0][-43:].swapcase()):
            refused = other.get(f"{url}/open", params={"code": code})
            assert refused.status_code == 403 and not refused.cookies
        assert other.post(f"{url}/session", data={"token": found[0][-43:]}).status_code == 401

        assert mine.get(found[0]).headers["location"] == "/"
        (cookie,) = mine.cookies.jar
        assert cookie.name.endswith(url.rpartition(":")[2])
        assert cookie.has_nonstandard_attr("HttpOnly") and cookie.has_nonstandard_attr("SameSite")
        assert mine.get(f"{url}/").status_code == 200 and mine.get(f"{url}/api/v1/runs").status_code == 200
        assert mine.get(found[0]).status_code == 303  # again, in the same browser
        assert other.get(found[0]).status_code == 403
        following = re.search(r"http://\S+", process.stderr.readline())
        assert following is not None and following[0] != found[0]
        assert other.get(following[0]).status_code == 303 and other.get(f"{url}/").status_code == 200
        # A page of another port of this machine is another site.
        foreign = {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}
        assert mine.post(f"{url}/api/v1/runs", json={}, headers=foreign).status_code == 403
    assert not list(tmp_path.glob("*.db")) or b"SESSION" not in (tmp_path / "lab.db").read_bytes()


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
