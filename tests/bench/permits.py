"""`make bench PERMITS=1`: whether processes on one ledger keep a limit together, and use it (6 minutes).

Four processes with 600 requests (and then 60,000 tokens) a minute, one of which is killed on the way. The
endpoint counts what arrives in any 60 s.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.run import ROOT, Target
from tests.servers import ModelServer, Request

LIMIT, TOKENS = 600, 100
"""Requests a minute, and tokens of each."""
PROCESSES, ROWS = 4, 400
KILL_AFTER_S = 70.0
WINDOW_S = 60.0
BACK_S = 5.0
"""Seconds whose calls tell whether the rate is what it was."""


@dataclass
class Arrivals:
    """When requests arrived."""

    times: list[float] = field(default_factory=list)

    def answer(self, request: Request) -> str:
        self.times.append(time.monotonic())
        return "x" * (TOKENS - len(request.prompt))

    def most(self) -> int:
        """How many came in any WINDOW_S at most."""
        ends = (bisect.bisect_left(self.times, at + WINDOW_S) for at in self.times)
        return max(end - start for start, end in enumerate(ends))

    def between(self, start: float, end: float) -> int:
        """How many came in a time."""
        return bisect.bisect_left(self.times, end) - bisect.bisect_left(self.times, start)

    def full_after(self, start: float, end: float) -> float:
        """How long after a time the rate was nine tenths of the limit again."""
        per_s = 0.9 * LIMIT / 60
        steps = itertools.takewhile(lambda at: at + BACK_S <= end, (start + n / 4 for n in range(1_000)))
        return next(
            (at - start for at in steps if self.between(at, at + BACK_S) >= per_s * BACK_S), end - start
        )


async def _work(url: str, db: str, limit: str) -> None:
    from promptlab import Dataset, PromptLab, PromptTemplate

    rows = [{"q": f"question {n:06}"} for n in range(ROWS)]
    bound = {"requests_per_minute": LIMIT} if limit == "requests" else {"tokens_per_minute": LIMIT * TOKENS}
    await PromptLab(db).run_experiment_async(
        {
            "name": "permits",
            "dataset": Dataset(name="questions", rows=rows),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
            "model": {"name": "openai/mini", "endpoint": url, "max_concurrent_tasks": 50, **bound},
        },
        quiet=True,
    )


def _share(limit: str, folder: Path) -> list[Target]:
    """Let processes share a limit, and say how they kept it."""
    seen = Arrivals()
    with ModelServer(seen.answer) as server:
        command = [sys.executable, "-m", "tests.bench.permits", "--work", server.openai_url]
        command += [str(folder / f"{limit}.db"), limit]
        workers = [subprocess.Popen(command, cwd=ROOT) for _ in range(PROCESSES)]
        try:
            server.wait_for_requests(1)
            begun = seen.times[0]
            time.sleep(KILL_AFTER_S)
            killed = time.monotonic()
            workers[0].kill()
            for worker in workers:
                worker.wait()
        finally:
            for worker in workers:
                worker.kill()
    # The last ones to end have fewer rows than a minute has permits.
    end = seen.times[-1] - 10
    used = seen.between(begun + 2, killed) / ((killed - begun - 2) * LIMIT / 60)
    return [
        Target(f"{limit}: most in any 60 s", seen.most(), LIMIT, "calls"),
        Target(f"{limit}: used by {PROCESSES} processes", used, 0.9, "of 1", at_least=True),
        Target(f"{limit}: full again after a kill", seen.full_after(killed, end), 30.0, "s"),
    ]


def main() -> None:
    """Measure and print everything; exits with 1 when a target is missed."""
    found: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="promptlab-bench-") as name:
        for limit in ("requests", "tokens"):
            found += _share(limit, Path(name))
            print("\n".join(map(str, found[-3:])), flush=True)
    if any("MISS" in str(target) for target in found):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(_work(*sys.argv[2:5]))
    else:
        main()
