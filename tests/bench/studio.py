"""`make bench-studio`: how fast, how small and how frugal the Studio is over large stored runs.

    python -m tests.bench.studio [--cases 1000000] [--part http] [--part browser] [--part load]
        [--rows 280000] [--db FILE] [--repeat 40]

The real server process over two stored runs of the same rows (tests/bench/make_runs.py), asked over
HTTP on one kept-open connection and looked at in Chromium; then a Studio that many look at beside a run
(tests/bench/studio_load.py). Exits with 1 when a target is missed.
The limits are those for 100,000 cases; for 1,000,000 the server may take five times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import http.client
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.bench.make_runs import WORDS, make
from tests.bench.run import ROOT, Target

PARTS = ("http", "browser", "load")
LOAD_ROWS = 280_000
SMALL = 100_000
PAGE_MS, SEARCH_MS, COMPARE_MS, SLICES_MS, RSS_MB = 80, 150, 300, 300, 400
WIDE_ROWS = 1_000
"""Rows of the runs with 31 columns, 12 metrics and three trials."""
SORTS = (
    "id",
    "case",
    "response",
    "input.question",
    "input.answer",
    "score.token_f1",
    "score.length",
    "latency_ms",
    "cost_usd",
    "prompt_tokens",
)


TOKEN = "the token of the benchmark"
MINE = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Site:
    """A server process over made runs."""

    port: int
    pid: int
    runs: Sequence[str]
    cases: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def slower(self) -> float:
        """How many times as long the server may take."""
        return 1 if self.cases <= SMALL else 5

    def rss_mb(self) -> float:
        """The largest resident set so far."""
        status = Path(f"/proc/{self.pid}/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(found[1]) / 1024 if found else float("nan")


@contextlib.contextmanager
def serving(db: Path, runs: Sequence[str], cases: int) -> Iterator[Site]:
    """`promptlab studio` as a process of its own; ended with SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "promptlab", "studio", "--db", str(db), "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "PROMPTLAB_STUDIO_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield Site(port, process.pid, runs, cases)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the Studio does not listen on port {port}")


class Client:
    """One connection that stays open, as a browser's does."""

    def __init__(self, site: Site) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)

    def body(self, path: str) -> str:
        """The text of an answer."""
        self._connection.request("GET", path, headers=MINE)
        return self._connection.getresponse().read().decode()

    def get(self, path: str, *, part: str = "") -> tuple[float, int]:
        """Milliseconds until the whole answer is here, and its bytes as sent."""
        headers = {**MINE, "Accept": "text/html", "Accept-Encoding": "gzip"} | (
            {"HX-Request": "true", "HX-Target": part} if part else {}
        )
        started = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - started) * 1000
        if answer.status != 200:
            said = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
            raise SystemExit(f"{path} answered {answer.status}: {said[:300]!r}")
        return took, len(body)


@dataclass(frozen=True)
class Question:
    """A kind of request, and addresses that ask it in many ways."""

    name: str
    limit_ms: float
    paths: Sequence[str]
    part: str


def questions(site: Site, repeat: int) -> list[Question]:
    """Make addresses that people open of a run and of a comparison; no two of a kind are the same."""
    chance = random.Random(7)
    run, other = site.runs
    base, both = f"/runs/{run}", urlencode([("run", run), ("run", other)])
    pages = site.cases // 50

    def filters() -> str:
        low = chance.uniform(0, 0.6)
        return chance.choice(
            (
                urlencode({"range": f"score.token_f1~{low!r}~{low + 0.3!r}"}),
                urlencode({"range": f"latency_ms~{chance.uniform(100, 900)!r}~"}),
                urlencode([("fail", "exact_match"), ("range", f"cost_usd~{chance.uniform(1e-5, 5e-5)!r}~")]),
                urlencode(
                    {"error": chance.choice(("timeout", "rate_limit")), "page": chance.randrange(1, 9)}
                ),
                urlencode(
                    [
                        ("label", f"tone~{chance.choice(('polite', 'plain', 'rude'))}"),
                        ("pass", "exact_match"),
                        ("page", chance.randrange(1, 99)),
                    ]
                ),
            )
        )

    def sorts() -> str:
        return urlencode(
            {"sort": chance.choice(SORTS), "desc": chance.choice(("", "1")), "page": chance.randrange(1, 40)}
        )

    def search() -> str:
        return " ".join(chance.sample(WORDS, chance.choice((1, 1, 2)))) + chance.choice(
            ("", f" {chance.randrange(site.cases)}")
        )

    def compare() -> str:
        change, metric = (
            chance.choice(("all", "different", "regressed", "improved")),
            chance.choice(("", "exact_match", "token_f1")),
        )
        place = {"page": chance.randrange(1, 200), "sort": chance.choice(("case", "difference"))}
        return f"/compare?{both}&{urlencode({'change': change, 'metric': metric, **place})}"

    asked = [
        ("filter", PAGE_MS, [f"{base}?{filters()}" for _ in range(repeat)], "cases"),
        ("sort", PAGE_MS, [f"{base}?{sorts()}" for _ in range(repeat)], "cases"),
        ("page", PAGE_MS, [f"{base}?page={chance.randrange(1, pages)}" for _ in range(repeat)], "cases"),
        ("search", SEARCH_MS, [f"{base}?{urlencode({'q': search()})}" for _ in range(repeat)], "cases"),
        ("compare", COMPARE_MS, [compare() for _ in range(repeat)], "cases"),
        ("slices of a run", SLICES_MS, [f"/slices?run={run}&column=answer"] * repeat, "slices"),
        (
            "a case opened in compare",
            COMPARE_MS,
            [f"{compare()}&case={chance.randrange(site.cases)}" for _ in range(repeat)],
            "cases",
        ),
        (
            "case, next and previous",
            PAGE_MS,
            [f"{base}/cases/{chance.randrange(site.cases)}?{sorts()}" for _ in range(repeat)],
            "case",
        ),
    ]
    return [Question(name, limit * site.slower, paths, part) for name, limit, paths, part in asked]


