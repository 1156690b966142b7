"""One DynamoDB table: strongly consistent reads, and writes that outlast throttling."""

from __future__ import annotations

import asyncio
import copy
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from promptlab.adapters.aws.busy import codes, is_busy
from promptlab.adapters.aws.session import AwsSession
from promptlab.clock import SystemClock
from promptlab.errors import StoreBusyError
from promptlab.ports import Clock

Item = dict[str, dict[str, Any]]
"""Attributes as DynamoDB's own JSON: `{"pk": {"S": "RUN#1"}, …}`."""
Key = tuple[str, str]
"""Partition key and sort key."""

BATCH = 25
"""Items of one BatchWriteItem at most."""
BATCH_GET = 100
"""Items of one BatchGetItem at most."""
AT_ONCE = 8
"""Batches in flight for one call."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_PARTITION = frozenset({"pk", ":pk"})
UNPREFIXED = "SCHEMA"
"""The partition that is outside of every prefix."""
_REFUSED = "ConditionalCheckFailed"


class _Patience:
    """Pauses with full jitter, until `patience_s` have gone by without progress.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock, self._patience_s = clock, patience_s
        self.renew()

    def renew(self) -> None:
        """Begin anew: something was done."""
        self._since, self._pauses = self._clock.monotonic(), 0

    async def pause(self) -> bool:
        """Wait a while; False when it has been long enough."""
        if self._clock.monotonic() - self._since >= self._patience_s:
            return False
        await self._clock.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._pauses)))
        self._pauses += 1
        return True


