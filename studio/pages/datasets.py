"""Datasets: the list, versions, pages of rows, what the columns hold, where used, upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.domain.assets import Column, Dataset, DatasetContent
from promptlab.engine.ingest import rows_page
from promptlab.report import number
from studio.auth import lab_of
from studio.pages.assets_used import runs_using
from studio.pages.format import one_line
from studio.pages.state import Query
from studio.pages.view import render, router

SIZE = 50
MOST_COLUMNS = 12
"""Columns of the rows' table; a page never has more elements than a browser likes."""
MOST_STATISTICS = 60
SAMPLE = 500
"""Rows that the statistics of columns are of: enough to see what is there, quick whatever the dataset's size."""

routes = router()


@dataclass(frozen=True, slots=True)
class ColumnView:
    """What a column holds."""

    column: Column
    different: int
    """Different values among the rows that were looked at."""
    spread: str
    """From the lowest number to the highest, or the lengths of texts."""
    example: str


@routes.get("/datasets")
async def datasets_page(request: Request) -> HTMLResponse:
    """Every dataset in its latest version, and where to drop a new one."""
    lab, query = lab_of(request), Query.of("/datasets", request.query_params)
    text = query.get("q").casefold().strip()
    everything = await lab.ledger.list_assets("dataset")
    found = [(a, DatasetContent.from_json(a.content)) for a in everything if not text or text in f"{a.name} {a.description}".casefold()]
    return render(request, "datasets.html", {"query": query, "assets": found, "total": len(everything)})


@routes.get("/dataset")
async def dataset_page(request: Request, name: str) -> HTMLResponse:
    """One version of a dataset: its columns and a page of its rows."""
    lab, query = lab_of(request), Query.of("/dataset", request.query_params)
    version = query.get("version")
    which: dict[str, Any] = {"version": int(version)} if version.isdigit() else {"label": version} if version else {}
    dataset = await lab.assets.get(name, kind="dataset", **which)
    assert isinstance(dataset, Dataset) and dataset.content is not None
    content, versions = dataset.content, await lab.assets.versions(name, kind="dataset")
    offset = min((query.page() - 1) * SIZE, max(0, (content.rows - 1) // SIZE * SIZE))
    sample = await rows_page(lab.blobs, content, 0, SAMPLE)
    context: dict[str, Any] = {
        "query": query,
        "dataset": dataset,
        "content": content,
        "versions": versions[::-1],
        "this": next(v for v in versions if v.version == dataset.version),
        "columns": [c.name for c in content.columns[:MOST_COLUMNS]],
        "left_out": max(0, len(content.columns) - MOST_COLUMNS),
        "statistics": [_looked_at(c, sample) for c in content.columns[:MOST_STATISTICS]],
        "sampled": min(SAMPLE, content.rows),
        "rows": [[_cell(row, c.name) for c in content.columns[:MOST_COLUMNS]] for row in await rows_page(lab.blobs, content, offset, SIZE)],
        "offset": offset,
        "size": SIZE,
        "runs": await runs_using(lab, "dataset", name),
    }
    return render(request, "dataset.html", context)


def _cell(row: Mapping[str, Any], name: str) -> str:
    return one_line(row[name])[:200] if name in row else ""


def _looked_at(column: Column, rows: Sequence[Mapping[str, Any]]) -> ColumnView:
    values = [row[column.name] for row in rows if row.get(column.name) is not None]
    texts = [one_line(v) for v in values]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if numbers and len(numbers) == len(values):
        spread = f"{number(min(numbers))} to {number(max(numbers))}"
    elif texts:
        low, high = min(map(len, texts)), max(map(len, texts))
        spread = f"{low:,} characters" if low == high else f"{low:,} to {high:,} characters"
    else:
        spread = ""
    return ColumnView(column, len(set(texts)), spread, texts[0][:80] if texts else "")
