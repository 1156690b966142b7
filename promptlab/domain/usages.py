"""Reads from JSON what calls used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.domain.results import Completion, Usage
from promptlab.domain.spending import NAMES
from promptlab.domain.statistics import as_count, as_number, as_object
from promptlab.errors import StoreDamagedError


def usage_from(value: Any) -> Usage:
    """Read a usage from its JSON.

    Raises:
        StoreDamagedError: it is none.
    """
    value = as_object(value, "usage")
    return Usage(calls=as_count(value.get("calls", 0), "calls"), **spending_from(value))


def spending_from(value: Mapping[str, Any]) -> dict[str, Any]:
    """Read what calls used; None where it is unknown.

    Raises:
        StoreDamagedError: a number in it is none.
    """
    tokens = {name: value.get(name, 0) for name in NAMES[:2]}
    dollars = value.get("cost_usd", 0.0)
    return {
        **{name: None if n is None else as_count(n, name) for name, n in tokens.items()},
        "cost_usd": None if dollars is None else as_number(dollars, "cost_usd"),
        **{name: as_count(value.get(name, 0), name) for name in NAMES[3:]},
    }


def of_simulated_user(completion: Completion) -> Usage | None:
    """Find what the simulated user of a case's conversation used; None where there is none.

    A model of one's own may say anything in its metadata: what is no usage is none.
    """
    given = completion.metadata.get("simulated_user")
    if not isinstance(given, Mapping) or "ended_by" not in completion.metadata:
        return None
    try:
        return usage_from(given)
    except StoreDamagedError:
        return None
