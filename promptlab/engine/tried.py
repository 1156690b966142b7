"""What was tried for cases that were postponed, from one worker of a shard to its next.

Without it each invocation of a worker would count from zero, and a provider that stays ill would be asked
for as long as the state machine goes on: 4,300 calls for 20 rows in half an hour.
"""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, field
from typing import Any

import orjson

from promptlab.domain.assets import Shard
from promptlab.domain.masking import hidden
from promptlab.domain.prices import Price
from promptlab.domain.records import TRIED
from promptlab.domain.results import MAX_TRIES, CaseKey
from promptlab.engine.attempts import Attempts
from promptlab.engine.job import Job
from promptlab.models.retry import Tries

KEPT_S = 7 * 86_400.0
MOST_BYTES = 60_000
"""JSON of attempts in one record at most: it stays in the record's one item, whatever its texts are."""
NOTHING = Tries()


@dataclass(slots=True)
class Tried:
    """The tries of a shard's cases; always none where one process does the whole run."""

    name: str
    before: dict[CaseKey, Tries] = field(default_factory=dict)
    postponed: dict[CaseKey, Tries] = field(default_factory=dict)
    seen_before: dict[CaseKey, dict[str, Any]] = field(default_factory=dict)
    """The attempts of these cases, as JSON."""
    seen: dict[CaseKey, Attempts] = field(default_factory=dict)

    @classmethod
    async def read(cls, job: Job, shard: Shard) -> Tried:
        """Read what earlier workers of this pass left."""
        found = cls(f"{job.run.run_id}#{job.run.generation}#{shard.number}")
        if job.deadline.at is not None:
            record = await job.ledger.get_record(TRIED, found.name)
            for case, trial, *tries in (record or {}).get("cases", ()):
                found.before[CaseKey(case, trial)] = Tries(*tries)
            for case, trial, seen in (record or {}).get("attempts", ()):
                found.seen_before[CaseKey(case, trial)] = seen
        return found

    def of(self, key: CaseKey) -> Tries:
        """Return what was tried for a case so far."""
        return self.before.get(key, NOTHING)

    def attempts(self, key: CaseKey, price: Price | None) -> Attempts:
        """Return the attempts of a case so far, to go on with."""
        seen = Attempts(price)
        if key in self.seen_before:
            seen.resume(self.seen_before[key])
        return seen

    def keep(self, key: CaseKey, tries: Tries, seen: Attempts) -> None:
        """Note a case that is postponed."""
        if tries.attempts:
            self.postponed[key], self.seen[key] = tries, seen

    async def write(self, job: Job) -> None:
        """Leave to the next worker what was tried for the postponed cases."""
        if self.postponed:
            cases = [(key.case, key.trial, *astuple(tries)) for key, tries in self.postponed.items()]
            record = hidden({"cases": cases, "attempts": self._seen_json()})
            await job.ledger.put_record(TRIED, self.name, record, expires_at=time.time() + KEPT_S)

    def _seen_json(self) -> list[Any]:
        """The attempts of the postponed cases, as many of each as fit one record."""
        for most in (MAX_TRIES, 4, 2, 0):
            found = [[key.case, key.trial, self.seen[key].to_json(most)] for key in self.postponed]
            if len(orjson.dumps(found)) <= MOST_BYTES:
                break
        return found
