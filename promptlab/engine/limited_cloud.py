"""What held a run back where many workers did it: from what its summary has, for no worker saw all of it."""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.engine.limited import FULL, LEAST_CALLS, LEAST_S, NONE_A_MINUTE, AMinute

MANY_AGAIN = 0.01
"""The share of calls that were made again from which on the provider is the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Sums over all passes and workers of a run."""

    calls: int
    """Calls made, retries included."""
    cases: int
    """Cases that calls were made for."""
    answer_s: float
    """Seconds of all answers together."""
    wall_s: float
    """Seconds of the passes together."""
    workers: int
    """Workers that may be at work at once."""
    in_flight: int
    """Calls that each of them may have in flight."""
    maximum: int
    """The model's max_concurrent_tasks."""
    a_minute: AMinute = NONE_A_MINUTE


def limited_together(seen: Together) -> str | None:
    """Say what the limit was; None where too little was done to tell."""
    if seen.calls < LEAST_CALLS or seen.wall_s < LEAST_S:
        return None
    bound, on_average = min(seen.maximum, seen.workers * seen.in_flight), seen.answer_s / seen.wall_s
    again = max(0, seen.calls - seen.cases)
    if (by_user := seen.a_minute.limit(seen.calls, seen.wall_s)) is not None:
        return by_user
    if again >= MANY_AGAIN * seen.calls:
        return (
            f"the provider: {again:,} of {seen.calls:,} calls were made again, after an answer 429, a fault "
            "or a timeout (the page of a case has each)"
        )
    if on_average >= FULL * min(bound, seen.calls):
        if seen.calls <= bound:
            return "nothing: all calls were in flight at once"
        if bound == seen.maximum:
            return (
                f"max_concurrent_tasks: {on_average:,.0f} of {bound:,} calls were in flight on average; if "
                "the provider allows more, a higher one is faster"
            )
        return (
            f"MaxConcurrency of the stack: {on_average:,.0f} of the {bound:,} calls that its "
            f"{seen.workers:,} workers make at once were in flight on average; a higher one is faster"
        )
    return (
        f"nothing: {on_average:,.0f} of {bound:,} calls were in flight on average; the rest of the time "
        "workers started and scored"
    )
