"""The cases that match a filter, as a file."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import anyio
import orjson
from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from promptlab.domain.results import CaseKey
from promptlab.labels.columns import TYPES, people_columns
from promptlab.ports import Blobs, DirectBlobs
from promptlab.queries.query_engine import CaseRows, Filter, ResultsQuery
from promptlab.results.export import BOM, safe_csv_text
from promptlab.results.formats import PLAIN_CSV, CsvStyle
from promptlab.scratch import ScratchFolder
from promptlab_studio.access import lab_of, needs
from promptlab_studio.bounds import LINK_S, streams
from promptlab_studio.pages.labels import meant
from promptlab_studio.pages.rendering import router
from promptlab_studio.views.format import run_url
from promptlab_studio.views.state import Query

AT_ONCE = 500
"""Rows that are held at a time."""
WHOLE = 1 << 40
"""Characters of a text: all of them."""
MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}

routes = router()


@routes.get("/runs/{run_id}/cases.{form}", dependencies=[needs("look", link=True)])
async def export_cases(
    request: Request,
    run_id: str,
    form: Literal["csv", "jsonl"],
    delimiter: str = PLAIN_CSV.delimiter,
    bom: bool = PLAIN_CSV.bom,
) -> Response:
    """The cases that the address's filter means, in its order; CSV in the style that the address names."""
    style = CsvStyle(delimiter, bom)
    style.check(form)
    query = Query.of(run_url(run_id), request.query_params)
    lab = lab_of(request)
    results = await lab.results_of(await lab.get_run(run_id))
    people = people_columns(await lab.labels.kept.of(run_id))
    filter_ = await meant(lab, run_id, query)
    first = await _page(
        results, query, filter_, 0
    )  # what is wrong with the address is an answer, and no half of a file
    name = f"{run_id}-{first.total_matching}-cases.{form}"
    head = {"Content-Disposition": f'attachment; filename="{name}"'}
    lines = _lines(results, query, filter_, people, first, None if form == "jsonl" else style)
    if isinstance(lab.blobs, DirectBlobs):
        return await _from_bucket(lab.blobs, name, lines)
    streams(request)
    return StreamingResponse(lines, media_type=MEDIA[form], headers=head)


async def _from_bucket(blobs: Blobs, name: str, lines: AsyncIterator[bytes]) -> Response:
    """Put the file into the bucket, and send the browser there: Lambda sends no large files."""
    assert isinstance(blobs, DirectBlobs)
    with ScratchFolder("export") as folder:
        path = folder / "cases"
        async with await anyio.open_file(path, "wb") as file:
            async for piece in lines:
                await file.write(piece)
        key = f"exports/{secrets.token_hex(16)}/{name}"
        await blobs.put_file(key, path)
    return RedirectResponse(await blobs.presign_get(key, max_age_s=LINK_S), status_code=303)


async def _page(results: ResultsQuery, query: Query, filter_: Filter, offset: int) -> CaseRows:
    return await results.page(
        filter_,
        sort=query.get("sort", "case"),
        descending=query.get("desc") == "1",
        offset=offset,
        limit=AT_ONCE,
        text_chars=WHOLE,
    )


async def _lines(
    results: ResultsQuery,
    query: Query,
    filter_: Filter,
    people: Mapping[CaseKey, Mapping[str, Any]],
    page: CaseRows,
    style: CsvStyle | None,
) -> AsyncIterator[bytes]:
    """Write pages from `page` on: CSV in a style, or JSON lines."""
    names = [*results.columns.types, *(TYPES if people else ())]
    if style is not None:
        yield (BOM.encode() if style.bom else b"") + _csv([names], style)
    done = 0
    while page.rows:
        said = [people.get(CaseKey(row["case"], row["trial"]), {}) for row in page.rows]
        rows = [
            {name: more.get(name, row.get(name)) for name in names}
            for row, more in zip(page.rows, said, strict=True)
        ]
        yield (
            b"".join(orjson.dumps(row) + b"\n" for row in rows)
            if style is None
            else _csv(map(_cells, rows), style)
        )
        done += len(page.rows)
        if done >= page.total_matching:
            return
        page = await _page(results, query, filter_, done)


def _cells(row: Mapping[str, Any]) -> Sequence[Any]:
    return [_cell(value) for value in row.values()]


def _cell(value: Any) -> Any:
    if isinstance(value, list):  # the attempts, as JSON, which begins with no sign of a formula
        return orjson.dumps(value).decode()
    return safe_csv_text(value) if isinstance(value, str) else value


def _csv(rows: Any, style: CsvStyle) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=style.delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
