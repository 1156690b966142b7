"""`make bench JUDGES=1`: how fast a run is judged and scored (1 minute; two cores with nothing else to do).

Three judges over 2,000 cases, every call 200 ms, 20 in flight of each model: 8,000 calls, which take 20.2 s
at best, for the judges of a case wait for its answer. And an evaluator of 5 ms of Python over 10,000 cases,
25 s of work for two cores.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from promptlab import Dataset, PromptLab
from tests.bench.run import ROOT, Target, free_port, wait_for

CASES, JUDGES, IN_FLIGHT, ANSWER_S = 2_000, 3, 20, 0.2
SCORED, COMPUTED_S = 10_000, 0.005


class _Endpoint(asyncio.Protocol):
    """One connection of an endpoint that answers as a model, or as a judge, and counts."""

    flying: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        wanted = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        if not end or len(body) < int(wanted or 0):
            return
        self._data = b""
        if head.startswith(b"GET"):
            self._send({"calls": self.calls, "peak": self.peak})
            return
        asked = orjson.loads(body)
        name, question = asked["model"], asked["messages"][-1]["content"]
        self.calls[name] += 1
        self.flying[name] += 1
        self.peak[name] = max(self.peak[name], self.flying[name])
        asyncio.get_running_loop().call_later(ANSWER_S, self._answer, name, question)

    def _answer(self, name: str, question: str) -> None:
        self.flying[name] -= 1
        text = '{"reasoning": "It is.", "label": "yes"}' if name.startswith("judge") else f"To {question}"
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self._send({"choices": choices, "usage": {"prompt_tokens": 20, "completion_tokens": 5}})

    def _send(self, value: Any) -> None:
        body = orjson.dumps(value)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Endpoint, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def judged(folder: Path) -> tuple[float, dict[str, Any]]:
    """The seconds of a run with judges, and what the endpoint saw."""
    import httpx

    port = free_port()
    endpoint = subprocess.Popen([sys.executable, "-m", "tests.bench.judges", "--serve", str(port)], cwd=ROOT)
    try:
        wait_for(port)

        def model(name: str) -> dict[str, Any]:
            at = {"endpoint": f"http://127.0.0.1:{port}/v1", "api_key": "k"}
            return {"name": f"openai/{name}", "max_concurrent_tasks": IN_FLIGHT, **at}

        metrics = [
            {
                "metric": "rubric",
                "name": f"polite{n}",
                "params": {"criterion": "The answer is polite."},
                "judge": {**model(f"judge{n}"), "cache": False},
            }
            for n in range(JUDGES)
        ]
        seconds = _run(folder, "judged", CASES, model("mini"), metrics)
        return seconds, httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).json()
    finally:
        endpoint.terminate()
        endpoint.wait()


def computed(response: str) -> float:
    """Compute for 5 ms of processor time."""
    end, found = time.thread_time() + COMPUTED_S, 0
    while time.thread_time() < end:
        found += sum(map(len, response * 100))
    return float(found > 0)


def _run(folder: Path, name: str, rows: int, model: Any, metrics: list[dict[str, Any]]) -> float:
    began = time.perf_counter()
    with PromptLab({"type": "sqlite", "db_file": str(folder / f"{name}.db")}) as lab:
        run = lab.experiment.run(
            {
                "name": name,
                "dataset": Dataset(name="rows", rows=[{"n": n} for n in range(rows)]),
                "prompt_template": {"name": "ask", "user_prompt": "What is <n>?"},
                "model": model,
                "evaluation": metrics,
            },
            quiet=True,
        )
    assert run.summary is not None and all(m.n == rows for m in run.summary.metrics.values()), run
    return time.perf_counter() - began


def main() -> None:
    """Measure and print everything; exits with 1 when a target is missed."""
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as name:
        folder = Path(name)
        seconds, seen = judged(folder)
        ideal = CASES * ANSWER_S / IN_FLIGHT + ANSWER_S
        own = {"metric": "computed", "evaluator": computed, "column_mapping": {"response": "$inference"}}
        computing = _run(folder, "computed", SCORED, "simulated/echo", [own])
    calls, peak = sum(seen["calls"].values()), seen["peak"]
    found = [
        Target(f"{JUDGES} judges, {CASES:,} cases: ideal rate", ideal / seconds, 0.9, "of 1", at_least=True),
        Target("calls of all models", calls, CASES * (JUDGES + 1), "calls"),
        Target("most in flight of any model", max(peak.values()), IN_FLIGHT, "calls"),
        Target("least of the peaks", min(peak.values()), IN_FLIGHT, "calls", at_least=True),
        Target(f"{SCORED:,} cases of 5 ms of Python", computing, 30, "s"),
    ]
    print("\n".join(map(str, found)))
    if any("MISS" in str(target) for target in found):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        main()
