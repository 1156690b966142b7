"""Records that another version of PromptLab wrote, in every ledger."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab.adapters.aws import dynamodb_ledger
from promptlab.adapters.aws.dynamodb_items import completion_of
from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.adapters.records import completion_from, run_from, score_set_from, to_json
from promptlab.domain.records import made
from promptlab.domain.results import Completion, RunRecord, ScoreSet, ShardSummary
from promptlab.domain.summary import Summary
from promptlab.errors import PromptLabError, StoreDamagedError
from tests import aws
from tests.contract.builders import RUN, asset, completion, run, score_set, shard_summary

NEEDED = {"run_id", "name", "status", "experiment", "cases", "created_at"}


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as a ledger keeps it."""
    return dict(orjson.loads(to_json(record)))


@pytest.mark.parametrize("kind", [RunRecord, Completion, ScoreSet, ShardSummary])
def test_whatever_has_a_default_may_be_absent(kind: type) -> None:
    """A store of the first version lacks every field that was added since."""
    whole = {RunRecord: run(), Completion: completion(), ScoreSet: score_set(), ShardSummary: shard_summary()}
    body = as_json(whole[kind])
    for f in dataclasses.fields(kind):
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING:
            del body[f.name]
    read = {RunRecord: run_from, Completion: completion_from, ScoreSet: score_set_from}
    assert isinstance(read.get(kind, lambda b: made(kind, b))(body), kind)


def test_a_summary_of_another_version_is_read() -> None:
    """Absent fields count nothing; unknown ones are left out."""
    assert Summary.from_json({}) == Summary()
    value = Summary(cases=3, succeeded=2, failed=1).to_json() | {"headline": "of tomorrow"}
    value["latency_ms"] |= {"p99_exact": 1.0}
    assert Summary.from_json(value) == Summary(cases=3, succeeded=2, failed=1)


def test_a_record_without_what_it_needs_says_which_field() -> None:
    """And not that a function lacks an argument."""
    with pytest.raises(StoreDamagedError, match="a stored RunRecord lacks its 'cases'"):
        run_from({name: value for name, value in as_json(run()).items() if name != "cases"})
    with pytest.raises(StoreDamagedError, match="stored as list"):
        made(RunRecord, [])


async def test_sqlite_reads_an_older_run_and_keeps_a_newer_ones_fields(tmp_path: Path) -> None:
    """Changing a run's status leaves the fields that only a newer version knows."""
    path = tmp_path / "lab.db"
    ledger = SqliteLedger(path)
    await ledger.add_run(run("old"))
    await ledger.add_run(run("new"))
    await ledger.close()
    body = as_json(run("old"))
    bodies = {
        "old": {name: body[name] for name in NEEDED},
        "new": as_json(run("new")) | {"of_tomorrow": [1]},
    }
    with sqlite3.connect(path) as connection:
        for run_id, stored in bodies.items():
            connection.execute("UPDATE run SET body = ? WHERE run_id = ?", (orjson.dumps(stored), run_id))
    connection.close()
    ledger = SqliteLedger(path)
    assert await ledger.get_run("old") == run("old")
    assert {r.run_id for r in (await ledger.list_runs())[0]} == {"old", "new"}
    assert await ledger.update_run("new", {"status": "running", "tags": ("a",)})
    assert await ledger.get_run("new") == run("new", status="running", tags=("a",))
    await ledger.close()
    with sqlite3.connect(path) as connection:
        (raw,) = connection.execute("SELECT body FROM run WHERE run_id = 'new'").fetchone()
    connection.close()
    assert orjson.loads(raw)["of_tomorrow"] == [1]


@pytest.fixture
def dynamodb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DynamoDBLedger, Any]:
    """A ledger, and the bare table behind it."""
    aws.credentials(monkeypatch)
    name = aws.new_table()
    ledger = DynamoDBLedger(name, FileBlobs(tmp_path / "blobs"), session=aws.session())
    return ledger, aws.bare_table(name)


async def test_dynamodb_reads_an_older_run_and_keeps_a_newer_ones_fields(
    dynamodb: tuple[DynamoDBLedger, Any],
) -> None:
    """An attribute that is not there yet has its default, also in a list; one that is not known stays."""
    ledger, table = dynamodb
    await ledger.add_run(run(tags=("a",), wall_s=2.0))
    item = table.get_item(Key={"pk": f"RUN#{RUN}", "sk": "META"})["Item"]
    old = {name: value for name, value in item.items() if name in NEEDED | {"pk", "sk"}}
    table.put_item(Item=old | {"of_tomorrow": "[1]"})
    assert await ledger.get_run(RUN) == run()
    assert (await ledger.list_runs())[0] == [run()]
    assert await ledger.update_run(RUN, {"tags": ("b",)}, if_status={"running"})
    assert await ledger.get_run(RUN) == run(tags=("b",))
    assert table.get_item(Key={"pk": f"RUN#{RUN}", "sk": "META"})["Item"]["of_tomorrow"] == "[1]"
    await ledger.close()


async def test_a_table_of_a_newer_version_is_a_clear_error(dynamodb: tuple[DynamoDBLedger, Any]) -> None:
    """Its version is recorded with the first run, and held against ours once a process."""
    ledger, table = dynamodb
    assert await ledger.list_runs() == ([], None)
    assert "Item" not in table.get_item(Key={"pk": "SCHEMA", "sk": "META"})
    await ledger.add_run(run())
    assert table.get_item(Key={"pk": "SCHEMA", "sk": "META"})["Item"]["v"] == dynamodb_ledger.VERSION
    table.put_item(Item={"pk": "SCHEMA", "sk": "META", "v": dynamodb_ledger.VERSION + 1})
    newer = DynamoDBLedger(ledger._table.name, ledger._bodies._blobs, session=aws.session())
    calls = (
        newer.get_run(RUN),
        newer.list_runs(),
        newer.add_run(run("other")),
        newer.update_run(RUN, {"status": "failed"}),
        newer.add_asset(asset()),
        newer.list_assets("dataset"),
        newer.get_asset("dataset", "x"),
        newer.list_versions("dataset", "x"),
    )
    for call in calls:
        with pytest.raises(PromptLabError, match=f"schema version {dynamodb_ledger.VERSION + 1}.*newer"):
            await call
    assert table.get_item(Key={"pk": "SCHEMA", "sk": "META"})["Item"]["v"] == dynamodb_ledger.VERSION + 1
    await ledger.close()
    await newer.close()


def test_counts_that_a_newer_version_appends_are_passed_over() -> None:
    """A completion's numbers are a list that may grow."""
    item = {
        "pk": {"S": "RUN#r#3"},
        "sk": {"S": "C#000000151#0"},
        "n": {"S": "[0,10,20,0.5,7]"},
    }
    found = completion_of(item, {"response": "x", "reasoning": "of tomorrow"})
    assert (found.case, found.shard, found.prompt_tokens, found.response) == (151, 3, 10, "x")
