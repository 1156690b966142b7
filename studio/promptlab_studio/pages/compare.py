"""Two to four runs beside each other: what differs in their configuration, in their
metrics and case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.domain.experiment import Experiment
from promptlab.errors import ConfigError
from promptlab.queries.compared import Compared, margins_of
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.reading import find_run, prompt_or_why
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.cases import TEXT, WIDTHS, least_width
from promptlab_studio.views.compare import (
    ANSWER_CHANGES,
    ANY,
    CHANGES,
    LETTERS,
    TEXT_CHARS,
    chosen_metric,
    configuration,
    metric_rows,
    pair_of,
)
from promptlab_studio.views.prompts import as_text
from promptlab_studio.views.state import Query, whole
from promptlab_studio.views.text import MOST_LINES, DiffLine, text_diff

SIZE = 25

routes = router()


@routes.get("/compare", dependencies=[needs("look", link=True)])
async def compare_page(request: Request) -> HTMLResponse:
    """The comparison that the address names: the first run is the base."""
    lab, query = lab_of(request), Query.of("/compare", request.query_params)
    ids = query.all("run")
    if not 2 <= len(ids) <= len(LETTERS):
        return render(request, "compare_none.html", {"count": len(ids)}, status=200 if not ids else 400)
    runs = [await find_run(lab, text) for text in ids]
    ids = [run.run_id for run in runs]
    experiments = [Experiment.model_validate(r.experiment) for r in runs]
    metric = chosen_metric(query, experiments)
    chosen = _chosen(query, metric)
    page = await lab.compare(
        ids,
        chosen,
        sort=query.get("sort", "case"),
        descending=query.get("desc") == "1",
        offset=(query.page() - 1) * SIZE,
        limit=SIZE,
        text_chars=TEXT_CHARS,
    )
    facts = {m.metric for m in page.metrics if m.fact}
    context: dict[str, Any] = {
        "query": query,
        "runs": [
            (LETTERS[n], run, query.url(run=[run.run_id, *(i for i in ids if i != run.run_id)], other=None))
            for n, run in enumerate(runs)
        ],
        "baselines": [] if runs[0].labels else await _baselines(lab, query, ids, runs[-1].name),
        "configuration": configuration(experiments),
        "prompts": [] if request.headers.get("HX-Request") else await _prompts(request, experiments),
        "metric_rows": metric_rows(query, page, len(runs) - 1, metric or ""),
        "metric": metric,
        "margin": query.get("margin").strip(),
        "slices_url": f"/slices?{urlencode([('run', run_id) for run_id in ids])}",
        "any": ANY,
        "changes": [
            (key, text, page.counts[key]) for key, text in (CHANGES if page.metrics else ANSWER_CHANGES)
        ],
        "metrics": list(dict.fromkeys(m.metric for m in page.metrics)),
        "page": page,
        "pairs": [pair_of(runs, row, facts, metric) for row in page.rows],
        "least": least_width(WIDTHS["c-id"] + (1 + len(runs)) * WIDTHS[TEXT]),
        "size": SIZE,
        "letters": LETTERS,
    }
    return render(request, "compare.html", context)


def _chosen(query: Query, metric: str | None) -> Compared:
    change, other = query.get("change", "all"), query.get("other")
    if change not in dict(CHANGES):
        raise ConfigError(f"change={change!r} is not known: {', '.join(key for key, _ in CHANGES)}.")
    if other and whole(other) is None:
        raise ConfigError(f"other={other!r} is not the place of a run: 0 is the second run.")
    margins = [part for text in query.get("margin").split(",") if (part := text.strip())]
    return Compared(change, metric, whole(other), query.get("q").strip(), margins_of(margins))


async def _baselines(lab: StoreLab, query: Query, ids: Sequence[str], name: str) -> list[tuple[str, str]]:
    """Offer the labelled runs of the experiment as the base, in place of the one that is."""
    labels = sorted((await lab.run_labels(name)).items())
    return [(label, query.url(run=[base, *ids[1:]], other=None)) for label, base in labels if base not in ids]


async def _prompts(request: Request, experiments: Sequence[Experiment]) -> list[tuple[str, list[DiffLine]]]:
    """The prompt of the base against each other one that differs."""
    texts = [
        (p and as_text(p)) or "" for p in [(await prompt_or_why(lab_of(request), e))[0] for e in experiments]
    ]
    return [
        (f"{LETTERS[0]} → {LETTERS[n]}", text_diff(texts[0], text, MOST_LINES // 3))
        for n, text in enumerate(texts)
        if n and text != texts[0]
    ]
