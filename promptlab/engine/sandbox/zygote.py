"""The process from which the children of a sandbox are forked: it has loaded what they need, knows no secret,
and runs no code of users. A new child takes a few milliseconds, where a new interpreter takes 300.

The guard asks it, over a socket, for one child at a time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from promptlab.domain.results import described
from promptlab.engine.frames import READY
from promptlab.engine.process_child import Sink, serve_on
from promptlab.engine.sandbox.confine import Limits, confine, die_with_parent, protect
from promptlab.engine.sandbox.words import said

MOST_PRINTED = 10 * 1024
"""Bytes of what a case prints that are kept."""
LOOK_S = 0.005
MOST_REQUEST = 64 * 1024


def serve(descriptor: int, parent: int, preload: Sequence[str]) -> None:
    """Fork children for the guard until it is gone.

    Args:
        descriptor: the socket to the guard.
        parent: the guard's process.
        preload: the modules to load first.
    """
    die_with_parent(parent)
    protect()
    for name in preload:
        importlib.import_module(name)
    gc.freeze()  # what is loaded is not looked at again, and stays shared with the children
    control = socket.socket(fileno=descriptor)
    control.send(b"ready")
    child = 0
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MOST_REQUEST, 3)
        if not data:
            _ended(child, 0.0)
            os._exit(0)
        request = orjson.loads(data)
        if "grace_s" in request:
            control.send(orjson.dumps({"status": _ended(child, request["grace_s"])}))
            child = 0
            continue
        mine = os.getpid()
        child = os.fork()
        if child == 0:
            control.close()
            _work(mine, request, *descriptors)
        for open_one in descriptors:
            os.close(open_one)
        control.send(orjson.dumps({"pid": child}))


def _work(parent: int, request: dict[str, Any], source: int, target: int, *more: int) -> None:
    """Be a child, to the end of the process."""
    try:
        die_with_parent(parent)
        sink, folder = Sink(target), Path(request["folder"])
        gate = socket.socket(fileno=more[0]) if more else None
        try:
            held = confine(folder, Limits(**request["limits"]), (source, target, *more), gate)
        except Exception as error:  # noqa: BLE001 - told to the guard, which uses no child that is not confined
            sink.send(READY, orjson.dumps({"error": described(error)}))
            return
        sink.send(READY, orjson.dumps(held))
        with os.fdopen(source, "rb") as frames:
            serve_on(
                frames, sink, most_printed=MOST_PRINTED, said=partial(said, folder=folder, network=bool(more))
            )
    finally:
        os._exit(70)


def _ended(child: int, grace_s: float) -> int | None:
    """End a child that has not ended by itself within a time; give how it ended, as `waitpid` does."""
    if not child:
        return None
    until = time.monotonic() + grace_s
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(LOOK_S)
