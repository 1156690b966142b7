"""Reads the rows of a dataset: a shard, the index of its shards, a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from promptlab.assets.shard_index import remedy, shard_of, shards_between
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.errors import StoreDamagedError
from promptlab.ports import Blobs

_PARSE_INLINE = 256 * 1024  # parses in well under a millisecond
PAGE_BYTES = 16 << 20
"""A page reads no further shard once it has read so many bytes: 500 rows of 10 MB would be 5 GB."""


def row_id(row: Mapping[str, Any], content: DatasetContent, case: int) -> str:
    """How a row is called: its id, or its number (0-based)."""
    return str(case) if content.id_column is None else str(row[content.id_column])


async def read_rows(blobs: Blobs, content: DatasetContent, shard: Shard) -> list[dict[str, Any]]:
    """The rows of a shard, with one read.

    Raises:
        BlobNotFoundError: the dataset's rows are gone.
    """
    data = await blobs.get(content.blob, offset=shard.offset, length=shard.length)
    return _parse(data) if len(data) <= _PARSE_INLINE else await asyncio.to_thread(_parse, data)


async def read_index(blobs: Blobs, content: DatasetContent) -> AsyncGenerator[Shard, None]:
    """The shards of a dataset, in order.

    Raises:
        BlobNotFoundError: the dataset's index is gone.
    """
    rest = b""
    stream = blobs.stream(content.index)
    try:
        async for piece in stream:
            *lines, rest = (rest + piece).split(b"\n")
            for number, line in enumerate(lines):
                yield shard_of(line, content)
                if number % 1_000 == 999:  # a piece has ten thousand lines: 25 ms
                    await asyncio.sleep(0)
    finally:
        if isinstance(stream, AsyncGenerator):  # a reader that stops early leaves no file open
            await stream.aclose()


async def rows_page(blobs: Blobs, content: DatasetContent, offset: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows from row `offset` (0-based) on, reading only the shards that hold them.

    Long rows make it fewer, but never none where there is one.

    Raises:
        BlobNotFoundError: the dataset's rows or index are gone.
    """
    rows: list[dict[str, Any]] = []
    end, read = min(offset + limit, content.rows), 0
    for shard in await shards_between(blobs, content, offset, end - 1):
        if rows and (read := read + shard.length) > PAGE_BYTES:
            break
        here = await read_rows(blobs, content, shard)
        rows += here[max(0, offset - shard.first) : end - shard.first]
    return rows


def _parse(data: bytes) -> list[dict[str, Any]]:
    try:
        return [orjson.loads(line) for line in data.splitlines()]
    except orjson.JSONDecodeError as error:
        raise StoreDamagedError(f"The stored rows of a dataset are damaged ({error}): {remedy()}") from error
