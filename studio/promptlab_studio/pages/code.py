"""Code of users: the list, versions and what differs between them, source with line numbers, where used, and
pasting a file as a new version. None of it is ever imported here."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from promptlab.domain.code import CodeBundle
from promptlab.domain.versioned import which_version
from promptlab.errors import PromptLabError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.api.code import check_taken, code_host, keep
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.reading import named_like, runs_with_code
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.code import CodeDraft, contents_of, differences, file_of, is_one_file, numbered
from promptlab_studio.views.format import code_url
from promptlab_studio.views.room import MOST_CHARS, Room
from promptlab_studio.views.state import Query, whole

MOST_LISTED = 500
"""Files and entries in one list of a page."""
EXAMPLE = """from promptlab import Evaluator

class Politeness(Evaluator):
    def evaluate(self, data):
        return "please" in data["response"].lower()"""
"""What an empty form shows."""
routes = router()


@routes.get("/code", dependencies=[needs("look")])
async def code_page(request: Request) -> HTMLResponse:
    """Every piece of code in its latest version."""
    lab, query = lab_of(request), Query.of("/code", request.query_params)
    everything = await lab.assets.latest("code")
    found = [(a, contents_of(a)) for a in named_like(everything, query.get("q"))]
    context = {"query": query, "assets": found, "total": len(everything), "refusal": lab.code_refusal}
    return render(request, "code.html", context)


@routes.get("/source", dependencies=[needs("look")])
async def source_page(request: Request, name: str) -> HTMLResponse:
    """One version of code: a file of it, or what differs from the version that the address names in
    `against`."""
    lab, query = lab_of(request), Query.of("/source", request.query_params)
    versions = await lab.assets.versions(name, kind="code")
    bundle = await _version(lab, name, query.get("version"))
    against = query.get("against")
    other = await _version(lab, name, against) if against else None
    chosen = file_of(bundle, query.get("file"))
    room = Room(MOST_CHARS // 2 if other else MOST_CHARS)
    url = f"/api/v1/code/{quote(name, safe='')}/versions/{bundle.version}/source"
    beginning = room.take(bundle.files.get(chosen, ""), url, MOST_CHARS)
    context: dict[str, Any] = {
        "query": query,
        "bundle": bundle,
        "editable": is_one_file(bundle),
        "contents": bundle.described(),
        "most": MOST_LISTED,
        "versions": versions[::-1],
        "this": next(v for v in versions if v.version == bundle.version),
        "file": chosen,
        "text": beginning,
        "numbers": numbered(beginning.text),
        "other": other,
        "diffs": differences(other, bundle) if other else [],
        "runs": await runs_with_code(lab, name),
    }
    return render(request, "source.html", context)


async def _version(lab: StoreLab, name: str, version: str) -> CodeBundle:
    asset = await lab.assets.get(name, kind="code", **which_version(version))
    assert isinstance(asset, CodeBundle)
    return await lab.assets.source(asset)


@routes.get("/code/new", dependencies=[needs("code")])
async def new_code_page(request: Request) -> HTMLResponse:
    """The form that takes a file, for a new piece of code or for the next version of one."""
    lab, query = lab_of(request), Query.of("/code/new", request.query_params)
    check_taken(lab)
    name = query.get("name")
    draft = CodeDraft(name, "", "", "")
    if name and await lab.assets.record(name, kind="code"):
        bundle = await _version(lab, name, query.get("version"))
        if is_one_file(bundle):
            ((path, text),) = bundle.files.items()
            draft = CodeDraft(name, bundle.description, path, text)
    return _form(request, draft)


def _form(request: Request, draft: CodeDraft, problem: str = "", status: int = 200) -> HTMLResponse:
    context = {"draft": draft, "problem": problem, "python": code_host().python, "example": EXAMPLE}
    return render(request, "code_new.html", context, status=status)


@routes.post("/code/new", dependencies=[needs("code")])
async def save_code(request: Request) -> Response:
    """Store what was pasted as the next version."""
    lab, fields = lab_of(request), await fields_of(request)
    check_taken(lab)
    draft = CodeDraft.of(fields)
    try:
        made, created = await keep(lab, draft.bundle())
    except (PromptLabError, ValueError) as error:
        return _form(request, draft, draft.problem(error), 422)
    said = (
        f"{made['name']} has version {made['version']} now."
        if created
        else f"Version {made['version']} has this very text already."
    )
    return go_to(code_url(made["name"], made["version"]), said)


@routes.post("/source/label", dependencies=[needs("run")])
async def label_code(request: Request) -> Response:
    """Point a label at a version, or remove it."""
    fields = await fields_of(request)
    name, version, text = (fields.get(key, [""])[0] for key in ("name", "version", "label"))
    number, label = whole(version), text.strip()
    try:
        if "remove" in fields:
            await lab_of(request).assets.unlabel(name, label, kind="code")
            return go_to(code_url(name, number), f"{name} has no label {label} any more.")
        await lab_of(request).assets.label(name, label, version=number, kind="code")
    except PromptLabError as error:
        return go_to(code_url(name, number), str(error), "problem")
    return go_to(code_url(name, number), f"{label} points at version {version} now.")
