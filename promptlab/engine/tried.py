"""What was tried for cases that were postponed, from one worker of a shard to its next.

Without it each invocation of a worker would count from zero, and a provider that stays ill would be asked
for as long as the state machine goes on: 4,300 calls for 20 rows in half an hour.
"""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, field

from promptlab.domain.assets import Shard
from promptlab.domain.records import TRIED
from promptlab.domain.results import CaseKey
from promptlab.engine.job import Job
from promptlab.models.retry import Tries

KEPT_S = 7 * 86_400.0
NOTHING = Tries()


@dataclass(slots=True)
class Tried:
    """The tries of a shard's cases; always none where one process does the whole run."""

    name: str
    before: dict[CaseKey, Tries] = field(default_factory=dict)
    postponed: dict[CaseKey, Tries] = field(default_factory=dict)

    @classmethod
    async def read(cls, job: Job, shard: Shard) -> Tried:
        """Read what earlier workers of this pass left."""
        found = cls(f"{job.run.run_id}#{job.run.generation}#{shard.number}")
        if job.deadline.at is not None:
            record = await job.ledger.get_record(TRIED, found.name)
            for case, trial, *tries in (record or {}).get("cases", ()):
                found.before[CaseKey(case, trial)] = Tries(*tries)
        return found

    def of(self, key: CaseKey) -> Tries:
        """What was tried for a case so far."""
        return self.before.get(key, NOTHING)

    def keep(self, key: CaseKey, tries: Tries) -> None:
        """Note a case that is postponed."""
        if tries.attempts:
            self.postponed[key] = tries

    async def write(self, job: Job) -> None:
        """Leave to the next worker what was tried for the postponed cases."""
        if self.postponed:
            cases = [(key.case, key.trial, *astuple(tries)) for key, tries in self.postponed.items()]
            await job.ledger.put_record(TRIED, self.name, {"cases": cases}, expires_at=time.time() + KEPT_S)
