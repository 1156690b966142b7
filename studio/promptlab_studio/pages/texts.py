"""A text of a case, whole, for those who follow the link behind its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from starlette.exceptions import HTTPException

from promptlab.assets.media_files import mime_of
from promptlab.domain.chat import ChatRequest
from promptlab.domain.experiment import Experiment
from promptlab.domain.keys import media_key
from promptlab.domain.messages import MODALITIES
from promptlab.errors import BlobNotFoundError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.bounds import whole
from promptlab_studio.pages.case import case_key, media_in, messages_of, prompt_for, row_of
from promptlab_studio.pages.rendering import router
from promptlab_studio.views.chat import INLINE, text_of_part, traced
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
    elif kind in ("said", "asked", "context"):
        found = await _said(lab, experiment, row, kind, which)
    if found is None:
        raise HTTPException(404, f"Case {key} of run {run_id} has no {of[:100]!r}.")
    return await whole(
        request,
        lab.blobs,
        exact(found).encode(errors="replace"),
        file_name=f"{case}.{trial}.txt",
        media_type="text/plain; charset=utf-8",
    )


async def _said(
    lab: StoreLab, experiment: Experiment, row: Mapping[str, Any], kind: str, which: str
) -> object:
    """A part of a message, as `said.0.1`: the second of the first; `asked`: of the prompt's; or a context."""
    numbers = [int(n) if n.isdecimal() and len(n) < 6 else -1 for n in which.split(".")]
    if kind == "context":
        found: Any = traced(row).get("contexts") or []
        return exact(found[numbers[0]]) if 0 <= numbers[0] < len(found) else None
    messages: Any = row.get("messages") or []
    if kind == "asked":
        prompt = await prompt_for(lab, experiment, await row_of(lab, experiment, row["case"]))
        messages = prompt.to_json()["messages"] if isinstance(prompt, ChatRequest) else []
    if len(numbers) != 2 or not 0 <= numbers[0] < len(messages):
        return None
    parts = messages[numbers[0]]["parts"]
    return text_of_part(parts[numbers[1]]) if 0 <= numbers[1] < len(parts) else None


@routes.get("/runs/{run_id}/cases/{key}/media/{sha256}", dependencies=[needs("look", link=True)])
async def case_media(request: Request, run_id: str, key: str, sha256: str) -> Response:
    """A picture, sound or document of a case: of its row, its prompt or what was said. None of any other."""
    lab = lab_of(request)
    case, trial = case_key(key)
    run = await lab.get_run(run_id)
    row = await (await lab.results_of(run)).case(case, trial)
    experiment = Experiment.model_validate(run.experiment)
    asked = await row_of(lab, experiment, case) if row is not None else ""
    there = [one for value in (asked.values() if isinstance(asked, dict) else ()) for one in media_in(value)]
    there += [part for message in (row or {}).get("messages") or () for part in message["parts"]]
    found = next((one for one in there if one.get("sha256") == sha256), None)
    if found is None:
        raise HTTPException(404, f"Case {key} of run {run_id} has no medium {sha256[:12]}….")
    key = media_key(sha256)
    try:
        data = await lab.blobs.get(key)
    except BlobNotFoundError:
        raise HTTPException(404, f"The medium {sha256[:12]}… is not in the store any more.") from None
    modality = found.get("modality")
    kind = mime_of(data[:64], modality) if modality in MODALITIES else None
    answer = await whole(request, lab.blobs, data, media_type=kind or "application/octet-stream", key=key)
    if answer.status_code != 200:
        return answer  # a link, which does not hold for a day
    # What a browser does not just show is a file to it, whatever is in it.
    if kind not in INLINE:
        answer.headers["Content-Disposition"] = f'attachment; filename="{sha256[:12]}"'
    answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return answer
