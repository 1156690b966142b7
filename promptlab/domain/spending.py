"""Sums of what calls used, in which the unknown stays unknown and never counts as 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Spending(Protocol):
    """Sums over calls, or over cases."""

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens read where they are known; None where nothing is known."""

    @property
    def completion_tokens(self) -> int | None:
        """Tokens written where they are known; None where nothing is known."""

    @property
    def cost_usd(self) -> float | None:
        """Dollars where they are known; None where an answer's price is unknown, or nothing is known."""

    @property
    def unknown_tokens(self) -> int:
        """How many are not in the sums of tokens, for nobody told theirs."""

    @property
    def unknown_cost(self) -> int:
        """How many are not in the dollars."""

    @property
    def unpriced(self) -> int:
        """How many of `unknown_cost` were answered: they make the dollars unknown,
        and not only incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The usage of calls or cases, as a value."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cost_usd: float | None = 0.0
    unknown_tokens: int = 0
    unknown_cost: int = 0
    unpriced: int = 0


NAMES = ("prompt_tokens", "completion_tokens", "cost_usd", "unknown_tokens", "unknown_cost", "unpriced")


def spent(
    prompt_tokens: int | None, completion_tokens: int | None, cost_usd: float | None, *, failed: bool = False
) -> Sums:
    """Return the usage of one call or case, from what is known of it.

    A failed one that is known to cost nothing used no tokens: it was refused.
    """
    refused = failed and cost_usd is not None
    unknown = cost_usd is None
    return Sums(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost_usd,
        unknown_tokens=int((prompt_tokens is None or completion_tokens is None) and not refused),
        unknown_cost=int(unknown),
        unpriced=int(unknown and not failed),
    )


def summed(a: Spending, b: Spending) -> dict[str, Any]:
    """Add two sums, field by field, as keyword arguments of whatever holds such fields."""
    tokens, cost = a.unknown_tokens + b.unknown_tokens, a.unknown_cost + b.unknown_cost
    unpriced = _unpriced(a) + _unpriced(b)
    return {
        "prompt_tokens": _known(a.prompt_tokens, b.prompt_tokens, tokens),
        "completion_tokens": _known(a.completion_tokens, b.completion_tokens, tokens),
        "cost_usd": None if unpriced else _known(a.cost_usd, b.cost_usd, cost),
        "unknown_tokens": tokens,
        "unknown_cost": cost,
        "unpriced": unpriced,
    }


def _unpriced(of: Spending) -> int:
    # Records of older versions have no counts: None says that some answer had no price.
    return of.unpriced or int(of.cost_usd is None and not of.unknown_cost)


def _known(a: float | None, b: float | None, unknown: int) -> float | None:
    total = (a or 0) + (b or 0)
    return total if total or not unknown else None


def total_tokens(prompt_tokens: int | None, completion_tokens: int | None) -> int | None:
    """Add tokens read and written; None when one of them is unknown."""
    return None if prompt_tokens is None or completion_tokens is None else prompt_tokens + completion_tokens


def counts_of(value: Spending) -> Mapping[str, int]:
    """The counts of what is unknown that are not 0: records of runs in which all is known have none."""
    counts = {name: getattr(value, name) for name in NAMES[3:]}
    return {name: count for name, count in counts.items() if count}
