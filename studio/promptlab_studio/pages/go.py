"""Goes anywhere: what runs, prompts, datasets and code are called like what one types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.domain.assets import AssetKind
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, may, needs, takes_code
from promptlab_studio.pages.reading import named_like, read_runs
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.format import code_url, dataset_url, prompt_url, run_url, when
from promptlab_studio.views.runs_table import words_of
from promptlab_studio.views.state import Query

SHOWN = 8
"""What is found of each kind."""

URLS: Mapping[AssetKind, Callable[[str, int], str]] = {
    "prompt_template": prompt_url,
    "dataset": dataset_url,
    "code": code_url,
}

routes = router()


class Place(NamedTuple):
    """Something that one can go to."""

    kind: str
    name: str
    about: str
    url: str


@routes.get("/go", dependencies=[needs("look")])
async def go(request: Request) -> HTMLResponse:
    """Pages, and the newest runs and assets whose words have what is typed."""
    lab, query = lab_of(request), Query.of("/go", request.query_params)
    text = query.get("q").strip()
    places = [place for place in _pages(request) if text.casefold() in place.name.casefold()]
    places += await _found(lab, text, code=takes_code(request))
    return render(request, "go.html", {"query": query, "places": places})


def _pages(request: Request) -> Iterator[Place]:
    for name, url in (("Runs", "/"), ("Archived runs", "/?archived=1"), ("Sweeps", "/sweeps")):
        yield Place("page", name, "", url)
    yield Place("page", "Prompts", "", "/prompts")
    yield Place("page", "Datasets", "", "/datasets")
    if takes_code(request):
        yield Place("page", "Code", "", "/code")
    if may(request, "run"):
        yield Place("page", "New run", "", "/new")
        yield Place("page", "New prompt", "", "/prompt/edit")
        yield Place("page", "Playground", "", "/playground")


async def _found(lab: StoreLab, text: str, *, code: bool) -> list[Place]:
    wanted = text.casefold()
    found = [run for run in await read_runs(lab) if wanted in words_of(run)][:SHOWN]
    abouts = [f"{run.experiment['model']['name']}, {when(run.created_at)}" for run in found]
    places = [
        Place("run", run.called, about, run_url(run.run_id)) for run, about in zip(found, abouts, strict=True)
    ]
    for kind, url in URLS.items():
        if kind != "code" or code:
            assets = named_like(await lab.assets.latest(kind), text)
            words = kind.partition("_")[0]
            places += [Place(words, a.name, a.description, url(a.name, a.version)) for a in assets[:SHOWN]]
    return places
