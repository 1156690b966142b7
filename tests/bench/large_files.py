"""Measures the jobs on large files: how long they take, and the most memory that they have.

    python -m tests.bench.large_files [--folder FOLDER] [--rows 1000000] [--gigabytes 5]

A run of ROWS cases is stored as a real one is, and exported to CSV; a JSONL of GIGABYTES is generated,
uploaded, and read by the ingest job. Each job runs in a process of its own, whose peak is the kernel's
(`ru_maxrss`, beside what the process has before the job begins). FOLDER keeps the store, for another time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from promptlab.jobs import Jobs, TaskStarter
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import make

TEXT = "A train leaves the station with forty passengers, and picks up three at each of its seven stops. " * 5
UPLOAD = "uploads/0123456789abcdef0123456789abcdef/large.jsonl"


def peak_mb() -> float:
    """The peak of this process, and of the largest that it had beside it."""
    own, others = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return (own + others) / 1024


def opened(folder: Path) -> StoreLab:
    return StoreLab.open({"type": "sqlite", "db_file": str(folder / "lab.db")})


async def work(folder: Path, kind: str, args: dict[str, object]) -> dict[str, object]:
    """Do a job as the function does, and measure it."""
    lab = opened(folder)
    try:
        await lab.warm()
        before, began, cpu = peak_mb(), time.perf_counter(), time.process_time()
        starter = TaskStarter()
        jobs = Jobs(lab, starter)
        job = await jobs.submit(kind, args)  # type: ignore[arg-type]
        while (job := await jobs.get(job.id)).status in ("queued", "running"):
            await asyncio.sleep(0.2)
        assert job.status == "done", job
        return {
            "job": kind,
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "peak_mb": round(peak_mb()),
            "before_mb": round(before),
            "result": dict(job.result),
        }
    finally:
        await lab.close()


def generate(path: Path, size: int) -> int:
    """Write rows of some 600 bytes; give their number."""
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            written += file.write(
                json.dumps({"id": rows, "question": f"{TEXT}{rows}", "answer": str(rows % 97)}) + "\n"
            )
            rows += 1
    return rows


def measured(folder: Path, kind: str, args: dict[str, object]) -> None:
    """Measure a job in a process of its own."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench.large_files",
            "--folder",
            str(folder),
            "--job",
            kind,
            json.dumps(args),
        ],
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(asyncio.run(work(given.folder, given.job[0], json.loads(given.job[1])))), flush=True)
        return
    with tempfile.TemporaryDirectory() as own:
        folder = given.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        if given.rows:
            (run,) = asyncio.run(make(folder / "lab.db", given.rows, 1, False))
            measured(folder, "export", {"run_id": run.run_id, "format": "csv"})
        if given.gigabytes:
            upload = folder / "lab.db.blobs" / UPLOAD
            upload.parent.mkdir(parents=True, exist_ok=True)
            rows = generate(upload, int(given.gigabytes * 1e9))
            print(f"{rows:,} rows, {upload.stat().st_size:,} bytes", flush=True)
            measured(folder, "ingest", {"name": "large", "upload": UPLOAD})


if __name__ == "__main__":
    main()
