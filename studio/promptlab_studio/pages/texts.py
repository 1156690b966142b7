"""A text of a case, whole, for those who follow the link behind its beginning."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from starlette.exceptions import HTTPException

from promptlab.domain.experiment import Experiment
from promptlab_studio.access import lab_of, needs
from promptlab_studio.bounds import whole
from promptlab_studio.pages.case import case_key, messages_of, row_of
from promptlab_studio.pages.rendering import router
from promptlab_studio.views.format import exact

routes = router()


@routes.get("/runs/{run_id}/cases/{key}/text", dependencies=[needs("look", link=True)])
async def case_text(
    request: Request, run_id: str, key: str, of: Annotated[str, Query(max_length=2_000)] = "response"
) -> Response:
    """A column of the results table (`response`, `input.question`, …) or a message of the prompt
    (`message.0`), as plain text."""
    lab = lab_of(request)
    case, trial = case_key(key)
    run = await lab.get_run(run_id)
    row = await (await lab.results_of(run)).case(case, trial)
    if row is None:
        raise HTTPException(404, f"Run {run_id} has no case {key}: it has {run.cases:,} cases.")
    experiment = Experiment.model_validate(run.experiment)
    kind, _, which = of.partition(".")
    found: object = row.get(of)
    if kind == "input":
        asked = await row_of(lab, experiment, case)
        found = asked.get(which, found) if isinstance(asked, dict) else found
    elif kind == "message":
        messages = await messages_of(lab, experiment, await row_of(lab, experiment, case))
        texts = {str(n): m["content"] for n, m in enumerate(messages)} if isinstance(messages, list) else {}
        found = texts.get(which)
    if found is None:
        raise HTTPException(404, f"Case {key} of run {run_id} has no {of[:100]!r}.")
    return await whole(
        request,
        lab.blobs,
        exact(found).encode(errors="replace"),
        file_name=f"{case}.{trial}.txt",
        media_type="text/plain; charset=utf-8",
    )
