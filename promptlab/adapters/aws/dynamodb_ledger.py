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
    RECORDS#<kind>            <key>                   a record of a kind that is listed
    SCHEMA                    META                    the version of this layout

There is no index, and a shard's scores are one item: docs/decisions/0030-dynamodb-items.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from promptlab.adapters.aws.dynamodb_assets import DynamoDBAssets
from promptlab.adapters.aws.dynamodb_cases import DynamoDBCases
from promptlab.adapters.aws.dynamodb_part import VERSION, keys, together
from promptlab.adapters.aws.dynamodb_runs import DynamoDBRuns
from promptlab.adapters.aws.dynamodb_table import Item, Key
from promptlab.adapters.records import check_listed, to_json
from promptlab.domain.records import LISTED

__all__ = ["VERSION", "DynamoDBLedger"]


class DynamoDBLedger(DynamoDBAssets, DynamoDBRuns, DynamoDBCases):
    """The Ledger in one table with the string keys `pk` and `sk`; texts too long for items go to `blobs`.

    Safe to use from several event loops; `close` closes the connections of the running one.
    The blobs are not closed: they belong to whoever made them.

    Every method raises botocore's errors as they are, and those of throttling after 30 s of retries;
    PromptLabError where part of a batch stays unwritten that long, and where the table is of a newer
    version: each process looks once, with the first run or asset that it reads or adds.
    """

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
            **keys(*_record(kind, key)),
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
        found = await self._table.get(_record(kind, key))
        if found is None or _is_over(found):
            return None
        return dict(await self._bodies.unpack(found["b"]))

    async def delete_record(self, kind: str, key: str) -> None:
        await self._table.delete(_record(kind, key))

    async def list_records(
        self, kind: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        check_listed(kind)
        found = self._table.query(f"RECORDS#{kind}", after=after or None, limit=limit)
        items = [item async for item in found if not _is_over(item)]
        values = await together(self._bodies.unpack(item["b"]) for item in items)
        return [(item["sk"]["S"], dict(value)) for item, value in zip(items, values, strict=True)]

    async def check(self) -> None:
        """Do nothing: DynamoDB looks after its own disks."""

    async def close(self) -> None:
        await self._table.aclose()


def _record(kind: str, key: str) -> Key:
    """The key of a record: those that are listed share a partition, all others have one each."""
    return (f"RECORDS#{kind}", key) if kind in LISTED else (f"{kind}#{key}", "META")


def _is_over(item: Item) -> bool:
    return "ends_at" in item and float(item["ends_at"]["N"]) <= time.time()
