"""Deletes a version of a prompt, a dataset or code."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request, Response

from promptlab.domain.assets import AssetKind
from promptlab.errors import AssetNotFoundError, PromptLabError
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, router
from promptlab_studio.views.format import code_url, dataset_url, prompt_url
from promptlab_studio.views.state import whole

routes = router()


@routes.post("/prompt/delete", dependencies=[needs("run")])
async def delete_prompt(request: Request, who: Engineer) -> Response:
    """Delete a version of a prompt for good."""
    return await _deleted(request, "prompt_template", who.id)


@routes.post("/dataset/delete", dependencies=[needs("run")])
async def delete_dataset(request: Request, who: Engineer) -> Response:
    """Delete a version of a dataset for good, with its rows."""
    return await _deleted(request, "dataset", who.id)


@routes.post("/source/delete", dependencies=[needs("run")])
async def delete_code(request: Request, who: Engineer) -> Response:
    """Delete a version of code for good, with its text."""
    return await _deleted(request, "code", who.id)


_PAGES: dict[AssetKind, tuple[Callable[..., str], str]] = {
    "prompt_template": (prompt_url, "/prompts"),
    "dataset": (dataset_url, "/datasets"),
    "code": (code_url, "/code"),
}


async def _deleted(request: Request, kind: AssetKind, by: str) -> Response:
    lab, fields = lab_of(request), await fields_of(request)
    name, version = (fields.get(key, [""])[0] for key in ("name", "version"))
    number = whole(version)
    to, many = _PAGES[kind]
    if number is None:
        return go_to(many, "Say which version is to be deleted: its number.", "problem")
    try:
        await lab.assets.delete(name, version=number, kind=kind, by=by)
    except AssetNotFoundError as error:
        return go_to(many, str(error), "problem")
    except PromptLabError as error:
        return go_to(to(name, number), str(error), "problem")
    left = await lab.assets.record(name, kind=kind) is not None
    return go_to(to(name) if left else many, f"Deleted: version {number} of {name}.")
