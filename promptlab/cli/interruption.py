"""Ctrl-C, SIGTERM and a closed terminal, as the cancellation of a task."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interruption:
    """Within the block a signal cancels the task that entered it; once more cancels
    what the first one waits for.

    Attributes:
        signal: the first signal that came, or None.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.signal: signal.Signals | None = None
        self._on_first = on_first
        self._taken: list[signal.Signals] = []
        self._hung_up = False

    def __enter__(self) -> Interruption:
        task = asyncio.current_task()
        assert task is not None
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            # One that is ignored stays so: `nohup`, or a job in the background of a script.
            self._taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            for number in self._taken:
                loop.add_signal_handler(number, self._stop, number, task)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._taken:
            asyncio.get_running_loop().remove_signal_handler(number)
        if self._hung_up:
            _leave_terminal()  # again: in the block, standard output may have stood for another file

    def _stop(self, number: signal.Signals, task: asyncio.Task[object]) -> None:
        first = self.signal is None
        self.signal = self.signal or number
        task.cancel()
        if number == getattr(signal, "SIGHUP", None):
            self._hung_up = True
            _leave_terminal()
        if first:
            self._on_first()


def _leave_terminal() -> None:
    """Let what is printed go nowhere, where it would go to a terminal that was closed:
    writing there is an error."""
    with suppress(OSError), Path(os.devnull).open("r+b") as nowhere:
        for descriptor in (0, 1, 2):
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                    os.dup2(nowhere.fileno(), descriptor)
