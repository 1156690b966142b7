"""Budgets: what the calls of a run may cost, reserved before each and settled after it.

A budget is a record of the ledger, from which each process and worker leases dollars in blocks, by
conditional writes: what has been leased can be spent by nobody else. What is reserved for a call is its worst
case, so that whatever it costs in the end, no more is spent than was allowed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from promptlab.domain.experiment import Metric
from promptlab.domain.records import BUDGET, Swap
from promptlab.domain.results import RunRecord
from promptlab.domain.worst_case import WorstCase, worst_case
from promptlab.engine.halting import Halt
from promptlab.engine.limits import models_of
from promptlab.errors import ConfigError, StoreBusyError
from promptlab.evaluators.base import Evaluator
from promptlab.models.agent import AgentModel
from promptlab.models.base import Model
from promptlab.models.retry import Postponed
from promptlab.ports import Clock, Ledger

BLOCK = 0.02
"""The share of a budget that is leased at once: at most 50 writes to spend all of it, and one for each
further wave of calls."""
KEPT_S = 400 * 86_400.0
"""How long the record of a budget is kept after its last change."""
HOPE_S = 120.0
"""How long somebody else's lease is waited for that was last renewed so long ago: its holder may be dead."""
LOOK_S = 0.5
"""How often it is looked whether somebody else gave dollars back."""
PATIENCE_S = 10.0
"""How long a worker or an evaluation waits for that, before it ends for now."""
TRIES = 50
"""Tries to write a record that others write, too."""
DUST = 1e-9
"""Dollars below which two sums are the same."""
MARGIN = 1.5
"""How much more than the dearest scores so far those of the next case may need."""
PROMPT_BYTES = 4_000
"""About how much a judge's prompt has besides the answer, until some are seen."""


@dataclass(slots=True)
class Purse:
    """One budget, as one process or worker sees it: its lease, what is reserved of it, and what is spent."""

    ledger: Ledger
    key: str
    owner: str
    """Who leases: a lease of the same owner that is found is of one who died."""
    limit: float
    words: str
    """The budget in words: `its budget of $5.00 (max_cost_usd)`."""
    leased: float = 0.0
    """Dollars that are this owner's, whether spent or not."""
    settled: float = 0.0
    """Dollars spent of them."""
    reserved: float = 0.0
    """Dollars of the calls in flight."""
    base: float = 0.0
    """What the owner's part of the run had cost when the lease began, by what is recorded."""
    spent: float = 0.0
    """Dollars spent by all, as last seen; for people."""
    there: bool = False
    """Whether its lease is written."""
    hope: bool = False
    """Whether others hold dollars that they may give back."""

    @property
    def free(self) -> float:
        """Dollars that a call may be given now."""
        return self.leased - self.settled - self.reserved

    async def open(self, recorded: Callable[[], Awaitable[float]]) -> None:
        """Begin a lease. What one who died under the same name had spent is read from what is recorded.

        Args:
            recorded: what the owner's part of the run has cost, by what is recorded.
        """
        record = await self.ledger.get_record(BUDGET, self.key)
        self.base = await recorded()
        for _ in range(TRIES):
            dead = _leases(record).get(self.owner)
            new = _without(record, self.owner)
            if dead is not None:
                leased, settled, base, _ = dead
                new["spent"] += max(settled, self.base - base)
                # What was kept for the scores of its answers stays for them.
                self.leased = max(0.0, min(leased - settled, self.limit - _committed(new)))
            if dead is None or await self._write(record, new | self._entry(new)):
                self.spent = _spent(new)
                return
            record = await self.ledger.get_record(BUDGET, self.key)
        raise self._contended()

    async def lease(self, usd: float) -> bool:
        """Lease so many dollars more, or a block; False where they are not there."""
        for _ in range(TRIES):
            record = await self.ledger.get_record(BUDGET, self.key)
            others = _without(record, self.owner)
            room = self.limit - _committed(others) - self.leased
            now = time.time()
            self.spent = _spent(others) + self.settled
            self.hope = any(
                leased - settled > DUST and now - seen < HOPE_S
                for leased, settled, _, seen in _leases(others).values()
            )
            if room + DUST < usd:
                return False
            more = min(max(usd, self.limit * BLOCK), room)
            # Nobody may take of it before it is written.
            if await self._write(record, others | self._entry(others, more)):
                self.leased += more
                return True
            await asyncio.sleep(random.uniform(0, 0.05))
        raise self._contended()

    async def give_back(self, keep: float = 0.0) -> None:
        """Give back what is free but for `keep`, and write down what is spent."""
        for _ in range(TRIES):
            record = await self.ledger.get_record(BUDGET, self.key)
            others = _without(record, self.owner)
            back = max(0.0, self.free - keep)
            self.leased -= back
            if await self._write(record, others | self._entry(others)):
                return
            self.leased += back
            await asyncio.sleep(random.uniform(0, 0.05))
        raise self._contended()

    async def close(self, keep: float = 0.0) -> None:
        """End the lease; `keep` stays leased for whoever goes on under the same name."""
        self.reserved = 0.0
        if keep > 0 and self.leased:
            await self.give_back(keep)
            return
        if not self.there:
            return
        for _ in range(TRIES):
            record = await self.ledger.get_record(BUDGET, self.key)
            if self.owner not in _leases(record):
                return  # closed already, by a write whose answer was lost
            new = _without(record, self.owner)
            new["spent"] += self.settled
            if await self._write(record, new):
                return
            await asyncio.sleep(random.uniform(0, 0.05))
        raise self._contended()

    def _entry(self, others: Mapping[str, Any], more: float = 0.0) -> dict[str, Any]:
        mine = [max(self.leased + more, self.settled), self.settled, self.base, time.time()]
        return {"leases": {**others["leases"], self.owner: mine}}

    async def _write(self, was: Mapping[str, Any] | None, value: Mapping[str, Any]) -> bool:
        done = await _swapped(self.ledger, self.key, was, value)
        self.there = self.there or done
        return done

    def _contended(self) -> StoreBusyError:
        return StoreBusyError(f"The record of {self.words} is written by too many at once.")


