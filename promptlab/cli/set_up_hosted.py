"""`promptlab doctor` of a hosted lab: whether it is in order, and whether an experiment could run there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.cli.options import Store, opened
from promptlab.domain.findings import Finding
from promptlab.errors import PromptLabError, RunBusyError

if TYPE_CHECKING:
    from promptlab.adapters.http.lab import RemoteLab
    from promptlab.domain.results import RunRecord
    from promptlab.experiments.config import ExperimentConfig
    from promptlab.experiments.file import ExperimentFile

TAG = "doctor"
"""What the run of a check is found by, should it be left."""


async def look_hosted(
    store: Store, file: ExperimentFile | None, *, calls: bool, tell: Callable[[str], None]
) -> list[Finding]:
    """Check a hosted lab, and an experiment against it.

    Args:
        store: the lab.
        file: an experiment; its first row is run.
        calls: whether it is.
        tell: is told what is about to be paid for.
    """
    from promptlab.adapters.http.lab import RemoteLab

    async with opened(store) as lab:
        assert isinstance(lab, RemoteLab)
        found = list(await lab.findings(_secrets(file.config) if file else ()))
        if file is None or any(finding.outcome == "error" for finding in found):
            return found
        if not calls:
            return [*found, Finding("experiment", "ok", "was not run: what it names there was not looked at")]
        tell("To see whether it can run, the experiment's first row is run there, and the run is deleted.")
        return [*found, *await _first_row(lab, file)]


def _secrets(config: ExperimentConfig) -> Sequence[str]:
    """The names of the secrets that an experiment's models need."""
    from promptlab.domain.judges import JudgeConfig
    from promptlab.domain.model_config import ModelConfig

    judges = (one for item in config.evaluation for one in item.judge or ())
    played = config.conversation and config.conversation.simulated_user
    given = (config.model, config.embedding_model, played and played.model, *judges)
    models = (one.model() if isinstance(one, JudgeConfig) else one for one in given)
    named = (one.api_key_secret for one in models if isinstance(one, ModelConfig))
    return [name for name in dict.fromkeys(named) if name]


async def _first_row(lab: RemoteLab, file: ExperimentFile) -> list[Finding]:
    from promptlab.experiments.subset import First, subset

    try:
        async with subset(lab.assets, file.config.dataset, First(1)) as dataset:
            tags = tuple(dict.fromkeys((*file.config.tags, TAG)))
            part = file.config.model_copy(update={"dataset": dataset, "tags": tags})
            run = await lab.run(part, folder=file.folder)
        rows, _ = await lab.cases(run.run_id, limit=100)
        found = _told(run, rows)
        return [*found, *await _deleted(lab, run.run_id)]
    except PromptLabError as error:
        return [Finding("experiment", "error", str(error))]


async def _deleted(lab: RemoteLab, run_id: str) -> list[Finding]:
    """Remove the run. Its execution may take some seconds to see that the run is over."""
    for pause_s in (1.0, 2.0, 4.0, 8.0, 0.0):
        try:
            await lab.delete_run(run_id)
            return []
        except RunBusyError:
            await asyncio.sleep(pause_s)
    said = f"the run {run_id} is still worked on, and stays (tag {TAG}): delete it later"
    return [Finding("experiment", "warning", said)]


def _told(run: RunRecord, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return what the run of the first row showed."""
    wrong = [
        f"{row['error_type']}: {row.get('error_message') or 'no reason given'}"
        for row in rows
        if row.get("error_type")
    ]
    wrong += [
        f"{name.removeprefix('score_error.')}: {said}"
        for row in rows
        for name, said in row.items()
        if name.startswith("score_error.") and said
    ]
    if run.status != "completed":
        wrong.insert(0, f"the run is {run.status}: {run.error or 'no reason given'}")
    if wrong:
        return [Finding("experiment", "error", said) for said in dict.fromkeys(wrong)]
    cost = run.summary and run.summary["cost_usd"]
    paid = f" for ${cost:.6f}" if cost else ""
    return [Finding("experiment", "ok", f"its first row was answered and scored there{paid}")]
