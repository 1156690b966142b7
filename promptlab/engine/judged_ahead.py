"""What judges in batch mode are asked, and what they answered.

An evaluation is code that waits for its judge. So it is begun twice: first until it asks, to take its
questions away, and again when their answers are there. Whatever a batch did not answer in the form that was
asked for is asked directly then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import orjson

from promptlab.domain.assets import Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.masking import hidden
from promptlab.domain.results import ModelResponse
from promptlab.engine.batch_files import Batch, BatchWriter, Where
from promptlab.engine.cache import Trial, request_key
from promptlab.engine.evaluate import answered
from promptlab.engine.job import Job
from promptlab.engine.limits import models_of
from promptlab.engine.scored import Scored
from promptlab.engine.scoring import fill_prompts, inputs_of
from promptlab.engine.waves import Cases, Wave
from promptlab.errors import ModelError, PromptLabError
from promptlab.evaluators.base import Evaluator
from promptlab.models.ahead import AHEAD, Ahead, LaterError
from promptlab.models.allowance import ALLOWANCE, remembering
from promptlab.models.base import Messages, Model
from promptlab.models.batches.base import Batches
from promptlab.models.batches.registry import BatchModes
from promptlab.models.usage import note_answer
from promptlab.ports import Blobs

_TOKENS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_usd",
)


def waves_of(job: Job, modes: BatchModes) -> list[Wave]:
    """Return what a run asks in batches, in order: its cases, then each of its judges that is in batch mode.

    Raises:
        ConfigError: a model has no batch mode here.
    """
    model = job.bindings.model
    found: list[Wave] = [Cases(job, model, modes.of(model))] if model.config.batch else []
    judges = {mark_of(judge): judge for judge in job.bindings.judges if judge.config.batch}
    return [*found, *(Judges(job, judge, modes) for judge in judges.values())]


def mark_of(model: Model) -> str:
    """The mark of the batches of a judge: of its name and its address, which stay the same in all passes."""
    endpoint = getattr(model, "endpoint", None) or model.config.endpoint
    return hashlib.sha256(f"{model.name}\n{endpoint}".encode()).hexdigest()[:12]


def _key(model: Model, messages: Messages, repeat: int) -> str:
    """The name of a question."""
    return request_key(model, messages, repeat)[:20]


class Judges(Wave):
    """What one judge is asked about the answers that are there. What it says is in blobs of each shard."""

    def __init__(self, job: Job, judge: Model, modes: BatchModes) -> None:
        super().__init__(job, judge, modes.of(judge))
        self.mark = mark_of(judge)
        self._modes = modes
        self._formed = dict[int, tuple[Model, Batches]]()
        self._lines = dict[int, list[bytes]]()
        self._spent = dict[int, float]()

    async def write(self, writer: BatchWriter, shard: Shard, after: Where, *, priced: bool) -> None:
        """Write what the metrics ask about the cases of a shard that wait to be scored; what is too large is
        asked directly, and says so."""
        job = self.job
        evaluators = [
            (metric, evaluator)
            for metric, evaluator in job.bindings.evaluators
            if any(model.config.batch and mark_of(model) == self.mark for model in models_of(evaluator))
        ]
        cases = await answered(job, shard)
        await fill_prompts(job, cases)
        known = set(await _recorded(job.blobs, job.run.run_id, shard.number)) if cases else set()
        for scored in cases:
            where = (shard.number, *scored.case.completion.key)
            if where <= after:
                continue
            gathering = _Gathering(self.mark)
            for metric, evaluator in scored.open(evaluators):
                await _begun(job, scored, metric, evaluator, gathering)
            for key, (model, messages) in gathering.found.items():
                if key not in known:
                    known.add(key)
                    line = partial(self._of(model).line, messages=messages)
                    usd = self.worst_usd(messages) if priced else 0.0
                    with suppress(ModelError):
                        await writer.add(line, f"s{shard.number}-q{key}", where, usd)

    def _of(self, model: Model) -> Batches:
        """Return what writes a question for a model whose answers have the form of a metric."""
        if id(model) not in self._formed:
            self._formed[id(model)] = model, self._modes.of(model)
        return self._formed[id(model)][1]

    def begin(self, batch: Batch) -> None:
        """Begin to collect a batch."""
        self._lines, self._spent[batch.number] = {}, 0.0

    def made(self, batch: Batch, name: str, result: ModelResponse | ModelError) -> tuple[int, bytes]:
        """Make the line of an answer, and give the shard that it is for."""
        shard, _, key = name.removeprefix("s").partition("-q")
        value: dict[str, Any] = {"key": key}
        if isinstance(result, ModelError):
            usd = self.billed(result)
            value["error"] = {"type": result.type, "message": hidden([str(result)])[0]}
        else:
            usd = result.cost_usd = self.usd(result)
            text, metadata = hidden([result.response, dict(result.metadata)])
            more = {name: getattr(result, name) for name in _TOKENS}
            value |= {"response": text, "finish_reason": result.finish_reason, "metadata": metadata, **more}
        self._spent[batch.number] += batch.usd / batch.cases if usd is None else usd
        return int(shard), orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)

    async def put(self, batch: Batch, group: list[tuple[int, bytes]]) -> None:
        """Keep some lines."""
        for shard, line in group:
            self._lines.setdefault(shard, []).append(line)

    async def end(self, batch: Batch) -> None:
        """Make the lines blobs."""
        lines, self._lines = self._lines, {}
        for shard, of in lines.items():
            key = f"{_prefix(self.job.run.run_id, shard)}{batch.number:06}.jsonl"
            await self.job.blobs.put(key, b"\n".join(of))

    async def cost_of(self, batch: Batch, names: set[str]) -> float:
        """Return what a batch cost; nothing before it is collected, here and now: only then is it
        recorded."""
        return self._spent.get(batch.number, 0.0)


def _prefix(run_id: str, shard: int) -> str:
    return f"runs/{run_id}/judged/{shard:06}-"


async def _recorded(blobs: Blobs, run_id: str, shard: int) -> dict[str, dict[str, Any]]:
    """Return what was answered to the questions of a shard."""
    found = dict[str, dict[str, Any]]()
    for key in await blobs.keys(_prefix(run_id, shard)):
        for line in (await blobs.get(key)).splitlines():
            value = orjson.loads(line)
            found[value["key"]] = value
    return found


class _Gathering:
    """Takes away the questions of an evaluation."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.found = dict[str, tuple[Model, Messages]]()

    async def answer(
        self, model: Model, messages: Messages, repeat: int
    ) -> tuple[ModelResponse, bool] | None:
        """Take a question of the judge that is asked now; let those of others wait."""
        if model.config.batch and mark_of(model) == self._mark:
            self.found.setdefault(_key(model, messages, repeat), (model, messages))
        raise LaterError


