"""Conversations: a case as several turns, each recorded as it comes, so that whoever goes on pays for none of
them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from promptlab.domain.assets import Shard
from promptlab.domain.chat import ChatRequest, Prompt, ends_with_user
from promptlab.domain.conversation import BEGIN, STOP, Conversation, StoppingCondition
from promptlab.domain.messages import Message, text_message
from promptlab.domain.prices import price_of
from promptlab.domain.results import CUT, FILTERED, MAX_TRIES, Attempt, CaseKey, Completion, Failure, Usage
from promptlab.domain.texts import cut
from promptlab.domain.trace import Trace
from promptlab.domain.turns import Turn
from promptlab.engine.answers import MOST_MESSAGE
from promptlab.engine.attempts import Attempts
from promptlab.engine.job import Job, Row
from promptlab.engine.keyless import without_keys
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.errors import ConfigError, TemplateError
from promptlab.evaluators.patterns import SafePattern
from promptlab.models.retry import Slot, Tries

MATCH_S = 1.0
"""Seconds that a stopping condition's pattern may look at one message."""
LOOKED_AT = 100_000
"""Characters of a message that a stopping condition looks at."""
MOST_SAID = 2_000_000
"""Characters of a conversation: it is sent again with every turn."""
MOST_SPANS = 2_000
"""Spans, and contexts, of a conversation: of its first turns."""

Ask = Callable[..., Awaitable[Completion]]
"""`infer.ask`: makes one call of a run."""


@dataclass(slots=True)
class OpenCall:
    """A call that is to be made: its place among those in flight, and what was tried for it before."""

    limiter: AdaptiveLimiter
    slot: Slot
    before: Tries
    seen: Attempts


def _finish_reason(answers: Sequence[Completion]) -> str | None:
    """Why the last answer of a conversation ended; or the first that was cut or filtered, so that these are
    counted as those of other cases are."""
    reasons = [answer.finish_reason for answer in answers]
    return next((one for one in reasons if one and one.lower() in CUT | FILTERED), reasons[-1])


def place_of(job: Job, shard: Shard, key: CaseKey) -> dict[str, Any]:
    """The fields of a completion that say where it belongs."""
    generation = job.run.generation
    return {"shard": shard.number, "case": key.case, "trial": key.trial, "generation": generation}


def unfilled(job: Job, place: Mapping[str, Any], error: TemplateError) -> Completion:
    """The completion of a case whose prompt cannot be made of its row."""
    job.prospects.failed(error)
    return Completion(
        **place,
        cost_usd=0.0,
        error=Failure("template_error", cut(str(error), MOST_MESSAGE)),
        attempts=0,
        created_at=job.clock.now(),
    )


def stop_pattern(condition: StoppingCondition) -> SafePattern | None:
    """The pattern of a stopping condition, compiled; None where it is a text.

    Raises:
        ConfigError: it is no pattern.
    """
    if condition.pattern is None:
        return None
    try:
        return SafePattern(condition.pattern, name="pattern", timeout_s=MATCH_S)
    except ValueError as error:
        raise ConfigError(f"conversation: stopping_condition: {error}") from None


