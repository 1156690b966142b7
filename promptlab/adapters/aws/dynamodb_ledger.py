"""The ledger of an AWS account: one DynamoDB table.

    partition key             sort key                what
    ASSETS#<kind>             <name>                  an asset, in the list of its kind
    ASSET#<kind>#<name>       V#<10 digits>           a version of it
    ASSET#<kind>#<name>       L#<label>               a label and its version
    RUNS, RUNS#<experiment>   <created_at>#<run id>   a run, in the lists by time
    RUN#<run id>              META                    the run, an attribute a field
    RUN#<run id>              SHARD#<6 digits>        the summary of a finished shard
    RUN#<run id>              P#<6 digits>            a shard that was begun; its counts once finished
    RUN#<run id>#<shard>      C#<9 digits>#<trial>    a completion
    RUN#<run id>#<shard>      S                       all score sets of the shard
    <kind>#<key>              META                    a record (session, token, …)
    SCHEMA                    META                    the version of this layout

There is no index, and a shard's scores are one item: docs/decisions/0030-dynamodb-items.md.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from typing import Any, TypeVar

from promptlab.adapters.aws import dynamodb_items as items
from promptlab.adapters.aws.dynamodb_items import CASE_BYTES, SCORES_BYTES, Bodies, number, shard_key
from promptlab.adapters.aws.dynamodb_table import DynamoDBTable, Item
from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.records import (
    after,
    asset_from,
    check_changes,
    check_limit,
    cursor_of,
    run_from,
    shard_from,
    to_json,
)
from promptlab.domain.assets import AssetKind, AssetVersion
from promptlab.domain.results import Completion, Progress, RunRecord, ScoreSet, ShardSummary
from promptlab.errors import (
    AssetNotFoundError,
    PromptLabError,
    RunExistsError,
    RunNotFoundError,
    VersionTakenError,
)
from promptlab.ports import Blobs, Clock

T = TypeVar("T")
AT_ONCE = 16
"""Blobs, assets or open shards that one call reads or writes at once."""
_RUN_FIELDS = [f.name for f in fields(RunRecord) if f.name != "run_id"]
_MAX_MARKS = 10_000
VERSION = 1
"""The version of the layout. A table without its item was made before there was one,
and has the same layout."""
_SCHEMA = ("SCHEMA", "META")


class DynamoDBLedger:
    """The Ledger in one table with the string keys `pk` and `sk`; texts too long for items go to `blobs`.

    Safe to use from several event loops; `close` closes the connections of the running one.
    The blobs are not closed: they belong to whoever made them.

    Every method raises botocore's errors as they are, and those of throttling after 30 s of retries;
    PromptLabError where part of a batch stays unwritten that long, and where the table is of a newer
    version: each process looks once, with the first run or asset that it reads or adds.
    """

    def __init__(
        self, table: str, blobs: Blobs, *, session: AwsSession | None = None, clock: Clock | None = None
    ) -> None:
        self._table = DynamoDBTable(table, session=session, clock=clock)
        self._bodies = Bodies(blobs)
        # Which (run, shard, generation) this process has marked as begun.
        self._begun: set[tuple[str, int, int]] = set()
        self._version: int | None = None

    async def _check_version(self, *, write: bool = False) -> None:
        """Hold the table's version against ours, once; with `write`, record ours where there is none.

        Raises:
            PromptLabError: the table is of a newer version.
        """
        if self._version is None:
            found = await self._table.get(_SCHEMA)
            self._version = int(found["v"]["N"]) if found else 0
        if self._version > VERSION:
            raise PromptLabError(
                f"The table {self._table.name} has schema version {self._version}, this PromptLab knows "
                f"{VERSION}: "
                "deploy the newer version of PromptLab, or use another stack."
            )
        if write and self._version < VERSION:
            ours: Item = {**_keys(*_SCHEMA), "v": {"N": str(VERSION)}}
            await self._table.put_if(ours, "attribute_not_exists(pk) OR v < :v", {":v": ours["v"]})
            self._version = VERSION

    async def add_asset(self, asset: AssetVersion) -> None:
        await self._check_version(write=True)
        data = to_json(replace(asset, labels=()))
        body = await self._bodies.pack(data, f"assets/text/{asset.kind}")
        version: Item = {
            **_keys(_asset(asset.kind, asset.name), f"V#{number(asset.version, 10, 'a version')}"),
            "b": body,
        }
        if not await self._table.transact(_put_new(version), _put(_keys(f"ASSETS#{asset.kind}", asset.name))):
            raise VersionTakenError(
                f"Version {asset.version} of {asset.kind} {asset.name!r} is recorded already: read the "
                "latest version again and retry."
            )

    async def get_asset(self, kind: AssetKind, name: str, version: int | None = None) -> AssetVersion | None:
        await self._check_version()
        prefix = "V#" if version is None else f"V#{number(version, 10, 'a version')}"
        found = await _listed(self._table.query(_asset(kind, name), prefix, newest=True, limit=1))
        return await self._asset(found[0], await self._labels(kind, name)) if found else None

    async def list_assets(self, kind: AssetKind) -> list[AssetVersion]:
        await self._check_version()
        names = [item["sk"]["S"] async for item in self._table.query(f"ASSETS#{kind}")]
        found = await _together(self.get_asset(kind, name) for name in names)
        return [asset for asset in found if asset]

    async def list_versions(self, kind: AssetKind, name: str) -> list[AssetVersion]:
        await self._check_version()
        found = await _listed(self._table.query(_asset(kind, name), "V#"))
        labels = await self._labels(kind, name)
        return await _together(self._asset(item, labels) for item in found)

    async def set_label(self, kind: AssetKind, name: str, label: str, version: int) -> None:
        there = {
            "Key": _keys(_asset(kind, name), f"V#{number(version, 10, 'a version')}"),
            "ConditionExpression": "attribute_exists(pk)",
        }
        pointer: Item = {**_keys(_asset(kind, name), f"L#{label}"), "v": {"N": str(version)}}
        if not await self._table.transact({"ConditionCheck": there}, _put(pointer)):
            raise AssetNotFoundError(f"There is no version {version} of {kind} {name!r} to label {label!r}.")

    async def delete_label(self, kind: AssetKind, name: str, label: str) -> bool:
        key = (_asset(kind, name), f"L#{label}")
        there = await self._table.get(key) is not None
        await self._table.delete(key)
        return there

    async def get_label(self, kind: AssetKind, name: str, label: str) -> int | None:
        found = await self._table.get((_asset(kind, name), f"L#{label}"))
        return int(found["v"]["N"]) if found else None

    async def _labels(self, kind: AssetKind, name: str) -> dict[int, list[str]]:
        labels: dict[int, list[str]] = {}
        async for item in self._table.query(_asset(kind, name), "L#"):
            labels.setdefault(int(item["v"]["N"]), []).append(item["sk"]["S"].removeprefix("L#"))
        return labels

    async def _asset(self, item: Item, labels: Mapping[int, Sequence[str]]) -> AssetVersion:
        body = await self._bodies.unpack(item["b"])
        return asset_from(body, labels.get(int(item["sk"]["S"].removeprefix("V#")), ()))

    async def add_run(self, run: RunRecord) -> None:
        await self._check_version(write=True)
        meta: Item = _meta(run.run_id) | await self._fields(
            run.run_id, {name: getattr(run, name) for name in _RUN_FIELDS}
        )
        if not await self._table.transact(
            _put_new(meta), *map(_put, _places(run.run_id, run.name, run.created_at))
        ):
            raise RunExistsError(f"A run {run.run_id!r} is recorded already.")

    async def get_run(self, run_id: str) -> RunRecord | None:
        await self._check_version()
        found = await self._table.get((f"RUN#{run_id}", "META"))
        return await self._run(found) if found else None

    async def update_run(
        self, run_id: str, changes: Mapping[str, Any], *, if_status: Collection[str] | None = None
    ) -> bool:
        check_changes(changes)
        await self._check_version()
        values = await self._fields(run_id, changes)
        while True:
            was = await self._table.get((f"RUN#{run_id}", "META"))
            if was is None:
                raise RunNotFoundError(run_id)
            if if_status is not None and await self._bodies.unpack(was["status"]) not in if_status:
                return False
            if not changes or await self._table.transact(
                *await self._update(was, changes, values, if_status is not None)
            ):
                return True
            # Somebody changed the status, or the run's places in the lists, in between: look again.

    async def list_runs(
        self, *, name: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunRecord], str | None]:
        check_limit(limit)
        await self._check_version()
        start = "#".join(after(cursor)) if cursor is not None else None
        pk = "RUNS" if name is None else f"RUNS#{name}"
        places = await _listed(self._table.query(pk, newest=True, after=start, limit=limit + 1))
        ids = [place["sk"]["S"].partition("#")[2] for place in places[:limit]]
        metas = {
            meta["pk"]["S"]: meta
            for meta in await self._table.get_many([(f"RUN#{run_id}", "META") for run_id in ids])
        }
        runs = await _together(
            self._run(metas[f"RUN#{run_id}"]) for run_id in ids if f"RUN#{run_id}" in metas
        )
        return runs, cursor_of(runs[-1]) if len(places) > limit else None

    async def _fields(self, run_id: str, values: Mapping[str, Any]) -> Item:
        return {
            name: await self._bodies.pack(to_json(value), f"runs/{run_id}/text/{name}")
            for name, value in values.items()
        }

    async def _run(self, meta: Item) -> RunRecord:
        values = {name: await self._bodies.unpack(meta[name]) for name in _RUN_FIELDS if name in meta}
        return run_from({"run_id": meta["pk"]["S"].removeprefix("RUN#"), **values})

    async def _update(
        self, was: Item, changes: Mapping[str, Any], values: Item, same_status: bool
    ) -> list[dict[str, dict[str, Any]]]:
        """The actions that change a run if it is still as it was read: its status where that counts, its
        places in the lists where they change."""
        place = {name: await self._bodies.unpack(was[name]) for name in ("name", "created_at")}
        run_id = was["pk"]["S"].removeprefix("RUN#")
        before, now = (
            _places(run_id, **place),
            _places(run_id, **{name: changes.get(name, value) for name, value in place.items()}),
        )
        held = [*(["status"] if same_status else []), *(place if before != now else [])]
        update = {
            "Key": _meta(run_id),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in changes),
            "ConditionExpression": " AND ".join(
                ["attribute_exists(pk)", *(f"#{name} = :was_{name}" for name in held)]
            ),
            "ExpressionAttributeNames": {f"#{name}": name for name in {*changes, *held}},
            "ExpressionAttributeValues": {
                **{f":{name}": value for name, value in values.items()},
                **{f":was_{name}": was[name] for name in held},
            },
        }
        gone = [{"Delete": {"Key": place}} for place in before if place not in now]
        return [{"Update": update}, *gone, *(_put(place) for place in now if place not in before)]

    async def delete_run(self, run_id: str) -> bool:
        meta = await self._table.get((f"RUN#{run_id}", "META"))
        marks = [item["sk"]["S"] async for item in self._table.query(f"RUN#{run_id}", "P#")]
        for mark in marks:
            shard = shard_key(run_id, int(mark.removeprefix("P#")))
            await self._table.delete_all(
                [(shard, item["sk"]["S"]) async for item in self._table.query(shard)]
            )
        summaries = [item["sk"]["S"] async for item in self._table.query(f"RUN#{run_id}", "SHARD#")]
        await self._table.delete_all((f"RUN#{run_id}", sk) for sk in (*summaries, *marks))
        self._begun -= {mark for mark in list(self._begun) if mark[0] == run_id}
        if meta is None:
            return False
        place = {name: await self._bodies.unpack(meta[name]) for name in ("name", "created_at")}
        gone = [*_places(run_id, **place), _meta(run_id)]
        await self._table.transact(*({"Delete": {"Key": key}} for key in gone))
        return True

    async def put_completions(self, run_id: str, completions: Sequence[Completion]) -> None:
        begun = {(run_id, c.shard, c.generation) for c in completions} - self._begun
        marks = [items.progress_item(run_id, shard, None) for _, shard, _ in begun]
        await self._table.write([*marks, *await _together(self._case(run_id, c) for c in completions)])
        if len(self._begun) > _MAX_MARKS:
            self._begun.clear()
        self._begun |= begun

    async def _case(self, run_id: str, c: Completion) -> Item:
        stem = f"runs/{run_id}/text/{c.shard}/{c.case}-{c.trial}-{c.generation}"
        return items.case_item(run_id, c, await self._bodies.pack(items.case_body(c), stem, CASE_BYTES))

    async def get_completions(self, run_id: str, shard: int) -> list[Completion]:
        async def completion(item: Item) -> Completion:
            return items.completion_of(item, await self._bodies.unpack(item["b"]))

        found = await _listed(self._table.query(shard_key(run_id, shard), "C#"))
        return sorted(await _together(map(completion, found)), key=lambda c: c.key)

    async def put_scores(self, run_id: str, scores: Sequence[ScoreSet]) -> None:
        by_shard = groupby(sorted(scores, key=lambda s: s.shard), key=lambda s: s.shard)
        await _together([self._put_shard_scores(run_id, shard, list(sets)) for shard, sets in by_shard])

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
                **_keys(shard_key(run_id, shard), "S"),
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
        counts = items.counted(await _listed(self._table.query(shard_key(run_id, shard.number), "C#")))
        body = await self._bodies.pack(to_json(shard), f"runs/{run_id}/text/{shard.number}/summary")
        summary: Item = {**_keys(f"RUN#{run_id}", f"SHARD#{number(shard.number, 6, 'a shard')}"), "b": body}
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
        for cases in await _together(
            _listed(self._table.query(shard_key(run_id, shard), "C#")) for shard in open_shards
        ):
            total = items.added(total, items.counted(cases))
        return total

    async def put_record(
        self,
        kind: str,
        key: str,
        value: Mapping[str, Any],
        *,
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        item: Item = {
            **_keys(f"{kind}#{key}", "META"),
            "b": await self._bodies.pack(to_json(value), f"records/{kind}"),
        }
        if expires_at is not None:
            # TTL takes whole seconds, and deletes some time after them: the exact time counts when reading.
            item |= {"expires_at": {"N": str(math.ceil(expires_at))}, "ends_at": {"N": repr(expires_at)}}
        if not only_if_absent:
            await self._table.write([item])
            return True
        absent = {
            "ConditionExpression": "attribute_not_exists(pk) OR ends_at <= :now",
            "ExpressionAttributeValues": {":now": {"N": repr(time.time())}},
        }
        return await self._table.transact({"Put": {"Item": item, **absent}})

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        found = await self._table.get((f"{kind}#{key}", "META"))
        if found is None or ("ends_at" in found and float(found["ends_at"]["N"]) <= time.time()):
            return None
        return dict(await self._bodies.unpack(found["b"]))

    async def delete_record(self, kind: str, key: str) -> None:
        await self._table.delete((f"{kind}#{key}", "META"))

    async def check(self) -> None:
        """Do nothing: DynamoDB looks after its own disks."""

    async def close(self) -> None:
        await self._table.aclose()


def _asset(kind: AssetKind, name: str) -> str:
    return f"ASSET#{kind}#{name}"


def _keys(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _meta(run_id: str) -> Item:
    return _keys(f"RUN#{run_id}", "META")


def _put(item: Item) -> dict[str, dict[str, Any]]:
    return {"Put": {"Item": item}}


def _put_new(item: Item) -> dict[str, dict[str, Any]]:
    return {"Put": {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def _places(run_id: str, name: str, created_at: str) -> list[Item]:
    """Return a run's keys in the lists."""
    return [_keys(pk, f"{created_at}#{run_id}") for pk in ("RUNS", f"RUNS#{name}")]


async def _listed(found: AsyncIterator[T]) -> list[T]:
    return [item async for item in found]


async def _together(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, in order, AT_ONCE at a time; where some fail, the first
    error, once all have ended."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(job: Awaitable[T]) -> T:
        async with gate:
            return await job

    ends = await asyncio.gather(*map(one, jobs), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if not isinstance(end, BaseException)]
