"""Runs and their places in the lists in the ledger's table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from promptlab.adapters.aws.dynamodb_items import REMEDY, number, shard_key
from promptlab.adapters.aws.dynamodb_part import LedgerPart, listed, meta_key, places, put, put_new, together
from promptlab.adapters.aws.dynamodb_table import Item
from promptlab.adapters.records import (
    FAULTS,
    after,
    check_changes,
    check_limit,
    cursor_at,
    damaged,
    plain,
    run_from,
    to_json,
    unreadable,
)
from promptlab.domain.outline import RunOutline
from promptlab.domain.results import RunRecord
from promptlab.errors import RunExistsError, RunNotFoundError, StoreDamagedError

T = TypeVar("T")
_SHARDS_AT_ONCE = 100
_RUN_FIELDS = [f.name for f in fields(RunRecord) if f.name != "run_id"]


class DynamoDBRuns(LedgerPart):
    """The ledger's methods for runs."""

    async def add_run(self, run: RunRecord) -> None:
        await self._check_version(write=True)
        meta: Item = meta_key(run.run_id) | await self._fields(
            run.run_id, {name: getattr(run, name) for name in _RUN_FIELDS}
        )
        if not await self._table.transact(
            put_new(meta), *map(put, places(run.run_id, run.name, run.created_at))
        ):
            raise RunExistsError(f"A run {run.run_id!r} is recorded already.")

    async def get_run(self, run_id: str) -> RunRecord | None:
        await self._check_version()
        found = await self._table.get((f"RUN#{run_id}", "META"))
        return await self._run(found) if found else None

    async def update_run(
        self,
        run_id: str,
        changes: Mapping[str, Any],
        *,
        if_status: Collection[str] | None = None,
        if_is: Mapping[str, Any] | None = None,
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
            if if_is and not await self._is(was, if_is):
                return False
            held = [*(["status"] if if_status is not None else []), *(if_is or ())]
            if not changes or await self._table.transact(*await self._update(was, changes, values, held)):
                return True
            # Somebody changed what was looked at, or the run's places in the lists, in between: look again.

    async def _is(self, was: Item, if_is: Mapping[str, Any]) -> bool:
        """Whether fields have these values; one that an older version did not write has its default."""
        run = await self._run(was)
        return all(plain(getattr(run, name)) == plain(value) for name, value in if_is.items())

    async def list_runs(
        self, *, name: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunRecord], str | None]:
        check_limit(limit)
        await self._check_version()
        start = "#".join(after(cursor)) if cursor is not None else None
        pk = "RUNS" if name is None else f"RUNS#{name}"
        found = await listed(self._table.query(pk, newest=True, after=start, limit=limit + 1))
        page = {}
        for place in found[:limit]:
            created_at, _, run_id = place["sk"]["S"].partition("#")
            page[run_id] = created_at
        metas = await self._table.get_many([(f"RUN#{run_id}", "META") for run_id in page])
        by_id = {_id(meta): meta for meta in metas}
        runs = await together(
            self._listed(by_id[run_id], created_at) for run_id, created_at in page.items() if run_id in by_id
        )
        more = len(found) > limit
        return runs, cursor_at(*reversed(page.popitem())) if more else None

    async def outline_runs(
        self, *, metrics: Collection[str] | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunOutline], str | None]:
        runs, cursor = await self.list_runs(limit=limit, cursor=cursor)
        return [RunOutline.of(run, metrics) for run in runs], cursor

    async def _fields(self, run_id: str, values: Mapping[str, Any]) -> Item:
        return {
            name: await self._bodies.pack(to_json(value), f"runs/{run_id}/text/{name}")
            for name, value in values.items()
        }

    async def _run(self, meta: Item) -> RunRecord:
        """The run of an item.

        Raises:
            StoreDamagedError: it is no run.
        """
        values = {name: await self._bodies.unpack(meta[name]) for name in _RUN_FIELDS if name in meta}
        try:
            return run_from({"run_id": _id(meta), **values})
        except FAULTS as error:
            raise damaged(error, REMEDY) from error

    async def _listed(self, meta: Item, created_at: str) -> RunRecord:
        """The run of an item, or one in its place that says why it cannot be read."""
        try:
            return await self._run(meta)
        except StoreDamagedError as error:
            name, cases = await self._field(meta, "name", "?"), await self._field(meta, "cases", 0)
            return unreadable(_id(meta), name, created_at, cases, str(error))

    async def _field(self, meta: Item, name: str, default: T) -> T:
        try:
            value = await self._bodies.unpack(meta[name])
        except (KeyError, StoreDamagedError):
            return default
        return value if isinstance(value, type(default)) else default

    async def _update(
        self, was: Item, changes: Mapping[str, Any], values: Item, looked_at: Sequence[str]
    ) -> list[dict[str, dict[str, Any]]]:
        """The actions that change a run if it is still as it was read: the fields that were looked at, its
        places in the lists where they change."""
        place = {name: await self._bodies.unpack(was[name]) for name in ("name", "created_at")}
        run_id = _id(was)
        before, now = (
            places(run_id, **place),
            places(run_id, **{name: changes.get(name, value) for name, value in place.items()}),
        )
        held = dict.fromkeys((*looked_at, *(place if before != now else [])))
        update = {
            "Key": meta_key(run_id),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in changes),
            "ConditionExpression": " AND ".join(
                ["attribute_exists(pk)", *(_as_read(name, was) for name in held)]
            ),
            "ExpressionAttributeNames": {f"#{name}": name for name in {*changes, *held}},
            "ExpressionAttributeValues": {
                **{f":{name}": value for name, value in values.items()},
                **{f":was_{name}": was[name] for name in held if name in was},
            },
        }
        gone = [{"Delete": {"Key": place}} for place in before if place not in now]
        return [{"Update": update}, *gone, *(put(place) for place in now if place not in before)]

    async def delete_run(self, run_id: str) -> bool:
        meta = await self._table.get((f"RUN#{run_id}", "META"))
        while numbers := await self.shard_numbers(run_id, limit=_SHARDS_AT_ONCE):
            await self.clear_shards(run_id, numbers)
        if meta is None:
            return False
        place = {name: await self._bodies.unpack(meta[name]) for name in ("name", "created_at")}
        gone = [*places(run_id, **place), meta_key(run_id)]
        await self._table.transact(*({"Delete": {"Key": key}} for key in gone))
        return True

    async def shard_numbers(self, run_id: str, *, limit: int) -> list[int]:
        # A shard is marked as begun before, or with, whatever else is recorded of it.
        marks = self._table.query(f"RUN#{run_id}", "P#", limit=limit, only_keys=True)
        return [int(mark["sk"]["S"].removeprefix("P#")) async for mark in marks]

    async def clear_shards(self, run_id: str, numbers: Collection[int]) -> None:
        for shard in numbers:
            pk = shard_key(run_id, shard)
            found = self._table.query(pk, only_keys=True)
            await self._table.delete_all([(pk, item["sk"]["S"]) async for item in found])
        # The marks go last: by them the rest is found again.
        for kind in ("SHARD", "P"):
            digits = [number(shard, 6, "a shard") for shard in numbers]
            await self._table.delete_all([(f"RUN#{run_id}", f"{kind}#{of}") for of in digits])
        self._begun -= {mark for mark in list(self._begun) if mark[0] == run_id and mark[1] in numbers}


def _as_read(name: str, was: Item) -> str:
    return f"#{name} = :was_{name}" if name in was else f"attribute_not_exists(#{name})"


def _id(meta: Item) -> str:
    run_id: str = meta["pk"]["S"]
    return run_id.removeprefix("RUN#")
