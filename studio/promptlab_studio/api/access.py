"""Tokens, links, people, the audit, and who one is oneself. A laptop's Studio has none of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from promptlab_studio.access import (
    ACTIONS,
    Admin,
    Principal,
    TheLab,
    Viewer,
    asked_of,
    is_hosted,
    needs,
    records_of,
    whole_lab,
)
from promptlab_studio.api.access_shapes import (
    MOST_RUNS,
    AuditPage,
    LinkIn,
    MeOut,
    NewLinkOut,
    NewTokenOut,
    PeoplePage,
    PersonIn,
    PersonOut,
    SwitchIn,
    SwitchOut,
    TokenIn,
    TokenPage,
)
from promptlab_studio.api.bodies import Exact
from promptlab_studio.audit import OUTCOMES, Chosen, audit_of
from promptlab_studio.audit_export import exported
from promptlab_studio.leaving import LabelsGo, Leaving, Left, NamesGo, TokensGo, Wish
from promptlab_studio.people import People, Person
from promptlab_studio.tokens import Token, Tokens

router = APIRouter(tags=["access"], route_class=Exact)
Sharer = Annotated[Principal, needs("share")]


def tokens_of(request: Request) -> Tokens:
    """The tokens of a hosted Studio.

    Raises:
        HTTPException: it is a laptop's.
    """
    found: Tokens = _hosted(request).tokens(records_of(request))
    return found


def people_of(request: Request) -> People:
    """The people of a hosted Studio.

    Raises:
        HTTPException: it is a laptop's.
    """
    found: People = _hosted(request).people(records_of(request))
    return found


def _hosted(request: Request) -> Any:
    if not is_hosted(request):
        raise HTTPException(404, "A laptop's Studio has no accounts, tokens or audit: a hosted one has.")
    return request.app.state.auth


@router.get("/me", summary="Who you are", response_model=MeOut)
async def get_me(who: Viewer) -> Any:
    """The caller, and what the role allows."""
    mine = [action for action in ACTIONS if who.may(action)]
    return {"id": who.id, "name": who.name, "role": who.role, "project": who.project, "may": mine}


@router.get("/tokens", summary="List tokens and links", response_model=TokenPage)
async def list_tokens(request: Request, who: Sharer) -> Any:
    """Those that are valid: your own, or everybody's for an admin."""
    return {"items": [asdict(token) for token in await tokens_of(request).list(who)]}


@router.post("/tokens", status_code=201, summary="Make a token", response_model=NewTokenOut)
async def create_token(request: Request, who: Sharer, body: TokenIn) -> Any:
    """Of at most your own role. It is shown this once; what is kept is its hash."""
    made, secret = await tokens_of(request).create(
        who, body.name, role=body.role, days=body.expires_in_days, project=body.project
    )
    return {**asdict(made), "token": secret}


@router.delete(
    "/tokens/{token_id}", status_code=204, summary="Revoke a token or link", response_class=Response
)
async def revoke_token(
    request: Request,
    who: Sharer,
    token_id: Annotated[str, Path(max_length=100, description="Its id.")],
) -> Response:
    """At once, with every session that it opened."""
    if await tokens_of(request).revoke(who, token_id) is None:
        raise HTTPException(404, "There is no token of this id, or it is somebody else's.")
    return Response(status_code=204)


@router.post("/links", status_code=201, summary="Make a read-only link", response_model=NewLinkOut)
async def create_link(request: Request, lab: TheLab, who: Sharer, body: LinkIn) -> Any:
    """Whoever has it sees the run, or the comparison and its runs, and nothing else."""
    made, secret = await linked(request, lab, who, body.runs, body.name, body.expires_in_days)
    return {**asdict(made), "url": link_address(request, secret)}


async def linked(
    request: Request, lab: TheLab, who: Principal, runs: Sequence[str], name: str, days: float
) -> tuple[Token, str]:
    """Make a link to runs that there are."""
    wanted = list(dict.fromkeys(runs))
    if len(wanted) > MOST_RUNS:
        raise HTTPException(422, f"A link opens a run, or a comparison of up to {MOST_RUNS}.")
    names = [(await lab.get_run(run)).name for run in wanted]
    called = name.strip() or " and ".join(dict.fromkeys(names))[:100]
    return await tokens_of(request).create(who, called, role="viewer", days=days, only=wanted)


def link_address(request: Request, secret: str) -> str:
    """The address that a link is."""
    return f"{str(request.base_url).rstrip('/')}/shared?key={quote(secret)}"


@router.get("/people", summary="List people", response_model=PeoplePage)
async def list_people(request: Request, who: Admin) -> Any:
    """Who may sign in with an account, and as what."""
    begun = await leaving_of(request).begun()
    return {
        "items": [asdict(person) for person in await people_of(request).everybody()],
        "leaving": len(begun),
    }


Email = Annotated[str, Path(max_length=254, description="The e-mail address that somebody signs in with.")]


@router.put("/people/{email}", summary="Invite or change somebody", response_model=PersonOut)
async def put_person(request: Request, who: Admin, email: Email, body: PersonIn) -> Any:
    """From then on, in sessions that are open, too."""
    return asdict(await _put(request, who, email, body))


