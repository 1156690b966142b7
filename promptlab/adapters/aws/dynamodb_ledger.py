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
    <kind>#<key>              META                    a record (session, …)
    RECORDS#<kind>            <key>                   a record of a kind that is listed (token, person, …)
    <kind>#<key>              COUNT                   a counter (wrong tokens of an address)
    SCHEMA                    META                    the version of this layout

Every partition key of a project beside the default one begins with `P#<project>#`, but for the last.

There is no index, and a shard's scores are one item: docs/decisions/0030-dynamodb-items.md.
"""

from __future__ import annotations

import copy

from promptlab.adapters.aws.dynamodb_assets import DynamoDBAssets
from promptlab.adapters.aws.dynamodb_cases import DynamoDBCases
from promptlab.adapters.aws.dynamodb_items import Bodies
from promptlab.adapters.aws.dynamodb_part import VERSION
from promptlab.adapters.aws.dynamodb_records import DynamoDBRecords
from promptlab.adapters.aws.dynamodb_runs import DynamoDBRuns
from promptlab.ports import Blobs

__all__ = ["VERSION", "DynamoDBLedger"]


class DynamoDBLedger(DynamoDBAssets, DynamoDBRuns, DynamoDBCases, DynamoDBRecords):
    """The Ledger in one table with the string keys `pk` and `sk`; texts too long for items go to `blobs`.

    Safe to use from several event loops; `close` closes the connections of the running one.
    The blobs are not closed: they belong to whoever made them.

    Every method raises botocore's errors as they are, and those of throttling after 30 s of retries;
    PromptLabError where part of a batch stays unwritten that long, and where the table is of a newer
    version: each process looks once, with the first run or asset that it reads or adds.
    """

    def for_project(self, name: str, blobs: Blobs) -> DynamoDBLedger:
        """The ledger of one project in the same table, over the same connections; closing it closes them."""
        part = copy.copy(self)
        part._table, part._bodies = self._table.within(f"P#{name}#"), Bodies(blobs)
        part._begun = set()
        return part

    async def check(self) -> None:
        """Do nothing: DynamoDB looks after its own disks."""

    async def close(self) -> None:
        await self._table.aclose()
