"""Gates: whether a run keeps to what it must, against a baseline."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from promptlab.gates import Gates
from promptlab.gates.outcome import Outcome
from promptlab_studio.access import Engineer, LinkViewer, TheLab
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.runs import RunId
from promptlab_studio.api.shapes import Body

router = APIRouter(tags=["runs"], route_class=Exact)


class GateIn(Body):
    """What a run is judged by."""

    baseline: str | None = Field(
        default=None,
        min_length=1,
        max_length=300,
        description="A label of its experiment, experiment@label, or a run's id; left out, the one that the "
        "gates name.",
    )
    gates: Gates | None = Field(
        default=None,
        description="The checks; left out, those that the run was started with, else that no metric is "
        "worse.",
    )


class CheckOut(BaseModel):
    """What came of one check, or of one slice of it."""

    check: str
    kind: str
    outcome: Literal["passed", "failed", "undecided", "left out"]
    said: str = Field(description="Why, in words, with the numbers.")
    metric: str | None
    slice: str | None = Field(description="column=value.")
    verdict: str | None = Field(description="Of a comparison, in the words of GET /compare.")
    n: int | None = Field(description="Rows that it rests on.")
    value: float | None = Field(description="The mean, the difference to the baseline, or the number.")
    low: float | None = Field(description="Its 95% interval.")
    high: float | None
    p: float | None


class GateOut(BaseModel):
    """What came of a gate."""

    run_id: str
    name: str = Field(description="The experiment's name.")
    outcome: Outcome = Field(description="failed if one check did; else undecided if one could not decide.")
    checks: list[CheckOut]
    baseline: str | None = Field(description="The run that it was held against.")
    baseline_label: str | None
    quarantined: list[str] = Field(description="Ids of rows that no check of a metric looked at.")
    at: str = Field(description="ISO 8601, UTC.")
    commit: str | None
    facts: dict[str, Any] = Field(description="Numbers of the run.")


class NewestGateOut(BaseModel):
    """The newest outcome of a run's gate."""

    gate: GateOut | None = Field(description="Null where the run was not judged.")


@router.post("/runs/{run_id}/gate", summary="Judge a run by its gates", response_model=GateOut)
async def judge_run(lab: TheLab, who: Engineer, run_id: RunId, body: GateIn | None = None) -> Any:
    """Once the run has ended. The outcome is kept with it. A comparison passes on better, the same and not
    worse only; too few cases, missing scores that matter and no evidence leave it undecided."""
    asked = body or GateIn()
    return (await lab.gate(run_id, baseline=asked.baseline, gates=asked.gates)).to_json()


@router.get("/runs/{run_id}/gate", summary="Read what came of a run's gate", response_model=NewestGateOut)
async def read_gate(lab: TheLab, who: LinkViewer, run_id: RunId) -> Any:
    """The newest outcome, as it was recorded."""
    found = await lab.gate_of(run_id)
    return {"gate": found.to_json() if found else None}
