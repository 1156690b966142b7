"""Ledger records as DynamoDB items and back.

Whatever is only kept is one JSON text in one attribute: DynamoDB's own numbers hold neither 1e-300
nor 1.8e308, and its maps cost more bytes. A text that would need a second write unit is deflated, a
large one goes to the blobs. Only what is counted without reading the rest stands beside it, in `n`.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from promptlab.adapters.aws.dynamodb_table import Item
from promptlab.adapters.records import (
    FAULTS,
    completion_body,
    completion_from,
    damaged,
    score_set_from,
    to_json,
)
from promptlab.domain.results import CaseKey, Completion, Progress, Score, ScoreSet
from promptlab.domain.spending import NAMES, Sums, spent, summed
from promptlab.domain.turns import TurnKey
from promptlab.errors import BlobNotFoundError
from promptlab.ports import Blobs

PLAIN_BYTES = 800
"""Longer JSON is deflated: with its keys, up to this is one write unit (1 KB)."""
CASE_BYTES = 4096
"""A case's text above this, deflated, goes to the blobs: progress reads every case of an open shard."""
SCORES_BYTES = 8192
"""A shard's scores above this, deflated, go to the blobs: an S3 PUT costs as much as 8 write units."""
RECORD_BYTES = 65536
"""The same for what there are few of: runs' fields, assets, shard summaries. Six of
them fit an item (400 KB)."""

REMEDY = "Restore the table to a point in time at which it was whole."

_CASE_FIELDS = {f.name: f for f in dataclasses.fields(Completion)}
_ELSEWHERE = {"shard", "case", "trial", "prompt_tokens", "completion_tokens", "cost_usd"}
_SCORE_FIELDS = [f.name for f in dataclasses.fields(Score)]


class Bodies:
    """Packs JSON into attributes and unpacks it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def pack(self, data: bytes, stem: str, limit: int = RECORD_BYTES) -> dict[str, Any]:
        """The attribute for JSON text: itself, deflated, or (above `limit` bytes) the name of a blob that is
        written now.

        The blob's key is `stem`, a hash of the content and `.json.gz`: what an item points at never changes.
        """
        if len(data) <= PLAIN_BYTES:
            return {"S": data.decode()}
        small = zlib.compress(data, 9)
        if len(small) <= limit:
            return {"B": small}
        key = f"{stem}-{hashlib.sha256(data).hexdigest()[:32]}.json.gz"
        await self._blobs.put(key, gzip.compress(data, mtime=0))
        return {"M": {"blob": {"S": key}}}

    async def forget(self, attribute: Mapping[str, Any]) -> None:
        """Remove the blob of an attribute that has one, before the attribute itself goes."""
        if "M" in attribute:
            await self._blobs.erase(attribute["M"]["blob"]["S"])

    async def unpack(self, attribute: Mapping[str, Any]) -> Any:
        """The JSON value of an attribute.

        Raises:
            StoreDamagedError: it is none of ours, or was in a blob, and that is gone.
        """
        try:
            if "S" in attribute:
                return orjson.loads(attribute["S"])
            if "B" in attribute:
                return orjson.loads(zlib.decompress(attribute["B"]))
            blob = await self._blobs.get(attribute["M"]["blob"]["S"])
            return orjson.loads(gzip.decompress(blob))
        except (*FAULTS, zlib.error, gzip.BadGzipFile, EOFError, BlobNotFoundError) as error:
            raise damaged(error, REMEDY) from error


def number(value: int, digits: int, what: str) -> str:
    """A number as a part of a sort key, which orders as text.

    Raises:
        ValueError: it is out of range.
    """
    if not 0 <= value < 10**digits:
        raise ValueError(f"{what} must be between 0 and {10**digits - 1:,} in this ledger, got {value:,}")
    return f"{value:0{digits}}"


def shard_key(run_id: str, shard: int) -> str:
    """The partition of a shard's cases."""
    return f"RUN#{run_id}#{shard}"


def turn_prefix(key: CaseKey) -> str:
    """Return what the sort keys of a case's turns begin with."""
    return f"T#{number(key.case, 9, 'a case')}#{key.trial}#"


