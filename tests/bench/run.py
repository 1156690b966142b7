"""`make bench`: what a run costs in time, CPU and memory, against a mock endpoint on this machine.

The endpoint is the C mock in $PROMPTLAB_BENCH (default: ../shared/bench, where it is there), else the
tests' own server, which is slower than what it measures: its figures only compare with each other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("PROMPTLAB_BENCH", ROOT.parent / "shared" / "bench"))


@dataclass(frozen=True)
class Target:
    """A figure, and what it must be."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    def __str__(self) -> str:
        good = self.value >= self.limit if self.at_least else self.value <= self.limit
        return (
            f"  {'ok  ' if good else 'MISS'} {self.name:<42} {self.value:>9.3f} {self.unit:<9} "
            f"({'at least' if self.at_least else 'at most'} {self.limit:g})"
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def mock(latency_ms: float, folder: Path, **options: float) -> Iterator[str]:
    """The mock endpoint's base URL."""
    source = SHARED / "mockllm" / "mockllm.c"
    port = free_port()
    if source.exists() and shutil.which("gcc"):
        binary = folder / "mockllm"
        if not binary.exists():
            subprocess.run(["gcc", "-O2", "-w", "-o", str(binary), str(source), "-lm"], check=True)
        flags = [
            part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        command = [str(binary), "--port", str(port), "--latency-ms", str(latency_ms), *flags]
    else:
        command = [sys.executable, "-m", "tests.bench.endpoint", str(port), str(latency_ms / 1000)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Return once something listens on a port."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the mock endpoint does not listen on port {port}")


def data(rows: int, folder: Path) -> Path:
    """A dataset whose right answers the mock knows: a whole run scores exactly 0.8."""
    maker = SHARED / "make_data.py"
    path = folder / f"qa_{rows}.jsonl"
    if path.exists():
        return path
    if maker.exists():
        subprocess.run([sys.executable, str(maker), str(folder), str(rows)], check=True)
    else:
        path.write_bytes(
            b"".join(
                orjson.dumps({"id": str(i), "question": f"item {i}", "answer": "ok" if i % 5 else "no"})
                + b"\n"
                for i in range(rows)
            )
        )
    return path


def measure(rows: int, url: str, in_flight: int, folder: Path) -> dict[str, Any]:
    """One run in a process of its own (`tests/bench/one_run.py`)."""
    started = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "tests.bench.one_run",
        str(data(rows, folder)),
        url,
        str(in_flight),
        str(folder / f"{time.time_ns()}.db"),
    ]
    # As on a user's machine, where the second start finds bytecode: compiling all modules takes 0.2 s.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=kept).stdout
    return orjson.loads(out) | {"process_s": time.perf_counter() - started}


def _import_ms() -> float:
    code = "import time; t = time.perf_counter(); import promptlab; print((time.perf_counter() - t) * 1000)"
    return min(
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(5)
    )


def main() -> None:
    """Measure and print everything; exits with 1 when a target is missed."""
    own = "the tests own server (slow: figures only compare with each other)"
    print(f"endpoint: {'mockllm' if (SHARED / 'mockllm').exists() else own}", flush=True)
    found: list[Target] = [Target("import promptlab", _import_ms(), 150, "ms")]
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as name:
        folder = Path(name)
        with mock(200, folder) as url:
            one = min((measure(1, url, 100, folder) for _ in range(3)), key=lambda r: r["process_s"])
            found.append(Target("1 row: over its call, whole process", one["process_s"] - 0.2, 0.4, "s"))
            ten = measure(10_000, url, 100, folder)
            found += _run_targets("10,000 rows at 200 ms", ten, one, 10_000, rss_mb=150)
            found.append(
                Target("10,000 rows: ideal", 10_000 * 0.2 / 100 / ten["wall_s"], 0.95, "of 1", at_least=True)
            )
        with mock(1, folder) as url:
            fast = measure(10_000, url, 100, folder)
            rate = 10_000 / (fast["wall_s"] - one["wall_s"] + 0.2)
            found.append(Target("10,000 rows at 1 ms: rate", rate, 3_000, "rows/s", at_least=True))
        with mock(20, folder) as url:
            found += _run_targets(
                "100,000 rows at 20 ms", measure(100_000, url, 100, folder), one, 100_000, rss_mb=200
            )
        with mock(200, folder, rate_429=0.05, rate_500=0.02, retry_after=1) as url:
            # The last case to be refused twice in a row decides how long it takes: simulated, 3.7 to 6.8 s.
            runs = [measure(1_000, url, 100, folder) for _ in range(5)]
            found.append(
                Target(
                    "1,000 rows, 5% 429 and 2% 500: good ones",
                    min(run["succeeded"] for run in runs),
                    1_000,
                    "rows",
                    at_least=True,
                )
            )
            middle = statistics.median(run["wall_s"] for run in runs)
            print(f"  with 5% 429 and 2% 500: 1,000 rows in {middle:.1f} s, the middle of five runs")
    print("\n".join(map(str, found)))
    if any("MISS" in str(target) for target in found):
        raise SystemExit(1)


def _run_targets(
    what: str, run: dict[str, Any], one: dict[str, Any], rows: int, *, rss_mb: float
) -> list[Target]:
    print(
        f"  {what}: {run['wall_s']:.1f} s, {rows / run['wall_s']:,.0f} rows/s, accuracy {run['accuracy']}",
        flush=True,
    )
    return [
        Target(f"{what}: CPU over start-up", (run["cpu_s"] - one["cpu_s"]) * 1000 / rows, 0.6, "ms a row"),
        Target(f"{what}: peak RSS", run["rss_mb"], rss_mb, "MB"),
        Target(f"{what}: longest block of the loop", run["blocked_ms"], 50, "ms"),
    ]


if __name__ == "__main__":
    main()
