"""A sweep: the runs of one experiment with several prompts, models or parameters, as the ledger keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.domain.records import made

MOST_CELLS = 24
"""Cells of a sweep at most: each is a whole run."""
PREFIX = "sweep-"
"""How the id of a sweep begins, which is also a tag of its runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCell:
    """One combination, and the run that is of it."""

    run_id: str
    """Settled before the run is recorded: whoever begins the sweep again finds it by this."""
    choices: Mapping[str, str]
    """What was chosen on each axis, in words."""
    error: str | None = None
    """Why the run could not be begun, last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The runs of one experiment with several prompts, models or parameters."""

    sweep_id: str
    """Made of what the cells are: the same experiment has the same id, whoever begins it again."""
    name: str
    """The experiment's name."""
    created_at: str
    """ISO 8601, UTC."""
    cells: tuple[SweepCell, ...]
    max_cost_usd: float | None = None
    """The dollars that all of its runs may cost together."""
    cancelled: bool = False
    """Whether no further run is to begin."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs' ids, begun or not."""
        return tuple(cell.run_id for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Write it as the ledger and the API have it."""
        return {
            "sweep_id": self.sweep_id,
            "name": self.name,
            "created_at": self.created_at,
            "max_cost_usd": self.max_cost_usd,
            "cancelled": self.cancelled,
            "cells": [
                {"run_id": cell.run_id, "choices": dict(cell.choices), "error": cell.error}
                for cell in self.cells
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sweep:
        """Read what `to_json` wrote.

        Raises:
            StoreDamagedError: it is no sweep.
        """
        return made(cls, value, cells=tuple(made(SweepCell, cell) for cell in value.get("cells") or ()))
