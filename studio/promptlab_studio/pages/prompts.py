"""Prompts: the list, versions and what differs between them, labels, where used, and editing as a new version."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape
from pydantic import ValidationError

from promptlab.domain.assets import ChatMessage, PromptTemplate, which_version
from promptlab.domain.explain import explain
from promptlab.domain.templates import placeholders
from promptlab.errors import PromptLabError
from promptlab.lab import Lab
from promptlab_studio.auth import lab_of
from promptlab_studio.pages.assets_used import runs_using
from promptlab_studio.pages.format import prompt_url
from promptlab_studio.pages.state import Query, whole
from promptlab_studio.pages.text import word_diff
from promptlab_studio.pages.view import fields_of, go_to, render, router

ROLES = ("system", "user", "assistant", "developer")
FORMATS = {"simple": "<name>", "jinja2": "{{ name }}"}

routes = router()


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a text diff."""

    kind: str
    """same, gone or new."""
    text: Markup


def text_diff(old: str, new: str) -> list[DiffLine]:
    """What differs between two texts, line by line, and within changed lines word by word."""
    a, b = old.splitlines(), new.splitlines()
    lines: list[DiffLine] = []
    for kind, i, j, k, end in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [DiffLine("same", escape(line)) for line in a[i:j]]
            continue
        pairs = [word_diff(x, y) for x, y in zip(a[i:j], b[k:end], strict=False)] if j - i == end - k else []
        gone = [p[0] for p in pairs] or [escape(line) for line in a[i:j]]
        new_lines = [p[1] for p in pairs] or [escape(line) for line in b[k:end]]
        lines += [DiffLine("gone", line) for line in gone] + [DiffLine("new", line) for line in new_lines]
    return lines


def as_text(prompt: PromptTemplate) -> str:
    """A prompt's messages as one text, for diffs."""
    return "\n".join(f"[{m['role']}]\n{m['content']}" for m in prompt.chat())


@routes.get("/prompts")
async def prompts_page(request: Request) -> HTMLResponse:
    """Every prompt in its latest version."""
    lab, query = lab_of(request), Query.of("/prompts", request.query_params)
    text = query.get("q").casefold().strip()
    everything = await lab.ledger.list_assets("prompt_template")
    found = [
        a
        for a in everything
        if not text or text in f"{a.name} {a.description} {' '.join(a.labels)}".casefold()
    ]
    return render(request, "prompts.html", {"query": query, "assets": found, "total": len(everything)})


@routes.get("/prompt")
async def prompt_page(request: Request, name: str) -> HTMLResponse:
    """One version of a prompt, and what differs from the version that the address names in `against`."""
    lab, query = lab_of(request), Query.of("/prompt", request.query_params)
    versions = await lab.assets.versions(name, kind="prompt_template")
    prompt = await _version(lab, name, query.get("version"))
    against = query.get("against")
    other = await _version(lab, name, against) if against else None
    context: dict[str, Any] = {
        "query": query,
        "prompt": prompt,
        "versions": versions[::-1],
        "this": next(v for v in versions if v.version == prompt.version),
        "placeholders": placeholders(prompt),
        "other": other,
        "diff": text_diff(as_text(other), as_text(prompt)) if other else [],
        "runs": await runs_using(lab, "prompt_template", name),
    }
    return render(request, "prompt.html", context)


async def _version(lab: Lab, name: str, version: str) -> PromptTemplate:
    asset = await lab.assets.get(name, kind="prompt_template", **which_version(version))
    assert isinstance(asset, PromptTemplate)
    return asset


@routes.get("/prompt/edit")
async def edit_page(request: Request) -> HTMLResponse:
    """The form for a new prompt, or for the next version of one."""
    query = Query.of("/prompt/edit", request.query_params)
    name = query.get("name")
    prompt = await _version(lab_of(request), name, query.get("version")) if name else None
    draft = Draft(
        name,
        prompt.description if prompt else "",
        prompt.template_format if prompt else "simple",
        _with_room(prompt.chat() if prompt else ()),
    )
    return _form(request, draft, prompt)


