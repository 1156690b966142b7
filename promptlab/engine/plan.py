"""The plan step: which shards of a run have work left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import orjson

from promptlab.assets.rows import read_index
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.domain.stopping import Reach
from promptlab.domain.summary import Summary
from promptlab.errors import StoreDamagedError
from promptlab.ports import Blobs, Ledger
from promptlab.scratch import ScratchFolder

FLUSH_LINES = 1000
MOST_TOGETHER = 8
"""Shards of one line of a manifest at most. A child of the state machine costs six transitions
($0.00015) whatever its length: as much as 240 write units. With one shard each, 100,000 rows cost $0.30
in transitions alone; with
    seven, $0.04."""
SLOWER = 0.05
"""The share that lines of several shards may add to the length of a run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run: its shards and lines."""

    manifest: str
    """Key of the manifest: one JSON line a shard, or a line for several."""
    shards: int
    """Shards in it."""
    answered: int = 0
    """Answered cases of the shards that are not in it, which are finished."""


def together(shards: int, at_once: int, trials: int) -> int:
    """How many shards one worker is given, where `at_once` work at the same time.

    The most that leave each worker two turns and make the run no more than SLOWER longer: where the last turn
    has work for a few workers only, the others wait for lines of many shards longer than for single ones.
    """
    alone = ceil(shards / at_once)

    def fits(size: int) -> bool:
        return (
            shards >= 2 * size * at_once
            and size * ceil(ceil(shards / size) / at_once) <= (1 + SLOWER) * alone
        )

    return max((size for size in range(2, MOST_TOGETHER // trials + 1) if fits(size)), default=1)


async def plan(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    *,
    at_once: int | None = None,
    trials: int = 1,
    parts: Collection[str] | None = None,
    on_finished: Callable[[ShardSummary], None] = lambda shard: None,
    reach: Reach | None = None,
) -> Plan:
    """Write the manifest of the shards that have work left, in memory that does not grow with them.

    Args:
        ledger: where the run is.
        blobs: where the dataset is, and the manifest goes.
        run: the run.
        content: its dataset.
        at_once: lines that will be worked on at the same time; None: each shard is a line.
        trials: how often each row is asked.
        parts: the keys of the parts that there are; a shard without its part is planned
            again. None: all are there.
        on_finished: called with each shard that has nothing left to do.
        reach: the cases that may be done by now, of a run that may end early; None for all.

    Raises:
        BlobNotFoundError: the dataset's content is gone.
    """
    finished, answered, needed = set[int](), 0, dict[int, int]()
    if run.stop is not None:  # its shards are finished as often as it goes further
        async for shard in read_index(blobs, content):
            rows = shard.count if reach is None else reach.count(shard.first, shard.count)
            needed[shard.number] = rows * trials
            if not rows:
                finished.add(shard.number)
    async for summary in ledger.shards(run.run_id):
        if int(summary.summary.get("cases", 0)) < needed.get(summary.number, 0):
            continue
        if not _unfinished(summary, run) and (parts is None or summary.part in parts):
            finished.add(summary.number)
            on_finished(summary)
            answered += int(summary.summary.get("succeeded", 0))
    key, count = f"runs/{run.run_id}/manifest-{run.generation}.jsonl", 0
    size = together(content.shards - len(finished), at_once, trials) if at_once else 1
    with ScratchFolder() as folder:
        path, lines, group = folder / "manifest.jsonl", list[bytes](), list[Shard]()
        async for shard in read_index(blobs, content):
            if shard.number not in finished:
                group.append(shard)
                count += 1
            if len(group) == size:
                lines.append(_line(content, group))
                group = []
            if len(lines) >= FLUSH_LINES:
                await asyncio.to_thread(_append, path, lines)
                lines = []
        await asyncio.to_thread(_append, path, [*lines, *([_line(content, group)] if group else [])])
        await blobs.put_file(key, path)
    await ledger.update_run(run.run_id, {"manifest": key})
    return Plan(key, count, answered)


def _line(content: DatasetContent, shards: Sequence[Shard]) -> bytes:
    first, *more = (
        {"number": s.number, "first": s.first, "count": s.count, "offset": s.offset, "length": s.length}
        for s in shards
    )
    return orjson.dumps({"key": content.blob, **first, **({"more": more} if more else {})})


def _unfinished(shard: ShardSummary, run: RunRecord) -> bool:
    """Whether a shard that was finished once has failures that this pass does again, is to be scored again,
    or was left in its middle when a budget was reached."""
    if shard.partial or shard.generation < run.score_before:
        return True
    try:
        return shard.generation < run.redo_before and Summary.from_json(shard.summary).has_failures
    except StoreDamagedError:
        return True  # It is scored and summed again, from the recorded answers.


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
            found = orjson.loads(line)
            for shard in (found, *found.get("more", ())):
                yield Shard(
                    **{name: int(shard[name]) for name in ("number", "first", "count", "offset", "length")}
                )