def over_http(site: Site, repeat: int) -> list[Target]:
    """Every kind of question, as a part and as the whole page."""
    client, found = Client(site), []
    first = client.get(f"/runs/{site.runs[0]}")[0]
    print(f"  the first page of all, from a server that has just started: {first:.0f} ms", flush=True)
    for path in (
        f"/runs/{site.runs[1]}",
        f"/compare?run={site.runs[0]}&run={site.runs[1]}",
        f"/runs/{site.runs[0]}?q=amber",
    ):
        client.get(path)  # its files are in the cache of the machine from here on
    for question in questions(site, repeat):
        for part, what in ((question.part, "part"), ("", "whole page")):
            took, sizes = zip(*(client.get(path, part=part) for path in question.paths), strict=True)
            p50, p95 = statistics.median(took), statistics.quantiles(took, n=20, method="inclusive")[-1]
            print(
                f"  {question.name + ', ' + what:<38} p50 {p50:6.0f} ms   p95 {p95:6.0f} ms   "
                f"{max(sizes) / 1024:5.1f} KB",
                flush=True,
            )
            found.append(Target(f"{question.name}, {what}: p95", p95, question.limit_ms, "ms"))
    return [*found, Target("server: peak RSS", site.rss_mb(), RSS_MB, "MB")]


def _made(db: Path, cases: int) -> list[str]:
    """The ids of two comparable runs in the store, which is made where it is not there."""
    from promptlab.store_lab import StoreLab

    if not db.exists():
        print(f"  making two runs of {cases:,} cases in {db}", flush=True)
        return [run.run_id for run in asyncio.run(make(db, cases, 2, False))]

    async def there() -> list[str]:
        lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
        try:
            runs, _ = await lab.list_runs(limit=2)
            return [run.run_id for run in runs if run.cases == cases][::-1]
        finally:
            await lab.close()

    runs = asyncio.run(there())
    if len(runs) != 2:
        raise SystemExit(
            f"{db} does not have two runs of {cases:,} cases: name another file and they are made."
        )
    return runs


def _made_wide(db: Path) -> list[str]:
    """The ids of four runs over 31 columns with 12 metrics, in a store of their own with 500 further runs."""
    from promptlab.store_lab import StoreLab
    from tests.bench.real_runs import add_many, add_wide

    async def made() -> list[str]:
        lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
        try:
            runs = await add_wide(lab, rows=WIDE_ROWS, runs=4)
            await add_many(lab, runs[0])
            return [run.run_id for run in runs]
        finally:
            await lab.close()

    return asyncio.run(made())


def main() -> None:
    """Measure and print; exits with 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=SMALL)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given twice")
    parser.add_argument("--db", type=Path, help="a store that is kept and used again")
    parser.add_argument("--rows", type=int, default=LOAD_ROWS, help="rows of the run that is looked at")
    parser.add_argument("--repeat", type=int, default=40, help="requests of each kind")
    args = parser.parse_args()
    print(
        f"{args.cases:,} cases; load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as folder:
        parts, found = args.part or PARTS, list[Target]()
        if "load" in parts:
            from tests.bench.studio_load import growth, under_load

            found += [*growth(Path(folder)), *under_load(args.rows, Path(folder))]
        db = args.db or Path(folder) / "bench.db"
        runs = _made(db, args.cases) if {"http", "browser"} & set(parts) else []
        if "http" in parts:
            with serving(db, runs, args.cases) as site:
                found += over_http(site, args.repeat)
        if "browser" in parts:
            from tests.bench.studio_browser import in_chromium, wide_in_chromium

            with serving(db, runs, args.cases) as site:
                found += in_chromium(site)
            wide = Path(folder) / "wide.db"
            with serving(wide, _made_wide(wide), WIDE_ROWS * 3) as site:
                found += wide_in_chromium(site)
    print(f"load of this machine {os.getloadavg()[0]:.1f}")
    print("\n".join(map(str, found)))
    if any("MISS" in str(target) for target in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
