"""Tokens and links, people, and the audit: who gets in, and what they did."""

from __future__ import annotations

import time
from typing import Any, cast
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from promptlab.deleting.journal import Deletion
from promptlab.errors import PromptLabError
from promptlab_studio.access import ROLES, Principal, Role, asked_of, lab_of, needs
from promptlab_studio.api.access import (
    deleted_person,
    leaving_of,
    link_address,
    linked,
    people_of,
    tokens_of,
)
from promptlab_studio.api.access_shapes import LINK_DAYS
from promptlab_studio.audit import OUTCOMES, Chosen, Entry, audit_of
from promptlab_studio.forms import fields_of
from promptlab_studio.leaving import WORK_S, LabelsGo, NamesGo, Wish
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.state import Query

AGES = (("1", "a day"), ("7", "a week"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))
SIZE = 50
MINE = "me"
"""In the form, who asks: the admin token has no address."""

routes = router()


def _caller(request: Request) -> Principal:
    who = asked_of(request.scope).principal
    assert who is not None  # the route declares what it needs
    return who


def _days(text: str) -> float | None:
    return float(text) if text in dict(AGES) else None


async def _tokens(
    request: Request, *, problem: str = "", made: dict[str, Any] | None = None, status: int = 200
) -> HTMLResponse:
    who, tokens = _caller(request), tokens_of(request)
    found = await tokens.list(who)
    context = {
        "tokens": [token for token in found if not token.only],
        "links": [token for token in found if token.only],
        "roles": ROLES[: ROLES.index(who.role) + 1],
        "ages": AGES,
        "everybodys": who.may("administer"),
        "problem": problem,
        "made": made,
    }
    return render(request, "tokens.html", context, status=status)


@routes.get("/tokens", dependencies=[needs("share")])
async def tokens_page(request: Request) -> HTMLResponse:
    """The tokens and links that are valid, and a form for the next."""
    return await _tokens(request)


@routes.post("/tokens", dependencies=[needs("share")])
async def create_token(request: Request) -> HTMLResponse:
    """Make a token and show it, this once: not after a redirect, for the address would have to name it."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    role, days = cast(Role, fields.get("role", "viewer")), _days(fields.get("days", ""))
    try:
        token, secret = await tokens_of(request).create(
            _caller(request), fields.get("name", ""), role=role, days=days
        )
    except PromptLabError as error:
        return await _tokens(request, problem=str(error), status=422)
    return await _tokens(request, made={"token": token, "secret": secret})


@routes.post("/tokens/revoke", dependencies=[needs("share")])
async def revoke_token(request: Request) -> Response:
    """End a token or a link."""
    fields = await fields_of(request)
    found = await tokens_of(request).revoke(_caller(request), fields.get("id", [""])[0][:100])
    if found is None:
        return go_to("/tokens", "It was revoked already, or has expired.", "problem")
    return go_to("/tokens", f"Revoked: {found.name}.")


@routes.post("/links", dependencies=[needs("share")])
async def create_link(request: Request) -> HTMLResponse:
    """Make a link to a run or a comparison and show it, this once."""
    fields = await fields_of(request)
    days = _days(fields.get("days", [""])[0]) or LINK_DAYS
    try:
        token, secret = await linked(
            request,
            lab_of(request),
            _caller(request),
            fields.get("run", [])[:10],
            fields.get("name", [""])[0],
            days,
        )
    except PromptLabError as error:
        return await _tokens(request, problem=str(error), status=422)
    return await _tokens(request, made={"token": token, "secret": link_address(request, secret)})


async def _people(request: Request, problem: str = "", status: int = 200) -> HTMLResponse:
    people = people_of(request)
    everybody = await people.everybody()
    leaver = next((p for p in everybody if p.email == request.query_params.get("remove")), None)
    context = {
        "leaver": leaver,
        "owns": [t for t in await tokens_of(request).of(leaver.principal.id) if not t.only] if leaver else [],
        "heirs": [p for p in everybody if p.principal.may("share") and p != leaver],
        "caller": _caller(request),
        "leaving": len(await leaving_of(request).begun()),
        "people": everybody,
        "roles": ROLES,
        "sign_in": request.app.state.auth.sign_in is not None,
        "mails": people.mails,
        "token_works": await people.admin_token_works(),
        "first_admin": people.first_admin,
        "problem": problem,
    }
    return render(request, "people.html", context, status=status)


@routes.get("/people", dependencies=[needs("administer")])
async def people_page(request: Request) -> HTMLResponse:
    """Show who may sign in, as what, and whether the admin token works."""
    return await _people(request)


@routes.post("/people", dependencies=[needs("administer")])
async def put_person(request: Request) -> Response:
    """Invite somebody, or change a role."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    try:
        person = await people_of(request).put(
            _caller(request),
            fields.get("email", ""),
            role=cast(Role, fields.get("role", "")),
            name=fields.get("name", ""),
        )
    except PromptLabError as error:
        return await _people(request, str(error), 422)
    return go_to("/people", f"{person.name} is {person.role} now.")


