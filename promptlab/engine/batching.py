"""Batch mode: a run's open cases as batches of its provider, in three steps that can each be done again.

**Submit**: the cases are written to files, one a batch, and each file is a blob with a record in the ledger
before anything is sent. A record says that its batch is about to be submitted before it is: whoever comes
after a kill asks the provider whether it has a batch of that name, and submits it only if not. **Leave**:
nothing here needs to be alive while the provider works. **Collect**: answers are recorded as those of calls
are, under the same keys, so that a batch that is collected twice changes nothing.

The states of a batch: ready → submitting → submitted → collecting → collected.

What is asked comes in **waves** (`waves.py`): the run's cases first, then what its judges are asked about the
answers. A wave is planned when all batches of the one before are collected.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.domain.records import BATCH
from promptlab.domain.results import Batched, RunRecord
from promptlab.engine.batch_files import Batch, BatchWriter, plain
from promptlab.engine.halting import Halt
from promptlab.engine.infer import may_start
from promptlab.engine.job import Job, Outcome
from promptlab.engine.plan import read_manifest
from promptlab.engine.pledges import Pledges
from promptlab.engine.waves import Wave
from promptlab.errors import ModelError
from promptlab.models.batches.base import BatchState, Submission, UndecidedError, lines_of
from promptlab.ports import DirectBlobs, Ledger
from promptlab.scratch import ScratchFolder

SETTLE_S = 60.0
"""A batch that may have been submitted is looked for at least until so long after: a list may lag behind."""
NO_ROOM_S = 900.0
"""How long a batch waits for which the account's queue had no room."""
SOONEST_S, LATEST_S = 10.0, 900.0
"""The waits between two looks at a batch: a twentieth of its age, between these."""
MOST_TRIES = 20
"""Looks in a row that may fail before the run ends; it can be resumed."""
TOGETHER = 100
"""Answers that are handed to the recorder at once."""

logger = logging.getLogger(__name__)


async def is_through(ledger: Ledger, run: RunRecord) -> bool:
    """Whether all that a pass of a run asks in batches is answered."""
    found = await ledger.get_record(BATCH, run.run_id) or {}
    return found.get("ended") == run.generation


