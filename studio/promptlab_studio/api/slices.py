"""A run, and others against it, by the values of a dataset column."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from promptlab.queries.compared import MAX_COMPARED, margins_of
from promptlab.queries.slices_json import slices_json
from promptlab_studio.access import TheLab, Viewer
from promptlab_studio.api.bodies import Exact

router = APIRouter(tags=["runs"], route_class=Exact)


class SliceMeanOut(BaseModel):
    """One metric of the base over a slice; of a score of the run as a whole its value, by bootstrap."""

    n: int = Field(description="Rows that the mean is of.")
    rows: int = Field(description="Rows to score.")
    mean: float | None
    stderr: float | None
    ci_low: float | None = Field(description="The 95% interval.")
    ci_high: float | None
    method: str | None
    worst_low: float | None = Field(description="The mean of all rows at least; null where none is missing.")
    worst_high: float | None
    higher_is_better: bool = True


class SliceOtherOut(BaseModel):
    """Another run against the base, over a slice."""

    run_id: str
    metrics: dict[str, dict[str, Any]] = Field(
        description="By name, as in GET /compare: difference, interval, p, verdict. Holm over all slices."
    )


class SliceOut(BaseModel):
    """The rows with one value of the column."""

    value: str | None = Field(description="As text; … for all that have no slice, null for rows without one.")
    rows: int = Field(description="Dataset rows of the base.")
    bounds: tuple[float, float] | None = Field(
        description="Of a bin: its least and its greatest value, both in it."
    )
    metrics: dict[str, SliceMeanOut]
    others: list[SliceOtherOut]


class SlicesOut(BaseModel):
    """A run by a column of its dataset."""

    column: str
    values: int = Field(description="Different values of the column; the 50 most frequent have a slice.")
    binned: bool = Field(description="They are many numbers, in five bins with as many rows each.")
    base: str = Field(description="The base run's id.")
    notes: list[str] = Field(
        description="What has to be known of the runs: of those that were stopped, numbers are of the cases "
        "that are done."
    )
    slices: list[SliceOut]


@router.get("/slices", summary="Slice runs by a column", response_model=SlicesOut)
async def slice_runs(
    lab: TheLab,
    who: Viewer,
    run: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=200)]],
        Query(
            min_length=1,
            max_length=MAX_COMPARED,
            description="The ids of the runs: the base first, then none to three others.",
        ),
    ],
    column: Annotated[str, Query(min_length=1, max_length=1_000, description="A column of the dataset.")],
    margin: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=250)]] | None,
        Query(
            max_length=50,
            description="δ, a difference that does not matter: 0.02 for every metric, NAME=20 for one.",
        ),
    ] = None,
) -> Response:
    """Each metric by the values of a dataset column, with differences and verdicts against other runs."""
    found = await lab.slices(run, column, margins_of(margin))
    return Response(orjson.dumps(slices_json(run, found)), media_type="application/json")
