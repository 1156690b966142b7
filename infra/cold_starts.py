"""How long each function takes to import, from the built bundle, in a fresh process; and how large the bundle is.

    python infra/cold_starts.py [--bundle .cloud/build] [--python .cloud/ministack/bin/python] [--times 7] [--check]

On Lambda the bundle is read-only and holds no bytecode, so that every cold start compiles what it imports.
The first column has that in it; the second is with bytecode, as on the local AWS.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cloud_tools import HOME, ROOT, say

FUNCTIONS = ("plan", "infer", "evaluate", "summarize", "fail", "ended", "studio")
LIMITS_MS = {"studio": 900.0}
WORKER_LIMIT_MS = 1200.0
ZIPPED_LIMIT_MB = 60.0
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
__import__(sys.argv[2])
print((time.perf_counter() - started) * 1000, len(sys.modules))
"""


def import_ms(python: Path, bundle: Path, module: str, times: int, *, bytecode: bool) -> float:
    """The median over fresh processes, in milliseconds; the first one, which warms the disk, does not count."""
    flags = ["-I", "-S"] if bytecode else ["-I", "-S", "-B"]
    found = []
    for _ in range(times + 1):
        out = subprocess.run([python, *flags, "-c", PROGRAM, bundle, module], check=True, capture_output=True, text=True).stdout
        found.append(float(out.split()[0]))
    return statistics.median(found[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description="Cold starts of the functions.")
    parser.add_argument("--bundle", type=Path, default=HOME / "build" / "StudioFunction", help="the folder of a built function; all have the same content")
    parser.add_argument("--python", type=Path, default=HOME / "ministack" / "bin" / "python", help="a Python of the functions' version")
    parser.add_argument("--times", type=int, default=7, help="fresh processes for each figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promptlab-bundle-") as folder:
        bundle = Path(folder) / "bundle"
        shutil.copytree(options.bundle, bundle, ignore=shutil.ignore_patterns("__pycache__"))
        zipped = shutil.make_archive(str(Path(folder) / "bundle"), "zip", bundle)
        plain = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        say(f"Bundle: {Path(zipped).stat().st_size / 1e6:.1f} MB zipped, {plain / 1e6:.0f} MB unpacked.\n")
        say("| function | import, compiling | import, with bytecode |\n| --- | --- | --- |")
        cold = {name: import_ms(options.python, bundle, f"functions.{name}", options.times, bytecode=False) for name in FUNCTIONS}
        for name in FUNCTIONS:
            say(f"| {name} | {cold[name]:,.0f} ms | {import_ms(options.python, bundle, f'functions.{name}', options.times, bytecode=True):,.0f} ms |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
