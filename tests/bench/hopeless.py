"""`make bench HOPELESS=1`: how soon a run of 10,000 rows ends that cannot succeed, in a process of its own.

Each must make at most 20 calls and those in flight, take less than 3 s on two idle cores, and end as stopped,
with exit code 1.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.servers import ModelServer, Reply

ROWS, IN_FLIGHT, MOST_S = 10_000, 100, 3.0
ROOT = Path(__file__).resolve().parents[2]


def refusal(status: int, message: str, code: str, **headers: str) -> Reply:
    """What a provider says to every call."""
    return Reply(status=status, headers=headers, body={"error": {"message": message, "code": code}})


KINDS = {
    "a wrong key": refusal(401, "Incorrect API key provided", "invalid_api_key"),
    "an unknown model": refusal(404, "The model does not exist", "model_not_found"),
    "no credit": refusal(429, "You exceeded your current quota", "insufficient_quota"),
    "wait an hour": refusal(429, "Too many requests", "rate_limit", **{"Retry-After": "3600"}),
}


def cpu_s() -> float:
    """CPU seconds of the processes that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(reply: Reply, folder: Path) -> tuple[int, str, int, float, float]:
    """Run against a server that refuses every call; exit code, status, calls, seconds and CPU seconds."""
    (folder / "rows.jsonl").write_text("".join(f'{{"n": "{n}"}}\n' for n in range(ROWS)))
    with ModelServer(lambda request: reply) as server:
        (folder / "quiz.yaml").write_text(
            "name: quiz\ndataset: {name: rows, file_path: rows.jsonl}\n"
            "prompt_template: {name: ask, user_prompt: <n>}\nevaluation: [{metric: length}]\n"
            f"model: {{name: openai/mini, endpoint: {server.openai_url}, max_concurrent_tasks: {IN_FLIGHT}, "
            "api_key_env: OPENAI_API_KEY}\n"
        )
        command = [sys.executable, "-m", "promptlab", "run", "quiz.yaml", "--json"]
        env = {**os.environ, "OPENAI_API_KEY": "k", "PYTHONPATH": str(ROOT)}
        began, cpu = time.perf_counter(), cpu_s()
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        found = json.loads(done.stdout)
        return done.returncode, found["status"], len(server.requests), seconds, cpu_s() - cpu


def main() -> int:
    """Measure each kind; 1 where one of them is not as it must be."""
    bad = 0
    print(f"{ROWS:,} rows, {IN_FLIGHT} in flight  exit  status   calls  seconds  CPU s")
    for name, reply in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            code, status, calls, seconds, cpu = measured(reply, Path(folder))
        good = code == 1 and status == "stopped" and calls <= 20 + IN_FLIGHT and seconds < MOST_S
        bad += not good
        print(f"{name:27} {code:4}  {status:8} {calls:5}  {seconds:7.2f}  {cpu:5.2f}{'' if good else '  !'}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
