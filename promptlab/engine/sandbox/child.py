"""The guard's end of a confined child: its two pipes, and the process from which it is forked."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from promptlab.engine.frames import READY, FrameError, Frames, framed
from promptlab.engine.sandbox.confine import Limits
from promptlab.engine.sandbox.files import measured
from promptlab.engine.sandbox.gate import Gate
from promptlab.outbound import Outbound

START_S = 60.0
"""How long the interpreter may take to start from which children are forked."""
READY_S = 20.0
"""How long a child may take to be confined, on a busy machine."""
END_S = 1.0
"""How long a process that has closed its pipe may still be busy with ending."""
LOOK_S = 0.25
"""How often the files of a busy child are measured."""
MOST_ANSWER = 40 << 20
"""The largest message of a child: a text of 16 million characters, escaped."""
PIECE = 1 << 16
_START = (
    "import sys; sys.path[:] = {path!r}\n"
    "from promptlab.engine.sandbox.zygote import serve; serve({descriptor}, {parent}, {preload!r})"
)
_KEPT = ("LD_LIBRARY_PATH",)
"""What an interpreter may need to start; nothing of it is left in the children."""


class SandboxUnavailableError(Exception):
    """Code cannot be confined here, so none is run; the message says why."""


class GoneError(Exception):
    """A child ended, or had to be; the message says how."""


class Zygote:
    """The interpreter from which children are forked."""

    def __init__(self, preload: Sequence[str]) -> None:
        """Start it.

        Raises:
            SandboxUnavailableError: it does not start.
        """
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = [str(entry) for entry in (Path(name).resolve() for name in sys.path) if entry.exists()]
        code = _START.format(path=path, descriptor=theirs.fileno(), parent=os.getpid(), preload=list(preload))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-X", "utf8", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxUnavailableError(f"its process cannot be started: {error}") from error
        theirs.close()
        self._socket.settimeout(START_S)
        self._started = False

    def fork(self, folder: Path, limits: Limits, descriptors: Sequence[int]) -> int:
        """Fork a child; give its process.

        Raises:
            SandboxUnavailableError: there is nothing to fork from.
        """
        if not self._started:
            self._received()
            self._started = True
        request = {"folder": str(folder), "limits": asdict(limits)}
        try:
            socket.send_fds(self._socket, [orjson.dumps(request)], list(descriptors))
        except OSError as error:
            raise SandboxUnavailableError(f"the process that children come from is gone: {error}") from error
        return int(orjson.loads(self._received())["pid"])

    def end(self, grace_s: float) -> str:
        """End the child, where it does not end by itself within a time; say how it ended."""
        try:
            self._socket.send(orjson.dumps({"grace_s": grace_s}))
            status = orjson.loads(self._received())["status"]
        except (OSError, SandboxUnavailableError):
            return "with the process that it came from"
        if status is None:
            return "before it began"
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    @property
    def is_gone(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it, and with it its child."""
        self._socket.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _received(self) -> bytes:
        try:
            data = self._socket.recv(PIECE)
        except OSError as error:
            raise SandboxUnavailableError(
                f"the process that children come from does not answer: {error}"
            ) from error
        if not data:
            code = self._process.wait()
            raise SandboxUnavailableError(f"the process that children come from ended (exit code {code})")
        return data


class Child:
    """One confined process."""

    def __init__(
        self, zygote: Zygote, folder: Path, limits: Limits, outbound: Outbound | None = None
    ) -> None:
        """Start it, and wait until it is confined; `outbound` is what it may reach, None for nothing.

        Raises:
            SandboxUnavailableError: it cannot be confined.
        """
        self._zygote, self.folder, self._limits = zygote, folder, limits
        self.made: dict[bytes, int] = {}
        """What it has made: a key by the recipe."""
        self.began = time.monotonic()
        self._frames, self._came = Frames(MOST_ANSWER), deque[tuple[bytes, bytes]]()
        self._out = bytearray()
        self._looked = time.monotonic()
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._gate: Gate | None = None
        mine, theirs = socket.socketpair()
        with mine, theirs:
            given = (theirs_in, theirs_out, *((theirs.fileno(),) if outbound else ()))
            try:
                process = zygote.fork(folder, limits, given)
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            theirs.close()
            self.held = self._ready()
            if outbound is not None:
                _, (listener, *_), _, _ = socket.recv_fds(mine, 16, 1)
                self._gate = Gate(process, listener, outbound)

    def _ready(self) -> dict[str, Any]:
        try:
            kind, payload = self.next(time.monotonic() + READY_S)
            held: dict[str, Any] = orjson.loads(payload) if kind == READY else {"error": "it said nothing"}
        except (TimeoutError, GoneError, ValueError) as error:
            held = {"error": str(error) or f"it is not confined within {READY_S:g} s"}
        if "error" in held:
            self.end()
            raise SandboxUnavailableError(f"a process cannot be confined here: {held['error']}")
        return held

    def send(self, *frame: Any) -> None:
        """Send a request, as fast as the child reads it."""
        self._out += framed(pickle.dumps(frame, pickle.HIGHEST_PROTOCOL))

    def next(self, until: float) -> tuple[bytes, bytes]:
        """The next frame, whoever in that process wrote it.

        Raises:
            TimeoutError: there is none by then.
            GoneError: the child is gone, or wrote what is no frame, or too much to its folder.
        """
        while not self._came:
            if self._frames.pending:
                self._fed(b"")
            self._exchange(until)
        return self._came.popleft()

    def leftovers(self) -> bool:
        """Whether it has written something that nobody asked for."""
        with contextlib.suppress(TimeoutError):
            self._exchange(time.monotonic())
        return bool(self._came) or self._frames.pending

    def _exchange(self, until: float) -> None:
        now = time.monotonic()
        wait_s = min(max(0.0, until - now), LOOK_S)
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if self._out:
            poll.register(self._write, select.POLLOUT)
        ready = dict(poll.poll(wait_s * 1000))
        if self._write in ready:
            self._flush()
        if self._read in ready:
            self._take()
        if time.monotonic() - self._looked >= LOOK_S:
            self.measure()
        if not self._came and time.monotonic() >= until:
            raise TimeoutError

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # how it ended is read from the other
            del self._out[: os.write(self._write, self._out[:PIECE])]

    def _take(self) -> None:
        try:
            data = os.read(self._read, PIECE)
        except BlockingIOError:
            return
        if not data:
            raise GoneError(f"its process ended ({self.end(END_S)})")
        self._fed(data)

    def _fed(self, data: bytes) -> None:
        try:
            self._came.extend(self._frames.feed(data))
        except FrameError as error:
            raise GoneError(f"its process wrote {error}") from None

    def measure(self) -> None:
        """See that its folder does not grow too large.

        Raises:
            GoneError: it did.
        """
        most_bytes, files = self._limits.folder_bytes, self._limits.files
        size, entries = measured(self.folder, files)
        self._looked = time.monotonic()
        if size > most_bytes or entries > files:
            raise GoneError(
                f"its process wrote more than {most_bytes >> 20} MB or {files:,} files, and was ended"
            )

    def end(self, grace_s: float = 0.0) -> str:
        """End it; say how it ended."""
        how = self._zygote.end(grace_s)
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        for descriptor in (self._read, self._write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._read = self._write = -1
        return how

    @property
    def ended(self) -> bool:
        """Whether it was ended."""
        return self._read < 0
