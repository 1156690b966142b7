"""A small process that watches another one: code that holds its interpreter lock for good cannot be ended
from within.

It imports nothing of PromptLab, and starts in 20 ms.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time

SLOT = struct.Struct("dd112s")
"""A call under way: since when, for how long it may take (both in seconds), and its name in UTF-8."""
SLOTS = 512
TICK_S = 0.5
MARGIN_S = 10.0
"""How long after the time limits of all calls under way (or as long again as these) a process that stands
still is ended: it may be about to go on."""


def watch(pid: int, descriptor: int) -> None:
    """Watch until standard input ends, with a byte on it for each beat of the other process."""
    slots = mmap.mmap(descriptor, SLOT.size * SLOTS)
    still_s = 0.0
    while True:
        began = time.monotonic()
        ready, _, _ = select.select([0], [], [], TICK_S)
        if ready:
            if not os.read(0, 4096):
                return
            still_s = 0.0
            continue
        if os.getppid() != pid:
            return  # it was killed, and a child of it holds the pipe open
        passed_s = time.monotonic() - began
        # What took much longer than asked for was a sleep of the whole machine.
        still_s = 0.0 if passed_s > 4 * TICK_S or _is_stopped(pid) else still_s + passed_s
        if still_s > MARGIN_S and (names := _overdue(slots, still_s)):
            _end(pid, names)
            return


def _overdue(slots: mmap.mmap, still_s: float) -> list[str]:
    """The calls under way since before the process stood still, if all of them are over their time."""
    now, names = time.monotonic(), []
    for number in range(SLOTS):
        since, limit_s, name = SLOT.unpack_from(slots, number * SLOT.size)
        if since:
            if min(still_s, now - since) < limit_s + max(limit_s, MARGIN_S):
                return []
            names.append(name.rstrip(b"\0").decode("utf-8", "replace"))
    return names


def _is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib takes 10 ms to load
            state = file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        command = ["ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return state[:1] in ("T", "t")


def _end(pid: int, names: list[str]) -> None:
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    sys.stderr.write(
        "\nCode of yours holds the interpreter lock for longer than it may, and nothing else can run: "
        f"{shown}.\n"
        "The process is ended. What was recorded is kept: go on with `promptlab resume latest`.\n"
        "To have it end only its own case, run the evaluator in a process of its own (isolated: true of its "
        "metric); a model or an agent cannot be, so bound there what takes so long.\n"
    )
    sys.stderr.flush()
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
