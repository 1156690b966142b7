"""Frames on the pipes between a process that keeps children and a child that runs a user's code.

A frame has an 8-byte length. Those to a child are pickles, `(kind, …)`, of a parent that the child may trust;
those from it a byte that says what it is, and JSON: nothing that a child says is unpickled.
"""

from __future__ import annotations

from typing import BinaryIO

READY, LOADED, BEGUN, ANSWER, PRINTED, ENDED = b"r", b"l", b"b", b"a", b"p", b"e"
MOST_BYTES = 1 << 34
"""The largest frame where nobody says less."""


class FrameError(ValueError):
    """What came is no frame; the message says why."""


def packed(kind: bytes, payload: bytes = b"") -> bytes:
    """Make a frame from a child."""
    return (len(payload) + 1).to_bytes(8, "big") + kind + payload


def framed(data: bytes) -> bytes:
    """Make a frame to a child."""
    return len(data).to_bytes(8, "big") + data


def read_frame(source: BinaryIO) -> bytes | None:
    """Read the next frame to a child; None at the end."""
    head = source.read(8)
    return source.read(int.from_bytes(head, "big")) if len(head) == 8 else None


class Frames:
    """Puts the frames of a child together from the pieces in which they come."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._buffer, self._most = bytearray(), most_bytes

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take a piece; give the kinds and payloads of the frames that are whole now.

        Raises:
            FrameError: a frame is larger than it may be, or empty.
        """
        buffer = self._buffer
        buffer += data
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while len(buffer) - at >= 8:
            size = int.from_bytes(buffer[at : at + 8], "big")
            if not 1 <= size <= self._most:
                if found:
                    break  # what came before it counts; the next call says so
                raise FrameError(f"a message of {size:,} bytes; from 1 to {self._most:,} are read")
            if len(buffer) - at - 8 < size:
                break
            start = at + 8
            found.append((bytes(buffer[start : start + 1]), bytes(buffer[start + 1 : start + size])))
            at = start + size
        del buffer[:at]
        return found

    @property
    def pending(self) -> bool:
        """Whether a part of a frame has come."""
        return bool(self._buffer)
