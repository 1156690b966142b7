"""Finds parts of a run's results that are gone or cannot be read; the ledger has what they are made of."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import orjson

from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.errors import BlobNotFoundError
from promptlab.ports import Blobs, Ledger


async def drop_broken_parts(ledger: Ledger, blobs: Blobs, run: RunRecord) -> int:
    """Delete the parts of a run that cannot be read, so that the next plan makes them again.

    Returns:
        How many shards have no part now.
    """
    broken = 0
    async for shard in ledger.shards(run.run_id):
        if not await _is_whole(blobs, shard):
            broken += 1
            await blobs.delete(shard.part)
    return broken


async def _is_whole(blobs: Blobs, shard: ShardSummary) -> bool:
    try:
        data = await blobs.get(shard.part)
        return await asyncio.to_thread(_lines, data) == shard.summary.get("cases")
    except (BlobNotFoundError, EOFError, OSError, zlib.error, ValueError):
        return False


def _lines(data: bytes) -> int:
    """How many rows a part has.

    Raises:
        ValueError: one of them is no JSON object.
    """
    rows = [orjson.loads(line) for line in gzip.decompress(data).splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row is no object")
    return len(rows)
