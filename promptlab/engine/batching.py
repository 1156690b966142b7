"""Batch mode: a run's open cases as batches of its provider, in three steps that can each be done again.

**Submit**: the cases are written to files, one a batch, and each file is a blob with a record in the ledger
before anything is sent. A record says that its batch is about to be submitted before it is: whoever comes
after a kill asks the provider whether it has a batch of that name, and submits it only if not. **Leave**:
nothing here needs to be alive while the provider works. **Collect**: answers are recorded as those of calls
are, under the same keys, so that a batch that is collected twice changes nothing.

The states of a batch: ready → submitting → submitted → collecting → collected.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.assets.rows import read_rows
from promptlab.domain import prices
from promptlab.domain.assets import Shard
from promptlab.domain.chat import ChatRequest
from promptlab.domain.records import BATCH
from promptlab.domain.results import Batched, CaseKey, Completion, Failure, ModelResponse, RunRecord
from promptlab.domain.texts import cut
from promptlab.engine.answers import MOST_MESSAGE, checked
from promptlab.engine.batch_files import Batch, BatchWriter
from promptlab.engine.halting import Halt
from promptlab.engine.infer import may_start, more_of
from promptlab.engine.job import Job, Outcome, redo
from promptlab.engine.keyless import without_keys
from promptlab.engine.plan import read_manifest
from promptlab.engine.pledges import Pledges
from promptlab.errors import ModelError, TemplateError
from promptlab.models.base import refusal
from promptlab.models.batches.base import Batches, BatchState, Submission, UndecidedError, lines_of
from promptlab.models.media import READER
from promptlab.models.wire.parts import NOTHING, loaded
from promptlab.ports import Ledger
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


async def batched(ledger: Ledger, run_id: str) -> Batched | None:
    """How far a run's batches are, as recorded; None where it has none, or waits for none."""
    found = await ledger.get_record(BATCH, run_id)
    return Batched.from_json(found) if found and found.get("open") else None


