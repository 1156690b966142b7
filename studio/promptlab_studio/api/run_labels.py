"""Labels on runs, such as production: the baselines of an experiment."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from promptlab.run_labels import ANY
from promptlab_studio.access import Engineer, TheLab, Viewer
from promptlab_studio.api.answers import AS_PROBLEM, RunOut, run_object
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.runs import RunId
from promptlab_studio.api.shapes import Body

router = APIRouter(tags=["runs"], route_class=Exact)
Label = Annotated[str, Path(max_length=100, description="The label, as in production.")]
_MOVED: dict[int | str, dict[str, Any]] = {
    412: {"description": "The label points at another run by now.", **AS_PROBLEM}
}


class RunLabelsOut(BaseModel):
    """The labels of an experiment's runs."""

    labels: dict[str, str] = Field(description="Each label with the id of its run.")


class RunLabelIn(Body):
    """The run that a label points at until now."""

    was: str | None = Field(
        default=None,
        max_length=200,
        description="The run that it must point at until now, null for none: if it points at another, "
        "nothing is done. Left out, it is moved from whichever it points at.",
    )


@router.get("/run-labels", summary="List the labels of an experiment's runs", response_model=RunLabelsOut)
async def list_run_labels(
    lab: TheLab,
    who: Viewer,
    name: Annotated[str, Query(max_length=200, description="The experiment's name.")],
) -> Any:
    """Each with its run; none where there are no labels."""
    return {"labels": await lab.run_labels(name)}


@router.put("/runs/{run_id}/labels/{label}", summary="Label a run", response_model=RunOut, responses=_MOVED)
async def label_run(
    lab: TheLab, who: Engineer, run_id: RunId, label: Label, body: RunLabelIn | None = None
) -> Any:
    """Point a label of its experiment at the run; it leaves the run that it pointed at before, at once."""
    was = body.was if body is not None and "was" in body.model_fields_set else ANY
    return await run_object(lab, await lab.label_run(run_id, label, was=was))


@router.delete(
    "/runs/{run_id}/labels/{label}",
    status_code=204,
    summary="Take a label from a run",
    response_class=Response,
    responses=_MOVED,
)
async def unlabel_run(lab: TheLab, who: Engineer, run_id: RunId, label: Label) -> Response:
    """The run stays. One that points at another run is left where it is."""
    await lab.unlabel_run(run_id, label)
    return Response(status_code=204)
