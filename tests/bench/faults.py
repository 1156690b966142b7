"""`make bench FAULTS=1`: a long run against an endpoint that goes wrong in 2 of 100 calls.

A quarter each: 429, 500, an answer that never comes, and a connection that is cut in the middle. Each case
must have its answer in the end, within the memory of a run without faults, and nothing may be left behind.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from tests.bench.run import ROOT, Target, free_port, wait_for

ROWS = 300_000
IN_FLIGHT = 100
RATE = 0.02
TIMEOUT_S = 3.0
_KINDS = ("429", "500", "silence", "cut")
_ANSWER = orjson.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1},
    }
)
_ERROR = b'{"error":{"message":"not now","type":"server_error"}}'
_ITEM = re.compile(rb"item (\d+)")
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


def fault(item: int, attempt: int) -> str | None:
    """What goes wrong with a case's attempt: decided by both, so that every run meets the same faults."""
    drawn = zlib.crc32(f"{item}/{attempt}".encode()) / 2**32
    return _KINDS[int(drawn / RATE * len(_KINDS))] if drawn < RATE else None


class _Endpoint(asyncio.Protocol):
    """One connection of an endpoint that speaks just enough HTTP: 9,000 answers a second."""

    attempts: Counter[int] = Counter()
    met: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._data, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._data) < whole:
                return
            request, self._data = self._data[:whole], self._data[whole:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET"):
            self._send(200, orjson.dumps(self.met))
            return
        asked = _ITEM.search(request)
        item = int(asked[1]) if asked else -1
        kind = fault(item, self.attempts[item])
        self.attempts[item] += 1
        self.met[kind or "ok"] += 1
        if kind == "cut":
            self._send(200, _ANSWER, cut=len(_ANSWER) // 2)
        elif kind in ("429", "500"):
            self._send(int(kind), _ERROR)
        elif kind is None:
            self._send(200, _ANSWER)

    def _send(self, status: int, body: bytes, cut: int | None = None) -> None:
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if status == 429:
            head += "retry-after: 1\r\n"
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(head.encode() + b"\r\n" + body[:cut])
        if cut is not None:
            self._transport.close()


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Endpoint, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd" if Path("/proc/self/fd").is_dir() else "/dev/fd"))


async def measured(dataset: Path, url: str, db: Path) -> dict[str, Any]:
    """Run over the dataset in this process, and count what is left when the lab is closed."""
    from promptlab import PromptLab

    files, started = _open_files(), time.perf_counter()
    async with PromptLab({"type": "sqlite", "db_file": str(db)}, quiet=True) as lab:
        run = await lab.run_experiment_async(
            {
                "name": "faults",
                "dataset": {"name": "items", "file_path": str(dataset)},
                "prompt_template": {"name": "ask", "user_prompt": "<question>"},
                "model": {
                    "name": "openai/mock",
                    "endpoint": url,
                    "max_concurrent_tasks": IN_FLIGHT,
                    "timeout_s": TIMEOUT_S,
                },
                "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
            }
        )
    gc.collect()
    await asyncio.sleep(0.2)  # connections close in the loop's next turns
    summary = run.summary
    assert summary is not None, run.record.error
    return {
        "wall_s": time.perf_counter() - started,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "attempts": summary.attempts,
        "accuracy": summary.metrics["exact_match"].mean,
        "files_left": _open_files() - files,
        "tasks_left": len(asyncio.all_tasks()) - 1,
    }


def main(rows: int = ROWS) -> None:
    """Measure and print; exits with 1 when a case is lost or something is left."""
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as name:
        folder, port = Path(name), free_port()
        dataset = folder / "items.jsonl"
        with dataset.open("wb") as file:
            for i in range(rows):
                row = {"id": str(i), "question": f"item {i}", "answer": "ok" if i % 5 else "no"}
                file.write(orjson.dumps(row) + b"\n")
        command = [sys.executable, "-m", "tests.bench.faults"]
        endpoint = subprocess.Popen([*command, "--serve", str(port)], cwd=ROOT)
        try:
            wait_for(port)
            url = f"http://127.0.0.1:{port}/v1"
            one = [*command, "--one", str(dataset), url, str(folder / "lab.db")]
            found = orjson.loads(subprocess.run(one, cwd=ROOT, check=True, capture_output=True).stdout)
        finally:
            endpoint.terminate()
            endpoint.wait()
    print(
        f"  {rows:,} rows with {RATE:.0%} faults: {found['wall_s']:.0f} s, "
        f"{rows / found['wall_s']:,.0f} rows/s, {found['attempts'] - rows:,} calls made again"
    )
    targets = [
        Target("cases with their answer", found["succeeded"], rows, "cases", at_least=True),
        Target("right answers", round(found["accuracy"] * rows), rows * 4 // 5, "cases", at_least=True),
        Target("calls made again", found["attempts"] - rows, rows * RATE / 2, "calls", at_least=True),
        Target("peak RSS", found["rss_mb"], 150, "MB"),
        Target("open files left", found["files_left"], 0, "files"),
        Target("tasks left", found["tasks_left"], 0, "tasks"),
    ]
    print("\n".join(map(str, targets)))
    if any("MISS" in str(target) for target in targets):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    elif sys.argv[1:2] == ["--one"]:
        ran = asyncio.run(measured(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
        sys.stdout.buffer.write(orjson.dumps(ran))
    else:
        main(*map(int, sys.argv[1:2]))
