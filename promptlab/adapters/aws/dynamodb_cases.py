"""Answers, scores and shards of runs in the ledger's table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from itertools import groupby

from promptlab.adapters.aws import dynamodb_items as items
from promptlab.adapters.aws.dynamodb_items import CASE_BYTES, SCORES_BYTES, number, shard_key
from promptlab.adapters.aws.dynamodb_part import LedgerPart, keys, listed, together
from promptlab.adapters.aws.dynamodb_table import Item
from promptlab.adapters.records import shard_from, to_json, turn_body, turn_from
from promptlab.domain.results import CaseKey, Completion, Progress, ScoreSet, ShardSummary
from promptlab.domain.turns import Turn
from promptlab.errors import RunNotFoundError

_MAX_MARKS = 10_000


class DynamoDBCases(LedgerPart):
    """The ledger's methods for completions, score sets, shards and progress."""

    async def put_completions(self, run_id: str, completions: Sequence[Completion]) -> None:
        marked = {(run_id, c.shard, c.generation) for c in completions}
        await self._write(marked, await together(self._case(run_id, c) for c in completions))

    async def _write(self, marked: set[tuple[str, int, int]], found: Iterable[Item]) -> None:
        """Write what is recorded of shards, and with it the marks by which they are found again."""
        begun = marked - self._begun
        marks = [items.progress_item(run_id, shard, None) for run_id, shard, _ in begun]
        await self._table.write([*marks, *found])
        if len(self._begun) > _MAX_MARKS:
            self._begun.clear()
        self._begun |= begun

    async def _case(self, run_id: str, c: Completion) -> Item:
        stem = f"runs/{run_id}/text/{c.shard}/{c.case}-{c.trial}-{c.generation}"
        return items.case_item(run_id, c, await self._bodies.pack(items.case_body(c), stem, CASE_BYTES))

    async def get_completions(self, run_id: str, shard: int) -> list[Completion]:
        async def completion(item: Item) -> Completion:
            return items.completion_of(item, await self._bodies.unpack(item["b"]))

        found = await listed(self._table.query(shard_key(run_id, shard), "C#"))
        return sorted(await together(map(completion, found)), key=lambda c: c.key)

    async def put_turns(self, run_id: str, turns: Sequence[Turn]) -> None:
        marked = {(run_id, t.shard, t.generation) for t in turns}
        await self._write(marked, await together(self._turn(run_id, t) for t in turns))

    async def _turn(self, run_id: str, t: Turn) -> Item:
        stem = f"runs/{run_id}/text/{t.shard}/{t.case}-{t.trial}-turn-{t.number}"
        body = await self._bodies.pack(to_json(turn_body(t)), stem, CASE_BYTES)
        return {**keys(shard_key(run_id, t.shard), items.turn_key(t.key)), "b": body}

    async def get_turns(self, run_id: str, shard: int) -> list[Turn]:
        async def turn(item: Item) -> Turn:
            return turn_from(await self._bodies.unpack(item["b"]))

        found = await listed(self._table.query(shard_key(run_id, shard), "T#"))
        return sorted(await together(map(turn, found)), key=lambda t: t.key)

    async def clear_turns(self, run_id: str, shard: int, cases: Collection[CaseKey]) -> None:
        # Texts too long for their items stay under the run's key, and go with the run.
        pk = shard_key(run_id, shard)
        for key in cases:
            found = self._table.query(pk, items.turn_prefix(key), only_keys=True)
            await self._table.delete_all([(pk, item["sk"]["S"]) async for item in found])

    async def put_scores(self, run_id: str, scores: Sequence[ScoreSet]) -> None:
        by_shard = groupby(sorted(scores, key=lambda s: s.shard), key=lambda s: s.shard)
        await together([self._put_shard_scores(run_id, shard, list(sets)) for shard, sets in by_shard])

    async def _put_shard_scores(self, run_id: str, shard: int, scores: Sequence[ScoreSet]) -> None:
        """Put the score sets beside those that are there; the one item is replaced only as it was read."""
        known = new = {s.key: s for s in scores}
        # A shard is mostly scored once: try without reading.
        old: Item = {"v": {"N": "0"}}
        while True:
            body = await self._bodies.pack(
                items.scores_body(known), f"runs/{run_id}/text/{shard}/scores", SCORES_BYTES
            )
            if body == old.get("b"):
                return  # all there already; it may be this very write, whose answer was lost
            item: Item = {
                **keys(shard_key(run_id, shard), "S"),
                "v": {"N": str(int(old["v"]["N"]) + 1)},
                "b": body,
            }
            condition, values = (
                ("v = :v", {":v": old["v"]}) if "b" in old else ("attribute_not_exists(pk)", None)
            )
            if await self._table.put_if(item, condition, values):
                return
            found = await self._table.get((shard_key(run_id, shard), "S"))
            if found:
                old, known = found, items.score_sets_of(shard, await self._bodies.unpack(found["b"])) | new

    async def get_scores(self, run_id: str, shard: int) -> list[ScoreSet]:
        found = await self._table.get((shard_key(run_id, shard), "S"))
        sets = items.score_sets_of(shard, await self._bodies.unpack(found["b"])) if found else {}
        return [sets[key] for key in sorted(sets)]

    async def put_shard(self, run_id: str, shard: ShardSummary) -> None:
        counts = items.counted(await listed(self._table.query(shard_key(run_id, shard.number), "C#")))
        body = await self._bodies.pack(to_json(shard), f"runs/{run_id}/text/{shard.number}/summary")
        summary: Item = {**keys(f"RUN#{run_id}", f"SHARD#{number(shard.number, 6, 'a shard')}"), "b": body}
        await self._table.write([summary, items.progress_item(run_id, shard.number, counts)])
        # What comes after this opens the shard again.
        self._begun -= {mark for mark in list(self._begun) if mark[:2] == (run_id, shard.number)}

    async def shards(self, run_id: str) -> AsyncIterator[ShardSummary]:
        async for item in self._table.query(f"RUN#{run_id}", "SHARD#"):
            yield shard_from(await self._bodies.unpack(item["b"]))

    async def progress(self, run_id: str) -> Progress:
        """As the port says. A finished shard is as it was counted when its summary was written; an open one
        is counted now.

        That costs a read unit for each 51 finished shards (20,000 of them: 390), and 5 for each open shard of
        50 answers of 150 letters.
        """
        meta = await self._table.get((f"RUN#{run_id}", "META"))
        if meta is None:
            raise RunNotFoundError(run_id)
        total, open_shards = Progress(total=await self._bodies.unpack(meta["cases"])), []
        async for item in self._table.query(f"RUN#{run_id}", "P#"):
            counts = items.progress_of(item)
            if counts is None:
                open_shards.append(int(item["sk"]["S"].removeprefix("P#")))
            else:
                total = items.added(total, counts)
        for cases in await together(
            listed(self._table.query(shard_key(run_id, shard), "C#")) for shard in open_shards
        ):
            total = items.added(total, items.counted(cases))
        return total
