"""Keeps the garbage collector from the modules that a run loads: while they are loaded, and at the end."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Keep the garbage collector from what the block loads.

    Modules, classes and functions stay as long as the process. While those of a run were loaded, the
    collector walked through them 150 times. What the block made counts as old afterwards: the next full
    collection looks at it, as at everything.
    """
    if not gc.isenabled():  # the user's wish, or a block around this one
        yield
        return
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        # Counting walks through all that is frozen: 0.1 s for each of sixty metrics of a list in a process
        # with ten million objects. What is loaded already needs none of it.
        if len(sys.modules) > before and not gc.get_freeze_count():  # what others froze stays so
            gc.freeze()
            gc.unfreeze()
        gc.enable()


_aside: set[object] = set()
"""The blocks for which all that was loaded is set aside."""


@contextmanager
def setting_aside() -> Iterator[Callable[[], None]]:
    """Give the block a call that sets all that is in memory aside from the garbage collector, until it ends.

    A full collection walks through every class and function of every library: 100 ms of every second list of
    500 runs, in which a server answers nobody. Of several such blocks (a Studio, and the runs that it works
    on) the last that ends has all looked at again; at the end of any other, what it left behind is collected.
    """
    block = object()

    def now() -> None:
        _aside.add(block)
        gc.freeze()

    try:
        yield now
    finally:
        if block in _aside:
            _aside.discard(block)
            gc.unfreeze()
            if _aside:
                gc.collect()
                gc.freeze()


def end_quickly() -> None:
    """Have this process look for garbage twice at its end, and not three times. Asking again changes nothing.

    The interpreter does so before and after it lets go of its modules. The first look, through all that is
    loaded, took 45 ms after a run, and whatever it would find the second finds.
    """
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    gc.collect(1)  # what is young is found while modules are whole
    gc.disable()
