"""Sweeps: one experiment with several prompts, models or parameters, and how its runs rank."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from promptlab.domain.sweeps import MOST_CELLS
from promptlab.experiments.matrix import Cell, SweepConfig, expanded, said
from promptlab.queries.compared import margins_of
from promptlab.statistics import Verdict
from promptlab_studio.access import Engineer, TheLab, Viewer
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import Body, Number, RunIn

router = APIRouter(prefix="/sweeps", tags=["sweeps"], route_class=Exact)
SweepId = Annotated[str, Path(max_length=100, description="The sweep's id.")]
Words = Annotated[str, Field(max_length=200)]


class CellIn(Body):
    """One cell of a sweep."""

    choices: dict[Words, Words] = Field(
        max_length=20, description="What is chosen in it, in words: what tells it from the others."
    )
    experiment: RunIn = Field(description="Its experiment, as POST /runs takes it, without a webhook.")


class SweepIn(Body):
    """An experiment with a matrix; or its cells, one by one."""

    experiment: dict[str, Any] | None = Field(
        default=None,
        description="An experiment as POST /runs takes it, with a `matrix` of what changes to a list of "
        "values, or with lists of models and prompt templates.",
        examples=[
            {
                "name": "capitals",
                "dataset": "questions@0",
                "prompt_template": ["ask@1", "ask@2"],
                "model": "openai/gpt-6-luna",
                "matrix": {"model.temperature": [0, 0.7]},
                "evaluation": [
                    {
                        "metric": "exact_match",
                        "column_mapping": {"response": "$inference", "reference": "answer"},
                    }
                ],
            }
        ],
    )
    cells: tuple[CellIn, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_CELLS,
        description="In place of `experiment`: every cell, all of one dataset and with one evaluation.",
    )

    def sweep(self) -> SweepConfig:
        """The typed sweep.

        Raises:
            ConfigError: the matrix is wrong, or there are too many cells.
            RequestValidationError: a cell breaks a rule of experiments.
        """
        if (self.experiment is None) == (self.cells is None):
            raise _invalid("a sweep is an experiment with a matrix, or cells: give one of both")
        if self.cells is not None:
            found = [(cell.choices, cell.experiment) for cell in self.cells]
        else:
            found = [(choices, _run_in(choices, one)) for choices, one in expanded(self.experiment or {})]
        for choices, one in found:
            if one.webhook is not None:
                raise _invalid(f"{said(choices)}: a webhook is told the end of a run, and a sweep is several")
            if (one.dataset, one.evaluation, one.max_cost_usd) != (
                found[0][1].dataset,
                found[0][1].evaluation,
                found[0][1].max_cost_usd,
            ):
                raise _invalid(
                    f"{said(choices)}: all cells have the same dataset, evaluation and max_cost_usd"
                )
        return SweepConfig(tuple(Cell(choices, one.experiment()) for choices, one in found))


def _run_in(choices: dict[str, str], value: dict[str, Any]) -> RunIn:
    try:
        return RunIn.model_validate(value)
    except ValidationError as error:
        where = ("body", "experiment", f"[{said(choices)}]") if choices else ("body", "experiment")
        raise RequestValidationError(
            [{**item, "loc": (*where, *item["loc"])} for item in error.errors(include_url=False)]
        ) from None


def _invalid(why: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": why}])


class ContinueIn(Body):
    """How a sweep goes on."""

    max_cost_usd: Number | None = Field(
        default=None,
        gt=0,
        le=1e9,
        allow_inf_nan=False,
        description="Dollars that all of its runs may cost together from now on; by default as before.",
    )


class CellBrief(BaseModel):
    """One cell of a sweep."""

    run_id: str = Field(description="Its run; GET /runs/{run_id} finds it once it has begun.")
    choices: dict[str, str] = Field(description="What is chosen in it, in words.")
    error: str | None = Field(description="Why the run could not be begun, last time.")


class SweepOut(BaseModel):
    """A sweep."""

    sweep_id: str = Field(description="Made of what the cells are; also a tag of its runs.")
    name: str = Field(description="The experiment's name.")
    created_at: str = Field(description="ISO 8601, UTC.")
    max_cost_usd: float | None = Field(description="Dollars that all of its runs may cost together.")
    cancelled: bool = Field(description="Whether no further run is to begin.")
    cells: list[CellBrief]


class SweepPage(BaseModel):
    """Sweeps, newest first."""

    items: list[SweepOut]


class AgainstOut(BaseModel):
    """A run against the best one; differences are this run's minus that one's."""

    n: int
    missing_base: int
    missing_other: int
    base_mean: float | None
    other_mean: float | None
    difference: float | None
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None
    p: float | None
    p_exact: float | None
    p_adjusted: float | None = Field(description="Holm's, over all pairs of ranked runs.")
    wins: int
    losses: int
    ties: int
    verdict: Verdict | None
    margin: float | None
    minimum_detectable: float | None
    rows_needed: int | None
    worst_low: float | None
    worst_high: float | None


class RankedCellOut(CellBrief):
    """One cell, its run, and its place."""

    status: str = Field(description="The run's; `waiting` of one that has not begun.")
    cases: int
    failed: int
    cost_usd: float | None = Field(description="Dollars of the calls of its model; null where not known.")
    latency_ms: float | None = Field(description="The median of a call.")
    mean: float | None = Field(description="The run's own mean of the metric, as on its page.")
    ci_low: float | None
    ci_high: float | None
    n: int
    rows: int
    unranked: str | None = Field(description="Why it has no place.")
    place: int | None = Field(description="By its mean over the rows that all ranked runs share.")
    p_best: float | None = Field(description="The share of bootstrap resamples in which it is the best.")
    rank_low: int | None = Field(description="The 95% interval of its rank.")
    rank_high: int | None
    on_front: bool = Field(description="No other is at least as good for at most as much.")
    against_leader: AgainstOut | None = Field(description="Null of the best one and without a place.")


class RankingOut(BaseModel):
    """A sweep and the order of its runs, the best first."""

    sweep_id: str
    name: str
    created_at: str
    max_cost_usd: float | None
    cancelled: bool
    metric: str | None = Field(description="What they are ranked by; null where there is no metric.")
    metrics: list[str] = Field(description="What they can be ranked by.")
    higher_is_better: bool
    rows: int = Field(description="Rows that all ranked runs have a score of.")
    resamples: int
    ended: bool = Field(description="Whether every run has been worked on to its end.")
    cost_usd: float | None = Field(description="Dollars of the models' calls so far; null where not known.")
    leader: str | None = Field(description="The best run.")
    cells: list[RankedCellOut]


@router.post("", status_code=202, summary="Start a sweep", response_model=SweepOut)
async def start_sweep(lab: TheLab, who: Engineer, body: SweepIn, response: Response) -> Any:
    """Check every cell, record a run for each, and begin them. Nothing is stored when a check fails. The same
    cells are the same sweep: a request that is sent again starts nothing twice, and goes on with what was
    stopped."""
    sweep = await lab.start_sweep(body.sweep(), by=who.starts_as)
    response.headers["Location"] = f"/api/v1/sweeps/{sweep.sweep_id}"
    return sweep.to_json()


@router.get("", summary="List sweeps", response_model=SweepPage)
async def list_sweeps(
    lab: TheLab,
    who: Viewer,
    limit: Annotated[int, Query(ge=1, le=100, description="Sweeps at most.")] = 50,
) -> Any:
    """Newest first."""
    return {"items": [sweep.to_json() for sweep in await lab.list_sweeps(limit=limit)]}


@router.get("/{sweep_id}", summary="Rank the runs of a sweep", response_model=RankingOut)
async def rank_sweep(
    lab: TheLab,
    who: Viewer,
    sweep_id: SweepId,
    metric: Annotated[
        str | None,
        Query(max_length=200, description="What to rank by; by default the headline metric, else the first."),
    ] = None,
    margin: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=250)]] | None,
        Query(max_length=50, description="δ, as in GET /compare."),
    ] = None,
) -> Any:
    """Its runs as far as they have ended, the best first: mean, cost, the share of bootstrap resamples in
    which it is the best, the interval of its rank, and how it stands against the best one."""
    return (await lab.rank(sweep_id, metric=metric, margins=margins_of(margin))).to_json()


@router.post("/{sweep_id}/cancel", summary="Cancel a sweep", response_model=SweepOut)
async def cancel_sweep(lab: TheLab, who: Engineer, sweep_id: SweepId) -> Any:
    """No further run of it begins, and those under way are cancelled. What was answered is kept."""
    return (await lab.cancel_sweep(sweep_id)).to_json()


@router.post("/{sweep_id}/continue", status_code=202, summary="Go on with a sweep", response_model=SweepOut)
async def continue_sweep(
    lab: TheLab, who: Engineer, sweep_id: SweepId, body: ContinueIn | None = None
) -> Any:
    """Begin what has not begun, and do what is missing of what was stopped, as it was recorded; runs that are
    complete stay as they are. A run that cannot go on says why in its cell."""
    usd = body.max_cost_usd if body else None
    return (await lab.continue_sweep(sweep_id, max_cost_usd=usd, by=who.starts_as)).to_json()
