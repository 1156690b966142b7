"""The cost of a run in the cloud: the formulas, against units that were counted and against
the page that shows them."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions import runtime
from promptlab import Dataset, PromptTemplate
from promptlab.adapters.aws import dynamodb_items
from promptlab.adapters.aws.session import PATIENCE_S
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.assets.ingest import SHARD_ROWS
from promptlab.cloud import cost as cloud_cost
from promptlab.cloud.cost import (
    Units,
    Work,
    idle,
    price_table,
    prices,
    read_units,
    scenarios,
    unit_costs,
    units,
    write_units,
)
from promptlab.cloud.simulation import DEFAULT, LEDGER_S, NEW_ACCOUNT, Quotas, simulate, widest
from promptlab.domain.model_config import ModelConfig
from promptlab.engine.plan import MOST_TOGETHER, read_manifest, together
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from promptlab.worker import at_once
from tests import aws
from tests.functions.conftest import Elsewhere, Machine
from tests.meter import Meter, meter
from tests.servers import ModelServer

ROOT = Path(__file__).resolve().parents[2]
METRICS = [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}, {"metric": "length"}]
BUDGET_USD = 0.25
UNBOUNDED = Quotas(table_writes=1e9, partition_writes=1e9, scaling=10_000)


def planned(rows: int, **changes: Any) -> Work:
    """A run as the planner would do it on a stack with default parameters, of a model that allows many calls
    at once."""
    workers = changes.pop("workers", at_once(ModelConfig(name="openai/x", max_concurrent_tasks=5_000), 100))
    work = Work(rows=rows, metrics=2, workers=workers, **changes)
    return replace(work, together=together(work.shards, workers, work.trials))


def run_usd(work: Work) -> float:
    return sum(unit_costs(units(work, simulate(work).wall_s)).values())


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, Meter]]:
    """A stack whose requests are counted. One worker at once: as many shards to a worker as in a long run."""
    with meter(aws.moto_url()) as counted:
        aws.credentials(monkeypatch)
        settings = {
            "TABLE": aws.new_table(),
            "BUCKET": aws.new_bucket(),
            "SECRETS_PREFIX": "units/keys/",
            "ALLOWED_ADDRESSES": "127.0.0.0/8",
            "MAX_CONCURRENCY": "1",
        }
        for name, value in {f"PROMPTLAB_{name}": value for name, value in settings.items()}.items():
            monkeypatch.setenv(name, value)
        others = {
            "AWS_ENDPOINT_URL": counted.url,
            "AWS_REGION": aws.REGION,
            "POWERTOOLS_METRICS_NAMESPACE": "PromptLab",
            "POWERTOOLS_SERVICE_NAME": "test",
        }
        for name, value in others.items():
            monkeypatch.setenv(name, value)
        for kept in (runtime.config, runtime.lab, runtime.worker):
            kept.cache_clear()
        lab = StoreLab(replace(open_cloud(runtime.config()), runner=Elsewhere()))
        yield Machine(lab), counted
        runtime.run(lab.close())
        runtime.run(runtime.worker().close())
        for kept in (runtime.config, runtime.lab, runtime.worker):
            kept.cache_clear()


def prose(chars: int, seed: int) -> str:
    """Text that deflates to about a half, as answers do."""
    chance = random.Random(seed)
    words = (
        "".join(chance.choice("etaoinshrdlu") for _ in range(chance.randint(2, 9))) for _ in range(chars)
    )
    return " ".join(words)[:chars]


def record(machine: Machine, rows: int, chars: int) -> None:
    data = [{"question": f"{prose(200, n)} {n}?", "answer": f"it is {n}"} for n in range(rows)]
    with ModelServer(lambda request: prose(chars, len(server.requests))) as server:
        model = {
            "name": "openai/gpt-4o-mini",
            "endpoint": server.openai_url,
            "max_concurrent_tasks": 100,
            "input_usd_per_mtok": 0.15,
            "output_usd_per_mtok": 0.6,
        }
        run = machine.start(
            {
                "name": "quiz",
                "dataset": Dataset(name="questions", rows=data),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
                "model": model,
                "evaluation": METRICS,
            }
        )
        assert machine.execute(run.run_id) == {"status": "completed"}


@pytest.mark.parametrize("chars", [400, pytest.param(2000, marks=pytest.mark.long)])
def test_the_formulas_are_what_a_run_really_uses_up(metered: tuple[Machine, Meter], chars: int) -> None:
    """Write units, read units, S3 requests and invocations of 400 rows, within a tenth and a few; and what
    that makes of 100,000."""
    machine, counted = metered
    record(machine, 400, chars)
    work = Work(
        rows=400,
        metrics=2,
        answer_bytes=chars,
        workers=1,
        together=4,
        latency_s=0.01,
        deflated=len(zlib.compress(prose(chars, 1).encode())) / chars,
    )
    used = units(work)
    assert machine.invocations == ["plan", *["infer", "evaluate"] * 2, "summarize"]
    assert len(machine.invocations) + 1 == used.lambda_invocation  # and one look of the watch
    for name, really in (
        ("write_unit", "write_units"),
        ("read_unit", "read_units"),
        ("s3_put", "s3_put"),
        ("s3_get", "s3_get"),
    ):
        assert getattr(used, name) == pytest.approx(counted.counts[really], rel=0.1, abs=15), (
            name,
            used,
            counted.counts,
        )
    scaled = {
        name: counted.counts[really] * 250.0
        for name, really in (
            ("write_unit", "write_units"),
            ("read_unit", "read_units"),
            ("s3_put", "s3_put"),
            ("s3_get", "s3_get"),
        )
    }
    long = planned(100_000)
    counted_usd = sum(unit_costs(replace(units(long, simulate(long).wall_s), **scaled)).values())
    # The budget is for items of one write unit; longer answers cost one more for each KB that they deflate
    # to.
    assert (
        counted_usd <= BUDGET_USD + (write_units(work.case_bytes) - 1) * 100_000 * prices()["write_unit"]
    ), counted_usd


def test_100_000_rows_cost_at_most_a_quarter_of_a_dollar() -> None:
    """As expected, and where the slowest call of each shard takes two and a half times
    as long as the others."""
    work = planned(100_000)
    assert work.together == 7 <= MOST_TOGETHER
    assert {name: run_usd(run) <= BUDGET_USD for name, run in scenarios(work).items()} == dict.fromkeys(
        ("low", "expected", "high"), True
    )
    assert run_usd(replace(work, together=1)) > BUDGET_USD  # why shards are given out several at once


def test_transitions_are_those_of_the_state_machine() -> None:
    """The states that a run without faults enters, counted in the definition."""
    machine = json.loads((ROOT / "infra" / "experiment.asl.json").read_text("utf-8"))
    child = machine["States"]["Shards"]["ItemProcessor"]
    turns = {
        "HasProject": "Watch",
        "AnyShards": "Shards",
        "More": "Summarize",
        "InferredAll": "Evaluate",
        "EvaluatedAll": "ShardDone",
        "Outcome": "Done",
    }
    assert len(path(machine, turns)) == cloud_cost.PARENT_TRANSITIONS
    assert 1 + len(path(child, turns)) == cloud_cost.CHILD_TRANSITIONS
    again = path(child, {"InferredAll": "Wait"}, start="InferredAll", end="Infer")
    assert len(again) == cloud_cost.TURN_TRANSITIONS
    watch = json.loads((ROOT / "infra" / "watch.asl.json").read_text("utf-8"))
    assert len(path(watch, {"IsOver": "Over"})) == cloud_cost.WATCH_TRANSITIONS + 1
    assert watch["States"]["Wait"]["Seconds"] == cloud_cost.WATCHED_S


def path(
    machine: dict[str, Any], turns: dict[str, str], start: str | None = None, end: str | None = None
) -> list[str]:
    states, name, found = machine["States"], start or machine["StartAt"], list[str]()
    while True:
        found.append(name)
        state = states[name]
        if name == end or state["Type"] == "Succeed":
            return found
        if state["Type"] == "Choice":
            assert turns[name] in {state.get("Default"), *(choice["Next"] for choice in state["Choices"])}
        name = turns[name] if state["Type"] == "Choice" else state["Next"]


def test_constants_are_those_of_the_code_and_the_template() -> None:
    """The formulas may not import them: they are pure."""
    for name in ("PLAIN_BYTES", "CASE_BYTES", "SCORES_BYTES"):
        assert getattr(cloud_cost, name) == getattr(dynamodb_items, name)
    assert cloud_cost.SHARD_ROWS == SHARD_ROWS and LEDGER_S == PATIENCE_S
    template = (ROOT / "template.yaml").read_text("utf-8")
    default = {
        name: int(value)
        for name, value in re.findall(
            r"^  (\w+):\n    Type: Number\n    Default: (\d+)", template, flags=re.M
        )
    }
    assert (default["MaxConcurrency"], default["WorkerMemory"]) == (
        Work(rows=1).workers,
        Work(rows=1).worker_mb,
    )
    assert default["WorkerTimeout"] - 10 == cloud_cost.WORKER_LIMIT_S
    kinds = re.findall(r"^    Type: AWS::(\S+)", template, flags=re.M)
    assert (
        kinds.count("SecretsManager::Secret") == 0
        and kinds.count("CloudWatch::Alarm") <= 10
        and kinds.count("CloudWatch::Dashboard") == 1
    )


def test_units_of_items() -> None:
    """A KB begun is written, four KB begun are read; nothing costs one."""
    assert [write_units(size) for size in (0, 1, 1024, 1025, 4096)] == [1, 1, 1, 2, 4]
    assert [read_units(size) for size in (0, 4096, 4097)] == [1, 1, 2]


def test_dollars_are_units_times_prices() -> None:
    """By hand: the row of FACTS for 50 rows a worker has 100,000 units of 1 KB and 2,000 shards."""
    found = unit_costs(Units(lambda_gb_s=3000, lambda_invocation=4000, transition=4000, write_unit=100_000))
    assert found["Lambda"] == pytest.approx(0.0408, abs=1e-4)
    assert (round(found["Step Functions"], 4), round(found["DynamoDB"], 4), found["S3"]) == (0.1, 0.0625, 0)
    assert all(
        row["usd"] > 0 and row["sure"] in "ck" and row["unit"] for row in price_table()["prices"].values()
    )


@pytest.mark.parametrize(
    ("shards", "workers", "trials", "expected"),
    [
        (3, 2, 1, 1),
        (2000, 100, 1, 7),
        (2000, 1000, 1, 1),
        (20_000, 1000, 1, 7),
        (20_000, 100, 1, 8),
        (250, 100, 1, 1),
        (600, 100, 1, 3),
        (2000, 100, 10, 1),
    ],
)
def test_as_many_shards_to_a_worker_as_leave_each_worker_two_turns(
    shards: int, workers: int, trials: int, expected: int
) -> None:
    """Never so many that a run takes more than a twentieth longer for it."""
    assert together(shards, workers, trials) == expected
    work = Work(rows=shards * 50, trials=trials, workers=workers, together=expected)
    assert simulate(work, UNBOUNDED).wall_s <= 1.1 * simulate(replace(work, together=1), UNBOUNDED).wall_s


async def test_a_manifest_with_several_shards_a_line_gives_each_shard(tmp_path: Path) -> None:
    """In order, each once, whatever the lines."""
    lines = [{"key": "k", **shard(0), "more": [shard(1), shard(2)]}, {"key": "k", **shard(3)}]
    blobs = FileBlobs(tmp_path)
    await blobs.put("m.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert [found.number async for found in read_manifest(blobs, "m.jsonl")] == [0, 1, 2, 3]


def shard(number: int) -> dict[str, int]:
    return {"number": number, "first": number * 50, "count": 50, "offset": number * 10, "length": 10}


def test_a_million_rows_stay_inside_the_quotas_of_an_account() -> None:
    """With the template's MaxConcurrency no limit is hit; with ten times as much the table's writes are, and
    nothing is given up."""
    usual = simulate(planned(1_000_000))
    assert usual.throttles == () and usual.workers == 100 and not usual.gives_up
    wide = simulate(planned(1_000_000, workers=1000))
    assert {throttle.limit for throttle in wide.throttles} >= {"DynamoDB: the table's writes"}
    assert wide.workers == 1000 and not wide.gives_up and wide.wall_s < usual.wall_s
    # 1,140,000 write units at 4,000 a second, less the burst.
    assert wide.wall_s >= planned(1_000_000).shard_writes * 20_000 / DEFAULT.table_writes - 10


def test_what_is_called_widest_is_not_throttled_and_twice_as_much_is() -> None:
    """For a run that is long enough to use up what was saved before it."""
    work = planned(1_000_000)
    bound = widest(work)
    assert simulate(replace(work, workers=bound)).throttles == ()
    assert simulate(replace(work, workers=2 * bound)).throttles != ()


def test_a_new_account_is_too_small_for_the_default_and_the_estimate_says_so() -> None:
    """Ten functions at once: ninety children wait, and give up only after hours. With
    nine workers all is well."""
    found = simulate(planned(100_000), NEW_ACCOUNT)
    assert (
        found.throttles[0].limit == "Lambda: functions at once"
        and found.throttles[0].waits == 90
        and not found.gives_up
    )
    assert simulate(replace(planned(1_000_000), latency_s=8.0), NEW_ACCOUNT).gives_up
    assert widest(planned(100_000), NEW_ACCOUNT) == 9
    assert simulate(planned(100_000, workers=9), NEW_ACCOUNT).throttles == ()


def test_one_worker_does_one_thing_after_the_other() -> None:
    """The simulation's time is the sum of the parts."""
    work = Work(rows=1000, workers=1, together=4, latency_s=3)
    assert simulate(work).wall_s == pytest.approx(
        work.plan_s + work.shards * (work.infer_s + work.evaluate_s) + work.summarize_s
    )


