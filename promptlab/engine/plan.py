"""The plan step: which shards of a run have work left."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.domain.summary import Summary
from promptlab.engine.ingest import read_index
from promptlab.ports import Blobs, Ledger

FLUSH_LINES = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do."""

    manifest: str
    """Key of the manifest: one JSON line a shard."""
    shards: int
    """Lines in it."""


async def plan(ledger: Ledger, blobs: Blobs, run: RunRecord, content: DatasetContent) -> Plan:
    """Write the manifest of the shards that have work left, in memory that does not grow with them.

    Raises:
        BlobNotFoundError: the dataset's content is gone.
    """
    finished = {s.number async for s in ledger.shards(run.run_id) if not _unfinished(s, run)}
    key, count = f"runs/{run.run_id}/manifest-{run.generation}.jsonl", 0
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        path, lines = Path(folder) / "manifest.jsonl", list[bytes]()
        async for shard in read_index(blobs, content):
            if shard.number not in finished:
                lines.append(
                    orjson.dumps(
                        {
                            "key": content.blob,
                            "number": shard.number,
                            "first": shard.first,
                            "count": shard.count,
                            "offset": shard.offset,
                            "length": shard.length,
                        }
                    )
                )
                count += 1
            if len(lines) >= FLUSH_LINES:
                await asyncio.to_thread(_append, path, lines)
                lines = []
        await asyncio.to_thread(_append, path, lines)
        await blobs.put_file(key, path)
    await ledger.update_run(run.run_id, {"manifest": key})
    return Plan(key, count)


def _unfinished(shard: ShardSummary, run: RunRecord) -> bool:
    """Whether a shard that was finished once has failures that this pass does again."""
    return shard.generation < run.redo_before and Summary.from_json(shard.summary).failed > 0


def _append(path: Path, lines: list[bytes]) -> None:
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


async def read_manifest(blobs: Blobs, key: str) -> AsyncIterator[Shard]:
    """The shards of a manifest, streamed.

    Raises:
        BlobNotFoundError: there is no such manifest.
    """
    rest = b""
    async for piece in blobs.stream(key):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield shard_from(orjson.loads(line))


def shard_from(line: dict[str, int | str]) -> Shard:
    """The shard of one manifest line."""
    return Shard(**{name: int(line[name]) for name in ("number", "first", "count", "offset", "length")})