@dataclass(slots=True)
class Talks:
    """The conversations of one shard."""

    job: Job
    shard: Shard
    spec: Conversation
    recorded: dict[CaseKey, list[Turn]] = field(default_factory=dict)
    pattern: SafePattern | None = None

    @classmethod
    async def read(cls, job: Job, shard: Shard, done: set[CaseKey]) -> Talks:
        """Read how far they are; what is left of those that are done is removed."""
        spec = job.experiment.conversation
        assert spec is not None
        found = cls(job, shard, spec)
        if spec.stopping_condition is not None:
            found.pattern = stop_pattern(spec.stopping_condition)
        for turn in await job.ledger.get_turns(job.run.run_id, shard.number):
            found.recorded.setdefault(turn.case_key, []).append(turn)
        if over := found.recorded.keys() & done:
            await job.ledger.clear_turns(job.run.run_id, shard.number, over)
        return found

    async def clear(self, key: CaseKey) -> None:
        """Remove the turns of a case that is answered: its completion has them."""
        await self.job.ledger.clear_turns(self.job.run.run_id, self.shard.number, [key])

    async def converse(self, key: CaseKey, row: Row, first: OpenCall, ask: Ask) -> Completion:
        """Go on with a case's conversation to its end.

        Args:
            key: the case.
            row: its row.
            first: the call that is open; the turns after it have calls of their own in its place.
            ask: makes a call.

        Raises:
            Postponed: a call may not be made now; the turns so far are recorded.
        """
        talk = _Talk(self, key, row, place_of(self.job, self.shard, key), ask, first)
        try:
            await talk.begin()
        except TemplateError as error:
            return unfilled(self.job, talk.place, error)
        return await talk.to_the_end()

    def stops(self, said_by: str, text: str | None) -> bool:
        """Whether the stopping condition is met by a message."""
        condition = self.spec.stopping_condition
        if condition is None or not text or condition.said_by not in (said_by, "either"):
            return False
        if self.pattern is None:
            return (condition.text or "") in text
        try:
            return self.pattern.matches(text[:LOOKED_AT], "search")
        except TimeoutError:
            return False