@dataclass(slots=True)
class Batching:
    """The batches of one run, in one process."""

    job: Job
    batches: Batches
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
                        self.pledges.remember(batch.number, batch.usd, batch.cases)
            wait_s = [await self._advance(batch, open_batches) for batch in open_batches]
            left = [batch for batch in open_batches if batch.state != "collected"]
            await self._save_head(head, left)
            if left and self.out_of_budget:
                return Outcome()  # what was answered is scored
            if left:
                waits = [s for s, batch in zip(wait_s, open_batches, strict=True) if batch in left]
                return Outcome(remaining=sum(batch.cases for batch in left), wait_s=min(waits))
            if head["generation"] >= self.job.run.generation:
                return Outcome()
            # Those of an earlier pass are collected: what is open now is this pass's.
            head |= {"generation": self.job.run.generation, "planned": False}
            await self._put_head(head)

    @property
    def out_of_budget(self) -> bool:
        """Whether what the next batch may cost is not there."""
        return self.pledges is not None and self.pledges.budget.reached is not None

    async def recorded(self) -> float:
        """What the batches of the run cost so far, by what is recorded."""
        total, number = 0.0, 0
        while record := await self.job.ledger.get_record(BATCH, self._key(number)):
            batch, number = Batch.from_json(record), number + 1
            total += batch.spent_usd
            if batch.state == "collecting":
                total += await self._cost_of(batch)
        return total

    async def _cost_of(self, batch: Batch) -> float:
        """What the recorded cases of a batch cost; one of unknown cost counts as what it may have cost."""
        total, cases = 0.0, await self._asked(batch)
        for shard in sorted({shard for shard, _, _ in cases}):
            for one in await self.job.ledger.get_completions(self.job.run.run_id, shard):
                if (shard, *one.key) in cases and not redo(one.error, one.generation, self.job.run):
                    total += batch.usd / batch.cases if one.cost_usd is None else one.cost_usd
        return total

    @property
    def is_submitted(self) -> bool:
        """Whether all that is open is with the provider, and this process is not needed."""
        return self.state is not None and self.state.since is not None and not self._unsent

    async def _head(self) -> dict[str, Any]:
        run = self.job.run
        if found := await self.job.ledger.get_record(BATCH, run.run_id):
            return found
        fresh = {"generation": run.generation, "planned": False, "first_open": 0, "batches": 0}
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
        """Write the open cases to batches, from where an earlier process was killed; False where time ran
        out."""
        made = await self._open(head)
        mine = [batch for batch in made if batch.generation == head["generation"]]
        number = made[-1].number + 1 if made else head["batches"]
        after = mine[-1].last if mine else (-1, -1, -1)
        with ScratchFolder() as folder:
            most_usd = None if self.pledges is None else await self.pledges.most_usd()
            limits, name = self.batches.limits, self.job.bindings.model.name
            prefix = partial(self.prefix, head["generation"])
            writer = BatchWriter(
                prefix, self._keep, limits, name, head["generation"], number, folder, most_usd
            )
            async for shard in read_manifest(self.job.blobs, manifest):
                if shard.number < after[0]:
                    continue
                if not may_start(self.job):
                    return False
                await self._write_shard(writer, shard, after)
            await writer.end()
        head |= {"planned": True, "batches": writer.number}
        await self._put_head(head)
        return True

    async def _write_shard(self, writer: BatchWriter, shard: Shard, after: tuple[int, int, int]) -> None:
        job = self.job
        recorded = await job.ledger.get_completions(job.run.run_id, shard.number)
        done = {c.key for c in recorded if not redo(c.error, c.generation, job.run)}
        cases = range(shard.first, shard.first + shard.count)
        keys = [CaseKey(case, trial) for case in cases for trial in range(job.experiment.trials)]
        todo = [key for key in keys if key not in done and (shard.number, *key) > after]
        if not todo:
            return
        rows = await read_rows(job.blobs, job.bindings.content, shard)
        READER.set(job.media)
        for key in todo:
            where = (shard.number, *key)
            try:
                messages = await job.bindings.messages(rows[key.case - shard.first])
                data = NOTHING
                if isinstance(messages, ChatRequest):
                    if why := refusal(job.bindings.model, messages):
                        raise ModelError(why, type="bad_request", sent=False)
                    data = await loaded(messages)
                # Which batch a request is in is in its id: none of another batch has it.
                line = partial(self.batches.line, messages=messages, data=data)
                await writer.add(line, where, self._worst_usd(messages))
            except (TemplateError, ModelError) as error:
                kind = "template_error" if isinstance(error, TemplateError) else error.type
                await job.recorder.record(self._failed(where, kind, str(error), 0))

    async def _keep(self, batch: Batch, path: Path) -> None:
        """Make a file a blob, then record its batch."""
        await self.job.blobs.put_file(self.blob(batch.number), path)
        await self._save(batch)

    def _worst_usd(self, messages: Any) -> float:
        """What the answer to a request may cost; 0 where nobody asks."""
        worst = None if self.pledges is None else self.pledges.budget.worst
        return 0.0 if worst is None else self._in_batch(worst.usd(messages))

    def prefix(self, generation: int, number: int) -> str:
        """The name of a batch: what the custom ids of its requests begin with."""
        return f"{_plain(self.job.run)}-g{generation}-b{number}"

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
            known=frozenset(other.id for other in among if other.id),
        )

    async def _advance(self, batch: Batch, among: list[Batch]) -> float:
        """Bring one batch as far as it comes now, and return the seconds until it is worth another look."""
        if not may_start(self.job):
            return 0.0
        try:
            if batch.state in ("ready", "submitting"):
                wait_s = await self._submit(batch, among)
            else:
                wait_s = await self._collect(batch, among)
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

    async def _submit(self, batch: Batch, among: list[Batch]) -> float:
        now = self._now()
        if batch.state == "submitting":
            try:
                found = await self.batches.find(self._submission(batch, among))
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
            return SOONEST_S
        if self.pledges is not None and not await self.pledges.take(batch.number, batch.usd, batch.cases):
            if not self.pledges.is_open:
                self.pledges.give_up(batch.usd)
            self._waiting.add(batch.number)  # others may leave something
            return SOONEST_S
        self._waiting.discard(batch.number)
        # From here on it may be there, whatever happens to this process.
        await self._save(batch, state="submitting", since=now)
        try:
            batch_id = await self.batches.submit(self._submission(batch, among))
        except ModelError as error:
            # A 5xx may come from what stands before the provider, which has the batch all the same.
            if not error.sent or 400 <= (error.status or 0) < 500:
                await self._save(batch, state="ready")
            raise
        await self._save(batch, state="submitted", id=batch_id)
        return self._pause(batch)

    # --------------------------------------------------------------- collect

    async def _collect(self, batch: Batch, among: list[Batch]) -> float:
        assert batch.id is not None
        try:
            state = await self.batches.look(batch.id, self._submission(batch, among))
        except ModelError as error:
            gone = self._now() - batch.since > self.batches.keeps_days * 86_400
            if error.type != "not_found" or not gone:
                raise
            words = f"the provider keeps a batch for {self.batches.keeps_days} days, and has it no more"
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
        if not await self._record(batch, state, again):
            return 0.0
        spent = 0.0 if self.pledges is None else await self._cost_of(batch)
        await self._save(batch, state="collected", done=batch.cases, spent_usd=spent)
        if self.pledges is not None:
            self.pledges.settle(batch.number, spent)
        await self.job.blobs.delete(self.blob(batch.number))
        return 0.0

    async def _record(self, batch: Batch, state: BatchState, again: bool) -> bool:
        """Record the results of a batch that has ended, and an error for each case without one; False where
        time ran out."""
        assert batch.id is not None
        left = await self._asked(batch)
        if again:
            left -= await self._done(left)
        group: list[Completion] = []
        async for custom_id, result in self.batches.results(batch.id, state):
            where = self._where(batch, custom_id)
            if where is None or where not in left:
                continue  # recorded, or none of ours
            left.remove(where)
            group.append(self._completion(where, batch.id, result))
            if len(group) >= TOGETHER:
                await self._put(group)
                group = []
                if not may_start(self.job):
                    return False
        await self._put(group)
        kind = f"batch_{state.reason or 'failed'}"
        why = _WHY.get(state.reason, _WHY["failed"])
        words = f"{self.job.bindings.model.name}: batch {batch.id} {why}"
        words += f": {state.message}" if state.message else ""
        rest = [self._failed(where, kind, words, 1) for where in sorted(left)]
        for start in range(0, len(rest), TOGETHER):
            await self._put(rest[start : start + TOGETHER])
            if not may_start(self.job):
                return False
        return True

    async def _put(self, group: list[Completion]) -> None:
        await asyncio.gather(*(self.job.recorder.record(without_keys(one)) for one in group))

    async def _asked(self, batch: Batch) -> set[tuple[int, int, int]]:
        """The cases of a batch, from its file."""
        found = set()
        chunks = self.job.blobs.stream(self.blob(batch.number))
        async for line in lines_of(chunks, self.job.bindings.model.name):
            head = re.search(rb'"([\w-]+-s\d+-c\d+-t\d+)"', line[:300])
            where = self._where(batch, head[1].decode()) if head else None
            if where is not None:
                found.add(where)
        return found

    async def _done(self, cases: set[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """Those of some cases that are recorded."""
        found = set()
        for shard in sorted({shard for shard, _, _ in cases}):
            recorded = await self.job.ledger.get_completions(self.job.run.run_id, shard)
            found |= {(shard, *c.key) for c in recorded if not redo(c.error, c.generation, self.job.run)}
        return found

    def _where(self, batch: Batch, custom_id: str) -> tuple[int, int, int] | None:
        prefix = re.escape(self.prefix(batch.generation, batch.number))
        found = re.fullmatch(rf"{prefix}-s(\d{{1,9}})-c(\d{{1,12}})-t(\d{{1,6}})", custom_id)
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    def _completion(
        self, where: tuple[int, int, int], batch_id: str, result: ModelResponse | ModelError
    ) -> Completion:
        model = self.job.bindings.model
        if isinstance(result, ModelError):
            usd = 0.0 if result.refused else None
            read, written = result.prompt_tokens, result.completion_tokens
            if read is not None or written is not None:  # it was billed all the same
                usd = self._usd(ModelResponse("", read, written, cost_usd=result.cost_usd))
            failed = self._failed(where, result.type, str(result), 1, usd)
            return replace(failed, prompt_tokens=read, completion_tokens=written)
        try:
            answer = checked(result, 0.0, model.name)
        except ModelError as error:
            return self._failed(where, error.type, str(error), 1, None)
        usd = self._usd(answer)
        return replace(
            self._empty(where),
            response=answer.response,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=usd,
            attempts=1,
            finish_reason=answer.finish_reason,
            metadata={**answer.metadata, "batch": batch_id},
            **more_of(answer),
        )

    def _usd(self, answer: ModelResponse) -> float | None:
        """Work out the dollars of an answer, from those that it would usually cost where they are known."""
        if answer.cost_usd is None:
            price = prices.price_of(self.job.bindings.model.config, tier=prices.BATCH)
            return prices.cost_of(price, answer)
        return self._in_batch(answer.cost_usd)

    def _in_batch(self, usual: float) -> float:
        """What costs so many dollars usually, in a batch."""
        config = self.job.bindings.model.config
        price, full = prices.price_of(config, tier=prices.BATCH), prices.price_of(config)
        if price is None or full is None or not full.output_usd_per_mtok or not price.output_usd_per_mtok:
            return usual
        return usual * price.output_usd_per_mtok / full.output_usd_per_mtok

    def _failed(
        self, where: tuple[int, int, int], kind: str, words: str, attempts: int, usd: float | None = 0.0
    ) -> Completion:
        failure = Failure(kind, cut(words, MOST_MESSAGE))
        return replace(self._empty(where), error=failure, attempts=attempts, cost_usd=usd)

    def _empty(self, where: tuple[int, int, int]) -> Completion:
        shard, case, trial = where
        generation, now = self.job.run.generation, self.job.clock.now()
        return Completion(shard=shard, case=case, trial=trial, generation=generation, created_at=now)

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


def _plain(run: RunRecord) -> str:
    """The run's id as providers take it in names: letters, digits and hyphens, at most 30."""
    return re.sub(r"[^A-Za-z0-9]+", "-", run.run_id).strip("-")[:30]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
