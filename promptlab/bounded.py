"""Runs code that data brings (templates, schemas) where it can be stopped: in warm
child processes with limits.

A thread cannot be stopped, and C code such as `'a' * 10**9` holds the interpreter lock while it works.
A child process is held to its processor time and memory by the kernel and can be killed. It starts
once (about 0.1 s) and then serves any number of calls (about 0.1 ms each).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import orjson

from promptlab.errors import PromptLabError

CPU_S = 0.5
"""Seconds of processor time that one call may take."""
WALL_S = 20.0
"""Seconds that the caller waits: on a busy machine a second of processor time takes longer."""
MEMORY_BYTES = 512 * 2**20
"""Address space of a child; about 30 MB of it are Python and Jinja."""
MOST_BYTES = 32 * 2**20
"""The largest answer of one call."""
CHILDREN = 2
"""Processes at most; further calls wait for their turn."""
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
"""The variables of the environment that a child sees: no keys."""
_START = (
    "import sys; sys.path[:] = {path!r}; from promptlab.bounded_child import serve; serve({memory}, {most})"
)


class BoundExceededError(PromptLabError):
    """A call took more time or memory than it may, or its answer is too large; the message says which."""


class RefusedError(PromptLabError):
    """The function itself raised; the message is that error's class and words."""


class Bounds(NamedTuple):
    """The bounds of one call."""

    cpu_s: float = CPU_S
    """Seconds of processor time."""
    memory_bytes: int = MEMORY_BYTES
    """Address space of the child."""
    wall_s: float = WALL_S
    """Seconds that the caller waits."""


class _Child:
    """One child process, and the pipe to it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        code = _START.format(path=[p for p in sys.path if p], memory=bounds.memory_bytes, most=MOST_BYTES)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            start_new_session=True,  # Ctrl-C is the parent's
        )

    def call(self, request: bytes, wall_s: float) -> bytes:
        """One answer.

        Raises:
            BoundExceededError: the child had to be stopped.
        """
        late = threading.Timer(wall_s, self._process.kill)
        late.daemon = True
        late.start()
        try:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.write(len(request).to_bytes(8, "big") + request)
            self._process.stdin.flush()
            size = int.from_bytes(self._read(8), "big")
            return self._read(size)
        except (OSError, EOFError):
            raise BoundExceededError(self._why(wall_s)) from None
        finally:
            late.cancel()

    def _read(self, size: int) -> bytes:
        assert self._process.stdout
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _why(self, wall_s: float) -> str:
        code = self._process.wait()
        if code == -getattr(signal, "SIGPROF", 0):
            return f"it took more than {self._bounds.cpu_s:g} s of processor time"
        if code == -getattr(signal, "SIGKILL", 0):
            return f"it took more than {wall_s:g} s"
        return f"its process broke down (exit code {code}), most likely for want of memory"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # what was left to write has no reader any more
                    pipe.close()


class Bounded:
    """A pool of warm child processes that make calls for this process."""

    def __init__(self, bounds: Bounds = Bounds(), children: int = CHILDREN) -> None:  # noqa: B008 - frozen
        """`children`: processes at most."""
        self._bounds, self._children = bounds, children
        self._reset()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            # The children are the parent's: two processes that read from one pipe would take each other's
            # answers.
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._idle: list[_Child] = []
        self._free = threading.Semaphore(self._children)
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def call(self, function: str, *args: Any, wall_s: float | None = None) -> Any:
        """Call a function in a child process, within the pool's bounds, and return its answer.

        Args:
            function: `module:function`.
            args: JSON values.
            wall_s: seconds to wait for the answer, if not those of the bounds.

        Raises:
            BoundExceededError: it took more time or memory than it may.
            RefusedError: the function raised an error.
            TypeError: an argument is no JSON value.
        """
        request = orjson.dumps([function, self._bounds.cpu_s, args])
        with self._free:
            child = self._take()
            try:
                answer = orjson.loads(child.call(request, self._bounds.wall_s if wall_s is None else wall_s))
            except BaseException:
                child.close()
                raise
            # A child that ran out of memory may be short of it afterwards, too.
            if answer.get("exceeded"):
                child.close()
                raise BoundExceededError(answer["exceeded"])
            with self._lock:
                self._idle.append(child)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["value"]

    async def call_async(self, function: str, *args: Any, wall_s: float | None = None) -> Any:
        """As `call`, off the event loop."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._children, thread_name_prefix="promptlab-bounded")
            threads = self._threads
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: self.call(function, *args, wall_s=wall_s))

    def _take(self) -> _Child:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Child(self._bounds)

    def close(self) -> None:
        """End all idle children."""
        with self._lock:
            idle: Sequence[_Child] = self._idle
            self._idle = []
        for child in idle:
            child.close()


bounded = Bounded()
"""The pool of this process for templates and schemas."""
