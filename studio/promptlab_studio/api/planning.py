"""How many cases a difference needs, before one pays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from promptlab.planning import planned
from promptlab_studio.access import TheLab, Viewer

router = APIRouter(tags=["runs"])


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