@dataclass(slots=True)
class Batching:
    """The batches of one run, in one process."""

    job: Job
    waves: Sequence[Wave]
    """What is asked in batches, in order."""
    state: Batched | None = None
    """How far they are, after a step."""
    pledges: Pledges | None = None
    """What they may cost; None where nobody bounds that."""
    _unsent: int = 0
    _waiting: set[int] = field(default_factory=set)
    """Batches that wait for what others leave of the budget."""

    async def step(self, manifest: str) -> Outcome:
        """Go as far as is possible without waiting; the outcome says what is open, and when to come again.

        Args:
            manifest: the key of the manifest of this pass.

        Where the provider refuses a batch, or does not answer any more, the job is halted.
        """
        while True:
            head = await self._head()
            if not head["planned"] and not await self._plan(manifest, head):
                return Outcome(remaining=1)
            open_batches = await self._open(head)
            if self.pledges is not None:
                for batch in open_batches:
                    if batch.state != "ready":
                        self.pledges.remember(batch.number, batch.usd, self._answered_by(batch))
            wait_s = [await self._advance(batch, open_batches) for batch in open_batches]
            left = [batch for batch in open_batches if batch.state != "collected"]
            await self._save_head(head, left)
            if left and self.out_of_budget:
                return Outcome()  # what was answered is scored
            if left:
                waits = [s for s, batch in zip(wait_s, open_batches, strict=True) if batch in left]
                return Outcome(remaining=sum(batch.cases for batch in left), wait_s=min(waits))
            if head["generation"] < self.job.run.generation:
                # Those of an earlier pass are collected: what is open now is this pass's.
                head |= {"generation": self.job.run.generation, "wave": self.waves[0].mark}
            elif (following := self._after(head)) is not None:
                head["wave"] = following.mark
            else:
                if head.get("ended") != head["generation"]:
                    await self._put_head(head | {"ended": head["generation"]})
                return Outcome()
            head["planned"] = False
            await self._put_head(head)

    @property
    def out_of_budget(self) -> bool:
        """Whether what the next batch may cost is not there."""
        return self.pledges is not None and self.pledges.budget.reached is not None

    async def recorded(self, *, of_cases: bool = False) -> float:
        """Return what the batches of the run cost so far, by what is recorded; or those of its cases
        alone."""
        total, number = 0.0, 0
        while record := await self.job.ledger.get_record(BATCH, self._key(number)):
            batch, number = Batch.from_json(record), number + 1
            if of_cases and batch.wave:
                continue
            total += batch.spent_usd
            if batch.state == "collecting":
                total += await self._cost_of(batch)
        return total

    @property
    def is_submitted(self) -> bool:
        """Whether all that is open is with the provider, and this process is not needed."""
        return self.state is not None and self.state.since is not None and not self._unsent

    async def aclose(self) -> None:
        """Release what speaks to the providers' batches."""
        for wave in self.waves:
            await wave.batches.aclose()

    def _wave(self, mark: str) -> Wave | None:
        return next((wave for wave in self.waves if wave.mark == mark), None)

    def _after(self, head: dict[str, Any]) -> Wave | None:
        """The wave after the one that was planned last; None where that is the last."""
        marks = [wave.mark for wave in self.waves]
        done = head.get("wave", "")
        following = marks.index(done) + 1 if done in marks else 0
        return self.waves[following] if following < len(marks) else None

    def _answered_by(self, batch: Batch) -> int:
        """The cases of a batch that are to be scored once it is collected; none of one of judges."""
        wave = self._wave(batch.wave)
        return batch.cases if wave is not None and wave.is_scored else 0

    async def _head(self) -> dict[str, Any]:
        run = self.job.run
        if found := await self.job.ledger.get_record(BATCH, run.run_id):
            return found
        fresh = {
            "generation": run.generation,
            "wave": self.waves[0].mark,
            "planned": False,
            "first_open": 0,
            "batches": 0,
        }
        # Before the first batch: whoever goes on with this plan in another pass must know whose it is.
        await self._put_head(fresh)
        return fresh

    async def _put_head(self, head: dict[str, Any]) -> None:
        await self.job.ledger.put_record(BATCH, self.job.run.run_id, head)

    async def _save_head(self, head: dict[str, Any], left: list[Batch]) -> None:
        """Record how far the batches are, for those who look."""
        sent = [batch for batch in left if batch.state not in ("ready", "submitting")]
        self._unsent = len([b for b in left if b not in sent and b.number not in self._waiting])
        since = min((batch.since for batch in sent), default=None)
        self.state = Batched(
            batches=head["batches"],
            open=len(left),
            cases=sum(batch.cases for batch in left),
            done=sum(batch.done for batch in left),
            failed=sum(batch.failed for batch in left),
            since=None if since is None else _iso(since),
        )
        numbers = {"first_open": left[0].number if left else head["batches"]}
        if (changed := head | numbers | asdict(self.state)) != head:
            head |= changed
            await self._put_head(head)

    async def _open(self, head: dict[str, Any]) -> list[Batch]:
        """The batches that are not collected yet, in order."""
        found, number = list[Batch](), head["first_open"]
        while record := await self.job.ledger.get_record(BATCH, self._key(number)):
            batch, number = Batch.from_json(record), number + 1
            if batch.state != "collected":
                found.append(batch)
        head["batches"] = max(head["batches"], number)
        return found

    def _key(self, number: int) -> str:
        return f"{self.job.run.run_id}#{number}"

    async def _save(self, batch: Batch, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(batch, name, value)
        await self.job.ledger.put_record(BATCH, self._key(batch.number), asdict(batch))

    # ---------------------------------------------------------------- submit

    async def _plan(self, manifest: str, head: dict[str, Any]) -> bool:
        """Write what a wave asks to batches, from where an earlier process was killed; False where time ran
        out."""
        wave = self._wave(head.get("wave", ""))
        made = await self._open(head)
        mark = "" if wave is None else wave.mark
        mine = [batch for batch in made if (batch.generation, batch.wave) == (head["generation"], mark)]
        number = made[-1].number + 1 if made else head["batches"]
        after = mine[-1].last if mine else (-1, -1, -1)
        if wave is not None:  # else it is one of judges that the run has no more
            with ScratchFolder() as folder:
                writer = BatchWriter(
                    partial(self.prefix, head["generation"]),
                    self._keep,
                    wave.batches.limits,
                    wave.model.name,
                    head["generation"],
                    number,
                    folder,
                    None if self.pledges is None else await self.pledges.most_usd(),
                    mark,
                )
                async for shard in read_manifest(self.job.blobs, manifest):
                    if shard.number < after[0]:
                        continue
                    if not may_start(self.job):
                        return False
                    await wave.write(writer, shard, after, priced=self.pledges is not None)
                await writer.end()
                number = writer.number
        head |= {"planned": True, "batches": number}
        await self._put_head(head)
        return True

    async def _keep(self, batch: Batch, path: Path) -> None:
        """Make a file a blob, then record its batch."""
        await self.job.blobs.put_file(self.blob(batch.number), path)
        await self._save(batch)

    def prefix(self, generation: int, number: int) -> str:
        """The name of a batch: what the custom ids of its requests begin with."""
        return f"{plain(self.job.run)}-g{generation}-b{number}"

    def blob(self, number: int) -> str:
        """The key of a batch's file."""
        return f"runs/{self.job.run.run_id}/batches/{number:06}.jsonl"

    def _submission(self, batch: Batch, among: list[Batch]) -> Submission:
        prefix = self.prefix(batch.generation, batch.number)
        return Submission(
            token=f"{prefix}-r{batch.again}" if batch.again else prefix,
            requests=batch.cases,
            size_bytes=batch.size_bytes,
            prefix=f"{prefix}-s",
            since=batch.since,
            content=lambda: self.job.blobs.stream(self.blob(batch.number)),
            folder=self._folder(),
            known=frozenset(other.id for other in among if other.id),
        )

    def _folder(self) -> str:
        """The folder of the run's batches, as others know it who reach the bucket by themselves."""
        key, blobs = f"runs/{self.job.run.run_id}/batches", self.job.blobs
        return blobs.whole_key(key) if isinstance(blobs, DirectBlobs) else ""

    async def _advance(self, batch: Batch, among: list[Batch]) -> float:
        """Bring one batch as far as it comes now, and return the seconds until it is worth another look."""
        if not may_start(self.job):
            return 0.0
        wave = self._wave(batch.wave)
        if wave is None:  # what its judges would say is asked for no more
            await self._end(batch)
            return 0.0
        try:
            if batch.state in ("ready", "submitting"):
                wait_s = await self._submit(wave, batch, among)
            else:
                wait_s = await self._collect(wave, batch, among)
        except ModelError as error:
            if not error.retryable or batch.tries + 1 >= MOST_TRIES:
                self.job.halt(self._halt(batch, error))
                return 0.0
            await self._save(batch, tries=batch.tries + 1)
            logger.info("batch %s: %s; it is tried again", batch.number, error)
            return max(error.retry_after_s or 0.0, min(SOONEST_S * 2.0**batch.tries, LATEST_S / 3))
        if batch.tries:
            await self._save(batch, tries=0)
        return wait_s

    async def _submit(self, wave: Wave, batch: Batch, among: list[Batch]) -> float:
        now = self._now()
        if batch.state == "submitting":
            try:
                found = await wave.batches.find(self._submission(batch, among))
            except UndecidedError:
                return self._pause(batch)
            if found is not None:
                await self._save(batch, state="submitted", id=found)
                return self._pause(batch)
            if now < batch.since + SETTLE_S:
                return batch.since + SETTLE_S - now
        elif now < batch.not_before:
            return batch.not_before - now
        if self.out_of_budget:
            return await self._unpaid(wave, batch)
        if self.pledges is not None:
            beside = self.pledges.scores_usd(self._answered_by(batch))
            if not await self.pledges.take(batch.number, batch.usd, self._answered_by(batch), beside):
                if not self.pledges.is_open:
                    self.pledges.give_up(batch.usd)
                self._waiting.add(batch.number)  # others may leave something
                return await self._unpaid(wave, batch) if self.out_of_budget else SOONEST_S
        self._waiting.discard(batch.number)
        # From here on it may be there, whatever happens to this process.
        await self._save(batch, state="submitting", since=now)
        try:
            batch_id = await wave.batches.submit(self._submission(batch, among))
        except ModelError as error:
            # A 5xx may come from what stands before the provider, which has the batch all the same.
            if not error.sent or 400 <= (error.status or 0) < 500:
                await self._save(batch, state="ready")
            raise
        await self._save(batch, state="submitted", id=batch_id)
        return self._pause(batch)

    async def _unpaid(self, wave: Wave, batch: Batch) -> float:
        """Keep a batch that cannot be paid for until the run is resumed; one of judges is made anew then, of
        what is not scored by that time."""
        if not wave.is_scored and batch.state == "ready":
            await self._end(batch)
        return SOONEST_S

    # --------------------------------------------------------------- collect

    async def _collect(self, wave: Wave, batch: Batch, among: list[Batch]) -> float:
        assert batch.id is not None
        try:
            state = await wave.batches.look(batch.id, self._submission(batch, among))
        except ModelError as error:
            gone = self._now() - batch.since > wave.batches.keeps_days * 86_400
            if error.type != "not_found" or not gone:
                raise
            words = f"the provider keeps a batch for {wave.batches.keeps_days} days, and has it no more"
            state = BatchState(ended=True, reason="expired", message=words)
        if state.reason == "busy":
            wait_until = self._now() + NO_ROOM_S
            await self._save(batch, state="ready", id=None, again=batch.again + 1, not_before=wait_until)
            return NO_ROOM_S
        if not state.ended:
            if (state.done, state.failed) != (batch.done, batch.failed):
                await self._save(batch, done=state.done, failed=state.failed)
            return self._pause(batch)
        again = batch.state == "collecting"
        if not again:
            await self._save(batch, state="collecting")
        if not await self._record(wave, batch, state, again):
            return 0.0
        spent = 0.0 if self.pledges is None else await self._cost_of(batch)
        await self._end(batch, done=batch.cases, spent_usd=spent)
        if self.pledges is not None:
            self.pledges.settle(batch.number, spent)
        return 0.0

    async def _end(self, batch: Batch, **changes: Any) -> None:
        """Have done with a batch."""
        await self._save(batch, state="collected", **changes)
        await self.job.blobs.delete(self.blob(batch.number))

    async def _cost_of(self, batch: Batch) -> float:
        """Return what is recorded that a batch cost; a request of unknown cost counts as what it may have
        cost."""
        wave = self._wave(batch.wave)
        return 0.0 if wave is None else await wave.cost_of(batch, await self._asked(batch))

    async def _record(self, wave: Wave, batch: Batch, state: BatchState, again: bool) -> bool:
        """Record the results of a batch that has ended, and an error for each request without one; False
        where time ran out."""
        assert batch.id is not None
        left = await self._asked(batch)
        if again:
            left -= await wave.recorded(left)
        wave.begin(batch)
        group: list[Any] = []
        begins = f"{self.prefix(batch.generation, batch.number)}-"
        async for custom_id, result in wave.batches.results(batch.id, state):
            name = custom_id.removeprefix(begins)
            if name == custom_id or name not in left:
                continue  # recorded, or none of ours
            left.remove(name)
            group.append(wave.made(batch, name, result))
            if len(group) >= TOGETHER:
                await wave.put(batch, group)
                group = []
                if not may_start(self.job):
                    return False
        await wave.put(batch, group)
        words = f"{wave.model.name}: batch {batch.id} {_WHY.get(state.reason, _WHY['failed'])}"
        words += f": {state.message}" if state.message else ""
        missing = ModelError(words, type=f"batch_{state.reason or 'failed'}", sent=False)
        rest = [wave.made(batch, name, missing) for name in sorted(left)]
        for start in range(0, len(rest), TOGETHER):
            await wave.put(batch, rest[start : start + TOGETHER])
            if not may_start(self.job):
                return False
        await wave.end(batch)
        return True

    async def _asked(self, batch: Batch) -> set[str]:
        """The names of a batch's requests, from its file."""
        found = set[str]()
        begins = re.escape(self.prefix(batch.generation, batch.number)).encode()
        async for line in lines_of(
            self.job.blobs.stream(self.blob(batch.number)), self.job.bindings.model.name
        ):
            if head := re.search(rb'"' + begins + rb'-(s[\w-]+)"', line[:300]):
                found.add(head[1].decode())
        return found

    def _now(self) -> float:
        return datetime.fromisoformat(self.job.clock.now()).timestamp()

    def _pause(self, batch: Batch) -> float:
        return min(LATEST_S, max(SOONEST_S, (self._now() - batch.since) / 20))

    def _halt(self, batch: Batch, error: ModelError) -> Halt:
        """Why the run ends here: the provider refuses, or does not answer any more."""
        what = f"Batch {batch.id or self.prefix(batch.generation, batch.number)}"
        doing = "collected" if batch.id else "submitted"
        words = f"{what} could not be {doing}: {error}. Nothing is lost, and nothing is submitted twice: "
        words += "resume the run once the cause is gone."
        return Halt("interrupted" if error.retryable else "stopped", words)


_WHY = {
    "expired": "was not done in the provider's time, and has no answer for this case",
    "cancelled": "was cancelled before this case had an answer",
    "failed": "ended without an answer for this case",
}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
