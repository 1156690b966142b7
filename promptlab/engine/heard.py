"""The pace that a provider's own words allow: what is left of its limits, by the headers of its answers.

Answers 429 tell of a limit once it is passed; `x-ratelimit-*` and `anthropic-ratelimit-*` do before. What is
told of a call was so when it arrived: what started since has used more, and more has come back. What is left
now is worked out from both, and starts slow down as it goes to nothing
(docs/decisions/0078-a-providers-own-words-pace-its-calls.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from promptlab.engine.start import Start
from promptlab.models.rates import Left

HORIZON_S = 3.0
"""What is left is spread over so many seconds: it goes to nothing without ever being passed."""
KEPT = 0.03
"""The share of a limit that is not used, for what is late and out of order."""
SLACK_S = 0.002
"""How late a start may be and still be made up for."""
SLOWEST = 0.1
"""The least share of what comes back that is used, where more than all was used."""
HEARD_EVERY_S = 0.02
"""How often headers are read."""
LEAST_CALLS, LEAST_S = 5, 0.25
"""Calls and seconds between two words from which it is seen what a call uses."""
AGED_S = 90.0
"""After so long without a word what was told holds no more."""


class _Limit:
    """One limit: what was told last, and what a call uses of it."""

    __slots__ = ("at", "left", "number", "per_call", "seen")

    def __init__(self, left: Left, start: Start) -> None:
        self.left, self.number, self.at = left, start.number, start.at
        self.seen = (left.remaining, start.number, start.at)
        self.per_call = 1.0 if left.of == "requests" else 0.0

    def tell(self, left: Left, start: Start) -> None:
        """Take what is left, as it was when a call started."""
        if start.number <= self.number:
            return  # what was told since is newer
        self.left, self.number, self.at = left, start.number, start.at
        remaining, number, at = self.seen
        calls, seconds = start.number - number, start.at - at
        if calls < LEAST_CALLS or seconds < LEAST_S:
            return
        used = (remaining - left.remaining + (left.fill or 0.0) * seconds) / calls
        self.seen = (left.remaining, start.number, start.at)
        if used > 0:
            found = used if not self.per_call else (self.per_call + used) / 2
            # What other processes use counts as ours: each has its part.
            self.per_call = max(1.0, found) if left.of == "requests" else found

    def rate(self, started: int, now: float) -> float:
        """Return how many calls a second may start."""
        left, per_call = self.left, self.per_call
        if not per_call or now - self.at > AGED_S:
            return math.inf
        used = per_call * (started - self.number)
        if left.fill is None:
            over_s = left.reset_s - (now - self.at)
            return math.inf if over_s <= 0 else max(left.remaining - used, 1.0) / over_s / per_call
        free = min(left.limit, left.remaining - used + left.fill * (now - self.at)) - KEPT * left.limit
        return max(SLOWEST * left.fill, left.fill + free / HORIZON_S) / per_call


class Heard:
    """Says when the next call may start, by what the provider told of its limits."""

    def __init__(self) -> None:
        self._limits: dict[str, _Limit] = {}
        self._due = -math.inf
        self.next_at = -math.inf
        """When headers are worth being read again."""
        self.rate = math.inf
        """Calls a second that may start."""
        self.held = 0
        """Starts that waited for it."""

    def tell(self, found: Sequence[Left], start: Start, started: int, now: float) -> None:
        """Take what an answer's headers say.

        Args:
            found: what is left of each limit.
            start: that of the call which was answered.
            started: how many calls have started.
            now: the time.
        """
        self.next_at = now + HEARD_EVERY_S
        for left in found:
            known = self._limits.get(left.of)
            if known is None:
                self._limits[left.of] = _Limit(left, start)
            else:
                known.tell(left, start)
        self._set(started, now)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next call may start; 0 or less for now."""
        return self._due - now if self._limits else 0.0

    def start(self, started: int, now: float) -> None:
        """Take note of a start."""
        if not self._limits:
            return
        self.held += now - self._due < SLACK_S
        self._set(started, now)
        if math.isfinite(self.rate):
            self._due = max(self._due, now - SLACK_S) + 1 / self.rate

    def _set(self, started: int, now: float) -> None:
        self.rate = min((limit.rate(started, now) for limit in self._limits.values()), default=math.inf)
