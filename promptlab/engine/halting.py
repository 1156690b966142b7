"""Why a run ends before all of its cases are done, though nobody stopped it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from promptlab.domain.results import RunRecord
from promptlab.domain.summary import SCORE_REFUSED, Summary
from promptlab.engine.keyless import words as words_of
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.errors import ModelError, TemplateError
from promptlab.models.failures import ACCOUNT, Hopeless, hopeless, is_long_wait, same_words
from promptlab.ports import Clock

HaltStatus = Literal["stopped", "budget_reached", "interrupted"]

SURE = 20
"""So many refusals, and nothing else between them, say that every further call would be refused, too."""
PROBE_S = 0.05
"""How long all calls but the first SURE wait for the first answer. A healthy run pays for it once: 0.2% of
10,000 rows at 100 calls in flight and 200 ms an answer."""
MOST_REASON = 2_000
"""Characters of a provider's words in a run's error."""


@dataclass(frozen=True, slots=True)
class Halt:
    """What ends a run early: see `Job.halt`."""

    status: HaltStatus
    """The run's status from then on."""
    reason: str
    """Why, in words for people: it becomes the run's error."""
    redo: tuple[str, ...] = ()
    """The types of the failures that stand for the reason: a resume does them again."""

    def changes(self, run: RunRecord) -> dict[str, Any]:
        """The fields of the run's record."""
        found: dict[str, Any] = {"status": self.status, "error": self.reason}
        return found | (redone(run, self.redo) if self.redo else {})


