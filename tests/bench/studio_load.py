"""`make bench-studio PART=load`: a Studio that many look at beside a run, and how its work grows with a run.

Three processes on this machine, and the mock endpoint: a run, the Studio over its store, and the client here,
which sends RATE requests a second whatever the Studio does, timed from when each was due.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.bench.live_runs import make_live_run, worked_on
from tests.bench.run import ROOT, Target, data, mock
from tests.bench.studio import MINE, Client, Site, serving

RATE = 200
"""Requests a second."""
TIMEOUT_S = 5.0
P99_MS, SLOWER, GROWTH = 250, 1.10, 2.0
SIZES = (1_000, 28_000, 280_000)
IN_FLIGHT, LATENCY_MS = 100, 20
MIX = ("progress", "head", "progress", "page", "head", "rows", "head", "runs", "progress", "status")
"""What is asked in turn."""
_DONE = re.compile(rb'"done":(\d+)')


def growth(folder: Path) -> list[Target]:
    """How long progress, a run's page and its last cases take with more and more cases answered."""
    found = list[Target]()
    took: dict[str, list[float]] = {}
    for cases in SIZES:
        db = folder / f"live-{cases}.db"
        for name, ms in asyncio.run(_asked(db, cases)).items():
            took.setdefault(name, []).append(ms)
    for name, times in took.items():
        shown = "   ".join(f"{cases:,}: {ms:5.1f} ms" for cases, ms in zip(SIZES, times, strict=True))
        print(f"  {name:<12} {shown}", flush=True)
        found.append(Target(f"{name}: at {SIZES[-1]:,} cases", times[-1] / times[0], GROWTH, "of 1,000"))
    return found


async def _asked(db: Path, cases: int) -> dict[str, float]:
    """Milliseconds of each address, the fastest of 20 requests, of which no two are the same."""
    run_id = await make_live_run(db, cases)
    async with worked_on(db, run_id):
        with serving(db, [run_id], cases) as site:
            return await asyncio.to_thread(_fastest, site, run_id, cases)


def _fastest(site: Site, run_id: str, cases: int) -> dict[str, float]:
    client, run = Client(site), f"/api/v1/runs/{run_id}"
    addresses = {
        "progress": f"{run}/progress?n=",
        "status": f"{run}?n=",
        "run page": f"/runs/{run_id}?n=",
        "last page": f"/runs/{run_id}?page={cases // 50}&n=",
        "runs": "/?n=",
    }
    return {name: min(client.get(f"{path}{n}")[0] for n in range(20)) for name, path in addresses.items()}


@dataclass(slots=True)
class Load:
    """What a client saw."""

    port: int
    run_id: str
    before_s: float = 0.0
    """CPU that the Studio used until it was asked."""
    took_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    _done: str = "0"
    _idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)

    async def until(self, ended: asyncio.Event) -> None:
        """Send RATE requests a second until something has ended."""
        started, tasks = time.perf_counter(), set[asyncio.Task[None]]()
        for number in itertools.count():
            due = started + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if ended.is_set():
                break
            tasks.add(task := asyncio.create_task(self._one(MIX[number % len(MIX)], due)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, _, writer in self._idle:
            writer.close()

    async def each_once(self) -> None:
        """Ask each question once, untimed."""
        for kind in dict.fromkeys(MIX):
            await self._get(*self._address(kind))

    async def _one(self, kind: str, due: float) -> None:
        path, part = self._address(kind)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + TIMEOUT_S):
                body = await self._get(path, part)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            self.errors[f"{type(error).__name__} {error}"[:80]] += 1
            return
        self.took_ms.append((time.perf_counter() - due) * 1000)
        if kind == "progress" and (done := _DONE.search(body)):
            self._done = done[1].decode()  # a page asks what has changed since it was told this

    def _address(self, kind: str) -> tuple[str, str]:
        run, api = f"/runs/{self.run_id}", f"/api/v1/runs/{self.run_id}"
        return {
            "progress": (f"{api}/progress", ""),
            "status": (api, ""),
            "rows": (f"{api}/cases?limit=50", ""),
            "head": (f"{run}/live?done={self._done}", "live"),
            "page": (run, ""),
            "runs": ("/", ""),
        }[kind]

    async def _get(self, path: str, part: str) -> bytes:
        """The body of an answer, over a connection that is kept open."""
        reader, writer = await self._connection()
        try:
            headers = {"Host": f"127.0.0.1:{self.port}", **MINE}
            headers |= {"HX-Request": "true", "HX-Target": part} if part else {}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.close()
            raise
        self._idle.append((time.perf_counter(), reader, writer))
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(f"{path.partition('?')[0]}: {head[9:12].decode()}")
        return body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An open connection; the server closes those that nobody uses for five seconds."""
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.perf_counter() - since < 2:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)


@contextlib.contextmanager
def _running(rows: int, url: str, folder: Path, db: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.bench.one_run", str(data(rows, folder)), url]
    process = subprocess.Popen(
        [*command, str(IN_FLIGHT), str(db)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _ended(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(process.communicate()[0])
    return found


def under_load(rows: int, folder: Path) -> list[Target]:
    """A run alone, and one beside a Studio that is asked RATE times a second."""
    db = folder / "load.db"
    with mock(LATENCY_MS, folder) as url:
        with _running(rows, url, folder, db) as process:
            alone = _ended(process)
        # The Studio is there before the second run, as its start costs as much as a thousand requests.
        with serving(db, [], rows) as site:
            known = _run_ids(Client(site))
            with _running(rows, url, folder, db) as process:
                load = asyncio.run(_loaded(site, process, known))
                used_s = _cpu_s(site.pid) - load.before_s
                loaded = _ended(process)
    took = load.took_ms or [float("nan")]
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100, method="inclusive")[-1]
    sent = len(load.took_ms) + load.errors.total()
    print(
        f"  {sent:,} requests at {RATE} a second beside {rows:,} rows: p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
        f"errors {load.errors.total()} {dict(load.errors.most_common(3)) or ''}\n"
        f"  the Studio used {used_s / max(sent, 1) * 1000:.2f} ms of CPU a request\n"
        f"  the run: {alone['wall_s']:.1f} s alone, {loaded['wall_s']:.1f} s beside it; "
        f"CPU {alone['cpu_s']:.1f} and {loaded['cpu_s']:.1f} s",
        flush=True,
    )
    return [
        Target("under load: errors", load.errors.total(), 0, "requests"),
        Target("under load: p99", p99, P99_MS, "ms"),
        Target("under load: the run's time", loaded["wall_s"] / alone["wall_s"], SLOWER, "of alone"),
    ]


async def _loaded(site: Site, process: subprocess.Popen[bytes], known: list[str]) -> Load:
    client, ended = Client(site), asyncio.Event()
    await Load(site.port, known[0]).each_once()  # loads DuckDB and the templates
    while not (runs := set(await asyncio.to_thread(_run_ids, client)) - set(known)):
        await asyncio.sleep(0.05)
    load = Load(site.port, runs.pop())
    load.before_s = _cpu_s(site.pid)
    asking = asyncio.create_task(load.until(ended))
    while process.poll() is None:
        await asyncio.sleep(0.2)
    ended.set()
    await asking
    return load


def _run_ids(client: Client) -> list[str]:
    return re.findall(r'"run_id":"([^"]+)"', client.body("/api/v1/runs"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
