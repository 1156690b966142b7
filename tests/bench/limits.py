"""`make bench LIMITS=1`: how much of a provider's rate limit a run uses, against a real endpoint (4 minutes).

The endpoint allows 60 requests a second, by a bucket that holds 60 or one, and answers in 200 ms; a refusal
comes at once. On a machine that is busy with other things the bucket of one call sees calls that bunch.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import orjson

from tests.bench.run import ROOT, Target, free_port, measure, mock, wait_for

RATE = 60.0
ROWS = 2_000
ANSWER_S = 0.2
_ANSWER = orjson.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1},
    }
)
_REFUSAL = orjson.dumps({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}})


class _Bucket(asyncio.Protocol):
    """One connection of an endpoint with a bucket."""

    burst: ClassVar[float] = 60.0
    retry_after: ClassVar[str] = ""
    tokens: ClassVar[float] = 60.0
    at: ClassVar[float] = 0.0
    answers: ClassVar[list[float]] = []
    refusals: ClassVar[int] = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        length = int(head.split(b"content-length:")[1].split(b"\r")[0]) if b"content-length:" in head else 0
        if len(self._data) < end + 4 + length:
            return
        self._data = b""
        self._answer(head.startswith(b"get"))

    def _answer(self, statistics: bool) -> None:
        kind, now = _Bucket, time.monotonic()
        if statistics:
            times = kind.answers
            found = {
                "answers": len(times),
                "refusals": kind.refusals,
                "seconds": times[-1] - times[0] + ANSWER_S,
                "tail_s": times[-1] - times[-len(times) // 100],
            }
            self._send(200, orjson.dumps(found))
            return
        kind.tokens = min(kind.burst, kind.tokens + (now - kind.at) * RATE)
        kind.at = now
        if kind.tokens < 1:
            kind.refusals += 1
            self._send(429, _REFUSAL)
            return
        kind.tokens -= 1
        kind.answers.append(now)
        asyncio.get_running_loop().call_later(ANSWER_S, self._send, 200, _ANSWER)

    def _send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if status == 429 and self.retry_after:
            head += f"retry-after: {self.retry_after}\r\n"
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(head.encode() + b"\r\n" + body)


async def serve(port: int, burst: float, retry_after: str) -> None:
    """Answer until the process is ended."""
    _Bucket.burst = _Bucket.tokens = burst
    _Bucket.retry_after = retry_after
    server = await asyncio.get_running_loop().create_server(_Bucket, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def _of_bucket(burst: float, retry_after: str, in_flight: int, folder: Path) -> dict[str, Any]:
    """Run over an endpoint with a bucket, and return what the endpoint saw."""
    import httpx

    port = free_port()
    command = [sys.executable, "-m", "tests.bench.limits", "--serve", str(port), str(burst), retry_after]
    endpoint = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(port)
        run = measure(ROWS, f"http://127.0.0.1:{port}/v1", in_flight, folder)
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).json()
    finally:
        endpoint.terminate()
        endpoint.wait()
    return found | {"succeeded": run["succeeded"]}


def _by_chance(rate_429: float, rate_500: float, folder: Path) -> dict[str, Any]:
    with mock(200, folder, rate_429=rate_429, rate_500=rate_500, retry_after=1) as url:
        return measure(1_000, url, 100, folder)


def main() -> None:
    """Measure and print everything; exits with 1 when a target is missed."""
    found: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as name:
        folder = Path(name)
        for in_flight, burst, retry_after in ((50, 60, "1"), (200, 60, "1"), (200, 60, ""), (100, 1, "")):
            what = f"{in_flight} in flight, burst {burst}" + (
                f", Retry-After {retry_after}" if retry_after else ""
            )
            seen = _of_bucket(burst, retry_after, in_flight, folder)
            share = seen["refusals"] / (seen["refusals"] + seen["answers"])
            found += [
                Target(f"{what}: used", ROWS / RATE / seen["seconds"], 0.95, "of 1", at_least=True),
                Target(f"{what}: 429s", share, 0.05 if retry_after else 0.1, "of 1"),
                Target(f"{what}: tail", seen["tail_s"], 3.0, "s"),
                Target(f"{what}: good", seen["succeeded"], ROWS, "rows", at_least=True),
            ]
            print("\n".join(map(str, found[-4:])), flush=True)
        faultless = _by_chance(0, 0, folder)["wall_s"]
        # What the server asked for: the longest row of 429s of one row is six of 1,000 at 30%, two at 5%.
        for rate_429, rate_500, factor, asked_s in ((0.3, 0, 2.5, 6.0), (0.05, 0.02, 1.3, 2.0)):
            run = _by_chance(rate_429, rate_500, folder)
            what = f"{rate_429:.0%} 429, {rate_500:.0%} 500"
            found += [
                Target(f"{what}: seconds", run["wall_s"], factor * faultless + asked_s, "s"),
                Target(f"{what}: good", run["succeeded"], 1_000, "rows", at_least=True),
            ]
            print("\n".join(map(str, found[-2:])), flush=True)
    if any("MISS" in str(target) for target in found):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
    else:
        main()
