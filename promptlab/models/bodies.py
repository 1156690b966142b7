"""Reads an answer's body with a bound: whatever a server sends, or says that it sends,
takes only so much memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable

import orjson

MAX_ANSWER_BYTES = 16 * 2**20
"""The largest answer, in bytes after decompression: 128 embeddings of 4,096 numbers take some 12 MB."""
MAX_ERROR_BYTES = 2**16
"""How much of a refusal is read: its first words say what is wrong."""
MAX_VALUES = 2_000_000
"""Values in an answer's JSON at most: 16 MB of `[],` would be 5.6 million lists, which take 350 MB."""
MAX_LAYERS = 2
"""Encodings of one body at most."""
ENCODINGS = "gzip, deflate"
"""The encodings that are asked for, and can be decoded within a bound."""


class BodyTooLargeError(Exception):
    """A body is larger than its reader allows."""


class BodyEncodingError(Exception):
    """A body is encoded in a way that was not asked for, or not as its header says."""


class _Inflater:
    """One layer of gzip or deflate, which gives out no more than its bound."""

    def __init__(self, encoding: str) -> None:
        self._raw_too = encoding == "deflate"  # some servers send it without zlib's header
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._started = False

    def decode(self, data: bytes, most: int) -> bytes:
        """Decode up to `most` bytes; there may be more left when as many come back."""
        if self._inflate.eof or not data:
            return b""  # what follows the end counts as received, and is nobody's answer
        try:
            decoded = self._inflate.decompress(data, most)
        except zlib.error as error:
            if self._started or not self._raw_too:
                raise BodyEncodingError(f"it cannot be decompressed ({error})") from error
            self._inflate, self._raw_too = zlib.decompressobj(-zlib.MAX_WBITS), False
            return self.decode(data, most)
        self._started = True
        return decoded

    def end(self) -> None:
        if not self._inflate.eof:
            raise BodyEncodingError("its compressed text breaks off")


async def read_body(
    chunks: AsyncIterable[bytes], encoding: str = "", *, most: int = MAX_ANSWER_BYTES, cut: bool = False
) -> bytes:
    """Read a body whole, decoded.

    Args:
        chunks: the body as it comes from the wire.
        encoding: the answer's Content-Encoding.
        most: bytes at most, of the wire and decoded.
        cut: read up to `most` and leave the rest, instead of an error.

    Raises:
        BodyTooLargeError: there is more.
        BodyEncodingError: it is encoded in another way than with gzip or deflate, or wrongly.
    """
    layers = _layers(encoding) if encoding else []
    received, body = 0, bytearray()
    async for chunk in chunks:
        received += len(chunk)
        data = bytes(chunk)
        for layer in layers:
            data = layer.decode(data, most + 1)
        body += data
        if len(body) > most or received > most:
            if cut:
                return bytes(body[:most])
            raise BodyTooLargeError(f"larger than {most // 2**20} MB")
    if not cut and received:
        for layer in layers:
            layer.end()
    return bytes(body)


def _layers(encoding: str) -> list[_Inflater]:
    named = [name.strip().lower() for name in encoding.split(",")]
    named = ["gzip" if name == "x-gzip" else name for name in named if name not in ("", "identity")]
    unknown = next((name for name in named if name not in ("gzip", "deflate")), None)
    if unknown is not None or len(named) > MAX_LAYERS:
        shown = unknown if unknown is not None else encoding
        raise BodyEncodingError(f"its Content-Encoding is {shown[:40]!r}, and {ENCODINGS} was asked for")
    return [_Inflater(name) for name in reversed(named)]


def read_json(body: bytes) -> object:
    """Parse a body.

    Raises:
        BodyTooLargeError: it holds more values than any answer has.
        orjson.JSONDecodeError: it is not JSON.
    """
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise BodyTooLargeError(f"of more than {MAX_VALUES:,} values")
    return orjson.loads(body)
