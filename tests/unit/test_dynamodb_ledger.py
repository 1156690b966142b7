"""The DynamoDB ledger beyond the contract: faults, sizes, units."""

from __future__ import annotations

import asyncio
import random
import string
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from promptlab.adapters.aws.dynamodb_items import CASE_BYTES
from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.aws.session import PATIENCE_S, AwsSession
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.results import Progress, Score
from promptlab.errors import ConfigError, PromptLabError, RunExistsError, StoreDamagedError
from tests import aws
from tests.aws_faults import Asked, Fault, FaultyAws, QuickClock
from tests.contract.builders import RUN, asset, completion, failed_completion, run, score_set, shard_summary

ANSWER = (
    "The total is found by adding the two numbers, which gives 18 eggs a day, of which 16 are "
    "sold for two dollars each. The answer is therefore 18." + " " * 8
)


@pytest.fixture
async def faulty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyAws]:
    aws.credentials(monkeypatch)
    async with FaultyAws() as proxy:
        yield proxy


@pytest.fixture
async def open_ledger(faulty: FaultyAws, tmp_path: Path) -> AsyncIterator[Callable[[], DynamoDBLedger]]:
    """Opens one table, as several processes do, through the proxy."""
    table, opened = aws.new_table(), list[DynamoDBLedger]()

    def opens() -> DynamoDBLedger:
        session = AwsSession(region=aws.REGION, endpoint_url=faulty.url)
        opened.append(
            DynamoDBLedger(table, FileBlobs(tmp_path / "blobs"), session=session, clock=QuickClock())
        )
        return opened[-1]

    yield opens
    for ledger in opened:
        await ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], DynamoDBLedger]) -> DynamoDBLedger:
    return open_ledger()


def stored(ledger: DynamoDBLedger) -> list[dict[str, Any]]:
    """Every item of the table, past the proxy."""
    client = boto3.client("dynamodb", region_name=aws.REGION, endpoint_url=aws.moto_url())
    items: list[dict[str, Any]] = client.scan(TableName=ledger._table.name, ConsistentRead=True)["Items"]
    client.close()
    return items


def size(item: dict[str, dict[str, Any]]) -> int:
    """Bytes of an item, as DynamoDB counts them: names and values, as UTF-8."""
    assert all(kind in ("S", "B", "N") for value in item.values() for kind in value)
    return sum(
        len(name) + len(v.encode() if isinstance(v, str) else v)
        for name, value in item.items()
        for v in value.values()
    )


async def test_throttled_and_half_done_batches_lose_and_repeat_nothing(
    faulty: FaultyAws, ledger: DynamoDBLedger
) -> None:
    """Two thirds of the batches go wrong, in every way there is, and half of all else."""
    faults: tuple[Fault | None, ...] = ("throttled", "halved", None, "lost", "halved", "broken")

    def fault(asked: Asked) -> Fault | None:
        chosen = faults[asked.number % len(faults)]
        return None if chosen == "halved" and not asked.operation.startswith("Batch") else chosen

    faulty.fault = fault
    await ledger.add_run(run(cases=300))
    put = [completion(i) if i % 3 else failed_completion(i) for i in range(300)]
    await ledger.put_completions(RUN, put)
    await ledger.put_scores(RUN, [score_set(i) for i in range(300)])
    assert [c for shard in range(6) for c in await ledger.get_completions(RUN, shard)] == put
    assert [s for shard in range(6) for s in await ledger.get_scores(RUN, shard)] == [
        score_set(i) for i in range(300)
    ]
    assert await ledger.progress(RUN) == Progress(
        total=300,
        done=300,
        failed=100,
        prompt_tokens=20_000,
        completion_tokens=4_000,
        cost_usd=50.0,
        unknown_tokens=100,
        unknown_cost=100,
    )
    assert sum(item["sk"]["S"].startswith("C#") for item in stored(ledger)) == 300


async def test_half_read_batches_are_read_to_their_end(faulty: FaultyAws, ledger: DynamoDBLedger) -> None:
    """A list of runs is whole though DynamoDB gave back keys unread."""
    for i in range(5):
        await ledger.add_run(run(f"r{i}"))
    faulty.fault = lambda asked: "halved" if asked.operation == "BatchGetItem" else None
    assert [r.run_id for r in (await ledger.list_runs())[0]] == ["r4", "r3", "r2", "r1", "r0"]
    assert faulty.count("BatchGetItem") == 3