async def _put(request: Request, who: Principal, email: str, body: PersonIn) -> Person:
    return await people_of(request).put(who, email, role=body.role, name=body.name, project=body.project)


@router.delete(
    "/people/{email}",
    status_code=204,
    summary="Delete somebody",
    response_class=Response,
    responses={202: {"description": "They are out; the same call goes on taking their name out of records."}},
)
async def delete_person(
    request: Request,
    who: Admin,
    email: Email,
    tokens: Annotated[
        TokensGo, Query(description="Whether their tokens end, or are another's from now on. Links end.")
    ] = "revoke",
    to: Annotated[
        str, Query(max_length=254, description="With hand_over, the address of who gets them: default: you.")
    ] = "",
    names: Annotated[
        NamesGo,
        Query(description="What the audit and records of deletions say: their name, or one without meaning."),
    ] = "anonymise",
    labels: Annotated[
        LabelsGo, Query(description="Whether their labels on cases stay, or are deleted in all projects.")
    ] = "keep",
) -> Response:
    """Their sessions end at once. Runs, prompts and datasets stay: they say of nobody who made them."""
    left = await deleted_person(request, who, email, Wish(tokens, to, names, labels))
    if left is None:
        raise HTTPException(404, "There is nobody of this address.")
    return Response(status_code=204 if left.is_done else 202)


def leaving_of(request: Request) -> Leaving:
    """What deletes people."""
    return Leaving(whole_lab(request), people_of(request), tokens_of(request), audit_of(request))


async def deleted_person(request: Request, who: Principal, email: str, wish: Wish) -> Left | None:
    """Delete somebody, and keep their name out of the audit of that, too."""
    left = await leaving_of(request).delete(who, email, wish)
    if left is not None and wish.names == "anonymise":
        asked, unnamed = asked_of(request.scope), left.id.removeprefix("person:")
        if "email" in request.path_params:
            asked.path = f"{request.url.path.rpartition('/')[0]}/{unnamed}"
        if who.id == f"person:{email.strip().lower()}":
            called = f"deleted person {unnamed.removeprefix('deleted-')}"
            asked.principal = replace(who, id=left.id, name=called)
    return left


@router.get("/settings/admin-token", summary="Whether the admin token works", response_model=SwitchOut)
async def get_admin_token(request: Request, who: Admin) -> Any:
    """It opens the first hour; afterwards it can be switched off."""
    return {"on": await people_of(request).admin_token_works()}


@router.put("/settings/admin-token", summary="Switch the admin token on or off", response_model=SwitchOut)
async def switch_admin_token(request: Request, who: Admin, body: SwitchIn) -> Any:
    """With the sessions that it opened. Off is refused until an admin has signed in with an account."""
    await people_of(request).switch_admin_token(body.on)
    return {"on": body.on}


Who = Annotated[str, Query(max_length=200, description="A part of the name or id of who it was.")]
What = Annotated[str, Query(max_length=200, description="A part of method and path, as in DELETE or /runs.")]
From = Annotated[str, Query(max_length=200, description="The beginning of the address that it came from.")]
Of = Annotated[str, Query(max_length=100, description="The project that it was in.")]
Day = Annotated[str, Query(max_length=10, description="A day, as in 2026-11-23.")]
OutcomeIs = Annotated[
    str, Query(pattern=f"^({'|'.join(OUTCOMES)})?$", description=f"One of {', '.join(OUTCOMES)}.")
]


@router.get("/audit", summary="Read the audit", response_model=AuditPage)
async def read_audit(
    request: Request,
    admin: Admin,
    who: Who = "",
    action: What = "",
    address: From = "",
    project: Of = "",
    outcome: OutcomeIs = "",
    since: Day = "",
    until: Day = "",
    limit: Annotated[int, Query(ge=1, le=500, description="Entries at most.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=100, description="Where the page before ended: its next_cursor.")
    ] = None,
) -> Any:
    """Every change and every denied try of the last year. With a filter a page looks at 5,000 entries at
    most: it may have fewer than `limit`, and a next one."""
    _hosted(request)
    chosen = Chosen(who, action, address, project, outcome, since, until)
    found, following = await audit_of(request).page(chosen, before=cursor, limit=limit)
    return {"items": [asdict(entry) for entry in found], "next_cursor": following}


@router.get(
    "/audit/export",
    summary="Download the audit",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}, "application/x-ndjson": {}}}},
)
async def export_audit(
    request: Request,
    admin: Admin,
    format: Annotated[Literal["csv", "jsonl"], Query(description="The file's format.")] = "csv",
    who: Who = "",
    action: What = "",
    address: From = "",
    project: Of = "",
    outcome: OutcomeIs = "",
    since: Day = "",
    until: Day = "",
) -> Response:
    """The newest 10,000 entries that match; `X-Next-Cursor` says that there are more: choose fewer days."""
    _hosted(request)
    chosen = Chosen(who, action, address, project, outcome, since, until)
    return await exported(audit_of(request), chosen, format)
