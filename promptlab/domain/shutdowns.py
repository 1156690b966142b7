"""When a provider stops serving a model: dates from `prices.json`, and the warning before a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import is_own_endpoint, listed_row

WARN_BEFORE = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The end of a model."""

    on: date
    """The first day on which the provider no longer serves it."""
    replacement: str | None
    """The model that the provider names instead, without the provider."""


def shutdown_of(config: ModelConfig) -> Shutdown | None:
    """Find when the provider's own API stops serving a model; None where that is not known, and elsewhere."""
    row = listed_row(config) if is_own_endpoint(config) else None
    if row is None or "shutdown" not in row:
        return None
    return Shutdown(date.fromisoformat(row["shutdown"]), row.get("replacement"))


def shutdown_warnings(configs: Iterable[ModelConfig], today: date) -> tuple[str, ...]:
    """Say which models are gone, or will be within a month."""
    found = []
    for config in configs:
        end = shutdown_of(config)
        if end is None or today < end.on - WARN_BEFORE:
            continue
        instead = f" {config.provider} names {end.replacement} instead." if end.replacement else ""
        what = "was shut down" if today >= end.on else "will be shut down"
        found.append(f"{config.name} {what} by its provider on {end.on}.{instead}")
    return tuple(dict.fromkeys(found))
