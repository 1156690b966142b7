"""Where an asset is used: the newest runs over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from promptlab.domain.results import RunRecord
from promptlab.lab import Lab
from promptlab_studio.pages.runs_table import read_runs

Kind = Literal["prompt_template", "dataset"]
SHOWN = 50


async def runs_using(lab: Lab, kind: Kind, name: str) -> Sequence[RunRecord]:
    """Runs over any version of an asset, newest first, among the newest runs of the store."""
    runs, _ = await read_runs(lab)
    return [run for run in runs if (run.experiment.get(kind) or {}).get("name") == name][:SHOWN]
