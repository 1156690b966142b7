"""Has this process ended if code of a user holds its interpreter lock for good: it would stand still
for ever, deaf to Ctrl-C."""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from promptlab.engine.watchdog_child import SLOT, SLOTS

BEAT_S = 0.5


class Watchdog:
    """Watches over the calls of users' code that run in this process. Only where processes can be killed by a
    signal: not on Windows."""

    def __init__(self, python: str = sys.executable) -> None:
        """`python`: the interpreter of the process that watches."""
        self._python = python
        self._begin()

    def _begin(self) -> None:
        self._closed = False
        self._lock = threading.Lock()
        self._slots: mmap.mmap | None = None
        self._free = list(range(SLOTS))
        self._watcher: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @contextlib.contextmanager
    def watched(self, name: str, limit_s: float) -> Iterator[None]:
        """In the block, a call is under way.

        Args:
            name: what it is, for the message.
            limit_s: how long it may take, in seconds.
        """
        slots = self._started()
        try:
            slot = self._free.pop() if slots is not None else None
        except IndexError:
            slot = None  # the first 512 are watched
        if slots is not None and slot is not None:
            SLOT.pack_into(slots, slot * SLOT.size, time.monotonic(), limit_s, name.encode()[:112])
        try:
            yield
        finally:
            if slots is not None and slot is not None and os.getpid() == self._pid:
                SLOT.pack_into(slots, slot * SLOT.size, 0.0, 0.0, b"")
                self._free.append(slot)

    def _started(self) -> mmap.mmap | None:
        """The slots, once the watcher is there."""
        if self._slots is None and hasattr(os, "fork"):
            with self._lock:
                if self._slots is None:
                    self._slots = self._start()
        return self._slots

    def _start(self) -> mmap.mmap | None:
        try:
            with tempfile.TemporaryFile() as file:
                # Written, and not only made that long: a map of what a full disk has no room for ends
                # the process that writes to it.
                file.write(bytes(SLOT.size * SLOTS))
                file.flush()
                slots = mmap.mmap(file.fileno(), SLOT.size * SLOTS)
                child = str(Path(__file__).with_name("watchdog_child.py"))
                self._watcher = subprocess.Popen(
                    [self._python, "-I", "-S", "-B", child, str(os.getpid()), str(file.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(file.fileno(),),
                    start_new_session=True,  # Ctrl-C and Ctrl-Z are this process's
                )
        except OSError:
            return None
        self._pid = os.getpid()
        threading.Thread(target=self._beat, args=(self._watcher,), name="promptlab-beat", daemon=True).start()
        return slots

    def _beat(self, watcher: subprocess.Popen[bytes]) -> None:
        """Tell the watcher twice a second that Python's code runs."""
        assert watcher.stdin is not None
        while True:
            with self._lock:
                if self._closed:
                    return
                try:
                    os.write(watcher.stdin.fileno(), b".")
                except OSError:
                    return  # somebody ended it: then nobody watches
            time.sleep(BEAT_S)

    def close(self) -> None:
        """End the watcher."""
        with self._lock:
            self._closed = True
            watcher = self._watcher
        if watcher is not None and watcher.stdin is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                watcher.stdin.close()
            watcher.wait()

    def forget(self) -> None:
        """Begin anew, in a forked child: the watcher is its parent's."""
        _of_parents.append(self._watcher)  # or it would be waited for
        self._begin()


_of_parents: list[subprocess.Popen[bytes] | None] = []
watchdog = Watchdog()
"""The one of this process."""
atexit.register(watchdog.close)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog.forget)
