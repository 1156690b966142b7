"""Finds the shards that hold some rows of a dataset, without reading its index from the beginning each time.

A dataset's version never changes, nor does its index: what was read of it is kept. Walking it for every page
took 25 ms for the last rows of 280,000, and every open page of a run asks.
"""

from __future__ import annotations

import asyncio
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from weakref import WeakKeyDictionary

import orjson

from promptlab.domain.assets import DatasetContent, Shard
from promptlab.errors import StoreDamagedError
from promptlab.ports import Blobs
from promptlab.program import program

PIECE_BYTES = 256 << 10
"""Bytes of an index that are read at once: some 3,000 shards."""
_AT_ONCE = 500
"""Lines that are parsed before other tasks have their turn: 2 ms."""
_WINDOW = 5_000
"""Rows whose shards are looked up at once."""
_KEPT = 16
"""Datasets of a store whose indexes are kept: 24 bytes a shard, 5 MB for 10,000,000 rows."""


class _Index:
    """The shards of one dataset, as far as anybody has asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first, self._offset, self._length = array("q"), array("q"), array("q")
        self._read = self._rows = 0

    async def cover(self, blobs: Blobs, content: DatasetContent, row: int) -> None:
        """Read on until a row's shard is known, or there are no more."""
        while self._rows <= row and len(self._first) < content.shards:
            start, known = self._read, len(self._first)
            data = await blobs.get(content.index, offset=start, length=PIECE_BYTES)
            *lines, rest = data.split(b"\n")
            if not lines:
                raise _damaged(content, "it ends too early")
            shards = list[Shard]()
            for begin in range(0, len(lines), _AT_ONCE):
                shards += [
                    shard_of(line, content, known + begin + at)
                    for at, line in enumerate(lines[begin : begin + _AT_ONCE])
                ]
                await asyncio.sleep(0)
            self._add(start, shards, start + len(data) - len(rest))

    def _add(self, start: int, shards: list[Shard], end: int) -> None:
        with self._lock:
            if self._read != start:
                return  # somebody else read the same piece meanwhile
            self._first.extend(s.first for s in shards)
            self._offset.extend(s.offset for s in shards)
            self._length.extend(s.length for s in shards)
            self._read, self._rows = end, shards[-1].first + shards[-1].count

    def between(self, first: int, last: int) -> Iterator[Shard]:
        """The shards of rows `first` to `last`, of those that are known."""
        begin, end = max(0, bisect_right(self._first, first) - 1), bisect_right(self._first, last)
        bounds = [*self._first[begin : end + 1], *([self._rows] if end >= len(self._first) else [])]
        for number, (start, stop) in enumerate(pairwise(bounds), begin):
            yield Shard(
                number=number,
                first=start,
                count=stop - start,
                offset=self._offset[number],
                length=self._length[number],
            )


_indexes: WeakKeyDictionary[Blobs, OrderedDict[str, _Index]] = WeakKeyDictionary()


async def shards_between(blobs: Blobs, content: DatasetContent, first: int, last: int) -> list[Shard]:
    """Find the shards that hold dataset rows `first` to `last` (0-based), in order.

    Raises:
        BlobNotFoundError: the dataset's index is gone.
        StoreDamagedError: the index cannot be read.
    """
    last = min(last, content.rows - 1)
    if last < max(first, 0):
        return []
    known = _indexes.setdefault(blobs, OrderedDict())
    index = known.setdefault(content.index, _Index())
    known.move_to_end(content.index)
    while len(known) > _KEPT:
        known.popitem(last=False)
    await index.cover(blobs, content, last)
    return list(index.between(max(first, 0), last))


async def shards_from(blobs: Blobs, content: DatasetContent, row: int) -> AsyncIterator[Shard]:
    """The shards of a dataset, in order, from the one that holds a row (0-based) on.

    Raises:
        BlobNotFoundError: the dataset's index is gone.
        StoreDamagedError: the index cannot be read.
    """
    while row < content.rows:
        for shard in await shards_between(blobs, content, row, row + _WINDOW - 1):
            yield shard
            row = shard.first + shard.count


def shard_of(line: bytes, content: DatasetContent, number: int | None = None) -> Shard:
    """Read a line of an index; with `number`, that of the shard of this number.

    Raises:
        StoreDamagedError: it is none.
    """
    try:
        shard = Shard(**orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise _damaged(content, str(error)) from error
    if number is not None and shard.number != number:
        raise _damaged(content, f"shard {shard.number} stands where shard {number} belongs")
    return shard


def _damaged(content: DatasetContent, why: str) -> StoreDamagedError:
    return StoreDamagedError(f"The index {content.index} is damaged ({why}): {remedy()}")


def remedy() -> str:
    """Say what to do with a dataset whose rows or index are damaged."""
    return f"create the dataset again from its file; {program()} doctor says what else is damaged"
