"""Two to four runs, compared case by case."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from promptlab.queries.compared import MAX_COMPARED, Change, Compared, margins_of, where_of
from promptlab.queries.comparison_json import comparison_json
from promptlab_studio.access import LinkViewer, TheLab
from promptlab_studio.api.answers import CompareOut
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.cut import fitted, fragments
from promptlab_studio.api.runs import case_url

router = APIRouter(tags=["runs"], route_class=Exact)
RunIds = Annotated[
    list[Annotated[str, Query(min_length=1, max_length=200)]],
    Query(
        min_length=2,
        max_length=MAX_COMPARED,
        description="The ids of the runs: the base first, then one to three others.",
    ),
]


@router.get("/compare", summary="Compare runs", response_model=CompareOut)
async def compare_runs(
    lab: TheLab,
    who: LinkViewer,
    run: RunIds,
    change: Annotated[Change, Query(description="Which pairs of cases `items` has.")] = "all",
    metric: Annotated[
        str | None, Query(max_length=200, description="The metric that `change` is about; any by default.")
    ] = None,
    other: Annotated[
        int | None,
        Query(ge=0, le=MAX_COMPARED - 2, description="The place of the other run that `change` is about."),
    ] = None,
    text: Annotated[
        str, Query(max_length=1_000, description="Only pairs in which a search of any of the runs finds it.")
    ] = "",
    margin: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=250)]] | None,
        Query(
            max_length=50,
            description="δ, a difference that does not matter: 0.02 for every metric, NAME=20 for one.",
        ),
    ] = None,
    least: Annotated[
        float | None,
        Query(description="Only pairs whose difference in the metric, other − base, is this or more."),
    ] = None,
    most: Annotated[
        float | None, Query(description="Only pairs whose difference in the metric is this or less.")
    ] = None,
    where: Annotated[
        list[Annotated[str, Query(min_length=2, max_length=2_000)]] | None,
        Query(max_length=20, description="Only rows with a value in a dataset column: COLUMN=VALUE."),
    ] = None,
    sort: Annotated[
        Literal["case", "difference"], Query(description="By case, or the greatest loss first.")
    ] = "case",
    descending: Annotated[bool, Query(description="The other way round.")] = False,
    offset: Annotated[int, Query(ge=0, le=10**9, description="Pairs to skip.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=100, description="Pairs at most; long texts make a page shorter.")
    ] = 25,
    text_chars: Annotated[
        int, Query(ge=1, le=20_000, description="Characters of an answer or an input.")
    ] = 600,
) -> Response:
    """Every metric that the base shares with another run, and a page of the pairs of cases."""
    page = await lab.compare(
        run,
        Compared(change, metric, other, text.strip(), margins_of(margin), least, most, where_of(where or ())),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
        text_chars=text_chars,
    )
    value = comparison_json(run, page)
    pairs = value["items"]
    items, value["cut"] = await fitted(pairs, lambda place: case_url(run[0], pairs[place]))
    following = page.offset + len(items)
    value["items"] = [*fragments(items)]
    value["next_offset"] = following if following < page.total_matching else None
    return Response(orjson.dumps(value), media_type="application/json")
