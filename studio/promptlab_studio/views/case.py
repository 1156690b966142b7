"""One case, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.results.table import Columns
from promptlab_studio.views.cases import SIZE, beside_verdict
from promptlab_studio.views.format import run_url
from promptlab_studio.views.state import VIEW_PARAMS, Query


@dataclass(frozen=True, slots=True)
class ScoreView:
    """One metric of a case."""

    name: str
    column: str
    """Its name in the results table."""
    value: float | None
    passed: bool | None
    label: str | None
    reason: str | None
    error: str | None
    shown: str
    """The value, where it says more than pass or fail."""
    judged: str | None = None
    """What of the answer was judged, where that is a part of it."""


def score_view(
    metric: str, name: str, row: Mapping[str, Any], measured: bool, experiment: Experiment
) -> ScoreView:
    value, passed, label, reason, error = (
        row.get(f"{part}.{name}") for part in ("score", "passed", "label", "reason", "score_error")
    )
    spec = next((m for m in experiment.evaluation if m.name == metric), None)
    if spec and row["error_type"] is None and all(v is None for v in (value, passed, label, reason, error)):
        if spec.when:
            reason = f"not applicable to this row: scored are rows where {spec.when.described()}"
        elif column := spec.reference_column:
            reason = (
                f"not labelled: {column} is empty in this row"
                if row.get(f"input.{column}") in (None, "")
                else None
            )
    shown = beside_verdict(value, passed, measured=measured)
    return ScoreView(metric, name, value, passed, label, reason, error, shown, row.get(f"judged.{name}"))


def judged_views(row: Mapping[str, Any], columns: Columns) -> list[ScoreView]:
    """Return what metrics of the run as a whole took out of the answer: lines beside the scores, without
    one."""
    why = "a score of the run as a whole"
    return [
        ScoreView(metric, name.removeprefix("judged."), None, None, None, why, None, "", row[name])
        for metric, name in columns.judged
        if row.get(name) is not None
    ]


@dataclass(frozen=True, slots=True)
class CaseState:
    """The opening of a case's page."""

    css: str
    text: str


def case_state(row: Mapping[str, Any], scores: Sequence[ScoreView], headline: str | None) -> CaseState:
    """Whether the case is right, by the metric that the run is judged by; an answer alone is no success."""
    if row["pending"]:
        return CaseState("pending", "○ waiting")
    if row["error_type"]:
        return CaseState("failed", f"✕ failed: {row['error_type']}")
    score = next((s for s in scores if s.name == headline), None)
    if score is None:
        return CaseState("plain", "answered")
    if score.error is not None:
        return CaseState("interrupted", f"! {score.name}: not scored")
    if score.passed is not None:
        css, word = ("completed", "✓ pass") if score.passed else ("failed", "✕ fail")
        return CaseState(css, f"{word}: {score.name}")
    said = score.label if score.label is not None else score.shown
    return CaseState("plain", f"{score.name}: {said}" if said else "answered")


def way_up(run: RunRecord, query: Query, position: int | None, here: CaseKey) -> str:
    """The page of the table that the case is on, and its row."""
    page = str((position or 0) // SIZE + 1)
    pairs = [*query.only(*VIEW_PARAMS), *([("page", page)] if page != "1" else [])]
    return run_url(run.run_id) + (f"?{urlencode(pairs)}" if pairs else "") + f"#c{here.case}-{here.trial}"
