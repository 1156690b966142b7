"""What the parts of the DynamoDB ledger share: its table, its keys, and the version of its layout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, TypeVar

from promptlab.adapters.aws.dynamodb_items import Bodies
from promptlab.adapters.aws.dynamodb_table import DynamoDBTable, Item
from promptlab.adapters.aws.session import AwsSession
from promptlab.domain.assets import AssetKind
from promptlab.errors import PromptLabError
from promptlab.ports import Blobs, Clock

T = TypeVar("T")
AT_ONCE = 16
"""Blobs, assets or open shards that one call reads or writes at once."""
VERSION = 1
"""The version of the layout. A table without its item was made before there was one, and has the same
layout."""
_SCHEMA = ("SCHEMA", "META")


class LedgerPart:
    """One table, and the blobs of texts too long for its items."""

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
            ours: Item = {**keys(*_SCHEMA), "v": {"N": str(VERSION)}}
            await self._table.put_if(ours, "attribute_not_exists(pk) OR v < :v", {":v": ours["v"]})
            self._version = VERSION


def asset_key(kind: AssetKind, name: str) -> str:
    return f"ASSET#{kind}#{name}"


def keys(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def meta_key(run_id: str) -> Item:
    return keys(f"RUN#{run_id}", "META")


def put(item: Item) -> dict[str, dict[str, Any]]:
    return {"Put": {"Item": item}}


def put_new(item: Item) -> dict[str, dict[str, Any]]:
    return {"Put": {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def places(run_id: str, name: str, created_at: str) -> list[Item]:
    """Return a run's keys in the lists."""
    return [keys(pk, f"{created_at}#{run_id}") for pk in ("RUNS", f"RUNS#{name}")]


async def listed(found: AsyncIterator[T]) -> list[T]:
    return [item async for item in found]


async def together(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, in order, AT_ONCE at a time; where some fail, the first error, once all have
    ended."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(job: Awaitable[T]) -> T:
        async with gate:
            return await job

    ends = await asyncio.gather(*map(one, jobs), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if not isinstance(end, BaseException)]