async def test_endless_throttling_is_an_error_that_says_how_much_is_left(
    faulty: FaultyAws, ledger: DynamoDBLedger
) -> None:
    """After PATIENCE_S without progress; what was written stays, and writing again completes it."""
    put = [completion(i) for i in range(60)]
    faulty.fault = lambda asked: "halved" if asked.number == 0 else "throttled"
    with pytest.raises(
        PromptLabError,
        match=rf"left 49 of 62 items of table '{ledger._table.name}' unwritten for {PATIENCE_S:g} s.*again "
        r"is safe",
    ):
        await ledger.put_completions(RUN, put)
    assert len(stored(ledger)) == 13
    faulty.fault = lambda asked: None
    await ledger.put_completions(RUN, put)
    assert await ledger.get_completions(RUN, 0) == put[:50]


async def test_other_calls_that_stay_throttled_raise_what_aws_said(
    faulty: FaultyAws, ledger: DynamoDBLedger
) -> None:
    """botocore's own error, after as long a while."""
    faulty.fault = lambda asked: "throttled"
    with pytest.raises(Exception, match="ProvisionedThroughputExceeded") as caught:
        await ledger.get_run(RUN)
    assert type(caught.value).__name__ == "ProvisionedThroughputExceededException"
    assert faulty.count("GetItem") > 5


async def test_what_aws_refuses_for_good_is_not_tried_again(
    faulty: FaultyAws, ledger: DynamoDBLedger
) -> None:
    """The error passes through, after one request."""
    faulty.fault = lambda asked: "refused"
    with pytest.raises(Exception, match="AccessDenied"):
        await ledger.put_completions(RUN, [completion(0)])
    with pytest.raises(Exception, match="AccessDenied"):
        await ledger.get_run(RUN)
    assert len(faulty.asked) == 2


async def test_a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses(
    faulty: FaultyAws, ledger: DynamoDBLedger
) -> None:
    """The repetition carries the token of the first, so that it is none."""
    faulty.fault = lambda asked: (
        "lost" if asked.number % 2 == 0 and asked.operation == "TransactWriteItems" else None
    )
    await ledger.add_run(run())
    await ledger.add_asset(asset())
    assert await ledger.update_run(RUN, {"status": "completed"}, if_status={"running"}) is True
    assert await ledger.put_record("TOKEN", "t", {"a": 1}, only_if_absent=True) is True
    assert faulty.count("TransactWriteItems") == 8
    with pytest.raises(RunExistsError):
        await ledger.add_run(run())


async def test_scores_whose_answer_is_lost_are_there(faulty: FaultyAws, ledger: DynamoDBLedger) -> None:
    """The repetition finds its own item and puts the same again."""
    faulty.fault = lambda asked: "lost" if asked.operation == "PutItem" and asked.number == 0 else None
    await ledger.put_scores(RUN, [score_set(0), score_set(1)])
    assert await ledger.get_scores(RUN, 0) == [score_set(0), score_set(1)]


async def test_concurrent_scores_of_one_shard_all_stay(open_ledger: Callable[[], DynamoDBLedger]) -> None:
    """Though they share an item."""
    ledgers = [open_ledger() for _ in range(3)]
    await asyncio.gather(*(ledgers[i % 3].put_scores(RUN, [score_set(i)]) for i in range(12)))
    assert await ledgers[0].get_scores(RUN, 0) == [score_set(i) for i in range(12)]