def redone(run: RunRecord, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a run by which its next pass does its failures of some types again, and those that this
    pass was to do."""
    all_of_them = run.redo_before > 0 and not run.redo_errors
    errors = () if all_of_them else tuple(dict.fromkeys((*run.redo_errors, *kinds)))
    return {"redo_before": run.generation + 1, "redo_errors": errors}


class Prospects:
    """Judges by what its calls come to whether a run can succeed, and halts it if not.

    The first calls are a probe: until one of them says that calls can succeed, or PROBE_S have passed, no
    more than SURE are in flight.
    """

    def __init__(
        self,
        limiter: AdaptiveLimiter,
        halt: Callable[[Halt], None],
        clock: Clock,
        *,
        cases: int,
        max_failures: float | None = None,
        is_own: bool = False,
        is_proven: bool = False,
        on_proven: Callable[[], None] = lambda: None,
    ) -> None:
        """Judge a pass.

        Args:
            limiter: bounds the calls.
            halt: ends the run.
            clock: the time.
            cases: how many cases the run has.
            max_failures: how many cases may fail in this pass: a count, or below 1 a share of all.
            is_own: whether a user's own code is called, whose failures are each its case's own.
            is_proven: whether a call of this pass is known to have been answered.
            on_proven: called when the first one is.
        """
        self._limiter, self._halt, self._clock, self._on_proven = limiter, halt, clock, on_proven
        self._most = None if max_failures is None else allowed_failures(max_failures, cases)
        self._cases, self._failures = cases, 0
        self._refusals = Refusals(by_request=not is_own and max_failures is None, is_proven=is_proven)
        self._narrow = False
        self._timer: asyncio.Task[None] | None = None
        self.unsettled = not is_proven
        """Whether an answer changes anything: asked for each, and false in nearly all of a run."""

    def begin(self) -> None:
        """Let the first calls be a probe."""
        if not self.is_proven and self._limiter.maximum > SURE:
            self._narrow = True
            self._limiter.narrow(SURE)
            self._timer = asyncio.create_task(self._open_later())

    async def _open_later(self) -> None:
        await self._clock.sleep(PROBE_S)
        self._timer = None
        self.open()

    def end(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def open(self) -> None:
        """Let all calls start: the probe is over."""
        self.end()
        if self._narrow:
            self._narrow = False
            self._limiter.widen()

    @property
    def is_proven(self) -> bool:
        """Whether a call of this pass was answered."""
        return self._refusals.is_proven

    @property
    def all_refused(self) -> bool:
        """Whether there were calls, and all of them were refused for what has nothing to do with their
        case."""
        return self._refusals.all_refused

    def answered(self) -> None:
        """Take note that a call was answered."""
        if not self._refusals.is_proven:
            self._on_proven()
        self._refusals.answered()
        self.unsettled = False
        self.open()

    def failed(self, error: ModelError | TemplateError) -> None:
        """Take note that a case failed for good."""
        self._failures += 1
        if self._most is not None and self._failures > self._most:
            self._halt(too_many(self._failures, self._cases, self._most, str(error)))
            return
        before = self._refusals.count
        self._refusals.failed(error)
        if self._refusals.count <= before:
            self.open()
        if not self._refusals.count:
            return
        self.unsettled = True
        self.end()  # of the timer: where the first answer is a refusal, no more than SURE are asked at once
        if self._refusals.is_sure:
            self.give_up()

    def give_up(self) -> None:
        """Halt the run for its last refusal."""
        if self._refusals.last is not None:
            many = self._refusals.count
            what = f"{many} calls, one after another, were" if many > 1 else "A call was"
            self._halt(refused(f"{what} refused", self._refusals.last))


class Refusals:
    """Counts the calls that were refused one after another, for what has nothing to do with what they ask."""

    def __init__(self, *, by_request: bool = True, is_proven: bool = False) -> None:
        """Begin to count.

        Args:
            by_request: whether refusals of requests count, if they are the first and all say the same.
            is_proven: whether a call is known to have been answered.
        """
        self._by_request, self.is_proven = by_request, is_proven
        self.count = 0
        """Refusals without another outcome between them."""
        self.last: ModelError | None = None
        self._failures = 0
        self._words: str | None = None

    @property
    def all_refused(self) -> bool:
        """Whether there were calls, and all of them were refused for the key, the account or the endpoint."""
        return 0 < self.count == self._failures and not self.is_proven and self._words is None

    @property
    def is_sure(self) -> bool:
        """Whether every further call would be refused, too."""
        return self.count >= SURE or (self.count > 0 and self.last is not None and is_long_wait(self.last))

    def answered(self) -> None:
        """Take note that a call was answered."""
        self.is_proven, self.count, self._words = True, 0, None

    def failed(self, error: Exception) -> None:
        """Take note that a call failed for good."""
        self._failures += 1
        why = hopeless(error) if isinstance(error, ModelError) else None
        if why is None or (why is Hopeless.REQUEST and (self.is_proven or not self._by_request)):
            self.count = 0
            return
        assert isinstance(error, ModelError)
        words = same_words(str(error)) if why is Hopeless.REQUEST else None
        if words != self._words:
            self.count = 0
        self.count, self._words, self.last = self.count + 1, words, error


def allowed_failures(most: float, cases: int) -> int:
    """How many cases may fail, of a `max_failures`."""
    return math.floor(most * cases + 1e-9) if 0 < most < 1 else int(most)


def refused(what: str, error: ModelError, kinds: tuple[str, ...] = ()) -> Halt:
    """The halt of a run whose calls are refused, whatever they ask.

    Args:
        what: what was refused, and how often.
        error: the last refusal.
        kinds: the types of the failures that stand for it; by default its own.
    """
    return _stopped(what, words_of(error, MOST_REASON), kinds or (error.type,))


def _stopped(what: str, words: str, kinds: tuple[str, ...]) -> Halt:
    words = words.rstrip(".")
    return Halt(
        "stopped",
        f"{what}, and all others would be: {words}. Resume the run once that is put right: it goes on where "
        "it was, and does what was refused again.",
        redo=kinds,
    )


def too_many(failures: int, cases: int, most: int, words: str = "") -> Halt:
    """The halt of a run in which more cases failed than may."""
    last = f"; the last: {words_of(words, MOST_REASON).rstrip('.')}" if words else ""
    return Halt(
        "stopped",
        f"{failures:,} of {cases:,} cases failed, and max_failures allows {most:,}{last}. Resume the run to "
        "go on with the others, with --failed to do the failed cases again, too.",
    )


def is_decided(run: RunRecord, summary: Summary) -> bool:
    """Whether a run ends before its last case, for it is known how it compares."""
    return run.decided is not None and not run.decided.get("went_on") and summary.cases < run.cases


def ended(run: RunRecord, summary: Summary) -> Mapping[str, Any]:
    """How a pass ended in which every case was done that was to be: a run without one good case is not
    completed, and one that was decided before its last case says so."""
    if is_decided(run, summary) and summary.succeeded:
        return {"status": "decided", "error": None}
    if summary.succeeded or not summary.cases:
        halt = _refused_scores(summary)
        return {"status": "completed", "error": None} if halt is None else halt.changes(run)
    kind, messages = max(
        ((kind, messages) for kind, messages in summary.messages.items()),
        key=lambda item: summary.errors.get(item[0], 0),
        default=("", {}),
    )
    words = max(messages, key=lambda message: messages[message], default="")
    many = f"All {summary.cases:,} cases" if summary.cases > 1 else "The only case"
    if summary.errors and set(summary.errors) <= ACCOUNT:
        what = f"{many} {'were' if summary.cases > 1 else 'was'} refused"
        return _stopped(what, words, tuple(summary.errors)).changes(run)
    said = f", most with {kind}: {words.rstrip('.')}" if kind else ""
    return {
        "status": "failed",
        "error": f"{many} failed{said}. Once the cause is gone, do them again: resume the run with --failed.",
    }


def _refused_scores(summary: Summary) -> Halt | None:
    """The halt of a pass in which a metric has no score, for its model was refused whatever it was asked."""
    messages = summary.messages.get(SCORE_REFUSED, {})
    cases = sum(messages.values())
    for name, metric in summary.metrics.items():
        if not metric.scored and 0 < metric.failed <= cases:
            words = max(messages, key=lambda message: messages[message])
            many = f"All {metric.failed:,} evaluations" if metric.failed > 1 else "The only evaluation"
            return _stopped(
                f"{many} by {name} {'were' if metric.failed > 1 else 'was'} refused", words, (SCORE_REFUSED,)
            )
    return None
