"""Before one pays: how many rows a difference needs, for the form of a new run."""

from __future__ import annotations

from promptlab.domain.assets import Dataset
from promptlab.domain.outline import RunOutline
from promptlab.domain.results import DONE
from promptlab.errors import ConfigError, PromptLabError
from promptlab.planning import Power, guessed, power, power_lines
from promptlab.statistics import detectable_mean, detectable_share
from promptlab.store_lab import StoreLab
from promptlab_studio.pages.reading import read_outlines
from promptlab_studio.views.new_run_form import rows_asked
from promptlab_studio.views.state import Query

USUAL = 0.05
"""The difference that is planned for where none is given."""


async def power_words(lab: StoreLab, query: Query, prompt: str, dataset: Dataset) -> list[str]:
    """Say how many rows show a difference with 80% power, and what the rows of the form show.

    By what the last two runs of the prompt over the dataset showed, where a difference is asked for and there
    are two; else by the usual guess.
    """
    text = query.get("see").strip()
    try:
        difference = float(text) if text else USUAL
    except ValueError:
        return [f"A difference to see is a number such as 0.05, not {text[:50]!r}."]
    try:
        found = await _found(lab, query, prompt, dataset, difference if text else None)
        lines = power_lines(found or guessed(difference))
    except ConfigError as error:
        return [str(error)]
    return [lines[0], *_shown(found or guessed(difference), rows_asked(query, len(dataset)))]


async def _found(
    lab: StoreLab, query: Query, prompt: str, dataset: Dataset, difference: float | None
) -> Power | None:
    """Plan by the last two runs; None where nothing is asked, or there are none that can be compared."""
    if difference is None or difference <= 0:
        return None
    found, _ = await read_outlines(lab)
    alike = [one.run.run_id for one in found if _is_alike(one, prompt, dataset)][:2]
    if len(alike) < 2:
        return None
    try:
        return await power(lab, alike[::-1], difference)
    except PromptLabError:
        return None  # what they showed is too little, or they share no metric


def _is_alike(outline: RunOutline, prompt: str, dataset: Dataset) -> bool:
    run = outline.run
    used = run.experiment.get("prompt_template") or {}
    return (
        run.status in DONE
        and outline.metrics is not None
        and used.get("name", "") == prompt
        and run.experiment["dataset"]["name"] == dataset.name
    )


def _shown(found: Power, rows: int) -> list[str]:
    if rows < 1:
        return []
    detectable = detectable_share if found.kind == "share" else detectable_mean
    shows = detectable(rows, found.spread)
    many = "The 1 row" if rows == 1 else f"The {rows:,} rows"
    if shows is None:
        return [f"{many} of this run show no difference with 80% power."]
    said = f"{many} of this run show {shows:.3g}."
    if found.usd is not None and found.rows is not None:
        said += f" {found.rows:,} rows would cost about ${found.usd:,.2f}."
    return [said]
