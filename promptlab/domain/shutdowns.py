"""When a provider stops serving a model: dates from `shutdowns.json`, and the warning before a run."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import resources
from typing import Any

import orjson

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import is_own_endpoint, listed_as, names_of

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
    found = listed_as(config) if is_own_endpoint(config) else None
    names = names_of(*found) if found else ()
    row = next((_table()[found[0], name] for name in names if found and (found[0], name) in _table()), None)
    if row is None:
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


@functools.cache
def _table() -> dict[tuple[str, str], dict[str, Any]]:
    text = resources.files("promptlab.domain").joinpath("shutdowns.json").read_bytes()
    return {(row["provider"], row["model"]): row for row in orjson.loads(text)["shutdowns"]}
