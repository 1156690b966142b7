"""Asks the lab for what several pages show."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from promptlab.domain.assets import AssetVersion, Dataset, PromptTemplate
from promptlab.domain.experiment import Experiment
from promptlab.domain.outline import RunOutline
from promptlab.domain.results import RunRecord
from promptlab.errors import AssetNotFoundError
from promptlab.store_lab import StoreLab

Kind = Literal["prompt_template", "dataset"]
SHOWN = 50
READ = 1000
"""Runs that a search looks through, newest first."""
PAGE = 500
"""Outlines read at once."""


async def read_outlines(
    lab: StoreLab, *, archived: bool = False, metrics: Collection[str] | None = None
) -> tuple[list[RunOutline], bool]:
    """The newest runs, without their summaries or with some metrics of each, and whether there are more: the
    archived ones, or all others."""
    found: list[RunOutline] = []
    cursor: str | None = None
    while len(found) < READ:
        page, cursor = await lab.outline_runs(
            archived=archived, metrics=metrics, limit=min(PAGE, READ - len(found)), cursor=cursor
        )
        found += page
        if cursor is None:
            break
    return found, cursor is not None


async def read_runs(lab: StoreLab, *, archived: bool = False) -> list[RunRecord]:
    """The same runs, for whom their summaries do not matter."""
    return [outline.run for outline in (await read_outlines(lab, archived=archived))[0]]


async def find_run(lab: StoreLab, text: str) -> RunRecord:
    """Read the run that an address names: by its id, or by a label, as in `qa@production`.

    Raises:
        RunNotFoundError: there is none.
    """
    name, at, label = text.rpartition("@")
    labels = await lab.run_labels(name) if at and name else {}
    return await lab.get_run(labels.get(label, text))


def named_like(assets: Sequence[AssetVersion], text: str) -> list[AssetVersion]:
    """Pick the assets that have a text in their name, description or labels, whatever its case."""
    wanted = text.casefold().strip()
    return [a for a in assets if wanted in f"{a.name} {a.description} {' '.join(a.labels)}".casefold()]


async def runs_using(lab: StoreLab, kind: Kind, name: str) -> Sequence[RunRecord]:
    """Runs over any version of an asset, newest first, among the newest runs of the store."""
    found, _ = await read_outlines(lab)
    used = [one for one in found if (one.run.experiment.get(kind) or {}).get("name") == name]
    return await lab.whole(used[:SHOWN])


async def runs_with_code(lab: StoreLab, name: str) -> list[tuple[RunRecord, list[str]]]:
    """Runs that name any version of a piece of code, with the versions, newest first, among the newest
    runs."""
    outlines, _ = await read_outlines(lab)
    found = [one for one in outlines if _versions_in(one.run, name)][:SHOWN]
    return [(run, _versions_in(run, name)) for run in await lab.whole(found)]


def _versions_in(run: RunRecord, name: str) -> list[str]:
    named = (bundle.rpartition("@") for bundle in bundles_in(run.experiment))
    return sorted({version for one, _, version in named if one == name})


def bundles_in(experiment: Mapping[str, Any]) -> Iterator[str]:
    """The code that a run's experiment names, as `name@version`; a damaged record may have anything there."""
    metrics = experiment.get("evaluation")
    metrics = metrics if isinstance(metrics, list | tuple) else ()
    codes = [metric.get("code") for metric in metrics if isinstance(metric, Mapping)]
    for code in (*codes, *(experiment.get(part) for part in ("model_code", "agent", "embedding_model_code"))):
        if isinstance(code, Mapping) and isinstance(bundle := code.get("bundle"), str):
            yield bundle


async def prompt_of(lab: StoreLab, experiment: Experiment) -> PromptTemplate | None:
    """The run's prompt; None for an agent's run."""
    ref = experiment.prompt_template
    if ref is None:
        return None
    asset = await lab.assets.get(ref.name, version=ref.version, kind="prompt_template")
    assert isinstance(asset, PromptTemplate)
    return asset


async def prompt_or_why(lab: StoreLab, experiment: Experiment) -> tuple[PromptTemplate | None, str]:
    """The run's prompt, or why it cannot be shown."""
    try:
        return await prompt_of(lab, experiment), ""
    except AssetNotFoundError as error:
        return None, str(error)


async def dataset_of(lab: StoreLab, experiment: Experiment) -> Dataset:
    """The run's dataset."""
    asset = await lab.assets.get(experiment.dataset.name, version=experiment.dataset.version, kind="dataset")
    assert isinstance(asset, Dataset)
    return asset
