"""What is left of a provider's limits, as the headers of its answers say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from promptlab.models.failures import seconds_of, until_reset

LONGEST_WINDOW_S = 300.0
"""A limit that takes longer to be whole again is one of an hour or a day: nobody paces calls for that."""
MINUTE_S = 60.0
NEAR = 0.2
"""A rate that is no further than this from the limit of a minute is that: the reset is rounded."""


class Left(NamedTuple):
    """What is left of one limit."""

    of: str
    """What is counted: `requests`, `tokens`, `input-tokens`, `output-tokens`."""
    limit: float
    remaining: float
    reset_s: float
    """Seconds until it is whole again."""
    fill: float | None
    """How much comes back a second; None: all of it at the reset."""


def left_in(headers: Mapping[str, str], *, now: datetime | None = None) -> Sequence[Left]:
    """Read what is left of each limit that an answer's headers tell, in the forms of OpenAI
    (`x-ratelimit-remaining-requests`; Azure, Groq, Mistral, …), of Anthropic
    (`anthropic-ratelimit-requests-remaining`), and `x-ratelimit-remaining` alone.

    OpenAI's and Anthropic's limits are buckets that fill all the time: their reset is when one is full, so
    what was used over the seconds to the reset is what comes back a second. A limit without a reset, one that
    is whole, or one of more than LONGEST_WINDOW_S is left out.
    """
    found = []
    if "x-ratelimit-remaining-requests" in headers or "x-ratelimit-remaining-tokens" in headers:
        for of in ("requests", "tokens"):
            found.append(_bucket(of, headers, f"x-ratelimit-{{}}-{of}", now))
    elif "anthropic-ratelimit-requests-remaining" in headers:
        for of in ("requests", "tokens", "input-tokens", "output-tokens"):
            found.append(_bucket(of, headers, f"anthropic-ratelimit-{of}-{{}}", now, of_a_minute=True))
    elif "x-ratelimit-remaining" in headers:
        found.append(_window(headers, now))
    return [left for left in found if left is not None]


def _read(headers: Mapping[str, str], name: str, now: datetime | None) -> tuple[float, float, float] | None:
    """Read limit, what remains, and the seconds to the reset; None where one of them is not told, or the
    limit is whole."""
    limit, remaining = (
        seconds_of(headers.get(name.format(of)), most_s=1e15) for of in ("limit", "remaining")
    )
    reset_s = until_reset(headers.get(name.format("reset")), now or datetime.now(UTC))
    if limit is None or remaining is None or not reset_s or not remaining < limit:
        return None
    return limit, remaining, reset_s


def _bucket(
    of: str, headers: Mapping[str, str], name: str, now: datetime | None, *, of_a_minute: bool = False
) -> Left | None:
    told = _read(headers, name, now)
    if told is None:
        return None
    limit, remaining, reset_s = told
    fill, a_minute = (limit - remaining) / reset_s, limit / MINUTE_S
    if of_a_minute or abs(fill - a_minute) <= NEAR * a_minute:
        fill = a_minute
    return Left(of, limit, remaining, reset_s, fill) if limit <= fill * LONGEST_WINDOW_S else None


def _window(headers: Mapping[str, str], now: datetime | None) -> Left | None:
    told = _read(headers, "x-ratelimit-{}", now)
    if told is None or told[2] > LONGEST_WINDOW_S:
        return None
    return Left("requests", *told, None)
