"""A run in the cloud over time, against the quotas of an account: where it would be
throttled, and for how long.

Discrete events, shard by shard: 1,000,000 rows take well under a second. Services with a rate are
token buckets; whoever finds one empty waits for its turn, as the retries of the state machine and
of the ledger make it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import inf

from promptlab.cloud.cost import SHARD_MARKS, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """An account's limits, by default those of AWS in us-east-1."""

    concurrency: int = 1000
    """Functions at once."""
    scaling: int = 1000
    """Further environments of one function in ten seconds."""
    transitions: float = 5000.0
    """State transitions a second, and the burst."""
    children: int = 10_000
    """Children of a Distributed Map at once."""
    table_writes: float = 4000.0
    """Write units a second of a new on-demand table; it grows to twice its past peak, up to 40,000."""
    partition_writes: float = 1000.0
    """Write units a second under one partition key."""
    puts: float = 3500.0
    """Writes a second to one prefix of a bucket."""


BURST_S = 5.0
"""Seconds of unused write capacity that are counted on. DynamoDB keeps up to 300 of
them, without a promise."""

RETRIES_S = 4 * 3600.0
"""How long, on average, the 500 retries of the state machine outlast a Lambda without a free place: each
waits up to a minute."""
LEDGER_S = 30.0
"""How long the ledger outlasts throttling without any progress (`dynamodb_table.PATIENCE_S`)."""
FUNCTIONS = "Lambda: functions at once"

DEFAULT = Quotas()
NEW_ACCOUNT = Quotas(concurrency=10, transitions=800.0)
"""The limits that AWS gives an account in its first weeks. It raises them by itself or when asked."""


@dataclass(slots=True)
class Throttle:
    """Waits at one limit."""

    limit: str
    waits: int = 0
    longest_s: float = 0.0
    total_s: float = 0.0
    first_s: float = inf
    last_s: float = 0.0

    def add(self, at: float, seconds: float) -> None:
        """Count a wait that began `at` seconds after the start."""
        if seconds <= 1e-9:
            return
        self.waits += 1
        self.longest_s, self.total_s = max(self.longest_s, seconds), self.total_s + seconds
        self.first_s, self.last_s = min(self.first_s, at), max(self.last_s, at + seconds)


class _Bucket:
    """A token bucket, asked in the order of time."""

    def __init__(self, limit: str, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, 0.0
        self.throttle = Throttle(limit)

    def take(self, at: float, count: float) -> float:
        """When `count` tokens are there for who comes `at`."""
        if at > self._at:
            self._level, self._at = min(self._burst, self._level + (at - self._at) * self._rate), at
        # A negative level is what those before have still to wait for.
        self._level -= count
        wait = max(0.0, -self._level / self._rate) + (self._at - at)
        self.throttle.add(at, wait)
        return at + wait


@dataclass(frozen=True, slots=True)
class Simulated:
    """How a run goes."""

    wall_s: float
    """From the start of the execution to its end."""
    workers: int
    """Most workers at once."""
    asked: int
    """Workers that the planner lets work at once."""
    throttles: tuple[Throttle, ...] = field(default_factory=tuple)
    """At which limits it waits; none: it stays inside the quotas."""

    @property
    def gives_up(self) -> bool:
        """Whether somebody waits longer than retries go on: then shards are left, and the
        run has to be resumed."""
        return any(
            throttle.longest_s > (RETRIES_S if throttle.limit == FUNCTIONS else LEDGER_S)
            for throttle in self.throttles
        )


def simulate(work: Work, quotas: Quotas = DEFAULT) -> Simulated:
    """A run without faults."""
    asked = min(work.workers, work.lines)
    width = max(1, min(asked, quotas.children, quotas.concurrency))
    transitions = _Bucket("Step Functions: state transitions", quotas.transitions, quotas.transitions)
    scaling = _Bucket("Lambda: new environments", quotas.scaling / 10, quotas.scaling)
    table = _Bucket("DynamoDB: the table's writes", quotas.table_writes, BURST_S * quotas.table_writes)
    partition = _Bucket(
        "DynamoDB: writes under the run's own key", quotas.partition_writes, BURST_S * quotas.partition_writes
    )
    puts = _Bucket("S3: writes to the run's prefix", quotas.puts, quotas.puts)
    shards = [min(work.together, work.shards - line * work.together) for line in range(work.lines)]
    # (time, tie-breaker, shards left to infer, shards left to evaluate)
    events = [(scaling.take(0.0, 1), slot, shards.pop(), 0) for slot in range(width)]
    heapq.heapify(events)
    ready, serial = work.plan_s, width
    end = 0.0
    while events:
        now, _, infer, evaluate = heapq.heappop(events)
        serial += 1
        if infer:
            began = transitions.take(now, 2) if not evaluate else now
            answered = began + work.infer_s
            # A worker's slot is held until its answer is written: throttling slows the calls down, and loses
            # none.
            done = max(answered, table.take(now, work.shard_writes) + work.infer_s)
            heapq.heappush(events, (done, serial, infer - 1, evaluate + 1))
        elif evaluate:
            done = max(puts.take(now, 1), partition.take(now, SHARD_MARKS)) + work.evaluate_s
            heapq.heappush(events, (done, serial, 0, evaluate - 1))
        else:
            end = max(end, transitions.take(now, 4))
            if shards:
                heapq.heappush(events, (now, serial, shards.pop(), 0))
    throttles = [
        bucket.throttle for bucket in (transitions, scaling, table, partition, puts) if bucket.throttle.waits
    ]
    if asked > width:
        limit = FUNCTIONS if quotas.concurrency == width else "Step Functions: children at once"
        throttles.insert(0, Throttle(limit, asked - width, end, end * (asked - width), 0.0, end))
    return Simulated(ready + end + work.summarize_s, width, asked, tuple(throttles))


def widest(work: Work, quotas: Quotas = DEFAULT) -> int:
    """Workers at once that no quota throttles: what MaxConcurrency may be set to for runs of this kind.

    In the long run each worker writes one shard in `infer_s + evaluate_s` seconds.
    """
    shard_s = work.infer_s + work.evaluate_s
    by_rate = min(quotas.table_writes / work.shard_writes, quotas.partition_writes / SHARD_MARKS, quotas.puts)
    # A tenth of the account is left to the Studio and to others.
    return max(1, min(quotas.concurrency * 9 // 10, quotas.children, int(by_rate * shard_s)))
