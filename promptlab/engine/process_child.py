"""The other end of `promptlab.engine.processes`: makes evaluators and scores cases in a process of its own.

`promptlab.engine.sandbox` has the same child in the cloud, confined, and with objects that answer calls too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import importlib
import inspect
import io
import os
import pickle
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, BinaryIO

import orjson

from promptlab.domain.results import Score, described, without_class
from promptlab.engine.frames import ANSWER, BEGUN, ENDED, LOADED, PRINTED, packed, read_frame
from promptlab.evaluators.base import to_score
from promptlab.evaluators.outcomes import broken
from promptlab.models.usage import counted
from promptlab.threads import end_if_forked

ORPHAN_S = 30.0
"""How long after the time limit of a case a process ends by itself, whose parent was killed and cannot end
it."""
MOST_PRINTED = 2048
"""Bytes of a frame of printed text: so few that the system writes them as one."""

_in_child = False


def is_child() -> bool:
    """Whether this process is such a child: it must not start runs, which would start children."""
    return _in_child


class Answers(ABC):
    """An object that answers cases with JSON: what runs in a child besides evaluators. A class to inherit
    from, so that an evaluator of a user that happens to have such a method is none."""

    @abstractmethod
    def answer(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answer a case, whatever happens."""


class Sink:
    """The pipe to the parent, which threads of a user's code write to as well when they print."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        data = memoryview(packed(kind, payload))
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


@dataclass(slots=True)
class _Left:
    """How much more of a case's printed text is sent."""

    most: int | None
    """Bytes of a case; None for all of it."""
    bytes: int | None


class _Printed(io.RawIOBase):
    """Standard output or error, whose text the parent prints."""

    def __init__(self, sink: Sink, stream: str, left: _Left) -> None:
        self._sink, self._stream, self._left, self._pid = sink, stream, left, os.getpid()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, data: Any) -> int:
        if self._left.bytes == 0:
            return len(data)
        part = bytes(data[:MOST_PRINTED])
        if os.getpid() != self._pid:  # a forked child of the user's code: the pipe is not its own
            return os.write(2, part)
        kept = part
        if self._left.bytes is not None:
            kept = part[: self._left.bytes]
            self._left.bytes -= len(kept)
        if kept:
            self._sink.send(PRINTED, orjson.dumps([self._stream, kept.decode("utf-8", "replace")]))
        return len(part)


def serve() -> None:
    """Answer from standard input until it ends."""
    source, sink = os.fdopen(os.dup(0), "rb"), Sink(os.dup(1))
    _take_standard_input()
    serve_on(source, sink)


def serve_on(
    source: BinaryIO,
    sink: Sink,
    *,
    most_printed: int | None = None,
    said: Callable[[BaseException], str] = described,
) -> None:
    """Answer the frames of a source until it ends, of which a process in a sandbox has no other.

    Args:
        source: where the parent writes.
        sink: where it reads.
        most_printed: bytes of what one case prints that are sent; None for all of it.
        said: how an error of the user's code is put.
    """
    global _in_child
    _in_child = True
    left = _Left(most_printed, most_printed)
    for name in ("stdout", "stderr"):
        raw = io.BufferedWriter(_Printed(sink, name, left), MOST_PRINTED)
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "replace", line_buffering=True))
    server = _Server(sink, left, said)
    while (frame := read_frame(source)) is not None:
        server.answer(pickle.loads(frame))


def _take_standard_input() -> None:
    """Keep the pipes from whatever reads and prints, also in C."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # whoever started the parent closed its standard error
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


class _Server:
    def __init__(self, sink: Sink, left: _Left, said: Callable[[BaseException], str]) -> None:
        self._sink, self._left, self._said = sink, left, said
        self._made: dict[int, tuple[str, Any]] = {}
        self._armed = (0.0, 0.0)
        self._runner: asyncio.Runner | None = None

    def answer(self, frame: tuple[Any, ...]) -> None:
        if frame[0] == "load":
            self._load(*frame[1:])
        else:
            self._cases(*frame[1:])

    def _load(self, key: int, metric: str, function: str, argument: bytes) -> None:
        why = ""
        try:
            self._made[key] = metric, _named(function)(argument)
        except BaseException as error:  # noqa: BLE001 - loading runs a user's code, which may raise anything
            why = self._said(error)
        self._flush()
        self._sink.send(LOADED, orjson.dumps(why))

    def _cases(
        self,
        key: int,
        limit_s: float,
        cases: list[dict[str, Any]],
        media: Mapping[str, bytes | str] | None = None,
    ) -> None:
        self._sink.send(BEGUN)
        _give_media(media)
        metric, evaluator = self._made[key]
        began, cpu = time.monotonic(), time.process_time()
        answers = evaluator if isinstance(evaluator, Answers) else None
        for number, data in enumerate(cases):
            self._arm(limit_s)
            self._left.bytes = self._left.most
            given = self._answer(answers, data) if answers else self._score(metric, evaluator, data)
            self._flush()
            self._sink.send(ANSWER, orjson.dumps([number, given]))
        faulthandler.cancel_dump_traceback_later()
        self._armed = (0.0, 0.0)
        spent = [time.process_time() - cpu, time.monotonic() - began]
        self._sink.send(ENDED, orjson.dumps(spent))

    def _arm(self, limit_s: float) -> None:
        """Let the C library end this process if a case takes far too long: also code that holds the
        interpreter lock, when nobody is there to kill it."""
        now = time.monotonic()
        if self._armed[0] < now or self._armed[1] != limit_s:
            faulthandler.dump_traceback_later(limit_s + ORPHAN_S, exit=True, file=_nowhere())
            self._armed = now + 1, limit_s  # it costs a thread: once a second

    def _score(self, metric: str, evaluator: Any, data: dict[str, Any]) -> Score:
        pid = os.getpid()
        with counted() as usage:
            try:
                verdict = evaluator.evaluate(data)
                if inspect.isawaitable(verdict):
                    verdict = self._awaited(verdict)
                score = to_score(verdict)
            except BaseException as error:  # noqa: BLE001 - a user's code may raise anything; it costs its own score only
                end_if_forked(pid, failed=True)
                score = broken(metric, error, self._said(error))
        end_if_forked(pid)
        if not usage.calls:
            return score
        return Score(**{name: getattr(score, name) for name in _FIELDS} | {"usage": usage})

    def _answer(self, thing: Answers, data: dict[str, Any]) -> Any:
        try:
            return thing.answer(data)
        except BaseException as error:  # noqa: BLE001 - a user's code may raise anything
            return {
                "error": {"type": type(error).__name__, "message": without_class(self._said(error), error)}
            }

    def _awaited(self, verdict: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await verdict

        # One loop for all cases: connections of a user's client belong to it.
        self._runner = self._runner or asyncio.Runner()
        # In this case's context: the runner would keep that of its first case, and its count of calls.
        return self._runner.run(waited(), context=contextvars.copy_context())

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a user may have put anything there
                stream.flush()


_FIELDS = ("value", "label", "passed", "reason", "metadata", "error", "judged")


def _give_media(media: Mapping[str, bytes | str] | None) -> None:
    """Have `read_media` find the media of the cases that come now, and no others."""
    if media or "promptlab.models.media" in sys.modules:
        from promptlab.models.media import READER, GivenMedia  # most cases have none

        READER.set(GivenMedia(media or {}))


def _named(function: str) -> Any:
    module, _, path = function.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


_open: list[Any] = []


def _nowhere() -> Any:
    if not _open:
        _open.append(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for as long as the process lives
    return _open[0]