def test_a_slow_service_makes_a_run_as_long_as_its_rate() -> None:
    """One write a second, five saved: the run takes as many seconds as it writes units, less those."""
    work = Work(rows=100, workers=2, together=1)
    found = simulate(work, Quotas(table_writes=1.0))
    assert found.wall_s > 2 * work.shard_writes - 5 and found.gives_up


def test_an_idle_stack_costs_its_storage() -> None:
    """Nothing, but what alarms and a dashboard cost an account that has used up what is free."""
    low, high = sum(i.low_usd for i in idle()), sum(i.high_usd for i in idle())
    assert low < 0.005 and high == pytest.approx(4.00, abs=0.01)
    assert sum(i.low_usd for i in idle(keys=2)) == pytest.approx(0.80, abs=0.01)


def with_code(rows: int) -> Work:
    """A run of which one metric is code of a user, which takes 20 µs a case itself."""
    return replace(planned(rows), code_metrics=1, code_s=20e-6)


def test_an_evaluator_of_ones_own_costs_a_tenth_more_at_most() -> None:
    """10,000 cases, one of two metrics in the sandbox, all of it cold: against two built-in ones."""
    plain, own = (
        sum(unit_costs(units(work, 13.0)).values()) for work in (planned(10_000), with_code(10_000))
    )
    assert plain < own <= 1.1 * plain


