"""The bounds of a new run, as the form has them: money, failures, time; and its cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab_studio.views.state import Query

USUAL_DAYS = 30.0
"""Days for which the cache keeps answers where the form says nothing else."""


@dataclass(frozen=True, slots=True)
class BoundField:
    """A bound that is a number."""

    name: str
    label: str
    placeholder: str
    title: str


BOUNDS = (
    BoundField(
        "max_failures",
        "Failures at most",
        "no bound",
        "Stop once more cases than this have failed: a count (50), or below 1 a share of all (0.05).",
    ),
    BoundField(
        "case_deadline_s",
        "Seconds of a case at most",
        "no bound",
        "Over all of its attempts and the waits between them; then it has failed.",
    ),
    BoundField(
        "run_deadline_s",
        "Seconds of the run at most",
        "no bound",
        "Then the run is interrupted, and can be resumed.",
    ),
)


def bounds_of(query: Query) -> dict[str, Any]:
    """Read the fields, as an experiment has them.

    Raises:
        ConfigError: one of them is no number.
    """
    found: dict[str, Any] = {"max_cost_usd": dollars_of(query.get("max_cost_usd"))}
    for field in BOUNDS:
        text = query.get(field.name).strip()
        found[field.name] = _number(field.name, text) if text else None
    days = query.get("cache").strip()
    return found | {"cache": {"expires_days": _number("cache", days)} if days else None}


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} must be a number (got {text[:50]!r}).") from None


def dollars_of(text: str) -> float | None:
    """The dollars of a form's field; None where it is empty.

    Raises:
        ConfigError: it is no number of dollars.
    """
    if not text.strip():
        return None
    try:
        return float(text.strip().removeprefix("$"))
    except ValueError:
        raise ConfigError(f"{text[:50]!r} is no number of dollars.") from None


def bound_pairs(run: RunRecord, experiment: Experiment) -> list[tuple[str, str]]:
    """The form's fields for a run that there is."""
    values: Mapping[str, float | None] = {
        "max_cost_usd": run.max_cost_usd,
        **{field.name: getattr(experiment, field.name) for field in BOUNDS},
        "cache": run.cache_days,
    }
    return [(name, f"{value:.12g}") for name, value in values.items() if value is not None]


def cache_choices(chosen: str) -> list[tuple[str, str]]:
    """Return what can be chosen for the cache: the value of the field, and its words."""
    days = dict.fromkeys((f"{USUAL_DAYS:g}", *((chosen,) if chosen else ())))
    return [("", "ask again"), *((text, f"from the cache ({text} days)") for text in days)]