@routes.post("/people/remove", dependencies=[needs("administer")])
async def remove_person(request: Request) -> Response:
    """Delete somebody, end the sessions that are open, and do with their tokens and name as was chosen."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    email, to = fields.get("email", ""), fields.get("to", "")
    names: NamesGo = "anonymise" if "forget" in fields else "keep"
    labels: LabelsGo = "delete" if "labels" in fields else "keep"
    wish = Wish("hand_over" if to else "revoke", "" if to == MINE else to, names, labels)
    try:
        left = await deleted_person(request, _caller(request), email, wish)
    except PromptLabError as error:
        return go_to("/people", str(error), "problem")
    if left is None:
        return go_to("/people", "There is nobody of this address.", "problem")
    tokens = f" Tokens and links: {left.tokens}." if left.tokens else ""
    return go_to("/people", f"Deleted.{tokens} The audit calls them {left.id.removeprefix('person:')}.")


@routes.post("/people/go-on", dependencies=[needs("administer")])
async def go_on_deleting(request: Request) -> Response:
    """Go on taking the names of deleted people out of the audit."""
    leaving, until = leaving_of(request), time.monotonic() + WORK_S
    for deletion in await leaving.begun():
        if not (await leaving.go_on(deletion, within_s=until - time.monotonic())).is_done:
            return go_to("/people", "It takes longer: go on once more.", "problem")
    return go_to("/people", "Done: no record has their name any more.")


@routes.post("/people/admin-token", dependencies=[needs("administer")])
async def switch_admin_token(request: Request) -> Response:
    """Switch the admin token on or off."""
    on = (await fields_of(request)).get("on", [""])[0] == "1"
    try:
        await people_of(request).switch_admin_token(on)
    except PromptLabError as error:
        return go_to("/people", str(error), "problem")
    return go_to("/people", f"The admin token is switched {'on' if on else 'off'}.")


@routes.get("/deletions", dependencies=[needs("administer")])
async def deletions_page(request: Request) -> HTMLResponse:
    """Show what was deleted in the last year, newest first, of the project that one is in."""
    people_of(request)  # on a laptop, `promptlab deletions` lists them
    query = Query.of("/deletions", request.query_params)
    problem, following, found = "", None, list[Deletion]()
    try:
        page, following = await lab_of(request).deletions(limit=SIZE, cursor=query.get("before") or None)
        found = list(page)
    except PromptLabError as error:
        problem = str(error)
    context = {
        "deletions": found,
        "following": query.url(before=following) if following else None,
        "first": query.url(before=None) if query.get("before") else None,
        "problem": problem,
        "caller": _caller(request),
    }
    return render(request, "deletions.html", context)


@routes.get("/audit", dependencies=[needs("administer")])
async def audit_page(request: Request) -> HTMLResponse:
    """Every change and every denied try, newest first, filtered by what the address says."""
    people_of(request)  # a laptop's Studio has no audit
    query = Query.of("/audit", request.query_params)
    names = ("who", "action", "address", "project", "outcome", "since", "until")
    values = {name: query.get(name).strip()[:200] for name in names}
    problem, following = "", None
    entries: list[Entry] = []
    try:
        entries, following = await audit_of(request).page(
            Chosen(**values), before=query.get("before") or None, limit=SIZE
        )
    except PromptLabError as error:
        problem = str(error)
    given = [(name, value) for name, value in values.items() if value]
    context = {
        "query": query,
        "entries": entries,
        "following": query.url(before=following) if following else None,
        "first": query.url(before=None) if query.get("before") else None,
        "given": given,
        "exports": [
            (form, f"/api/v1/audit/export?{urlencode([('format', form), *given])}")
            for form in ("csv", "jsonl")
        ],
        "outcomes": OUTCOMES,
        "problem": problem,
    }
    return render(request, "audit.html", context)
