"""What held a run back, in a line of words: the provider, the user's bound, this machine, or nothing.

Nothing is measured for it in a call: the seconds of the answers are added up as they are counted, and by
Little's law (L = λW) their sum over the run's time is how many calls were in flight on average.
"""

from __future__ import annotations

from dataclasses import dataclass

MANY_THROTTLED = 0.01
"""The share of answers 429 from which on they are the limit."""
MANY_TOLD = 0.2
"""The share of calls that waited for what the provider says is left from which on that is the limit."""
BUSY = 0.85
"""The share of a core from which on this machine is the limit: the event loop has one, and starts calls late
when it has no time left."""
FULL = 0.8
"""The share of the calls that may be in flight from which on, if so many were on average, that bound is the
limit."""
NEARLY_ALL = 0.8
"""The share of what a minute may have from which on that is the limit."""
LEAST_CALLS, LEAST_S = 20, 1.0
"""Fewer calls, or less time, tell nothing."""


@dataclass(frozen=True, slots=True)
class AMinute:
    """What the user allows a minute, and the tokens that were read and written."""

    tokens: int = 0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def limit(self, calls: int, wall_s: float) -> str | None:
        """Say which of them was the limit of so many calls; None where none was."""
        for name, made, allowed in (
            ("requests_per_minute", calls, self.requests_per_minute),
            ("tokens_per_minute", self.tokens, self.tokens_per_minute),
        ):
            pace = 60 * made / wall_s
            if allowed is not None and pace >= NEARLY_ALL * allowed:
                return (
                    f"{name}: {pace:,.0f} of {allowed:,.0f} were made a minute; if the provider allows more, "
                    "a higher one is faster"
                )
        return None


NONE_A_MINUTE = AMinute()
"""The user gave no such limit."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Sums over one pass of a run, in one process."""

    calls: int
    answer_s: float
    """Seconds of all answers together."""
    wall_s: float
    """Seconds in which they were made."""
    cpu_s: float
    """CPU seconds of this process meanwhile."""
    throttles: int
    """Answers 429."""
    limit: float
    """Calls that the provider's answers let be in flight at the end."""
    maximum: int
    """Calls in flight at most: max_concurrent_tasks, or what the limit of open files allows."""
    told: int = 0
    """Calls that waited for what the provider says is left of its limits."""
    a_minute: AMinute = NONE_A_MINUTE


def limited_by(seen: Measured) -> str | None:
    """Say what the limit was; None where too little was measured."""
    if seen.calls < LEAST_CALLS or seen.wall_s < LEAST_S:
        return None
    in_flight, busy = seen.answer_s / seen.wall_s, seen.cpu_s / seen.wall_s
    if seen.throttles >= MANY_THROTTLED * seen.calls:
        left = f", and of {seen.maximum:,} calls at once {seen.limit:,.0f} were left"
        down = left if seen.limit < seen.maximum else ""
        return f"the provider: it answered 429 {seen.throttles:,} times{down}"
    if seen.told >= MANY_TOLD * seen.calls:
        pace = seen.calls / seen.wall_s
        return f"the provider: what its answers say is left of its limits allowed {pace:,.1f} calls a second"
    if (by_user := seen.a_minute.limit(seen.calls, seen.wall_s)) is not None:
        return by_user
    if busy >= BUSY:
        return (
            f"this machine: PromptLab was busy {min(busy, 1):.0%} of the time, with {in_flight:,.0f} of "
            f"{seen.maximum:,} calls in flight"
        )
    if in_flight >= FULL * min(seen.maximum, seen.calls):
        if seen.calls <= seen.maximum:
            return "nothing: all calls were in flight at once"
        return (
            f"max_concurrent_tasks: {in_flight:,.0f} of {seen.maximum:,} calls were in flight on average; if "
            "the provider allows more, a higher one is faster"
        )
    return (
        f"nothing: {in_flight:,.0f} of {seen.maximum:,} calls were in flight on average, the provider "
        f"answered 429 {seen.throttles:,} times and this machine was busy {busy:.0%} of the time"
    )
