"""How long each function takes to import, from the built bundle, in a fresh process;
and how large the bundle is.

    python infra/cold_starts.py [--bundle .cloud/build] [--python .cloud/ministack/bin/python]
                                [--times 7] [--check]

The bundle is used as it is and written to as little as on Lambda, where it is read-only: what `make bundle`
did not compile is compiled in every process anew, and the second column says what that would be.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cloud_tools import HOME, say

LIMITS_MS = {
    **dict.fromkeys(
        ("plan", "infer", "evaluate", "summarize", "fail", "ended", "watch", "tidy", "sandbox"), 1200
    ),
    "studio": 900,
}
ZIPPED_LIMIT_MB = 62.0
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
__import__(sys.argv[2])
print((time.perf_counter() - started) * 1000)
"""


def import_ms(python: Path, bundle: Path, module: str, times: int) -> float:
    """The median over fresh processes, in milliseconds; the first one, which warms
    the disk, does not count."""
    command = [python, "-I", "-S", "-B", "-c", PROGRAM, bundle, module]
    found = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(times + 1)
    ]
    return statistics.median(found[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description="Cold starts of the functions.")
    parser.add_argument(
        "--bundle",
        type=Path,
        default=HOME / "build" / "StudioFunction",
        help="the folder of a built function; all have the same content",
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=HOME / "ministack" / "bin" / "python",
        help="a Python of the functions' version",
    )
    parser.add_argument("--times", type=int, default=7, help="fresh processes for each figure")
    parser.add_argument("--check", action="store_true", help="fail where a limit is broken")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promptlab-bundle-") as folder:
        zipped_mb = (
            Path(shutil.make_archive(str(Path(folder) / "bundle"), "zip", options.bundle)).stat().st_size
            / 1e6
        )
        plain_mb = sum(path.stat().st_size for path in options.bundle.rglob("*") if path.is_file()) / 1e6
        say(f"Bundle: {zipped_mb:.1f} MB zipped (limit {ZIPPED_LIMIT_MB:.0f}), {plain_mb:.0f} MB unpacked.\n")
        sources = Path(folder) / "sources"
        shutil.copytree(options.bundle, sources, ignore=shutil.ignore_patterns("__pycache__"))
        say("| function | import | the same without bytecode | limit |\n| --- | --- | --- | --- |")
        broken = zipped_mb > ZIPPED_LIMIT_MB
        for name, limit_ms in LIMITS_MS.items():
            found, plain = (
                import_ms(options.python, bundle, f"functions.{name}", options.times)
                for bundle in (options.bundle, sources)
            )
            say(f"| {name} | {found:,.0f} ms | {plain:,.0f} ms | {limit_ms:,} ms |")
            broken |= found > limit_ms
    return int(broken and options.check)


if __name__ == "__main__":
    sys.exit(main())