def rows_of_page() -> list[str]:
    """The tables of docs/cost.md, from the formulas."""
    found = []
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        work = planned(rows)
        run = simulate(work)
        parts = unit_costs(units(work, run.wall_s))
        low, high = (run_usd(scenarios(work)[name]) for name in ("low", "high"))
        cells = [
            f"{rows:,}",
            str(work.together),
            f"{work.lines:,}",
            *(f"{usd:.4f}" for usd in parts.values()),
            f"**{sum(parts.values()):.3f}**",
            f"{low:.3f}–{high:.3f}",
            f"{run.wall_s:,.0f} s",
        ]
        found.append("| " + " | ".join(cells) + " |")
    found += [f"| {item.what} | {item.low_usd:.2f} | {item.high_usd:.2f} | {item.why} |" for item in idle()]
    found += [
        f"| {row['unit']} | {row['usd']:.10f}".rstrip("0").rstrip(".")
        + f" | {'confirmed' if row['sure'] == 'c' else 'believed'} |"
        for row in price_table()["prices"].values()
    ]
    for rows in (1_000, 10_000, 100_000):
        plain, own = (sum(unit_costs(units(w, 13.0)).values()) for w in (planned(rows), with_code(rows)))
        found.append(f"| {rows:,} | {plain:.4f} | {own:.4f} | {100 * (own / plain - 1):.0f}% |")
    for workers in (9, 100, 200, 1000):
        run = simulate(planned(1_000_000, workers=workers))
        limits = (
            "; ".join(f"{t.limit} ({t.waits:,} ×, {t.longest_s:.0f} s at most)" for t in run.throttles)
            or "none"
        )
        found.append(f"| {workers:,} | {run.wall_s / 60:.0f} min | {limits} |")
    return found


def test_the_page_has_the_figures_of_the_formulas() -> None:
    """Each line of its tables; what is missing is printed as it should be."""
    page = (ROOT / "docs" / "cost.md").read_text("utf-8")
    missing = [line for line in rows_of_page() if line not in page]
    assert missing == [], "\n".join(["docs/cost.md lacks:", *missing])
