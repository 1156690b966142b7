"""The infer step: asks the model for every case of a shard that has no answer yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from promptlab.assets.rows import read_rows
from promptlab.domain.assets import Shard
from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.messages import beyond_text
from promptlab.domain.prices import Price, cost_of, price_of
from promptlab.domain.results import CaseKey, Completion, Failure, ModelResponse, Usage, without_class
from promptlab.domain.texts import cut
from promptlab.domain.tokens import Needed, chat_tokens
from promptlab.domain.worst_case import worst_case
from promptlab.engine.answers import MOST_MESSAGE, MOST_TYPE, checked, plain, said_by
from promptlab.engine.budget import Part
from promptlab.engine.conversation import OpenCall, Talks, place_of, unfilled
from promptlab.engine.job import Job, Outcome, Row, cancelled_from_outside, redo
from promptlab.engine.keyless import without_keys
from promptlab.engine.tried import Tried
from promptlab.engine.user_code import OverdueError, apart, beside, in_time, said
from promptlab.engine.watchdog import watchdog
from promptlab.errors import ModelError, TemplateError
from promptlab.models.allowance import allowed, within
from promptlab.models.base import Model, in_thread, refusal, runs_on_loop
from promptlab.models.media import READER
from promptlab.models.recording import CaseRecorder, finished, recording
from promptlab.models.retry import Postponed, Slot, with_retries
from promptlab.models.spans import collect_spans
from promptlab.models.usage import counted, note_usage

MAX_PAUSE_S = 5.0
"""With a deadline: a longer pause than this is cheaper to spend in the state machine than in a worker."""
SELDOM = ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "trace")
"""Fields of an answer that a completion has, too, and that are None in most."""
RESERVE_S = 10.0
"""With a deadline: no call starts when less than this is left."""


async def infer(
    job: Job,
    shard: Shard,
    *,
    on_queued: Callable[[], None] = lambda: None,
    on_answered: Callable[[Row, Completion], Awaitable[None]] | None = None,
) -> Outcome:
    """Answer a shard's open cases, each recorded as soon as it is there.

    Reads first which cases are answered, so that a second attempt at a shard pays for none twice.

    Args:
        job: the run.
        shard: which of its cases.
        on_queued: called once all calls have asked the limiter for their turn.
        on_answered: awaited with each row and its completion, once that is recorded.

    Raises:
        Exception: whatever the ledger or the blobs raise; what was answered before is kept.
    """
    recorded = await job.ledger.get_completions(job.run.run_id, shard.number)
    done = {c.key for c in recorded if not redo(c.error, c.generation, job.run)}
    cases = (
        CaseKey(case, trial)
        for case in range(shard.first, shard.first + shard.count)
        if job.wants(case)
        for trial in range(job.experiment.trials)
    )
    todo = [key for key in cases if key not in done]
    if not todo:
        return Outcome()
    rows = await read_rows(job.blobs, job.bindings.content, shard)
    price = price_of(job.bindings.model.config)
    waits: list[float] = []
    tried = await Tried.read(job, shard)
    READER.set(job.media)
    talks = None if job.experiment.conversation is None else await Talks.read(job, shard, done)

    async def one(key: CaseKey) -> None:
        row = rows[key.case - shard.first]
        completion = await _answer(job, shard, key, row, price, waits, tried, talks)
        if completion is not None and on_answered is not None:
            await on_answered(row, completion)

    async with asyncio.TaskGroup() as group:
        for key in todo:
            group.create_task(one(key))
        await asyncio.sleep(0)
        on_queued()
    await tried.write(job)
    return Outcome(remaining=len(waits), wait_s=max(waits, default=0.0))


async def _answer(
    job: Job,
    shard: Shard,
    key: CaseKey,
    row: Row,
    price: Price | None,
    waits: list[float],
    tried: Tried,
    talks: Talks | None,
) -> Completion | None:
    """Answer and record one case, and give what was recorded; if that has to wait, append the seconds to
    `waits`."""
    seen = tried.attempts(key, price)
    async with Slot(job.limiter, job.outage) as slot:
        try:
            open_call = OpenCall(job.limiter, slot, tried.of(key), seen)
            if talks is not None:
                completion = await talks.converse(key, row, open_call, ask)
            else:
                completion = await _complete(job, shard, key, row, open_call)
        except Postponed as later:
            waits.append(later.wait_s)
            tried.keep(key, later.tries, seen)
            return None
        completion = without_keys(completion)
        # The slot is held until the answer is durable: whatever happens, no more calls than the
        # model's max_concurrent_tasks are ever paid for and not recorded.
        await job.recorder.record(completion)
        if job.budget is not None and completion.error is None:
            job.budget.answered(shard.number)
    if talks is not None and completion.error is None:
        await talks.clear(key)
    return completion


async def _complete(job: Job, shard: Shard, key: CaseKey, row: Row, open_call: OpenCall) -> Completion:
    place = place_of(job, shard, key)
    try:
        messages = await job.bindings.messages(row)
    except TemplateError as error:
        return unfilled(job, place, error)
    return await ask(job, place, messages, open_call)


async def ask(
    job: Job,
    place: Mapping[str, Any],
    messages: Prompt,
    open_call: OpenCall,
    model: Model | None = None,
) -> Completion:
    """Make one call, with all that holds for every call of a run: its pace, retries, budget and cache.

    Args:
        job: the run.
        place: where the answer belongs: `place_of`.
        messages: what is asked.
        open_call: the call's place among those in flight, and what was tried for it before.
        model: who is asked; None for the model under test.

    Raises:
        Postponed: it may not be made now, or not be paid for.
    """
    slot, seen, key = open_call.slot, open_call.seen, CaseKey(place["case"], place["trial"])
    used = Usage()
    try:
        model = model or job.bindings.model
        if isinstance(messages, ChatRequest) and (why := refusal(model, messages)):
            raise ModelError(why, type="bad_request", sent=False)
        if job.cache is not None and (found := await job.cache.find(model, messages, key.trial)) is not None:
            return _again(job, place, found)
        permits = open_call.limiter.permits
        if permits is not None and permits.counts_tokens:
            slot.needed = Needed(chat_tokens(messages), model.config.max_tokens)
        with counted(used) if model.runs_user_code or model.in_sandbox else nullcontext():
            response, attempts = await with_retries(
                lambda: (_attempt if job.budget is None else _paid)(job, model, messages, key),
                model.retry_policy,
                slot=slot,
                clock=job.clock,
                may_start=lambda: may_start(job),
                max_pause_s=None if job.deadline.at is None else MAX_PAUSE_S,
                before=open_call.before,
                deadline_s=job.experiment.case_deadline_s,
                on_attempt=seen.add,
            )
    except ModelError as error:
        job.prospects.failed(error)
        return Completion(
            **place,
            **seen.failed() | (_sums(used) if used.calls else {}),
            **recorded_before(error),
            error=Failure(error.type, cut(str(error), MOST_MESSAGE)),
            attempts=error.attempts,
            created_at=job.clock.now(),
        )
    if job.cache is not None:
        await job.cache.keep(model, messages, key.trial, response)
    spent = _spent_on(response, used, seen.price)
    if slot.needed is not None and (written := spent["completion_tokens"]) is not None:
        slot.settle(written + (spent["prompt_tokens"] or 0), written)
    if job.prospects.unsettled:
        job.prospects.answered()
    return Completion(
        **place,
        **seen.answered(spent) if seen.kept else spent,
        response=response.response,
        latency_ms=response.latency_ms,
        attempts=attempts,
        finish_reason=response.finish_reason,
        metadata=response.metadata,
        created_at=job.clock.now(),
        **more_of(response),
    )


def more_of(response: ModelResponse) -> dict[str, Any]:
    """Return the fields of a completion that an answer seldom has: nothing of one that is a text."""
    found: dict[str, Any] = {name: value for name in SELDOM if (value := getattr(response, name)) is not None}
    if said := beyond_text(response.messages):
        found["messages"] = said
    return found


def recorded_before(error: ModelError) -> dict[str, Any]:
    """Return the fields of a completion that code of a user recorded before it failed."""
    found: dict[str, Any] = {"messages": tuple(error.messages)} if error.messages else {}
    return found if error.trace is None else {**found, "trace": error.trace}


def _again(job: Job, place: Mapping[str, Any], found: ModelResponse) -> Completion:
    """Return the answer of before, which is neither called for nor paid."""
    return Completion(
        **place,
        cost_usd=0.0,
        response=found.response,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        finish_reason=found.finish_reason,
        metadata=found.metadata,
        attempts=0,
        cached=True,
        created_at=job.clock.now(),
        **more_of(found),
    )


async def _paid(job: Job, model: Model, messages: Prompt, key: CaseKey) -> ModelResponse:
    """Make one call within the budget.

    Raises:
        Postponed: it may not be paid for.
    """
    budget = job.budget
    assert budget is not None
    worst = budget.worst if model is job.bindings.model else worst_case(model.config)
    if worst is not None:
        usd = worst.usd(messages)
        return await within(budget.answers, model.config, usd, lambda: _attempt(job, model, messages, key))
    part, answer = Part(budget), None
    with counted() as used, allowed(part):
        try:
            answer = await _attempt(job, model, messages, key)
        finally:
            cost = used.cost_usd if answer is None or answer.cost_usd is None else answer.cost_usd
            silent = answer is not None and answer.cost_usd is None and not used.calls
            part.close(None if silent or used.unknown_cost else cost, model.name)
    note_usage(used)
    return answer


async def _attempt(job: Job, model: Model, messages: Prompt, key: CaseKey) -> ModelResponse:
    """Make one call, once there is room for its media; of code of a user with what it recorded, also where it
    failed."""
    if isinstance(messages, ChatRequest):
        async with job.media.room(messages):
            return await _recorded(job, model, messages, key)
    return await _recorded(job, model, messages, key)


async def _recorded(job: Job, model: Model, messages: Any, key: CaseKey) -> ModelResponse:
    if not model.runs_user_code:
        return await _called(job, model, messages, key, None)
    collect_spans()
    with recording(CaseRecorder()) as case:
        try:
            return await _called(job, model, messages, key, case)
        except ModelError as error:
            error.messages, error.trace = case.said, case.trace()
            raise


async def _called(
    job: Job, model: Model, messages: Any, key: CaseKey, case: CaseRecorder | None
) -> ModelResponse:
    """Make one call. Whatever a user's own model raises becomes a `ModelError` of that exception's name."""
    started = job.clock.monotonic()
    await_it = in_time
    if model.runs_user_code:
        await_it = apart if runs_on_loop(model) else beside
    try:
        with watching(model, key):
            if model.in_sandbox or (model.keeps_time and await_it is in_time):
                answer = await model.achat(messages)
            else:
                answer = await await_it(lambda: model.achat(messages), model.config.timeout_s)
        elapsed_ms = (job.clock.monotonic() - started) * 1000
        if case is None or (plain(answer) and case.is_empty):
            return checked(answer, elapsed_ms, model.name)
        # Objects of a user's own classes may do anything, and take any time, when they are read.
        found: ModelResponse = await in_time(
            lambda: in_thread(lambda: checked(finished(answer, case), elapsed_ms, model.name)),
            model.config.timeout_s,
        )
        return found
    except OverdueError as error:
        raise ModelError(
            f"no answer within timeout_s={model.config.timeout_s:g} s", type="timeout", retryable=True
        ) from error
    except Postponed:
        raise
    except ModelError as error:
        raise (await said_by(error) if model.runs_user_code else error) from error.__cause__
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
            raise
        words = without_class(await said(error), error)
        raise ModelError(words, type=type(error).__name__[:MOST_TYPE]) from error


def watching(model: Model, key: CaseKey) -> AbstractContextManager[None]:
    """In the block, a call is watched over if it runs a user's code."""
    if not model.runs_user_code:
        return nullcontext()
    return watchdog.watched(f"{model.name} (row {key.case})", model.config.timeout_s)


def _spent_on(response: ModelResponse, used: Usage, price: Price | None) -> dict[str, Any]:
    """Return the usage of an answer: what it says itself, else what an agent's or an own model's
    calls to our models used."""
    read, written, usd = response.prompt_tokens, response.completion_tokens, response.cost_usd
    if used.calls and read is None and written is None:
        return _sums(used) if usd is None else _sums(used) | {"cost_usd": usd}
    if usd is None:
        usd = used.cost_usd if used.calls else cost_of(price, response)
    return {"prompt_tokens": read, "completion_tokens": written, "cost_usd": usd}


def _sums(used: Usage) -> dict[str, Any]:
    """The sums, where they are of all calls; a case has no place to say that one is of some of them only."""
    tokens = used.unknown_tokens == 0
    return {
        "prompt_tokens": used.prompt_tokens if tokens else None,
        "completion_tokens": used.completion_tokens if tokens else None,
        "cost_usd": None if used.unknown_cost else used.cost_usd,
    }


def may_start(job: Job) -> bool:
    """Whether a further call may be paid for: the run is not stopped, and there is
    time to record the answer."""
    left = job.deadline.left_s()
    return not job.limiter.stopped and (left is None or left > RESERVE_S)
