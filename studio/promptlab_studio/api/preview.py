"""A prompt template filled with the first rows of a dataset, before anything is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.chat import in_words
from promptlab.domain.prompt_warnings import prompt_warnings
from promptlab.domain.templates import CompiledTemplate, check_placeholders, compile_template_async
from promptlab.errors import TemplateError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import TheLab, Viewer
from promptlab_studio.api.answers import PreviewOut
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.cut import fitted, fragments
from promptlab_studio.api.shapes import PreviewIn
from promptlab_studio.bounds import whole

MAX_CHARS = 2_000_000
"""Characters of filled prompts that one answer stops behind."""
MOST_NAMES = 2_000
"""Placeholders and columns that are listed."""
router = APIRouter(tags=["prompts"], route_class=Exact)


@router.post(
    "/preview",
    summary="Fill a prompt template with a dataset's first rows",
    response_model=PreviewOut,
    responses={303: {"description": "Where the file is, if `whole` asked for one."}},
)
async def preview(request: Request, lab: TheLab, who: Viewer, body: PreviewIn) -> Any:
    """Nothing is stored. What would keep a run from beginning is in `errors`."""
    prompt = body.prompt_template if isinstance(body.prompt_template, str) else body.prompt_template.asset()
    dataset = body.dataset if isinstance(body.dataset, str) else body.dataset.asset()
    mappings = [(item.name or item.metric, item.column_mapping) for item in body.evaluation]
    found = await filled(lab, prompt, dataset, body.limit, mappings)
    if body.whole:
        data = await asyncio.to_thread(orjson.dumps, found, default=str)
        return await whole(request, lab.blobs, data, file_name="preview.json", media_type="application/json")
    rows, cut = await fitted(found["rows"], lambda _: None)
    # A template has as many placeholders as it likes; a run could not begin with so many.
    shown, rest = found["placeholders"], found["columns"]
    more = {"placeholders": shown[:MOST_NAMES], "columns": rest[:MOST_NAMES], "cut": cut}
    return Response(
        orjson.dumps({**found, **more, "rows": [*fragments(rows)]}), media_type="application/json"
    )


async def filled(
    lab: StoreLab,
    prompt: PromptTemplate | str,
    dataset: Dataset | str,
    limit: int,
    mappings: Sequence[tuple[str, Mapping[str, str]]] = (),
) -> dict[str, Any]:
    """A template (or a reference to one) with the first rows: placeholders, columns,
    errors, and each row's messages.

    Raises:
        AssetNotFoundError: a reference to nothing.
        DatasetError: the rows cannot be used.
        TemplateError: the template cannot be parsed.
    """
    async with (
        lab.assets.draft(prompt, "prompt_template") as template,
        lab.assets.draft(dataset, "dataset") as rows,
    ):
        assert (
            isinstance(template.asset, PromptTemplate)
            and isinstance(rows.asset, Dataset)
            and rows.content is not None
        )
        compiled = await compile_template_async(template.asset)
        errors = []
        try:
            check_placeholders(template.asset, rows.content, compiled)
        except TemplateError as error:
            errors.append(str(error))
        columns = [column.name for column in rows.content.columns]
        warnings = prompt_warnings(
            template.asset, compiled, rows.content, [(n, _with_reference(m, columns)) for n, m in mappings]
        )
        first: Sequence[Mapping[str, Any]] = (
            list(islice(rows.asset.rows, limit))
            if rows.asset.rows is not None
            else await lab.assets.rows(rows.asset, 0, limit)
        )
        return {
            "placeholders": compiled.placeholders,
            "columns": columns,
            "errors": errors,
            "warnings": warnings,
            "rows": await _all_rendered(compiled, first),
        }


def _with_reference(mapping: Mapping[str, str], columns: Sequence[str]) -> Mapping[str, str]:
    """A metric's mapping as a run would complete it: `reference` is the column of that name."""
    return {"reference": "reference", **mapping} if "reference" in columns else mapping


async def _all_rendered(
    compiled: CompiledTemplate, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rows that one answer has room for, but one at least."""
    found: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        found.append(await _rendered(compiled, dict(row)))
        size += sum(len(message["content"]) for message in found[-1]["messages"] or ())
        if size > MAX_CHARS:
            break
    return found


async def _rendered(compiled: CompiledTemplate, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"row": row, "messages": in_words(await compiled.render_async(row)), "error": None}
    except TemplateError as error:
        return {"row": row, "messages": None, "error": str(error)}
