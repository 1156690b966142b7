"""The other end of `promptlab.bounded`: what runs in the child process."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson


def serve(memory_bytes: int, most_bytes: int) -> None:
    """Answer calls from standard input until it ends."""
    _limit_memory(memory_bytes)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever prints must not write into the answers
    while head := source.read(8):
        request = source.read(int.from_bytes(head, "big"))
        answer = _answer(request, most_bytes)
        sink.write(len(answer).to_bytes(8, "big") + answer)
        sink.flush()


def _answer(request: bytes, most_bytes: int) -> bytes:
    try:
        name, cpu_s, args = orjson.loads(request)
        function = _function(name)
        _limit_time(cpu_s)
        value = function(*args)
        # A writer of JSON takes eight times the text, and breaks down when that is not there.
        if isinstance(value, str) and len(value) > most_bytes:
            return _too_large(most_bytes)
        answer = orjson.dumps({"value": value})
    except MemoryError:
        return orjson.dumps({"exceeded": "it needs more memory than it may have"})
    except Exception as error:  # noqa: BLE001 - a function of data may raise anything
        answer = orjson.dumps({"error": _described(error)})
    finally:
        _limit_time(0)
    if len(answer) > most_bytes:
        return _too_large(most_bytes)
    return answer


def _too_large(most_bytes: int) -> bytes:
    return orjson.dumps({"exceeded": f"its result is larger than {most_bytes:,} bytes"})


def _described(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"[:2000]
    return said.encode("utf-8", "replace").decode()


@cache
def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _limit_time(seconds: float) -> None:
    """Let the kernel end this process after so many seconds of processor time; 0 for no limit."""
    if hasattr(signal, "setitimer"):  # not on Windows, where the parent's clock stops it
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):  # macOS does not limit address space
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
