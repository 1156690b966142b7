"""Runs as lists look for them: without their summaries, which are nine tenths of their records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.results import RunRecord


@dataclass(frozen=True, slots=True)
class RunOutline:
    """A run by which a list is filtered, counted and sorted; only the rows of its page need the rest."""

    run: RunRecord
    """Without its summary, or with what was asked for of it."""
    metrics: tuple[str, ...] | None
    """The names of the metrics that its summary has; None where it is not summarized."""
    whole: RunRecord | None = None
    """The record itself, where it was read with the outline."""

    @classmethod
    def of(cls, run: RunRecord, metrics: Collection[str] | None = None) -> RunOutline:
        """Make the outline of a run that was read whole.

        Args:
            run: the run.
            metrics: the metrics that its summary is kept with; None: it is left out.
        """
        if run.summary is None:
            return cls(run, None, run)
        found = run.summary.get("metrics") if isinstance(run.summary, Mapping) else None
        measured: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        if metrics is None or found is not measured:
            return cls(replace(run, summary=None), names_in(measured), run)
        kept = {**run.summary, "metrics": {name: measured[name] for name in metrics if name in measured}}
        return cls(replace(run, summary=kept), names_in(measured), run)


def names_in(keys: object) -> tuple[str, ...]:
    """Give those of some keys that can be names of metrics; a damaged summary may have anything there."""
    return tuple(key for key in keys if isinstance(key, str)) if isinstance(keys, list | Mapping) else ()
