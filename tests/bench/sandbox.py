"""Measures the sandbox: how long a bundle takes to start, and what a case costs beyond the code itself.

.venv/bin/python -m tests.bench.sandbox        or: make bench-sandbox
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from promptlab.domain.code import CodeBundle
from promptlab.engine.sandbox.guard import Guard

CASES = 10_000
ROUNDS = 7
BUNDLES = 25
ANSWER = "The capital of France is Paris, a city on the Seine. " * 4
SOURCE = """
from promptlab import Evaluator

class Length(Evaluator):
    def __init__(self, salt=0):
        self.salt = salt

    def evaluate(self, data):
        return len(data["text"]) > 10
"""


def event(salt: int, cases: int) -> dict[str, Any]:
    """An invocation over a bundle that differs by its salt."""
    bundle = CodeBundle(name="bench", files={"m.py": f"{SOURCE}\nSALT = {salt}\n"})
    return {
        "bundle": {"hash": bundle.content_hash(), "content": bundle.content()},
        "role": "evaluate",
        "ref": {"module": "m", "qualname": "Length"},
        "metric": "length",
        "cases": [{"n": n, "data": {"text": ANSWER}} for n in range(cases)],
    }


def starts(guard: Guard) -> list[float]:
    """Milliseconds from an invocation with a new bundle to its first answer: the former child is ended, its
    files are gone, a new one is confined, and has loaded the code."""
    found = []
    for salt in range(BUNDLES):
        asked = event(salt, 1)
        began = time.perf_counter()
        guard.answer(asked)
        found.append(1000 * (time.perf_counter() - began))
    return found


def own_us() -> float:
    """Microseconds of the code itself, called in a loop."""
    space: dict[str, Any] = {}
    exec(SOURCE, space)
    evaluator, data = space["Length"](), {"text": ANSWER}
    began = time.perf_counter()
    for _ in range(CASES):
        evaluator.evaluate(data)
    return 1e6 * (time.perf_counter() - began) / CASES


def main() -> None:
    """Print the figures; medians, for other programs of the machine take their time too."""
    began = time.perf_counter()
    guard = Guard()
    print(f"the guard and what children come from: {1000 * (time.perf_counter() - began):.0f} ms, once")
    try:
        found = starts(guard)
        middle = statistics.median(found)
        print(f"a bundle starts in {middle:.1f} ms (best {min(found):.1f}, worst {max(found):.1f})")
        asked, walls, cpus, own = event(0, CASES), [], [], []
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            answer = guard.answer(asked)
            walls.append(1e6 * (time.perf_counter() - began) / CASES)
            cpus.append(1e6 * (time.process_time() - cpu + answer["cpu_s"]) / CASES)
            assert len(answer["answers"]) == CASES
            own.append(own_us())
        mine = statistics.median(own)
        print(
            f"a case of {CASES:,} takes {statistics.median(walls) - mine:.1f} µs beyond the code itself "
            f"(best {min(walls) - mine:.1f}), of which {statistics.median(cpus) - mine:.1f} µs are processor "
            f"time of both processes; the code itself {mine:.2f} µs"
        )
    finally:
        guard.close()


if __name__ == "__main__":
    main()