async def test_a_case_takes_one_write_unit_and_a_shards_scores_two(ledger: DynamoDBLedger) -> None:
    """With an answer of 150 letters, and two metrics: 53 units for 50 cases, with the mark
    that the shard was begun."""
    cases = [
        completion(
            i,
            response=ANSWER,
            cost_usd=0.000123,
            latency_ms=1234.5678,
            metadata={"model": "gpt-4o-mini-2024-07-18"},
        )
        for i in range(50)
    ]
    await ledger.put_completions(RUN, cases)
    await ledger.put_scores(
        RUN,
        [
            score_set(i, scores={"exact": Score(passed=i % 3 == 0), "length": Score(value=float(i * 7))})
            for i in range(50)
        ],
    )
    units = [-(-size(item) // 1024) for item in stored(ledger)]
    assert max(size(item) for item in stored(ledger) if item["sk"]["S"].startswith("C#")) <= 512
    assert len(units) == 52 and sum(units) <= 53


async def test_a_long_answer_is_kept_as_a_blob(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    """Below 4 KB, deflated, it stays in the item; the blob's key is the same however often it is written."""
    noise = "".join(random.Random(7).choices(string.ascii_letters, k=8_000))
    put = [completion(0, response="word " * 2000), completion(1, 2, response=noise, generation=3)]
    for _ in range(2):
        await ledger.put_completions(RUN, put)
    short, long = (item["b"] for item in stored(ledger) if item["sk"]["S"].startswith("C#"))
    assert len(short["B"]) < CASE_BYTES and list(long) == ["M"]
    (key,) = await FileBlobs(tmp_path / "blobs").keys("")
    assert key.startswith(f"runs/{RUN}/text/0/1-2-3-") and key.endswith(".json.gz")
    assert await ledger.get_completions(RUN, 0) == put


async def test_progress_reads_the_cases_of_open_shards_only(
    faulty: FaultyAws, open_ledger: Callable[[], DynamoDBLedger]
) -> None:
    """A finished shard is counted once, when it is finished."""
    ledger = open_ledger()
    await ledger.add_run(run(cases=200))
    await ledger.put_completions(RUN, [completion(i) for i in range(150)])
    for shard in (0, 1):
        await ledger.put_shard(RUN, shard_summary(shard))
    before = faulty.count("Query")
    assert (await open_ledger().progress(RUN)).done == 150
    assert faulty.count("Query") - before == 2


async def test_a_resumed_shard_is_counted_anew(open_ledger: Callable[[], DynamoDBLedger]) -> None:
    """By a process that had begun it once, though another had finished it."""
    worker, other = open_ledger(), open_ledger()
    await worker.add_run(run())
    await worker.put_completions(RUN, [failed_completion(0), completion(1)])
    await other.put_shard(RUN, shard_summary(0))
    assert await other.progress(RUN) == Progress(
        total=100,
        done=2,
        failed=1,
        prompt_tokens=100,
        completion_tokens=20,
        cost_usd=0.25,
        unknown_tokens=1,
        unknown_cost=1,
    )
    await worker.put_completions(RUN, [completion(0, generation=1)])
    assert await other.progress(RUN) == Progress(
        total=100, done=2, failed=0, prompt_tokens=200, completion_tokens=40, cost_usd=0.5
    )


async def test_an_expired_record_may_be_put_again(ledger: DynamoDBLedger) -> None:
    """DynamoDB deletes it some time later; until then it is not there."""
    assert await ledger.put_record("SESSION", "s", {"n": 1}, expires_at=1.5, only_if_absent=True) is True
    assert await ledger.get_record("SESSION", "s") is None
    assert await ledger.put_record("SESSION", "s", {"n": 2}, only_if_absent=True) is True
    assert await ledger.get_record("SESSION", "s") == {"n": 2}


async def test_numbers_that_would_break_the_order_of_keys_are_refused(ledger: DynamoDBLedger) -> None:
    """Rather than read back in another order."""
    with pytest.raises(ValueError, match="shard must be between 0 and 999,999"):
        await ledger.put_shard(RUN, shard_summary(1_000_000))
    with pytest.raises(ValueError, match="case must be between 0 and 999,999,999"):
        await ledger.put_completions(RUN, [completion(1_000_000_000, shard=0)])


async def test_without_a_region_the_error_says_how_to_set_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything is sent."""
    aws.credentials(monkeypatch)
    with pytest.raises(ConfigError, match="AWS_REGION"):
        await DynamoDBLedger("t", FileBlobs(tmp_path)).get_run(RUN)


def test_a_ledger_serves_one_event_loop_after_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each with a client of its own, which ends with the loop."""
    aws.credentials(monkeypatch)
    ledger = DynamoDBLedger(
        aws.new_table(),
        FileBlobs(tmp_path),
        session=AwsSession(region=aws.REGION, endpoint_url=aws.moto_url()),
    )
    asyncio.run(ledger.add_run(run()))
    assert asyncio.run(ledger.get_run(RUN)) == run()


def test_importing_the_adapters_loads_nothing_of_aws() -> None:
    """Half a second that only the first call pays."""
    modules = ["dynamodb_ledger", "s3_blobs", "secrets_manager", "session"]
    code = ";".join(f"import promptlab.adapters.aws.{module}" for module in modules)
    check = (
        "import sys; assert not {'aiobotocore', 'aioboto3', 'botocore', 'boto3', 'aiohttp'} & "
        "set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", f"{code};{check}"], check=True)


BROKEN: dict[str, dict[str, Any]] = {
    "text that is no JSON": {"status": {"S": "{"}},
    "bytes that are not deflated": {"experiment": {"B": b"garbage"}},
    "a blob that is gone": {"summary": {"M": {"blob": {"S": "runs/odd/text/gone.json.gz"}}}},
    "a number for a text": {"experiment": {"N": "3"}},
    "a map without a blob": {"experiment": {"M": {}}},
    "a strange status": {"status": {"S": '"sleeping"'}},
    "words for cases": {"cases": {"S": '"many"'}},
    "a list for tags": {"tags": {"S": "5"}},
    "a name that is no text": {"name": {"S": "7"}},
    "a time that is no text": {"created_at": {"S": "null"}},
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_run_that_cannot_be_read_stands_in_its_place_in_the_list(
    ledger: DynamoDBLedger, name: str
) -> None:
    """With all others around it, over pages, and by name; asked for by itself it is a clear error."""
    for number, run_id in enumerate(("old", "odd", "new")):
        await ledger.add_run(run(run_id, created_at=f"2026-11-2{number}T09:00:00.000000Z"))
    client = boto3.client("dynamodb", region_name=aws.REGION, endpoint_url=aws.moto_url())
    [(field, value)] = BROKEN[name].items()
    client.update_item(
        TableName=ledger._table.name,
        Key={"pk": {"S": "RUN#odd"}, "sk": {"S": "META"}},
        UpdateExpression="SET #field = :value",
        ExpressionAttributeNames={"#field": field},
        ExpressionAttributeValues={":value": value},
    )
    client.close()

    for asked in ({}, {"name": "quiz"}):
        runs, cursor = await ledger.list_runs(**asked)  # type: ignore[arg-type]
        assert ([found.run_id for found in runs], cursor) == (["new", "odd", "old"], None)
        assert [bool(found.unreadable) for found in runs] == [False, True, False]
        assert runs[1].created_at == "2026-11-21T09:00:00.000000Z" and runs[1].status == "failed"
    seen, cursor = list[str](), None
    for _ in range(3):
        [found], cursor = await ledger.list_runs(limit=1, cursor=cursor)
        seen.append(found.run_id)
    assert (seen, cursor) == (["new", "odd", "old"], None)
    with pytest.raises(StoreDamagedError, match=r"cannot be read|is stored as|no object"):
        await ledger.get_run("odd")


async def test_an_asset_that_cannot_be_read_stands_in_its_place_in_the_lists(ledger: DynamoDBLedger) -> None:
    """Among all others and among its own versions; asked for by itself it is a clear error."""
    for version in range(2):
        await ledger.add_asset(asset("qa", version))
    await ledger.add_asset(asset("other", 0))
    client = boto3.client("dynamodb", region_name=aws.REGION, endpoint_url=aws.moto_url())
    client.update_item(
        TableName=ledger._table.name,
        Key={"pk": {"S": f"ASSET#{asset('qa').kind}#qa"}, "sk": {"S": "V#0000000001"}},
        UpdateExpression="SET b = :value",
        ExpressionAttributeValues={":value": {"S": "{"}},
    )
    client.close()
    found = await ledger.list_assets(asset("qa").kind)
    assert [(a.name, a.version, "cannot be read" in a.description) for a in found] == [
        ("other", 0, False),
        ("qa", 1, True),
    ]
    versions = await ledger.list_versions(asset("qa").kind, "qa")
    assert ["cannot be read" in a.description for a in versions] == [False, True]
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        await ledger.get_asset(asset("qa").kind, "qa")
