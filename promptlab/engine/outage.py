"""Finds out that a provider is gone, pauses the run as a whole, and asks until it is back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from promptlab.engine.halting import Halt
from promptlab.engine.keyless import words as words_of
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.errors import ModelError
from promptlab.ports import Clock

logger = logging.getLogger(__name__)

OUTAGE_S = 600.0
"""How long an outage is waited out, unless the model says otherwise."""
LEAST = 3
"""So many failures, one after another, are needed for an outage: one or two are a hiccup, and are retried."""
FIRST_PAUSE_S, GROWTH, LONGEST_PAUSE_S = 0.5, 1.5, 30.0
"""Between the first two askings, how it grows, and how long it gets. A server that restarts for 8 s is found
2.4 s after that at the latest, and one that is gone for ten minutes is asked 30 times."""
MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Paused:
    """An outage under way, as others may know of it."""

    lasted_s: float
    """For how long, in seconds."""
    pause_s: float
    """Seconds until the provider is asked again."""
    words: str
    """What the last call came to."""


class Outage:
    """Watches the attempts of a run's calls.

    When every call in flight fails to connect or is told 502 or 503, no call starts for a while, and then
    one: the first in the queue. Whatever else that one comes to ends the outage. After `outage_s` the run is
    halted as interrupted.
    """

    def __init__(
        self,
        limiter: AdaptiveLimiter,
        halt: Callable[[Halt], None],
        clock: Clock,
        *,
        outage_s: float = OUTAGE_S,
        first_pause_s: float = FIRST_PAUSE_S,
        on_change: Callable[[Paused | None], None] = lambda paused: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch over a run.

        Args:
            limiter: bounds the calls.
            halt: ends the run.
            clock: the time.
            outage_s: how long an outage is waited out, in seconds.
            first_pause_s: between the first two askings, in seconds.
            on_change: told whenever the provider was asked in vain, and of the end of an outage (None).
            before: called when an outage begins, before the limiter is narrowed.
        """
        self._limiter, self._halt, self._clock, self._outage_s = limiter, halt, clock, outage_s
        self._on_change, self._before = on_change, before
        self._first_pause_s = first_pause_s
        self._needed, self._wide, self._since, self._pause_s = LEAST, 0.0, 0.0, first_pause_s
        self.streak = 0
        """Failures without another outcome between them."""
        self.is_on = False
        self.count = 0
        """How many outages there were."""

    def failed(self, error: ModelError) -> bool:
        """Take note of a failed attempt; whether it is the outage's, and not its case's."""
        if not error.is_gone:
            self.over()
            return False
        if not self.streak:
            self._needed = max(LEAST, self._limiter.in_use)
        self.streak += 1
        if not self.is_on:
            if self.streak < self._needed:
                return False
            self.go_on(0.0, self._first_pause_s)
            logger.warning("nothing answers any more, and the run waits for it: %s", error)
        elif self._limiter.in_use > 1:
            return True  # one that was in flight when it began
        else:
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * GROWTH)
        lasted_s = self._clock.monotonic() - self._since
        if lasted_s >= self._outage_s:
            self._halt(given_up(self._outage_s, error))
            return True
        pause_s = min(self._pause_s, max(0.0, self._outage_s - lasted_s) + 0.001)
        self._limiter.hold(pause_s)
        self._on_change(Paused(lasted_s, pause_s, words_of(error, MOST_WORDS)))
        return True

    def go_on(self, lasted_s: float, pause_s: float) -> None:
        """Begin with an outage, or go on with one that another worker found: one call at a time."""
        self._before()
        self.is_on, self.count, self.streak = True, self.count + 1, max(1, self.streak)
        self._since, self._pause_s = self._clock.monotonic() - lasted_s, pause_s
        self._wide = self._limiter.limit
        self._limiter.narrow(1)

    def over(self) -> None:
        """Take note that something answered."""
        self.streak = 0
        if self.is_on:
            self.is_on = False
            self._limiter.widen(self._wide)
            logger.warning("the provider answers again after %.0f s", self._clock.monotonic() - self._since)
            self._on_change(None)


def outage_of(paused: Paused, now: str) -> dict[str, Any]:
    """The outage as a run's record has it.

    Args:
        paused: the outage.
        now: the time, ISO 8601.
    """
    at = datetime.fromisoformat(now)
    since = (at - timedelta(seconds=paused.lasted_s)).isoformat()
    asked = {"ask_at": at.timestamp() + paused.pause_s, "pause_s": paused.pause_s}
    return {"since": since, "words": paused.words, **asked}


def given_up(outage_s: float, error: ModelError) -> Halt:
    """The halt of a run whose provider did not come back."""
    return Halt(
        "interrupted",
        f"Nothing answered for {outage_s:g} s (outage_s): {words_of(error, 1_000).rstrip('.')}. Resume the "
        "run once the provider is back: it does the rest.",
    )
