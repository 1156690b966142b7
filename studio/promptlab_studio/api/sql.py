"""Questions in SQL about a run's results."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from promptlab_studio.access import LinkViewer, TheLab
from promptlab_studio.api.answers import SqlOut
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.runs import RunId
from promptlab_studio.api.shapes import SqlIn

router = APIRouter(tags=["runs"], route_class=Exact)


@router.post("/runs/{run_id}/sql", summary="Ask a run's results in SQL", response_model=SqlOut)
async def ask(lab: TheLab, who: LinkViewer, run_id: RunId, body: SqlIn) -> Response:
    """One SELECT over the table `cases`, one row a case, with an export's columns. Nothing is changed."""
    answer = await lab.sql(run_id, body.sql)
    return Response(orjson.dumps(answer.to_json()), media_type="application/json")
