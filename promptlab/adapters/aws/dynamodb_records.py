"""The records of the DynamoDB ledger: small objects with an expiry, and counters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.adapters.aws.dynamodb_part import LedgerPart, keys, together
from promptlab.adapters.aws.dynamodb_table import Item, Key
from promptlab.adapters.records import check_listed, check_swaps, plain, to_json
from promptlab.domain.records import LISTED, Swap


def _key(kind: str, key: str) -> Key:
    """The key of a record: those that are listed share a partition, all others have one each."""
    return (f"RECORDS#{kind}", key) if kind in LISTED else (f"{kind}#{key}", "META")


def _end(expires_at: float) -> Item:
    # TTL takes whole seconds, and deletes some time after them: the exact time counts when reading.
    return {"expires_at": {"N": str(math.ceil(expires_at))}, "ends_at": {"N": repr(expires_at)}}


def _now() -> dict[str, Any]:
    return {"N": repr(time.time())}


def _has_ended(item: Item) -> bool:
    return "ends_at" in item and float(item["ends_at"]["N"]) <= time.time()


class DynamoDBRecords(LedgerPart):
    """The Records of a table."""

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
            **keys(*_key(kind, key)),
            "b": await self._bodies.pack(to_json(value), f"records/{kind}"),
        }
        if expires_at is not None:
            item |= _end(expires_at)
        if not only_if_absent:
            await self._table.write([item])
            return True
        absent = {
            "ConditionExpression": "attribute_not_exists(pk) OR ends_at <= :now",
            "ExpressionAttributeValues": {":now": _now()},
        }
        return await self._table.transact({"Put": {"Item": item, **absent}})

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        # No item has an empty key, and DynamoDB takes the question for a mistake.
        found = await self._table.get(_key(kind, key)) if key else None
        if found is None or _has_ended(found):
            return None
        return dict(await self._bodies.unpack(found["b"]))

    async def delete_record(self, kind: str, key: str) -> None:
        if key:
            await self._table.delete(_key(kind, key))

    async def swap_records(self, swaps: Sequence[Swap]) -> bool:
        check_swaps(swaps)
        actions = await together(self._swap(one) for one in swaps)
        if any(action is None for action in actions):
            return False
        return await self._table.transact(*(action for action in actions if action is not None))

    async def _swap(self, one: Swap) -> dict[str, Any] | None:
        """The action that changes a record if it is still as it was; None where it is not."""
        found = await self._table.get(key := _key(one.kind, one.key))
        if found is not None and _has_ended(found):
            found = None
        was = None if found is None else await self._bodies.unpack(found["b"])
        if was != plain(one.was):
            return None
        if found is None:
            condition, values = "attribute_not_exists(pk) OR ends_at <= :now", {":now": _now()}
        else:
            condition, values = "b = :was", {":was": found["b"]}
        held = {"ConditionExpression": condition, "ExpressionAttributeValues": values}
        if one.now is None:
            return {"Delete": {"Key": keys(*key), **held}}
        item: Item = {
            **keys(*key),
            "b": await self._bodies.pack(to_json(one.now), f"records/{one.kind}"),
            **(_end(one.expires_at) if one.expires_at is not None else {}),
        }
        return {"Put": {"Item": item, **held}}

    async def clear_records(self, kind: str) -> None:
        """Nothing: each record has a partition of its own, and goes at its end."""

    async def list_records(
        self, kind: str, *, newest: bool = False, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        check_listed(kind)
        kept: list[Item] = []
        while (wanted := limit - len(kept)) > 0:
            found = self._table.query(f"RECORDS#{kind}", newest=newest, after=after or None, limit=wanted)
            page = [item async for item in found]
            kept += [item for item in page if not _has_ended(item)]  # TTL deletes them some time later
            if len(page) < wanted:
                break
            after = page[-1]["sk"]["S"]
        values = await together(self._bodies.unpack(item["b"]) for item in kept)
        return [(item["sk"]["S"], dict(value)) for item, value in zip(kept, values, strict=True)]

    async def count_up(self, kind: str, key: str, *, by: int = 1, expires_at: float) -> tuple[int, float]:
        # Sent again after a lost answer it counts twice: for counters of tries that is the safe side.
        counter, end = _counter(kind, key), _end(expires_at)
        while True:
            now = {":now": _now()}
            added = await self._table.update_if(
                counter,
                "ADD n :by SET ends_at = if_not_exists(ends_at, :ends), "
                "expires_at = if_not_exists(expires_at, :expires)",
                "attribute_not_exists(pk) OR ends_at > :now",
                {":by": {"N": str(by)}, ":ends": end["ends_at"], ":expires": end["expires_at"], **now},
            )
            if added is not None:
                return int(added["n"]["N"]), float(added["ends_at"]["N"])
            item = {**keys(*counter), "n": {"N": str(by)}, **end}
            if await self._table.put_if(item, "ends_at <= :now", now):
                return by, expires_at


def _counter(kind: str, key: str) -> Key:
    return (f"{kind}#{key}", "COUNT")
