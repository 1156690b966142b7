"""A run's head and what it spent, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.results import Progress, RunRecord
from promptlab.domain.spending import NAMES, Spending
from promptlab.domain.summary import Summary
from promptlab_studio.views.runs_table import seconds_between


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a run, as the head of its page shows it."""

    progress: Progress
    active: bool
    """It still changes: it runs, or it was stopped and records what was in flight."""
    rate: float | None
    """Cases a second, over the time that the run was worked on."""
    left_s: float | None
    again: int = 0
    """Failed cases of an earlier pass that this one does again, or that failed again in it."""


def head_of(run: RunRecord, progress: Progress | None, *, active: bool, now: str) -> Head:
    """Tell the state of a run.

    Args:
        run: the run.
        progress: how far it is; None where it has a summary.
        active: somebody works on it.
        now: the time, ISO 8601.
    """
    if run.summary or progress is None:
        s: Any = run.summary or {"cases": 0}
        names = ("failed", *NAMES)
        counts = {name: s[name] for name in names if name in s}
        return Head(Progress(total=run.cases, done=s["cases"], **counts), False, None, None)
    again = active and run.redo_before == run.generation > 0
    if again:
        # What is asked again is open until it is answered; how much was so at the pass's beginning is not
        # recorded, and the time that earlier passes took says nothing about this one.
        open_ = progress.failed
        return Head(replace(progress, done=progress.done - open_, failed=0), active, None, None, open_)
    worked = run.wall_s + (seconds_between(run.started_at, now) if active and run.started_at else 0.0)
    rate = progress.done / worked if worked > 0 and progress.done else None
    return Head(progress, active, rate, (progress.total - progress.done) / rate if active and rate else None)


@dataclass(frozen=True, slots=True)
class Spent:
    """One part of what a run used."""

    what: str
    read: int | None
    written: int | None
    usd: float | None
    note: str = ""


def _part(what: str, sums: Spending, of: int, named: str) -> Spent:
    """One row of the table, with a word on what its sums leave out."""
    unknown = max(sums.unknown_tokens, sums.unknown_cost)
    left = "" if not unknown or unknown >= of else f"known for {of - unknown:,} of {of:,} {named}"
    return Spent(what, sums.prompt_tokens, sums.completion_tokens, sums.cost_usd, left)


def spent_on(progress: Progress, summary: Summary, infrastructure: Spent) -> Sequence[Spent]:
    """Say what a run used: the model (the dollars in the head are those of both sides of a conversation), the
    simulated user, the metrics' own models, the machines."""
    metrics, played = summary.metrics_usage, summary.simulated_user
    model = _part("model", progress, progress.done, "cases")
    if model.usd is not None and played.cost_usd is not None:
        model = replace(model, usd=model.usd - played.cost_usd)
    return [
        model,
        *([_part("simulated user", played, played.calls, "calls")] if played.calls else []),
        _part("metrics' models", metrics, metrics.calls, "calls"),
        infrastructure,
    ]