def turn_key(key: TurnKey) -> str:
    """The sort key of a turn."""
    return f"{turn_prefix(CaseKey(key.case, key.trial))}{number(key.number, 4, 'a turn')}"


def case_body(completion: Completion) -> bytes:
    """Return the body of a completion's item, without its keys and counts: every field that
    differs from its default."""
    kept = {
        name: value
        for name, value in completion_body(completion).items()
        if name not in _ELSEWHERE and not _is_default(name, value)
    }
    return to_json(kept)


def _is_default(name: str, value: Any) -> bool:
    field = _CASE_FIELDS[name]
    return bool(value == ({} if field.default is dataclasses.MISSING else field.default))


def case_item(run_id: str, completion: Completion, body: Mapping[str, Any]) -> Item:
    """The item of a completion."""
    c = completion
    return {
        "pk": {"S": shard_key(run_id, c.shard)},
        "sk": {"S": f"C#{number(c.case, 9, 'a case')}#{c.trial}"},
        "n": {
            "S": to_json(
                [int(c.error is not None), c.prompt_tokens, c.completion_tokens, c.cost_usd]
            ).decode()
        },
        "b": dict(body),
    }


def completion_of(item: Item, body: Mapping[str, Any]) -> Completion:
    """The completion of an item."""
    _, case, trial = item["sk"]["S"].split("#")
    _, prompt_tokens, completion_tokens, cost_usd, *_ = orjson.loads(item["n"]["S"])
    keys = {"shard": int(item["pk"]["S"].rpartition("#")[2]), "case": int(case), "trial": int(trial)}
    return completion_from(
        {
            **keys,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cost_usd": cost_usd,
            **body,
        }
    )


def counted(items: Iterable[Item], total: int = 0) -> Progress:
    """Sum up completions."""
    done = failed = 0
    sums = Sums()
    for item in items:
        error, prompt_tokens, completion_tokens, cost_usd, *_ = orjson.loads(item["n"]["S"])
        done, failed = done + 1, failed + error
        sums = Sums(**summed(sums, spent(prompt_tokens, completion_tokens, cost_usd, failed=bool(error))))
    return Progress(total=total, done=done, failed=failed, **summed(Sums(), sums))


def added(a: Progress, b: Progress) -> Progress:
    """The sum of two shards' progress; `total` is that of the first."""
    return Progress(
        total=a.total,
        done=a.done + b.done,
        failed=a.failed + b.failed,
        **summed(a, b),
    )


def progress_item(run_id: str, shard: int, progress: Progress | None) -> Item:
    """How far a shard is: its counts once it is finished, none while it is open."""
    item: Item = {"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": f"P#{number(shard, 6, 'a shard')}"}}
    if progress is not None:
        sums = [getattr(progress, name) for name in NAMES]
        while sums[-1] == 0 and len(sums) > 3:
            sums.pop()  # most often nothing is unknown
        item["n"] = {"S": to_json([progress.done, progress.failed, *sums]).decode()}
    return item


def progress_of(item: Item) -> Progress | None:
    """The counts of a finished shard; None for an open one."""
    if "n" not in item:
        return None
    done, failed, *sums = orjson.loads(item["n"]["S"])
    return Progress(total=0, done=done, failed=failed, **dict(zip(NAMES, sums, strict=False)))


def scores_body(sets: Mapping[CaseKey, ScoreSet]) -> bytes:
    """The score sets of one shard: `[[case, trial, generation, {metric: {field: value, …}, …}], …]`, without
    fields that are None or empty."""
    return to_json(
        [
            [s.case, s.trial, s.generation, {name: _score_item(score) for name, score in s.scores.items()}]
            for _, s in sorted(sets.items())
        ]
    )


def _score_item(score: Score) -> dict[str, Any]:
    return {
        name: value for name in _SCORE_FIELDS if (value := getattr(score, name)) is not None and value != {}
    }


def score_sets_of(shard: int, body: Iterable[Sequence[Any]]) -> dict[CaseKey, ScoreSet]:
    """The score sets of a shard, by case and trial."""
    sets = (
        score_set_from(
            {"shard": shard, "case": case, "trial": trial, "generation": generation, "scores": scores}
        )
        for case, trial, generation, scores, *_ in body
    )
    return {s.key: s for s in sets}
