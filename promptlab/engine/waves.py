"""What a run asks in batches, wave by wave: its cases, then what its judges are asked about the answers."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from promptlab.assets.rows import read_rows
from promptlab.domain import prices
from promptlab.domain.assets import Shard
from promptlab.domain.chat import ChatRequest
from promptlab.domain.results import CaseKey, Completion, Failure, ModelResponse
from promptlab.domain.texts import cut
from promptlab.domain.worst_case import WorstCase, worst_case
from promptlab.engine.answers import MOST_MESSAGE, checked
from promptlab.engine.batch_files import Batch, BatchWriter, Where
from promptlab.engine.infer import more_of
from promptlab.engine.job import Job, redo
from promptlab.engine.keyless import without_keys
from promptlab.errors import ModelError, TemplateError
from promptlab.models.base import Model, refusal
from promptlab.models.batches.base import Batches
from promptlab.models.media import READER
from promptlab.models.wire.parts import NOTHING, loaded


class Wave(ABC):
    """What one model is asked in batches.

    A request has a name, which is the end of its custom id: of all requests of a run none has the same.
    """

    mark: str = ""
    """What its batches are known by in the ledger."""
    is_scored: bool = False
    """Whether its answers are the run's, which are to be scored."""

    def __init__(self, job: Job, model: Model, batches: Batches) -> None:
        self.job, self.model, self.batches = job, model, batches

    @abstractmethod
    async def write(self, writer: BatchWriter, shard: Shard, after: Where, *, priced: bool) -> None:
        """Write what is open of a shard, beyond the place `after`.

        Args:
            writer: where it goes.
            shard: the shard.
            after: the last case that is in a file already.
            priced: whether each request says what it may cost.
        """

    async def recorded(self, names: set[str]) -> set[str]:
        """Find out which of some requests are recorded, of a batch that is collected again; none are where
        a batch is recorded as a whole."""
        return set()

    def begin(self, batch: Batch) -> None:  # noqa: B027 - most have nothing to begin
        """Begin to collect a batch."""

    @abstractmethod
    def made(self, batch: Batch, name: str, result: ModelResponse | ModelError) -> Any:
        """Make what is recorded of a result."""

    @abstractmethod
    async def put(self, batch: Batch, group: list[Any]) -> None:
        """Record some results; they may be durable only at the `end`."""

    async def end(self, batch: Batch) -> None:  # noqa: B027 - most have nothing to end
        """Have all of a batch recorded, durably."""

    @abstractmethod
    async def cost_of(self, batch: Batch, names: set[str]) -> float:
        """Return what is recorded that a batch cost; a request of unknown cost counts as what it may have
        cost."""

    @cached_property
    def _worst(self) -> WorstCase:
        return worst_case(self.model.config)

    def worst_usd(self, messages: Any) -> float:
        """Return what the answer to a request may cost."""
        return self._in_batch(self._worst.usd(messages))

    def usd(self, answer: ModelResponse) -> float | None:
        """Work out the dollars of an answer, from those that it would usually cost where they are known."""
        if answer.cost_usd is None:
            price = prices.price_of(self.model.config, tier=prices.BATCH)
            return prices.cost_of(price, answer)
        return self._in_batch(answer.cost_usd)

    def _in_batch(self, usual: float) -> float:
        """Return what costs so many dollars usually, in a batch."""
        config = self.model.config
        price, full = prices.price_of(config, tier=prices.BATCH), prices.price_of(config)
        if price is None or full is None or not full.output_usd_per_mtok or not price.output_usd_per_mtok:
            return usual
        return usual * price.output_usd_per_mtok / full.output_usd_per_mtok

    def billed(self, error: ModelError) -> float | None:
        """The dollars of a request that failed; None where nobody knows."""
        read, written = error.prompt_tokens, error.completion_tokens
        if read is not None or written is not None:  # it was billed all the same
            return self.usd(ModelResponse("", read, written, cost_usd=error.cost_usd))
        return 0.0 if error.refused else None


class Cases(Wave):
    """The run's cases."""

    is_scored = True

    async def write(self, writer: BatchWriter, shard: Shard, after: Where, *, priced: bool) -> None:
        """Write the open cases of a shard; one that cannot be sent has failed."""
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
                    if why := refusal(self.model, messages):
                        raise ModelError(why, type="bad_request", sent=False)
                    data = await loaded(messages)
                # Which batch a request is in is in its id: none of another batch has it.
                line = partial(self.batches.line, messages=messages, data=data)
                name = f"s{shard.number}-c{key.case}-t{key.trial}"
                await writer.add(line, name, where, self.worst_usd(messages) if priced else 0.0)
            except (TemplateError, ModelError) as error:
                kind = "template_error" if isinstance(error, TemplateError) else error.type
                await job.recorder.record(self._failed(where, kind, str(error), 0))

    async def recorded(self, names: set[str]) -> set[str]:
        """Find out which of some cases are recorded."""
        places = {_where(name): name for name in names}
        found = set[str]()
        for shard in sorted({shard for shard, _, _ in places}):
            for one in await self.job.ledger.get_completions(self.job.run.run_id, shard):
                name = places.get((shard, *one.key))
                if name is not None and not redo(one.error, one.generation, self.job.run):
                    found.add(name)
        return found

    async def cost_of(self, batch: Batch, names: set[str]) -> float:
        """Return what the recorded cases of a batch cost."""
        total, places = 0.0, {_where(name) for name in names}
        for shard in sorted({shard for shard, _, _ in places}):
            for one in await self.job.ledger.get_completions(self.job.run.run_id, shard):
                if (shard, *one.key) in places and not redo(one.error, one.generation, self.job.run):
                    total += batch.usd / batch.cases if one.cost_usd is None else one.cost_usd
        return total

    def made(self, batch: Batch, name: str, result: ModelResponse | ModelError) -> Completion:
        """Make the completion of a case."""
        where = _where(name)
        if isinstance(result, ModelError):
            failed = self._failed(where, result.type, str(result), 1, self.billed(result))
            read, written = result.prompt_tokens, result.completion_tokens
            return replace(failed, prompt_tokens=read, completion_tokens=written)
        try:
            answer = checked(result, 0.0, self.model.name)
        except ModelError as error:
            return self._failed(where, error.type, str(error), 1, None)
        return replace(
            self._empty(where),
            response=answer.response,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=self.usd(answer),
            attempts=1,
            finish_reason=answer.finish_reason,
            metadata={**answer.metadata, "batch": batch.id},
            **more_of(answer),
        )

    async def put(self, batch: Batch, group: list[Completion]) -> None:
        """Record some completions."""
        await asyncio.gather(*(self.job.recorder.record(without_keys(one)) for one in group))

    def _failed(
        self, where: Where, kind: str, words: str, attempts: int, usd: float | None = 0.0
    ) -> Completion:
        failure = Failure(kind, cut(words, MOST_MESSAGE))
        return replace(self._empty(where), error=failure, attempts=attempts, cost_usd=usd)

    def _empty(self, where: Where) -> Completion:
        shard, case, trial = where
        generation, now = self.job.run.generation, self.job.clock.now()
        return Completion(shard=shard, case=case, trial=trial, generation=generation, created_at=now)


def _where(name: str) -> Where:
    """Shard, case and trial of a request."""
    found = re.fullmatch(r"s(\d{1,9})-c(\d{1,12})-t(\d{1,6})", name)
    assert found is not None, name
    return int(found[1]), int(found[2]), int(found[3])