async def _begun(
    job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, gathering: _Gathering
) -> None:
    """Begin an evaluation, up to its questions; one that cannot be made says so when the case is scored."""
    with suppress(LaterError, PromptLabError, ValueError, TimeoutError), _asking(gathering):
        given = await inputs_of(job, scored, metric, evaluator)
        trial = None if job.cache is None else Trial(job.cache, scored.case.completion.trial)
        with nullcontext() if trial is None else remembering(trial):
            if given.score is None:
                await evaluator.evaluate(given.data)  # type: ignore[misc]  # a judge's is a coroutine


class Answered:
    """What was answered ahead, for the evaluations of one shard."""

    def __init__(self, found: dict[str, dict[str, Any]]) -> None:
        self._found, self._given = found, set[str]()

    async def answer(
        self, model: Model, messages: Messages, repeat: int
    ) -> tuple[ModelResponse, bool] | None:
        """The answer to a question; the first evaluation that has it pays for it."""
        key = _key(model, messages, repeat)
        found = self._found.get(key) if model.config.batch else None
        if found is None:
            return None
        if error := found.get("error"):
            raise ModelError(str(error["message"]), type=str(error["type"]), sent=False)
        again = key in self._given
        self._given.add(key)
        answer = ModelResponse(
            response=str(found["response"]),
            finish_reason=found["finish_reason"],
            metadata=found["metadata"],
            **{name: found[name] for name in _TOKENS},
        )
        if again:
            answer.cost_usd = 0.0
        else:
            note_answer(model.config, answer)
            if (allowance := ALLOWANCE.get()) is not None:
                allowance.prepaid(answer.cost_usd or 0.0)
        return answer, again


@contextmanager
def _asking(ahead: Ahead) -> Iterator[None]:
    token = AHEAD.set(ahead)
    try:
        yield
    finally:
        AHEAD.reset(token)


@contextmanager
def answering(found: Answered) -> Iterator[None]:
    """In the block, judges have the answers to what was asked ahead."""
    with _asking(found):
        yield


async def answers_of(job: Job, shard: Shard) -> Answered:
    """Return what was answered ahead for a shard."""
    return Answered(await _recorded(job.blobs, job.run.run_id, shard.number))


async def forget(job: Job, shard: Shard) -> None:
    """Remove what was answered ahead for a shard that is finished."""
    keys: Sequence[str] = await job.blobs.keys(_prefix(job.run.run_id, shard.number))
    await asyncio.gather(*(job.blobs.delete(key) for key in keys))
