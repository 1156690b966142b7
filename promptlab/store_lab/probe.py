"""A piece of code that tries what it may not: sent to a deployed sandbox, to see that it is one."""

from __future__ import annotations

from typing import Any

from promptlab.domain.code import CodeBundle

CONTAINED = "contained"
_SOURCE = '''
import os, socket

def probe(data):
    """Say what could be reached."""
    attempts = {
        "a socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "a process": os.fork,
        "the guard's environment": lambda: os.close(os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY)),
        "the environment": lambda: None if dict(os.environ) else os.stat("/nowhere-at-all"),
        "what is running": lambda: os.kill(os.getppid(), 0),
    }
    reached = []
    for what, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        reached.append(what)
    return f"reached {', '.join(reached)}" if reached else "contained"
'''


def bundle() -> CodeBundle:
    """Return that code."""
    return CodeBundle(name="probe", files={"probe.py": _SOURCE})


def event() -> dict[str, Any]:
    """An invocation of the sandbox with that code."""
    code = bundle()
    return {
        "bundle": {"hash": code.content_hash(), "content": code.content()},
        "role": "evaluate",
        "ref": {"module": "probe", "qualname": "probe"},
        "metric": "probe",
        "cases": [{"n": 0, "data": {}}],
    }
