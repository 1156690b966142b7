"""The resources that a run in the cloud uses, and their cost: formulas only. docs/cost.md
explains and checks them.

The constants are what the steps and the ledger really do; a test runs them against a local AWS that
counts, and compares.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from math import ceil
from typing import Any

import orjson

SHARD_ROWS = 50
"""As `engine.ingest.SHARD_ROWS`."""
PARENT_TRANSITIONS, CHILD_TRANSITIONS = 9, 6
"""States that a run without faults enters: Watch, Plan, AnyShards, Shards, More, Summarize, Outcome, Done;
the start of the child, Infer, InferredAll, Evaluate, EvaluatedAll, ShardDone."""
WATCH_TRANSITIONS, WATCHED_S = 3, 300
"""States that the watch beside a run enters for each look (Wait, Look, IsOver; and Over at the end), and the
seconds between two looks."""
WATCH_S, WATCH_MB = 1.5, 256
"""Seconds of a look, which mostly finds its function cold."""
TURN_TRANSITIONS = 3
"""More of them for each further invocation of Infer: InferredAll, Wait, Infer."""
WORKER_LIMIT_S = 890.0
"""A worker starts no call in the last ten seconds of its 900."""

PLAIN_BYTES, CASE_BYTES, SCORES_BYTES = 800, 4096, 8192
"""As in `adapters.aws.dynamodb_items`: longer JSON is deflated; longer than that still, it goes to S3."""
CASE_KEYS_BYTES = 75
"""Bytes of a completion's item: keys, names of attributes, counts."""
CASE_FIELDS_BYTES = 110
"""Bytes of a completion's JSON: all but the answer."""
SCORES_CASE_BYTES, SCORE_BYTES = 40, 14
"""Bytes of a shard's deflated scores: for a case, and for each metric of a case."""
SUMMARY_BYTES = 700
"""Bytes of a shard's summary, as it is read back."""
SHARDS_READ = 51
"""Finished shards whose counts one read unit gives."""
RUN_WRITES, RUN_READS = 24, 20
"""Units of a run whatever its length: its assets, its record (in transactions, which
count twice), the lists."""
SHARD_MARKS = 3
"""Write units of a shard in the run's own partition: begun, finished, its summary."""
LEASE_WRITES = 6
"""Write units of a shard's lease, in Infer and in Evaluate: taken in a transaction, which counts
twice, and given back."""

VCPU_MB = 1769
"""Memory that comes with one processor."""
INFER_CPU_S, EVALUATE_CPU_S, METRIC_CPU_S = 0.0011, 0.0004, 0.0001
"""Processor seconds of a case in Infer and in Evaluate, and for each metric of a case."""
IO_S = 0.01
"""Seconds of one request to DynamoDB or S3."""
COLD_S = 1.2
"""Seconds of a worker's first invocation: its imports, which are billed."""
SANDBOX_COLD_S = 1.5
"""Seconds of a sandbox's first invocation: two interpreters start, and one child is confined."""
SANDBOX_CALL_S, SANDBOX_CASE_S = 0.04, 0.0001
"""Seconds of one invocation of the sandbox, a bundle's start in it among them; processor seconds of a case
beyond the code itself, five times what `make bench-sandbox` measures."""
SANDBOX_WAY_S = 0.03
"""Seconds that a question to the sandbox is on its way: gathered, sent, and answered."""
CHILD_S = 0.012
"""Processor seconds of a case of `code_tests` beyond the code itself, which has a child of its own."""
LOOK_S = 5.0
"""How often a worker looks whether its run was cancelled, and renews its lease."""
SUMMARIZE_MB, PLAN_MB = 1769, 512
LINE_LOG_BYTES, SHARD_LOG_BYTES = 1500, 800
"""Logged for an invocation, and for each shard in it."""
CUSTOM_METRICS = 6
"""Those of Infer; the watch has one more, in runs of more than five minutes."""
TRACED = 0.05
"""Share of executions that X-Ray records."""


def write_units(size_bytes: int | float) -> int:
    """Units of writing an item: one for each KB begun."""
    return max(1, ceil(size_bytes / 1024))


