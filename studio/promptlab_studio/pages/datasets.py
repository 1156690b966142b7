"""Datasets: the list, versions, pages of rows, what the columns hold, where used, upload."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.assets.column_statistics import MOST_COLUMNS as MOST_STATISTICS
from promptlab.assets.column_statistics import is_quick
from promptlab.domain.assets import Dataset, DatasetContent, which_version
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.reading import named_like, runs_using
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.datasets import MOST_COLUMNS, cells_of, column_css, column_views, rows_width
from promptlab_studio.views.state import Query

SIZE = 50

routes = router()


@routes.get("/datasets", dependencies=[needs("look")])
async def datasets_page(request: Request) -> HTMLResponse:
    """Every dataset in its latest version, and where to drop a new one."""
    lab, query = lab_of(request), Query.of("/datasets", request.query_params)
    everything = await lab.assets.latest("dataset")
    found = [(a, DatasetContent.from_json(a.content)) for a in named_like(everything, query.get("q"))]
    return render(request, "datasets.html", {"query": query, "assets": found, "total": len(everything)})


@routes.get("/dataset", dependencies=[needs("look")])
async def dataset_page(request: Request, name: str) -> HTMLResponse:
    """One version of a dataset: its columns and a page of its rows."""
    lab, query = lab_of(request), Query.of("/dataset", request.query_params)
    dataset, content = await _version(lab, name, query.get("version"))
    versions = await lab.assets.versions(name, kind="dataset")
    offset = min((query.page() - 1) * SIZE, max(0, (content.rows - 1) // SIZE * SIZE))
    columns = [c.name for c in content.columns[:MOST_COLUMNS]]
    rows = await lab.assets.rows(dataset, offset, SIZE)
    cells = cells_of(rows, columns)
    css = column_css(content.columns[:MOST_COLUMNS], cells)
    read = await lab.assets.statistics(content) if is_quick(content) else None
    context: dict[str, Any] = {
        "query": query,
        "dataset": dataset,
        "content": content,
        "versions": versions[::-1],
        "this": next(v for v in versions if v.version == dataset.version),
        "columns": columns,
        "column_css": css,
        "least": rows_width(css),
        "left_out": max(0, len(content.columns) - MOST_COLUMNS),
        "listed": content.columns[:MOST_STATISTICS],
        "statistics": column_views(read),
        "statistics_rows": read.rows if read else 0,
        "rows": cells,
        "too_long": min(SIZE, content.rows - offset) - len(rows),
        "offset": offset,
        "size": SIZE,
        "runs": await runs_using(lab, "dataset", name),
    }
    return render(request, "dataset.html", context)


@routes.get("/dataset/columns", dependencies=[needs("look")])
async def dataset_columns(request: Request, name: str, version: str = "") -> HTMLResponse:
    """Show what the columns hold; asked for by the page of a dataset that takes a moment to read."""
    lab = lab_of(request)
    dataset, content = await _version(lab, name, version)
    read = await lab.assets.statistics(content)
    context = {
        "dataset": dataset,
        "content": content,
        "listed": content.columns[:MOST_STATISTICS],
        "statistics": column_views(read),
        "statistics_rows": read.rows,
    }
    return render(request, "dataset_columns.html", context)


async def _version(lab: StoreLab, name: str, version: str) -> tuple[Dataset, DatasetContent]:
    dataset = await lab.assets.get(name, kind="dataset", **which_version(version))
    assert isinstance(dataset, Dataset) and dataset.content is not None
    return dataset, dataset.content