@dataclass(slots=True)
class _Talk:
    """One conversation under way."""

    talks: Talks
    key: CaseKey
    row: Row
    place: dict[str, Any]
    ask: Ask
    open_call: OpenCall
    prompt: Prompt = ()
    texts: Sequence[str] = ()
    persona: Sequence[dict[str, str]] = ()
    turns: list[Turn] = field(default_factory=list)

    async def begin(self) -> None:
        """Make ready what both sides begin with.

        Raises:
            TemplateError: it cannot be made of the row.
        """
        job, spec = self.talks.job, self.talks.spec
        self.prompt = await job.bindings.messages(self.row)
        self.texts = spec.texts(self.row)
        if job.bindings.persona is not None:
            self.persona = await job.bindings.persona(self.row)
        elif not self.texts and not self.is_asked:
            raise TemplateError(f"user_turns: the column {spec.column!r} has no text in this row")
        self.turns = list(self.talks.recorded.get(self.key, ()))

    @property
    def is_asked(self) -> bool:
        """Whether the prompt itself ends with what the user says first."""
        job = self.talks.job
        if job.experiment.agent is not None:
            return False  # its one message stands for the row
        return ends_with_user(self.prompt)

    async def to_the_end(self) -> Completion:
        """Take turns until the conversation is over.

        Raises:
            Postponed: a call may not be made now.
        """
        while True:
            turn = self.turns[-1] if self.turns else None
            if turn is None or turn.answer is not None:
                if (why := self._over()) is not None:
                    return self._whole(why)
                failed = await self._user_says(len(self.turns))
            elif turn.is_over:
                return self._whole("simulated_user")
            else:
                failed = await self._answer(turn)
            if failed is not None:
                return self._failed(failed)

    def _over(self) -> str | None:
        """Why a conversation is over after its last answer; None while it goes on."""
        spec = self.talks.spec
        if not self.turns:
            return None
        last = self.turns[-1]
        text = last.answer.response if last.answer else None
        if self.talks.stops("assistant", text) or self.talks.stops("user", last.user):
            return "stopping_condition"
        if not text:
            return "no_text"
        if len(self.turns) >= spec.max_turns:
            return "max_turns"
        if not self.persona and len(self.turns) - self.is_asked >= len(self.texts):
            return "user_turns"
        said = sum(len(t.user or "") + len((t.answer and t.answer.response) or "") for t in self.turns)
        return "too_long" if said > MOST_SAID else None

    async def _user_says(self, number: int) -> Completion | None:
        """Begin a turn with what the user says; give the completion where a simulated user's call failed."""
        place = {**self.place, "number": number}
        if number == 0 and self.is_asked:
            self.turns.append(Turn(**place))
            return None
        if not self.persona:
            self.turns.append(Turn(**place, user=self.texts[number - self.is_asked]))
            return None
        job, model = self.talks.job, self.talks.job.bindings.simulated_user
        assert model is not None
        limiter, call = job.scoring.limits.limiter_of(model), self._next_call()
        call.seen.price = price_of(model.config)
        async with Slot(limiter) as slot:
            call.limiter, call.slot = limiter, slot
            said = await self.ask(job, self.place, self._as_seen_by_user(), call, model)
            if said.error is not None:
                words = f"the simulated user: {said.error.message}"
                return replace(said, error=replace(said.error, message=words))
            said = without_keys(said)
            text = (said.response or "").strip()
            used = Usage(calls=said.attempts, **asdict(said.spent))
            turn = Turn(**place, user=text, simulator=used)
            if not text or STOP in text:
                turn = replace(turn, user=None, is_over=True)
            # As with every call the slot is held until what was paid for is durable.
            await job.turns.record(turn)
        self.turns.append(turn)
        return None

    async def _answer(self, turn: Turn) -> Completion | None:
        """Have a turn answered, and record it; give the completion of a call that failed."""
        job, call = self.talks.job, self._next_call()
        answer = await self.ask(job, self.place, self._as_seen_by_model(turn), call)
        if answer.error is not None:
            return answer
        turn = replace(turn, answer=without_keys(answer))
        await job.turns.record(turn)
        call.slot.release()
        self.turns[-1] = turn
        return None

    def _next_call(self) -> OpenCall:
        """The call that is open, with what was tried for it; for those after it, nothing was."""
        call, price = self.open_call, price_of(self.talks.job.bindings.model.config)
        self.open_call = OpenCall(call.limiter, call.slot, Tries(), Attempts(price))
        return OpenCall(call.limiter, call.slot, call.before, call.seen)

    def _as_seen_by_model(self, turn: Turn) -> Prompt:
        """The prompt and all that was said since, which ends with the user's part of a turn."""
        job = self.talks.job
        said = [message for one in (*self.turns[:-1], turn) for message in _said(one)]
        if isinstance(self.prompt, ChatRequest):
            texts = (text_message(message.role, message.text) for message in said if message.text)
            return replace(self.prompt, messages=(*self.prompt.messages, *texts))
        if job.experiment.agent is not None:
            return [*self.prompt, *({"content": message.text, **message.to_json()} for message in said)]
        spoken = [m for m in said if m.text and m.role in ("user", "assistant")]
        return [*self.prompt, *({"role": message.role, "content": message.text} for message in spoken)]

    def _as_seen_by_user(self) -> list[dict[str, str]]:
        """The conversation from the other side: what the model said is the user's to answer."""
        said: list[dict[str, str]] = []
        for turn in self.turns:
            mine = turn.user if turn.user is not None else self._asked()
            said.append({"role": "assistant", "content": mine})
            said.append({"role": "user", "content": (turn.answer and turn.answer.response) or ""})
        opening = {"role": "user", "content": BEGIN}
        return [*self.persona, opening, *said]

    def _asked(self) -> str:
        """Return what the user says at the end of the prompt."""
        if isinstance(self.prompt, ChatRequest):
            return self.prompt.messages[-1].text
        return self.prompt[-1]["content"]

    def _whole(self, why: str) -> Completion:
        """The completion of a conversation that is over."""
        answers = [turn.answer for turn in self.turns if turn.answer is not None]
        if not answers:
            words = "the simulated user had nothing to say: look at its goal and instructions"
            return self._failed(Completion(**self.place, cost_usd=0.0, error=Failure("no_turns", words)))
        last = answers[-1]
        return replace(
            last,
            **self._spent(answers),
            **self._traced(answers, why),
            generation=self.talks.job.run.generation,
            attempts=sum(answer.attempts for answer in answers),
            tries=_tries(answers),
            cached=all(answer.cached for answer in answers),
            finish_reason=_finish_reason(answers),
            messages=self._messages(),
            metadata={**last.metadata, "turns": len(answers), "ended_by": why, **self._simulated()},
            created_at=self.talks.job.clock.now(),
        )

    def _failed(self, failed: Completion) -> Completion:
        """The completion of a conversation one of whose calls failed, with what was said and paid so far."""
        answers = [turn.answer for turn in self.turns if turn.answer is not None]
        every = [*answers, failed]
        return replace(
            failed,
            **self._spent(every),
            **self._traced(answers, "error", failed.trace),
            attempts=sum(answer.attempts for answer in every),
            tries=_tries(every),
            messages=(*self._messages(), *failed.messages),
            metadata={**failed.metadata, "turns": len(answers), "ended_by": "error", **self._simulated()},
            created_at=self.talks.job.clock.now(),
        )

    def _spent(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return what the calls of a conversation used: tokens of the model under test, dollars of both
        sides."""
        sums: dict[str, Any] = {}
        for name in ("prompt_tokens", "completion_tokens"):
            counts = [getattr(answer, name) for answer in answers]
            sums[name] = None if None in counts else sum(counts)
        for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens"):
            known = [count for answer in answers if (count := getattr(answer, name)) is not None]
            sums[name] = sum(known) if known else None
        dollars = [answer.cost_usd for answer in answers]
        if (used := self._simulator()) is not None:
            dollars.append(None if used.unknown_cost else used.cost_usd)
        sums["cost_usd"] = None if None in dollars else sum(filter(None, dollars), 0.0)
        times = [answer.latency_ms for answer in answers if answer.latency_ms is not None]
        return {**sums, "latency_ms": sum(times) if times else None}

    def _simulator(self) -> Usage | None:
        """Return what the simulated user used in all; None where there is none."""
        used = [turn.simulator for turn in self.turns if turn.simulator is not None]
        if not used:
            return None
        total = Usage()
        for one in used:
            total.add(one)
        return total

    def _simulated(self) -> dict[str, Any]:
        used = self._simulator()
        return {} if used is None else {"simulated_user": used.to_json()}

    def _messages(self) -> tuple[Message, ...]:
        """All that was said, both sides in order."""
        return tuple(message for turn in self.turns for message in _said(turn, self._asked_first(turn)))

    def _asked_first(self, turn: Turn) -> str | None:
        return self._asked() if turn.number == 0 and turn.user is None and self.is_asked else None

    def _traced(self, answers: Sequence[Completion], why: str, last: Trace | None = None) -> dict[str, Any]:
        traces = [*(answer.trace for answer in answers), last]
        found = [trace for trace in traces if trace is not None]
        turns = [self._turn(turn) for turn in self.turns if turn.answer is not None]
        if turns:
            turns[-1]["stop"] = why
        trace = Trace(
            contexts=tuple(one for trace in found for one in trace.contexts)[:MOST_SPANS],
            spans=tuple(one for trace in found for one in trace.spans)[:MOST_SPANS],
            turns=tuple(turns),
        )
        return {"trace": trace if trace != Trace() else None}

    def _turn(self, turn: Turn) -> dict[str, Any]:
        """A turn as evaluators and pages see it."""
        answer = turn.answer
        assert answer is not None
        found = {
            "number": turn.number + 1,
            "user": turn.user if turn.user is not None else self._asked_first(turn),
            "assistant": answer.response,
            "calls": answer.attempts,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "cost_usd": answer.cost_usd,
            "latency_ms": answer.latency_ms,
            "finish_reason": answer.finish_reason,
        }
        return found if turn.simulator is None else {**found, "simulated_user": turn.simulator.to_json()}


def _tries(answers: Sequence[Completion]) -> tuple[Attempt, ...]:
    """The attempts of all calls, the first and the last ones."""
    every = [attempt for answer in answers for attempt in answer.tries]
    return tuple(every if len(every) <= MAX_TRIES else every[: MAX_TRIES // 2] + every[-MAX_TRIES // 2 :])


def _said(turn: Turn, asked: str | None = None) -> list[Message]:
    """The messages of a turn, both sides."""
    user = turn.user if turn.user is not None else asked
    found: list[Message] = [] if user is None else [text_message("user", user)]
    if turn.answer is not None:
        answer = turn.answer
        found += answer.messages or (text_message("assistant", answer.response or ""),)
    return found