def read_units(size_bytes: int | float) -> int:
    """Units of one consistent read: one for each 4 KB begun."""
    return max(1, ceil(size_bytes / 4096))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run, as far as it costs anything."""

    rows: int
    trials: int = 1
    metrics: int = 1
    code_metrics: int = 0
    """Those of the metrics that are code of users, in the sandbox."""
    code_s: float = 0.0
    """What such code takes for a case, itself."""
    answer_bytes: float = 400.0
    """The bytes of one answer, UTF-8."""
    deflated: float = 0.5
    """The share of a text that is left when it is deflated."""
    latency_s: float = 2.0
    """The seconds of one call, on average."""
    tail: float = 1.5
    """The slowest call of a shard, in latencies."""
    in_flight: int = 50
    """Calls in flight in one worker."""
    workers: int = 100
    """Workers at once, as the planner decides."""
    together: int = 8
    """Shards that a worker is given at once, as the planner decides."""
    worker_mb: int = 512
    sandbox_mb: int = 1024

    @property
    def cases(self) -> int:
        return self.rows * self.trials

    @property
    def shards(self) -> int:
        return ceil(self.rows / SHARD_ROWS)

    @property
    def lines(self) -> int:
        """Children of the state machine."""
        return ceil(self.shards / self.together)

    @property
    def shard_cases(self) -> float:
        return self.cases / self.shards

    @property
    def case_bytes(self) -> float:
        """Return the bytes of a completion's item."""
        plain = CASE_FIELDS_BYTES + self.answer_bytes
        return CASE_KEYS_BYTES + (
            plain if plain <= PLAIN_BYTES else plain * self.deflated if not self.case_in_blob else 0
        )

    @property
    def case_in_blob(self) -> bool:
        return (CASE_FIELDS_BYTES + self.answer_bytes) * self.deflated > CASE_BYTES

    @property
    def scores_bytes(self) -> float:
        """Return the bytes of a shard's scores, deflated."""
        return self.shard_cases * (SCORES_CASE_BYTES + SCORE_BYTES * self.metrics) if self.metrics else 0.0

    @property
    def scores_in_blob(self) -> bool:
        return self.scores_bytes > SCORES_BYTES

    @property
    def shard_writes(self) -> float:
        """Write units of a shard, all in all."""
        scores = 0 if not self.metrics else 1 if self.scores_in_blob else write_units(self.scores_bytes)
        return (
            self.shard_cases * write_units(self.case_bytes)
            + scores
            + SHARD_MARKS
            + LEASE_WRITES
            + self.infer_s / LOOK_S
        )

    @property
    def infer_s(self) -> float:
        """Return the seconds of one shard in Infer: as many calls at once as a worker may make,
        and the slowest of them."""
        calls = self.latency_s * (max(1.0, self.shard_cases / self.in_flight) + self.tail - 1)
        return calls + self.shard_cases * INFER_CPU_S / self._vcpu + 5 * IO_S

    @property
    def evaluate_s(self) -> float:
        """Return the seconds of one shard in Evaluate, with metrics that call no model."""
        own = self.shard_cases * (EVALUATE_CPU_S + METRIC_CPU_S * self.metrics) / self._vcpu + 8 * IO_S
        return own + self.code_metrics * (self.sandbox_s + SANDBOX_WAY_S)

    @property
    def sandbox_s(self) -> float:
        """Return the seconds of one shard in the sandbox, for one metric."""
        vcpu = min(1.0, self.sandbox_mb / VCPU_MB)
        return SANDBOX_CALL_S + self.shard_cases * (SANDBOX_CASE_S + self.code_s) / vcpu

    @property
    def plan_s(self) -> float:
        return 2.0 + self.shards * 20e-6

    @property
    def summarize_s(self) -> float:
        return 3.0 + self.shards * 1e-3 + self.cases * 80e-6

    @property
    def _vcpu(self) -> float:
        return min(1.0, self.worker_mb / VCPU_MB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The units that AWS counts."""

    lambda_gb_s: float = 0.0
    lambda_invocation: float = 0.0
    transition: float = 0.0
    write_unit: float = 0.0
    read_unit: float = 0.0
    s3_put: float = 0.0
    s3_get: float = 0.0
    log_gb: float = 0.0
    trace: float = 0.0
    metric_hour: float = 0.0


SERVICES: Mapping[str, tuple[str, ...]] = {
    "Lambda": ("lambda_gb_s", "lambda_invocation"),
    "Step Functions": ("transition",),
    "DynamoDB": ("write_unit", "read_unit"),
    "S3": ("s3_put", "s3_get"),
    "CloudWatch and X-Ray": ("log_gb", "trace", "metric_hour"),
}
"""The units on each service's bill."""


def units(work: Work, wall_s: float = 0.0) -> Units:
    """Count the units that a run without faults uses; `wall_s` is how long it takes."""
    w = work
    turns = w.lines * int(w.together * w.infer_s // WORKER_LIMIT_S)
    workers = min(w.workers, w.lines)
    seconds = w.shards * (w.infer_s + w.evaluate_s) + (2 * workers + turns) * COLD_S
    gb_s = (
        seconds * w.worker_mb + (w.plan_s + COLD_S) * PLAN_MB + (w.summarize_s + COLD_S) * SUMMARIZE_MB
    ) / 1024
    asked = w.shards * w.code_metrics
    boxes = workers if asked else 0  # at most: they are busy for a small part of a worker's time
    sandbox_s = asked * w.sandbox_s + boxes * SANDBOX_COLD_S
    gb_s += (sandbox_s * w.sandbox_mb + boxes * SANDBOX_COLD_S * w.worker_mb) / 1024
    looks = int(wall_s // WATCHED_S) + 1
    gb_s += looks * WATCH_S * WATCH_MB / 1024
    cases_read = read_units(w.shard_cases * w.case_bytes)
    reads = (
        w.shards * (5 + 2 * cases_read + 2 * w.infer_s / LOOK_S)
        + 8 * workers
        + RUN_READS
        + w.shards * SUMMARY_BYTES / 4096
        # The counts of finished shards, half of them on average, and the answers of open ones.
        + (looks - 1) * (w.shards / 2 / SHARDS_READ + workers * cases_read)
        + 2 * looks
    )
    blobs = w.cases * w.case_in_blob
    return Units(
        lambda_gb_s=gb_s,
        lambda_invocation=2 * w.lines + turns + 2 + looks + asked,
        transition=PARENT_TRANSITIONS
        + CHILD_TRANSITIONS * w.lines
        + TURN_TRANSITIONS * turns
        + WATCH_TRANSITIONS * looks
        + 1,
        write_unit=w.shards * w.shard_writes + RUN_WRITES,
        read_unit=reads,
        s3_put=w.shards * (1 + w.scores_in_blob) + blobs + 12,
        s3_get=3 * w.shards + 2 * blobs + 6,
        log_gb=((2 * w.lines + asked) * LINE_LOG_BYTES + w.shards * SHARD_LOG_BYTES) / 1e9,
        trace=TRACED * w.lines + min(wall_s, w.lines) + 1,
        metric_hour=(CUSTOM_METRICS + (looks > 1)) * max(1, ceil(wall_s / 3600)),
    )


def unit_costs(used: Units) -> dict[str, float]:
    """By service; their sum is the run, without the model's own price."""
    price, count = prices(), asdict(used)
    return {service: sum(price[name] * count[name] for name in names) for service, names in SERVICES.items()}


@dataclass(frozen=True, slots=True)
class IdleItem:
    """One part of what a stack costs in a month in which nobody uses it."""

    what: str
    low_usd: float
    high_usd: float
    """In an account that has used up what is free."""
    why: str


def idle(*, keys: int = 0, table_gb: float = 0.0, bucket_gb: float = 0.1) -> list[IdleItem]:
    """Everything of the template that can cost while nothing runs.

    Args:
        keys: provider keys.
        table_gb: what the runs so far left in the table.
        bucket_gb: what they left in the bucket, and the functions' code in SAM's own.
    """
    p = prices()
    table, backup, bucket = (
        table_gb * p["table_gb_month"],
        table_gb * p["backup_gb_month"],
        bucket_gb * p["bucket_gb_month"],
    )
    return [
        IdleItem("Parameter: the admin token", 0.0, 0.0, "a standard parameter is free"),
        IdleItem(
            "Secrets: provider keys",
            keys * p["secret_month"],
            keys * p["secret_month"],
            f"{keys} of them; models without a key need none",
        ),
        IdleItem("Table: storage", 0.0, table, f"{table_gb:g} GB; 25 GB of an account are free"),
        IdleItem("Table: point-in-time recovery", backup, backup, f"{table_gb:g} GB"),
        IdleItem("Bucket: storage", bucket, bucket, f"{bucket_gb:g} GB, the functions' code among it"),
        IdleItem("Alarms", 0.0, 10 * p["alarm_month"], "ten; ten of an account are free"),
        IdleItem("Dashboard", 0.0, p["dashboard_month"], "one; three of an account are free"),
        IdleItem(
            "Functions, state machines, HTTP API, queue, log groups, rule",
            0.0,
            0.0,
            "are charged by use only",
        ),
    ]


@functools.cache
def prices() -> dict[str, float]:
    """Dollars, by the name of the unit."""
    return {name: float(row["usd"]) for name, row in price_table()["prices"].items()}


@functools.cache
def price_table() -> dict[str, Any]:
    """The price table as it is kept: with its day, units and how sure each price is."""
    table: dict[str, Any] = orjson.loads(
        resources.files("promptlab.cloud").joinpath("prices.json").read_bytes()
    )
    return table


def scenarios(work: Work) -> dict[str, Work]:
    """The same run as it may turn out: `low`, `expected`, `high`.

    What is not known before a run: how slow the slowest calls are, and how well the answers deflate.
    """
    return {
        "low": replace(work, tail=1.0, deflated=0.35),
        "expected": work,
        "high": replace(work, tail=2.5, deflated=0.65),
    }
