"""What a sweep would cost, cell by cell, before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from promptlab.cloud.estimate import Estimate, estimate, sampled_rows
from promptlab.cloud.sampled import LikelyRange
from promptlab.experiments.matrix import SweepConfig
from promptlab.lab import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepEstimate:
    """The expected cost and duration of all runs of a sweep, one after the other on one machine."""

    name: str
    """The experiment's name."""
    cells: Sequence[tuple[Mapping[str, str], Estimate]]
    """What is chosen in each cell, and its estimate."""
    max_cost_usd: float | None = None
    """The dollars that all may cost together, as the experiment says."""

    @property
    def model_usd(self) -> LikelyRange | None:
        """Dollars of all calls; None where a model's price is not known."""
        each = [found.model_usd for _, found in self.cells]
        return None if None in each else _sum([one for one in each if one is not None])

    @property
    def worst_usd(self) -> float | None:
        """The most that all calls can cost; None where that of one cell is not known."""
        each = [found.worst_usd for _, found in self.cells]
        return None if None in each else sum(one for one in each if one is not None)

    @property
    def laptop_wall_s(self) -> LikelyRange:
        """Seconds on one machine, one run after the other."""
        return _sum([found.laptop_wall_s for _, found in self.cells])

    def to_json(self) -> dict[str, Any]:
        """JSON, as `promptlab estimate --json` prints it."""
        return {
            "name": self.name,
            "cases": sum(found.work.cases for _, found in self.cells),
            "model_usd": asdict(self.model_usd) if self.model_usd else None,
            "worst_usd": self.worst_usd,
            "laptop_wall_s": asdict(self.laptop_wall_s),
            "max_cost_usd": self.max_cost_usd,
            "cells": [{"choices": dict(choices), **found.to_json()} for choices, found in self.cells],
        }


def _sum(each: Sequence[LikelyRange]) -> LikelyRange:
    return LikelyRange(*(sum(getattr(one, name) for one in each) for name in ("low", "expected", "high")))


async def estimate_sweep(
    lab: Lab, config: SweepConfig, *, rows: int | None = None, tries: int = 0, folder: Path | None = None
) -> SweepEstimate:
    """Estimate each cell of a sweep, and all together; arguments are those of `estimate`.

    Raises:
        PromptLabError: a cell is wrong, or no tried row of it was answered.
    """
    found = await sampled_rows(lab, config.cells[0].config.dataset)
    cells = [
        (
            cell.choices,
            await estimate(lab, cell.config, rows=rows, tries=tries, folder=folder, sampled=found),
        )
        for cell in config.cells
    ]
    first = config.cells[0].config
    return SweepEstimate(name=first.name, cells=cells, max_cost_usd=first.max_cost_usd)