async def _swapped(ledger: Ledger, key: str, was: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether a budget's record was still the one that was read, and is the new one."""
    swap = Swap(kind=BUDGET, key=key, was=was, now=now, expires_at=time.time() + KEPT_S)
    return await ledger.swap_records([swap])


def _leases(record: Mapping[str, Any] | None) -> dict[str, list[float]]:
    return dict((record or {}).get("leases", {}))


def _without(record: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    leases = _leases(record)
    leases.pop(owner, None)
    return {**(record or {}), "spent": float((record or {}).get("spent", 0.0)), "leases": leases}


def _committed(record: Mapping[str, Any]) -> float:
    """Return what is spent or leased."""
    return float(record["spent"] + sum(lease[0] for lease in record["leases"].values()))


def _spent(record: Mapping[str, Any]) -> float:
    return float(record["spent"] + sum(lease[1] for lease in record["leases"].values()))


async def room_usd(purse: Purse) -> float:
    """Return what nobody has spent or reserved of a budget."""
    others = _without(await purse.ledger.get_record(BUDGET, purse.key), purse.owner)
    return purse.limit - _committed(others) - purse.settled - purse.reserved


async def spent_usd(ledger: Ledger, key: str) -> float:
    """Return what has been spent of a budget, as far as its holders have written it down."""
    record = await ledger.get_record(BUDGET, key)
    return _spent(_without(record, "")) if record else 0.0


@dataclass(slots=True)
class Budget:
    """The budgets of one run in this process: its own, and its project's for the month."""

    purses: Sequence[Purse]
    clock: Clock
    run_id: str
    generation: int
    limited: bool = False
    """Whether it is a worker's, whose time is paid for."""
    worst: WorstCase | None = None
    """What a call of the model under test can cost; None for code of a user, whose own calls are counted."""
    judging: float = 0.0
    """The most dollars that the scores of a case take: kept back for each answered case that is not scored,
    so that answers do not spend what their scores need."""
    reached: str | None = None
    """Why no further call may be made; None while they may."""
    in_flight: int = 0
    pledged: float = 0.0
    """Dollars of batches that are at their provider: they stay leased when this process ends."""
    unscored: dict[int, int] = field(default_factory=dict)
    """Answered cases that wait for their scores, by shard."""
    scores_later: bool = False
    """Whether no scores are made meanwhile: nobody waits for what they leave."""
    _seen: dict[str, float] = field(default_factory=dict)
    _tight: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _version: int = 0
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def answers(self) -> Answers:
        """The allowance of the calls for cases."""
        return Answers(self)

    @property
    def held(self) -> float:
        """Dollars that are kept back for scores."""
        return self.judging * sum(self.unscored.values())

    async def reserve_answer(self, usd: float) -> None:
        """Wait until the call for a case may be made, and its scores may be paid for, too.

        Raises:
            Postponed: it may not; `reached` says whether for good.
        """
        if self.reached is None and not self._turn.locked() and self._take(usd, self.held + self.judging):
            return
        async with self._turn:
            waited_s = 0.0
            while self.reached is None and not self._tight:
                since, beside = self._version, self.held + self.judging
                if self._take(usd, beside):
                    return
                if await self._filled(usd + beside):
                    continue  # scores may have taken of it meanwhile
                if self._version != since:
                    continue  # a call ended while the ledger was asked
                if self.in_flight:
                    await self._change(since)
                elif self.unscored and not self.limited and not self.scores_later:
                    self._tight = True  # scores come first: what they do not need, answers may have
                elif await self._others(waited_s):
                    waited_s += LOOK_S
                else:
                    self._reach(usd + beside)
            raise Postponed(0.0)

    async def reserve(self, usd: float, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until a call for a score, or of code of a user, may be made.

        Raises:
            Postponed: it may not.
        """
        if self._take(usd):
            return
        began = self.clock.monotonic()
        async with self._turn:
            waited_s = 0.0
            while True:
                since = self._version
                if self._take(usd) or (await self._filled(usd) and self._take(usd)):
                    return
                if self._version != since:
                    continue
                if self.in_flight and self.clock.monotonic() - began < patience_s:
                    await self._change(since)
                elif not self.in_flight and waited_s < patience_s and await self._others(waited_s):
                    waited_s += LOOK_S
                else:
                    break
            if not self.in_flight:
                self._reach(usd)
        raise Postponed(0.0)

    def settle(self, reserved: float, spent: float) -> None:
        """Say what a call cost of what was reserved for it."""
        self.in_flight -= 1
        for purse in self.purses:
            purse.reserved -= reserved
            purse.settled += spent
        self._wake()

    def charge(self, spent: float) -> None:
        """Count dollars that nobody could reserve: calls that were known of when they were over."""
        for purse in self.purses:
            purse.settled += spent
        self._wake()

    def answered(self, shard: int) -> None:
        """Keep back what the scores of one more case need."""
        if self.judging:
            self.unscored[shard] = self.unscored.get(shard, 0) + 1

    def scored(self, shard: int, cases: int = 1) -> None:
        """Free what was kept back for cases that are scored."""
        left = self.unscored.get(shard, 0) - cases
        if left > 0:
            self.unscored[shard] = left
        else:
            self.unscored.pop(shard, None)
        self._wake()

    def saw_scores(self, metric: str, reserved: float) -> None:
        """Learn what one metric's calls for a case reserved."""
        self._seen[metric] = max(self._seen.get(metric, 0.0), reserved)
        self.judging = MARGIN * sum(self._seen.values())

    async def change(self) -> None:
        """Wait until something was settled or scored, but no longer than a second."""
        await self._change(self._version)
        self._tight = False

    async def give_back(self) -> None:
        """Give back what is free, also what is kept for scores, and write down what was spent."""
        for purse in self.purses:
            await purse.give_back()

    async def close(self, *, keep: bool = False) -> None:
        """Write down what was spent, and give the rest back; with `keep` but for what scores need."""
        for purse in self.purses:
            await purse.close((self.held if keep else 0.0) + self.pledged)
        if self.reached is not None and self.limited:
            await note_reached(self.purses[0].ledger, self.run_id, self.generation, self.reached)

    async def set_aside(self, usd: float, beside: float) -> bool:
        """Reserve dollars that others settle, later; False where they are not there, with `beside` for what
        else is needed."""
        if not self._take(usd, beside) and not (await self._filled(usd + beside) and self._take(usd, beside)):
            return False
        self.in_flight -= 1  # no call here is waited for
        return True

    def reach(self, usd: float) -> None:
        """Let no further call be made: the next one may cost so much."""
        self._reach(usd)

    def rebase(self, usd: float) -> None:
        """Take note that others spent so much for the same part of the run, and counted it."""
        for purse in self.purses:
            purse.base += usd

    def _take(self, usd: float, beside: float = 0.0) -> bool:
        if any(purse.free + DUST < usd + beside for purse in self.purses):
            return False
        for purse in self.purses:
            purse.reserved += usd
        self.in_flight += 1
        return True

    async def _filled(self, usd: float) -> bool:
        for purse in self.purses:
            if (missing := usd - purse.free) > 0 and not await purse.lease(missing):
                return False
        return True

    async def _others(self, waited_s: float) -> bool:
        """Wait a little for what others may give back, and give back what is free here; False where nobody
        will, or that took too long for a worker."""
        if not any(purse.hope for purse in self.purses) or (self.limited and waited_s >= PATIENCE_S):
            return False
        if not waited_s:
            for purse in self.purses:
                await purse.give_back(self.held)
        await self.clock.sleep(LOOK_S)
        return True

    async def _change(self, since: int) -> None:
        """Wait until something was settled or scored since `_version` was that, for a second at most."""
        if self._version != since:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await waiter

    def _wake(self) -> None:
        self._tight = False
        self._version += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def give_up(self, why: str) -> None:
        """Let no further call be made."""
        self.reached = self.reached or why
        self._wake()

    def _reach(self, usd: float) -> None:
        purse = min(self.purses, key=lambda one: one.limit - one.spent)
        self.reached = (
            f"{purse.words} is reached: {_usd(purse.spent)} are spent, and the next call may cost {_usd(usd)}"
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """The allowance of the calls for cases, which leave to their scores what these need."""

    budget: Budget

    async def reserve(self, usd: float) -> None:
        """Wait until so many dollars may be spent.

        Raises:
            Postponed: they may not.
        """
        await self.budget.reserve_answer(usd)

    def settle(self, reserved: float, spent: float) -> None:
        """Say what was spent of what was reserved."""
        self.budget.settle(reserved, spent)

    def prepaid(self, usd: float) -> None:
        """Take note that a batch has paid for an answer."""
        self.budget.rebase(usd)


class Part:
    """The allowance of one evaluation, or of one call of code of a user; from whichever loop it asks."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.reserved = self.settled = 0.0
        self.refused = False
        """Whether a call was not made: then whatever the code made of that is no result."""

    async def reserve(self, usd: float) -> None:
        """Wait until so many dollars may be spent.

        Raises:
            Postponed: they may not.
        """
        loop = self._budget._loop
        try:
            if asyncio.get_running_loop() is loop:
                await self._budget.reserve(usd)
            else:
                coming = asyncio.run_coroutine_threadsafe(self._budget.reserve(usd), loop)
                await asyncio.wrap_future(coming)
        except Postponed:
            self.refused = True
            raise
        self.reserved += usd

    def settle(self, reserved: float, spent: float) -> None:
        """Say what was spent of what was reserved."""
        self.settled += spent
        self._budget._loop.call_soon_threadsafe(self._budget.settle, reserved, spent)

    def prepaid(self, usd: float) -> None:
        """Take note that a batch has paid for an answer: it is in what the code's calls cost, and is not to
        be counted again."""
        self.settled += usd
        self._budget.rebase(usd)

    def close(self, usd: float | None, name: str) -> None:
        """Count what the code's calls cost beyond what was reserved for them.

        Args:
            usd: what all of them cost; None where nobody knows.
            name: what made them.

        Raises:
            Postponed: one of them was not made.
        """
        if usd is None:
            self._budget.give_up(
                f"the cost of a call that {name} made is not known, so no budget can be kept"
            )
        elif usd - self.settled > DUST:
            self._budget.charge(usd - self.settled)
        if self.refused:
            raise Postponed(0.0)


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.4g}"


async def note_reached(ledger: Ledger, run_id: str, generation: int, why: str) -> None:
    """Tell whoever else works on the run that its budget is reached, in this pass."""
    key = run_key(run_id)
    for _ in range(TRIES):
        record = await ledger.get_record(BUDGET, key)
        value = {**_without(record, ""), "reached": [generation, why]}
        if await _swapped(ledger, key, record, value):
            return
        await asyncio.sleep(random.uniform(0, 0.05))


async def reached(ledger: Ledger, run: RunRecord) -> str | None:
    """Why a pass over a run ends before its cases are done; None where its budget was not reached."""
    record = await ledger.get_record(BUDGET, run_key(run.run_id)) or {}
    generation, why = record.get("reached") or (None, "")
    return str(why) if generation == run.generation else None


def ended_early(why: str) -> Halt:
    """How a run ends whose budget is reached."""
    words = why[:1].upper() + why[1:]
    return Halt("budget_reached", f"{words}. Resume the run with a higher max_cost_usd.")


def run_key(run_id: str) -> str:
    """The key of a run's budget."""
    return f"run/{run_id}"


def own_key(run: RunRecord) -> str:
    """The key of the budget that a run's `max_cost_usd` is: its own, or that of all runs of its sweep."""
    return f"sweep/{run.sweep}" if run.sweep else run_key(run.run_id)


def month_key(now: str) -> str:
    """The key of a project's budget for the month of a time (ISO 8601)."""
    return f"month/{now[:7]}"


async def open_budget(
    ledger: Ledger,
    clock: Clock,
    run: RunRecord,
    *,
    model: Model,
    evaluators: Sequence[tuple[Metric, Evaluator]],
    month_usd: float | None,
    shards: Sequence[int] | None = None,
    limited: bool = False,
    owner: str | None = None,
    recorded: Callable[[], Awaitable[float]] | None = None,
) -> Budget | None:
    """Open the budgets of a run for this process.

    Args:
        ledger: where they are.
        clock: the time.
        run: the run; its `max_cost_usd` is its own budget.
        model: the model under test.
        evaluators: what scores, for what their models may cost.
        month_usd: what the project may spend in a month; None: as much as it likes.
        shards: the part of the run that this process works on; None: all of it.
        limited: whether it is a worker, which cannot wait long.
        owner: who leases; by default the part of the run.
        recorded: what the owner's part has cost by what is recorded; by default what its shards have.

    Returns:
        None where there is none.
    """
    if run.max_cost_usd is None and month_usd is None:
        return None
    part = owner or ("all" if shards is None else ",".join(map(str, shards)))

    async def by_shards() -> float:
        return await recorded_usd(ledger, run.run_id, shards) if run.generation or shards is not None else 0.0

    purses = []
    if run.max_cost_usd is not None:
        whose = "its sweep's" if run.sweep else "its"
        words = f"{whose} budget of {_usd(run.max_cost_usd)} (max_cost_usd)"
        mine = f"{run.run_id}/{part}" if run.sweep else part
        purses.append(Purse(ledger, own_key(run), mine, run.max_cost_usd, words))
    if month_usd is not None:
        now = clock.now()
        await seed_month(ledger, now)
        words = f"the project's budget of {_usd(month_usd)} for {now[:7]}"
        purses.append(Purse(ledger, month_key(now), f"{run.run_id}/{part}", month_usd, words))
    for purse in purses:
        await purse.open(recorded or by_shards)
    return Budget(
        purses,
        clock,
        run.run_id,
        run.generation,
        limited,
        _worst(model),
        judging_usd(model, evaluators),
        await reached(ledger, run) if limited else None,
    )


def _worst(model: Model) -> WorstCase | None:
    try:
        return None if model.in_sandbox else worst_case(model.config)
    except ConfigError:
        return None  # an agent, or a model of a user's that calls others: see check_budgeted


def judging_usd(model: Model, evaluators: Sequence[tuple[Metric, Evaluator]]) -> float:
    """The most that the scores of a case may cost, before any is seen: one call of each of their models."""
    worst, total = _worst(model), 0.0
    answer = worst.answer_bytes if worst else 0
    for evaluator in {id(evaluator): evaluator for _, evaluator in evaluators}.values():
        for judge in models_of(evaluator):
            judging = worst_case(judge.config, embeds=_embeds(evaluator, judge))
            total += judging.of_bytes(answer + PROMPT_BYTES)
    return total


def _embeds(evaluator: object, model: Model) -> bool:
    return getattr(evaluator, "embedding_model", None) is model


async def seed_month(ledger: Ledger, now: str) -> None:
    """Begin a month's record with what its runs have cost so far: those that nobody counted."""
    key = month_key(now)
    if await ledger.get_record(BUDGET, key) is not None:
        return
    spent, cursor, month = 0.0, None, now[:7]
    while True:
        runs, cursor = await ledger.list_runs(limit=200, cursor=cursor)
        for run in runs:
            if run.created_at[:7] == month:
                spent += run_usd(run)
        if cursor is None or (runs and runs[-1].created_at[:7] < month):
            break
    value = {"spent": spent, "leases": {}}
    await _swapped(ledger, key, None, value)


def run_usd(run: RunRecord) -> float:
    """Return what a summarized run cost, its metrics' own models with it."""
    summary = run.summary or {}
    metrics = summary.get("metrics", {}).values()
    used = [metric.get("usage") or {} for metric in metrics]
    return float(summary.get("cost_usd") or 0.0) + sum(float(one.get("cost_usd") or 0.0) for one in used)


async def recorded_usd(ledger: Ledger, run_id: str, shards: Sequence[int] | None) -> float:
    """Return what a run, or some shards of it, cost by what is recorded."""
    total = 0.0
    if shards is None:
        shards = await ledger.shard_numbers(run_id, limit=1_000_000)
    for number in shards:
        completions = await ledger.get_completions(run_id, number)
        total += sum(completion.cost_usd or 0.0 for completion in completions)
        done = {completion.key for completion in completions}  # with what their turns cost
        for turn in await ledger.get_turns(run_id, number):
            total += 0.0 if turn.case_key in done else turn.cost_usd
        for scores in await ledger.get_scores(run_id, number):
            used = (score.usage for score in scores.scores.values() if score.usage)
            total += sum(usage.cost_usd or 0.0 for usage in used)
    return total


async def check_more(ledger: Ledger, run: RunRecord, usd: float | None) -> None:
    """Refuse a further pass over a run whose budget is spent.

    Raises:
        ConfigError: it is.
    """
    if usd is None:
        return
    spent = await spent_usd(ledger, own_key(run))
    if usd <= spent:
        who = f"The sweep of run {run.run_id}" if run.sweep else f"Run {run.run_id}"
        raise ConfigError(
            f"{who} has spent {_usd(spent)}, and its budget is {_usd(usd)}: give it more, as in "
            f"--max-cost-usd {2 * spent:.4g}."
        )


def check_budgeted(
    model: Model, embedding: Model | None, evaluators: Iterable[object], others: Iterable[Model] = ()
) -> None:
    """Find out whether a budget can be kept: the price of every model that is called must be known.

    What an agent, or a model of one's own that calls others, costs is what these calls cost.

    Raises:
        ConfigError: a price, or how much a model may write, is not known.
    """
    inner = list(models_of(model)) if model.runs_user_code else []
    known = not isinstance(model, AgentModel) and not model.in_sandbox and not inner
    for one in [*([model] if known else inner), *others]:
        worst_case(one.config)
    if embedding is not None:
        worst_case(embedding.config, embeds=True)
    for evaluator in evaluators:
        for judge in models_of(evaluator):
            worst_case(judge.config, embeds=_embeds(evaluator, judge))
