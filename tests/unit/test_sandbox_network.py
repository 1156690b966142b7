"""Code in a sandbox with a network: it reaches what its lab may reach, by TCP, and nothing else."""

from __future__ import annotations

import ipaddress
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptlab.outbound import Outbound
from tests.unit.test_sandbox import event, scores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
if sys.platform == "linux":
    from promptlab.engine.sandbox.guard import Guard

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


class Server:
    """A server on 127.0.0.1, and what it was asked."""

    def __init__(self) -> None:
        asked = self.asked = []

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def open_one() -> Iterator[Server]:
    """One that the lab may reach."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def closed_one() -> Iterator[Server]:
    """One that nobody may reach, listed or not: it stands for the runtime API."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def listed(closed_one: Server) -> Iterator[Guard]:
    """A guard of a lab that lists loopback."""
    outbound = Outbound(True, (LOOPBACK,), ("127.0.0.1", closed_one.port))
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(Path(folder), outbound=outbound)
        yield guard
        guard.close()


@pytest.fixture(scope="module")
def hosted() -> Iterator[Guard]:
    """A guard of a lab with the default: public addresses."""
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(Path(folder), outbound=Outbound(True))
        yield guard
        guard.close()


WAYS = """
import asyncio, ctypes, http.client, os, socket, struct, threading, time, urllib.request
libc = ctypes.CDLL(None, use_errno=True)

def urllib_(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/urllib", timeout=100).read().decode()

def plain(port):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"GET /plain HTTP/1.0\\r\\n\\r\\n")
        return s.makefile("rb").read()[-5:].decode()

def asynchronous(port):
    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.writelines([b"GET /asyncio HTTP/1.0\\r\\n", b"\\r\\n"])
        data = await reader.read()
        writer.close()
        return data[-5:].decode()
    return asyncio.run(ask())

def httpx_(port):
    import httpx
    return httpx.get(f"http://127.0.0.1:{port}/httpx", trust_env=False).text

def aiohttp_(port):
    import aiohttp
    async def ask():
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/aiohttp") as r:
            return await r.text()
    return asyncio.run(ask())

def mapped(port):
    s = socket.socket(socket.AF_INET6)
    s.connect(("::ffff:127.0.0.1", port))
    return "hello"

def zero(port):
    s = socket.socket()
    s.connect(("0.0.0.0", port))
    return "hello"

def racing(port):
    # A thread that changes the address while it is looked at.
    good = struct.pack("!HH4s8x", 0x0200, 80, socket.inet_aton("93.184.216.34"))
    bad = struct.pack("!HH4s8x", 0x0200, port, socket.inet_aton("127.0.0.1"))
    buffer = ctypes.create_string_buffer(good, 16)
    done = []
    def flip():
        while not done:
            buffer.raw = bad
            buffer.raw = good
    threading.Thread(target=flip, daemon=True).start()
    made = 0
    until = time.monotonic() + 1
    while time.monotonic() < until:
        s = socket.socket()
        s.setblocking(False)
        if libc.connect(s.fileno(), buffer, 16) == 0 or ctypes.get_errno() == 115:
            time.sleep(0.001)
            try:
                made += s.getpeername()[0] == "127.0.0.1"
            except OSError:
                pass
        s.close()
    done.append(1)
    return f"made {made}"

def fast_open(port):
    s = socket.socket()
    s.sendmsg([b"GET / HTTP/1.0\\r\\n\\r\\n"], [], 0x20000000, ("127.0.0.1", port))
    return "hello"

def fast_open_by_sendto(port):
    s = socket.socket()
    s.sendto(b"GET / HTTP/1.0\\r\\n\\r\\n", 0x20000000, ("127.0.0.1", port))
    return "hello"

def datagrams(port):
    return str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

def unix(port):
    return str(socket.socket(socket.AF_UNIX))

def netlink(port):
    return str(socket.socket(16, socket.SOCK_RAW))

def listening(port):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    return "bound"

def metadata(port):
    return str(socket.create_connection(("169.254.169.254", 80), 5))

def private(port):
    return str(socket.create_connection(("10.0.0.1", 80), 5))

def forking(port):
    return str(os.fork())

def f(data):
    return globals()[data["way"]](data["port"])
"""


def ask(guard: Guard, way: str, port: int) -> str:
    (score,) = scores(guard.answer(event(WAYS, "f", {"way": way, "port": port})))
    return json.dumps(score)


@pytest.mark.parametrize("way", ["urllib_", "plain", "asynchronous", "httpx_", "aiohttp_"])
def test_code_reaches_what_its_lab_may_reach(listed: Guard, open_one: Server, way: str) -> None:
    assert "hello" in ask(listed, way, open_one.port)


@pytest.mark.parametrize("way", ["urllib_", "plain", "asynchronous", "httpx_", "aiohttp_", "mapped"])
def test_nobody_reaches_the_runtime_api(listed: Guard, closed_one: Server, way: str) -> None:
    assert "hello" not in ask(listed, way, closed_one.port)
    assert closed_one.asked == []


@pytest.mark.parametrize("way", ["urllib_", "plain", "asynchronous", "mapped", "zero", "metadata", "private"])
def test_by_default_only_public_addresses_are_reachable(hosted: Guard, open_one: Server, way: str) -> None:
    before = list(open_one.asked)
    told = ask(hosted, way, open_one.port)
    assert "Operation not permitted" in told
    assert open_one.asked == before


@pytest.mark.parametrize(
    "way",
    ["fast_open", "fast_open_by_sendto", "datagrams", "unix", "netlink", "listening", "forking"],
)
def test_other_ways_stay_closed(listed: Guard, open_one: Server, way: str) -> None:
    before = list(open_one.asked)
    assert "Operation not permitted" in ask(listed, way, open_one.port)
    assert open_one.asked == before


def test_changing_the_address_while_it_is_looked_at_gains_nothing(hosted: Guard, open_one: Server) -> None:
    assert "made 0" in ask(hosted, "racing", open_one.port)


def test_a_guard_without_a_network_gives_none() -> None:
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(Path(folder))
        try:
            assert guard.held["network"] is False
            assert "Operation not permitted" in ask(guard, "plain", 80)
        finally:
            guard.close()
