"""The time that one case may take, over all of its attempts and the waits between them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from promptlab import awake
from promptlab.errors import ModelError
from promptlab.ports import Clock

T = TypeVar("T")

DEADLINE = "deadline"
"""The type of the failure of a case whose time is over."""


class CaseTime:
    """Ends a case once its time is over. Without a `deadline_s` it never does.

    The time begins with the case's first attempt, for a case that waits for its turn takes nobody's time; and
    anew with the end of an outage, of which no case is to blame.
    """

    def __init__(self, deadline_s: float | None, clock: Clock, began_at: float | None = None) -> None:
        """Take a case's time.

        Args:
            deadline_s: how long it may take, in seconds.
            clock: the time.
            began_at: when its first attempt began, in seconds since 1970, where another worker made it.
        """
        self._deadline_s, self._clock = deadline_s, clock
        self._ends = math.inf
        if deadline_s is not None and began_at is not None:
            self._ends = clock.monotonic() + deadline_s - (self._now() - began_at)

    def begin(self) -> None:
        """Begin with the first attempt."""
        if self._deadline_s is not None and self._ends == math.inf:
            self._ends = self._clock.monotonic() + self._deadline_s

    def begin_anew(self) -> None:
        """Forget what was until now."""
        self._ends = math.inf

    @property
    def began_at(self) -> float | None:
        """When it began, in seconds since 1970; None where nobody asks."""
        if self._deadline_s is None or self._ends == math.inf:
            return None
        return self._now() - (self._clock.monotonic() + self._deadline_s - self._ends)

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self._ends if self._ends == math.inf else self._ends - self._clock.monotonic()

    async def within(self, call: Callable[[], Awaitable[T]], last: ModelError | None = None) -> T:
        """Await a call for as long as the case has time.

        Raises:
            ModelError: the time is over (of type `deadline`), and `last` was what came before.
            Exception: whatever the call raised.
        """
        if self._ends == math.inf:
            return await call()
        if (left_s := self.left_s()) <= 0:
            raise self.over(last)
        try:
            async with awake.timeout(left_s) as limit:
                return await call()
        except TimeoutError as error:
            if limit.expired():
                raise self.over(last) from error
            raise

    def over(self, last: ModelError | None = None) -> ModelError:
        """Return the failure of a case whose time is over; `last` is what its last whole attempt came to."""
        words = f"no answer within case_deadline_s={self._deadline_s:g} s"
        found = ModelError(words if last is None else f"{words}; the last attempt: {last}", type=DEADLINE)
        found.attempts = 1 if last is None else last.attempts
        return found

    def _now(self) -> float:
        return datetime.fromisoformat(self._clock.now()).timestamp()