class DynamoDBTable:
    """A table with the string keys `pk` and `sk`.

    What AWS refuses for good passes through as botocore's error; what passes by itself is tried
    again for as long as the session says. botocore itself retries nothing: its first pause of up to a
    second is long for a service that answers in milliseconds.
    """

    def __init__(self, name: str, *, session: AwsSession | None = None, clock: Clock | None = None) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        session = session or AwsSession()
        self._patience_s = session.patience_s
        self._clients = session.clients("dynamodb", read_timeout=10, retries={"total_max_attempts": 1})
        self._prefix = ""

    def within(self, prefix: str) -> DynamoDBTable:
        """The same table, over the same connections, of which only partitions with a prefix are seen.

        Their keys are read and written without it. The table's version is outside of every prefix.
        """
        part = copy.copy(self)
        part._prefix = prefix
        return part

    async def get(self, key: Key) -> Item | None:
        """One item, or None."""
        found: Item | None = (
            await self._call("get_item", TableName=self.name, Key=_key(key), ConsistentRead=True)
        ).get("Item")
        return found

    async def get_many(self, keys: Sequence[Key]) -> list[Item]:
        """The items that there are, in no order."""
        found: list[Item] = []
        for start in range(0, len(keys), BATCH_GET):
            wanted: list[Item] = [_key(key) for key in keys[start : start + BATCH_GET]]
            patience = _Patience(self._clock, self._patience_s)
            while wanted:
                reply = await self._call(
                    "batch_get_item", RequestItems={self.name: {"Keys": wanted, "ConsistentRead": True}}
                )
                found += reply["Responses"].get(self.name, [])
                left = reply.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                if len(left) < len(wanted):
                    patience.renew()
                wanted = left
                if wanted and not await patience.pause():
                    raise StoreBusyError(
                        f"DynamoDB left {len(wanted)} items of table {self.name!r} unread for "
                        f"{self._patience_s:g} s: it is throttling. Try again later."
                    )
        return found

    async def query(
        self,
        pk: str,
        prefix: str = "",
        *,
        newest: bool = False,
        after: str | None = None,
        limit: int | None = None,
        only_keys: bool = False,
    ) -> AsyncIterator[Item]:
        """A partition's items whose sort keys begin with `prefix`, in order; at most `limit` of them, those
        beyond the sort key `after`; with `only_keys` without what else they hold."""
        request: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :sk)" if prefix else "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": pk}, **({":sk": {"S": prefix}} if prefix else {})},
            "ConsistentRead": True,
            "ScanIndexForward": not newest,
        }
        if only_keys:
            request["ProjectionExpression"] = "pk, sk"
        if after is not None:
            request["ExclusiveStartKey"] = _key((pk, after))
        left = limit
        while left != 0:
            page = await self._call("query", **request, **({"Limit": left} if left else {}))
            for item in page["Items"]:
                yield item
            left = left - len(page["Items"]) if left else None
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def write(self, items: Iterable[Item]) -> None:
        """Put items, in batches; of those with one key the last stands.

        Raises:
            StoreBusyError: DynamoDB went on throttling; the message says how many were left.
        """
        # A batch may not have one key twice.
        unique = {(item["pk"]["S"], item["sk"]["S"]): item for item in items}
        await self._write_all([{"PutRequest": {"Item": item}} for item in unique.values()])

    async def delete_all(self, keys: Iterable[Key]) -> None:
        """Remove items, in batches; none is fine.

        Raises:
            StoreBusyError: as in `write`.
        """
        await self._write_all([{"DeleteRequest": {"Key": _key(key)}} for key in dict.fromkeys(keys)])

    async def _write_all(self, requests: Sequence[dict[str, Any]]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def batch(start: int) -> int:
            async with gate:
                return await self._write_batch(requests[start : start + BATCH])

        # Each to its end, whatever happens to the others: nothing goes on in the background afterwards.
        ends = await asyncio.gather(
            *(batch(start) for start in range(0, len(requests), BATCH)), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        if left := sum(end for end in ends if isinstance(end, int)):
            raise StoreBusyError(
                f"DynamoDB left {left} of {len(requests)} items of table {self.name!r} unwritten for "
                f"{self._patience_s:g} s: it is throttling. "
                "Writing them again is safe: resume the run later, or with fewer workers."
            )

    async def _write_batch(self, requests: Sequence[dict[str, Any]]) -> int:
        """How many of the items could not be written or removed."""
        puts = list(requests)
        patience = _Patience(self._clock, self._patience_s)
        while puts:
            try:
                reply = await self._once("batch_write_item", RequestItems={self.name: puts})
            except _PassingError:
                left = puts
            else:
                left = reply.get("UnprocessedItems", {}).get(self.name, [])
            if len(left) < len(puts):
                patience.renew()
            puts = left
            if puts and not await patience.pause():
                break
        return len(puts)

    async def put_if(self, item: Item, condition: str, values: Item | None = None) -> bool:
        """Put an item; False (and no change) when the condition on the one that it replaces does not hold.

        Also when it was put and the answer got lost: half the price of `transact` for those who then look.
        """
        extra = {"ExpressionAttributeValues": values} if values else {}
        return await self._unless_refused(
            "put_item", TableName=self.name, Item=item, ConditionExpression=condition, **extra
        )

    async def update_if(self, key: Key, expression: str, condition: str, values: Item) -> Item | None:
        """Update an item and return it as it is then; None (and no change) when the condition does not
        hold."""
        from botocore.exceptions import ClientError

        try:
            reply = await self._call(
                "update_item",
                TableName=self.name,
                Key=_key(key),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if _REFUSED in codes(error):
                return None
            raise
        found: Item = reply["Attributes"]
        return found

    async def delete(self, key: Key) -> None:
        """Remove an item; none is fine."""
        await self._call("delete_item", TableName=self.name, Key=_key(key))

    async def transact(self, *actions: dict[str, dict[str, Any]]) -> bool:
        """Put, Update, Delete and ConditionCheck items all at once; False (and no change) when a condition
        does not hold.

        A token makes it happen once, though an answer that is lost has it sent again.
        """
        named = [
            {kind: {"TableName": self.name, **action}} for one in actions for kind, action in one.items()
        ]
        return await self._unless_refused(
            "transact_write_items", TransactItems=named, ClientRequestToken=uuid.uuid4().hex
        )

    async def aclose(self) -> None:
        """Close the running loop's connections. The table can be used again."""
        await self._clients.aclose()

    async def _unless_refused(self, operation: str, **arguments: Any) -> bool:
        from botocore.exceptions import ClientError

        try:
            await self._call(operation, **arguments)
        except ClientError as error:
            if _REFUSED in codes(error):
                return False
            raise
        return True

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        patience = _Patience(self._clock, self._patience_s)
        while True:
            try:
                return await self._once(operation, **arguments)
            except _PassingError as error:
                if not await patience.pause():
                    raise error.cause from None

    async def _once(self, operation: str, **arguments: Any) -> dict[str, Any]:
        client = await self._clients.get()
        if self._prefix:
            arguments = _renamed(arguments, lambda pk: pk if pk == UNPREFIXED else self._prefix + pk)
        try:
            reply: dict[str, Any] = await getattr(client, operation)(**arguments)
        except Exception as error:
            if is_busy(error):
                raise _PassingError(error) from error
            raise
        return _renamed(reply, lambda pk: pk.removeprefix(self._prefix)) if self._prefix else reply


class _PassingError(Exception):
    """A refusal that may pass in a while; `cause` is botocore's error."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


def _renamed(value: Any, change: Callable[[str], str]) -> Any:
    """A request or an answer with every partition key in it changed, wherever it stands: no operation can be
    forgotten."""
    if isinstance(value, dict):
        return {
            name: {"S": change(inner["S"])}
            if name in _PARTITION and isinstance(inner, dict) and inner.keys() == {"S"}
            else _renamed(inner, change)
            for name, inner in value.items()
        }
    return [_renamed(inner, change) for inner in value] if isinstance(value, list) else value


def _key(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}