def _with_room(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A prompt's messages with empty ones where a system or a user message is missing."""
    roles = [m["role"] for m in messages]
    first = [] if {"system", "developer"} & set(roles) else [{"role": "system", "content": ""}]
    return [*first, *messages, *([] if "user" in roles else [{"role": "user", "content": ""}])]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the form holds."""

    name: str
    description: str
    template_format: str
    messages: Sequence[dict[str, str]]

    def prompt(self) -> PromptTemplate:
        """The template.

        Raises:
            ValidationError: it breaks a rule of templates.
        """
        written = [m for m in self.messages if m["content"].strip()]
        roles = [m["role"] for m in written]
        base: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "template_format": self.template_format,
        }
        if roles in ([], ["system"], ["user"], ["system", "user"]):
            return PromptTemplate(**base, **{f"{m['role']}_prompt": m["content"] for m in written})
        return PromptTemplate(**base, messages=tuple(ChatMessage(**m) for m in written))


def _draft(fields: dict[str, list[str]]) -> Draft:
    def one(name: str) -> str:
        return fields.get(name, [""])[0]

    # Browsers end lines with CR LF in forms; a prompt that is not touched must stay the same version.
    texts = [text.replace("\r\n", "\n") for text in fields.get("content", [])]
    messages = [
        {"role": role, "content": text} for role, text in zip(fields.get("role", []), texts, strict=False)
    ]
    return Draft(one("name").strip(), one("description"), one("template_format") or "simple", messages)


def _form(
    request: Request, draft: Draft, prompt: PromptTemplate | None, problem: str = "", status: int = 200
) -> HTMLResponse:
    names, wrong = _placeholders(draft)
    context = {
        "draft": draft,
        "exists": prompt is not None,
        "prompt": prompt,
        "roles": ROLES,
        "formats": FORMATS,
        "placeholders": names,
        "wrong": wrong,
        "problem": problem,
    }
    return render(request, "prompt_edit.html", context, status=status)


def _placeholders(draft: Draft) -> tuple[Sequence[str], str]:
    """The placeholders of what is written so far, or what is wrong with it."""
    if not any(m["content"].strip() for m in draft.messages):
        return (), ""
    try:
        return placeholders(Draft("draft", "", draft.template_format, draft.messages).prompt()), ""
    except ValidationError as error:
        return (), explain(error, "prompt", PromptTemplate)
    except PromptLabError as error:
        return (), str(error)


@routes.post("/prompt/placeholders")
async def shown_placeholders(request: Request) -> HTMLResponse:
    """The placeholders of what is being written."""
    names, wrong = _placeholders(_draft(await fields_of(request)))
    return render(request, "prompt_placeholders.html", {"placeholders": names, "wrong": wrong})


@routes.post("/prompt/edit")
async def save(request: Request) -> Response:
    """Store what was written as the next version."""
    lab, fields = lab_of(request), await fields_of(request)
    draft, exists = _draft(fields), bool(fields.get("exists"))
    before = await lab.ledger.get_asset("prompt_template", draft.name) if draft.name else None
    try:
        wanted = draft.prompt()
        placeholders(wanted)
        if before and not exists:
            return _form(
                request,
                draft,
                None,
                f"There is a prompt {draft.name!r} already: open it and edit it there, or choose another name.",
                409,
            )
        made = await lab.assets.create(wanted)
    except ValidationError as error:
        return _form(
            request,
            draft,
            await _version(lab, draft.name, "") if exists else None,
            explain(error, "prompt", PromptTemplate),
            422,
        )
    except PromptLabError as error:
        return _form(request, draft, await _version(lab, draft.name, "") if exists else None, str(error), 422)
    same = before is not None and before.version == made.version
    said = (
        f"Nothing differs from version {made.version}: it stays the latest."
        if same
        else f"{made.name} has version {made.version} now."
    )
    return go_to(prompt_url(made.name, made.version), said)


@routes.post("/prompt/label")
async def label(request: Request) -> Response:
    """Point a label at a version."""
    fields = await fields_of(request)
    name, version, text = (fields.get(key, [""])[0] for key in ("name", "version", "label"))
    number = whole(version)
    try:
        await lab_of(request).assets.label(name, text.strip(), version=number, kind="prompt_template")
    except PromptLabError as error:
        return go_to(prompt_url(name, number), str(error), "problem")
    return go_to(prompt_url(name, number), f"{text.strip()} points at version {version} now.")
