"""How many cases a difference needs, before one pays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from promptlab.planning import planned
from promptlab_studio.access import Engineer, TheLab, Viewer
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import RunIn

router = APIRouter(tags=["runs"], route_class=Exact)


class PowerOut(BaseModel):
    """Rows that a difference needs."""

    difference: float
    kind: Literal["share", "mean"]
    spread: float = Field(
        description="The share of rows in which the two runs differ, or the deviation of the differences."
    )
    source: str = Field(description="Where that is from, in words.")
    rows: int | None = Field(description="Rows that show it with 80% power; null where none can.")
    rows_by_power: dict[str, int | None]
    have: int | None = Field(description="Rows that the comparison has.")
    detectable: float | None = Field(description="The smallest difference that these show with 80% power.")
    trials: int
    usd_a_case: float | None
    usd: float | None = Field(description="Dollars of one run over `rows`; null where nobody knows.")
    metric: str | None


@router.get("/power", summary="Plan how many cases a difference needs", response_model=PowerOut)
async def get_power(
    lab: TheLab,
    who: Viewer,
    difference: Annotated[float, Query(description="The difference, in the metric's units.")],
    run: Annotated[
        list[str],
        Query(max_length=2, description="Two runs, the base first, that say how often they differ; or none."),
    ] = [],  # noqa: B006 - FastAPI copies it
    metric: Annotated[str | None, Query(max_length=300, description="The metric of these runs.")] = None,
    discordance: Annotated[
        float | None, Query(description="Without runs: the share of rows in which two runs differ.")
    ] = None,
    deviation: Annotated[
        float | None, Query(description="Without runs, of numbers: the deviation of the differences.")
    ] = None,
) -> Any:
    """By what two runs showed, or by a guess, with 80% power."""
    found = await planned(lab, run, difference, metric=metric, discordance=discordance, deviation=deviation)
    return found.to_json()


class Range(BaseModel):
    """What is expected, and what it may be."""

    low: float
    expected: float
    high: float


class EstimateOut(BaseModel):
    """What a run would cost, and how long it would take."""

    model_config = ConfigDict(extra="allow")

    rows: int
    cases: int = Field(description="Rows × trials.")
    sampled_rows: int = Field(description="Rows whose prompts were measured.")
    prompt_tokens: Range = Field(description="Of a call.")
    answer_tokens: Range = Field(description="Of a call, guessed.")
    model: str
    model_usd: Range | None = Field(description="Dollars of all calls; null where the price is not known.")
    batch_usd: Range | None = Field(description="In the provider's batches.")
    flex_usd: Range | None = Field(description="In the provider's flex tier.")
    worst_usd: float | None = Field(description="Were every answer as long as it may be.")
    laptop_wall_s: Range = Field(description="Seconds on one machine, at the limit that counts.")
    laptop_s: dict[str, Range] = Field(description="Seconds on one machine, by each limit of the model.")
    limited_by: str = Field(description="The limit that counts.")
    cloud_usd: Range = Field(description="What AWS charges for a run there, without the model.")
    wall_s: Range = Field(description="Seconds in the cloud.")


@router.post("/estimate", summary="Estimate what a run would cost", response_model=EstimateOut)
async def post_estimate(
    lab: TheLab,
    who: Engineer,
    body: RunIn,
    rows: Annotated[
        int | None, Query(ge=1, le=1_000_000, description="For so many rows; by default the dataset's.")
    ] = None,
) -> Any:
    """What an experiment would cost and how long it would take at the model's limits, from the first rows'
    prompts. Nothing is called, and nothing is stored; `promptlab estimate --try 20` runs some rows to see."""
    from promptlab.cloud.estimate import estimate

    found = await estimate(lab, body.experiment(), rows=rows, max_concurrency=_most(lab))
    return found.to_json()


def _most(lab: TheLab) -> int:
    return lab.stack.max_concurrency if lab.stack is not None else 100
