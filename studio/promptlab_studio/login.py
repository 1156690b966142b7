"""The pages of authentication: the login form, the printed address of a laptop, links, logout."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from promptlab.errors import AuthenticationError, ForbiddenError, TooManyTriesError
from promptlab_studio.access import ANYBODY, Viewer, WholeLab, becomes
from promptlab_studio.auth import Auth, LaptopAuth
from promptlab_studio.forms import fields_of
from promptlab_studio.oidc import SIGN_IN_S
from promptlab_studio.problems import page
from promptlab_studio.sessions import Opener

_MOST_PATH = 2_000
"""Bytes of the address that a login goes on to: a login's whole body has 4 KB."""
_OWN_PAGES = ("/login", "/logout", "/session", "/shared", "/sign-in")

router = APIRouter(include_in_schema=False)


@router.get("/login", dependencies=[ANYBODY])
async def login_form(request: Request) -> Response:
    """The form that takes the token."""
    auth: Auth | None = request.app.state.auth
    if auth is None:
        return RedirectResponse("/", status_code=303)
    left = None
    if auth.sign_in is not None and request.query_params.get("left") == "1":
        # Not by itself: the page that a form leads to must be this Studio's (CSP).
        left = await auth.sign_in.end_session_url(f"{str(request.base_url).rstrip('/')}/login")
    return _form(request, local_path(request.query_params.get("next", "")), left=left)


@router.get("/open", dependencies=[ANYBODY])
async def open_printed(request: Request, lab: WholeLab) -> Response:
    """Open a session with the code in the printed address, and go on without it."""
    auth: Auth | None = request.app.state.auth
    if not isinstance(auth, LaptopAuth):
        return RedirectResponse("/login", status_code=303)
    response = RedirectResponse("/", status_code=303)
    records = auth.records(lab)
    if auth.take(request.query_params.get("code", "")[:200]):
        await auth.sessions.open(request, response, records, Opener("local", ""))
        return response
    try:
        await auth.principal(request, records)
    except AuthenticationError:
        return _form(request, "/", "This address was used already, or is not of this Studio.", status=403)
    return response


# Not /login: there the local AWS of `make cloud` answers itself, as Cognito does.
@router.post("/session", dependencies=[ANYBODY])
async def login(request: Request, lab: WholeLab) -> Response:
    """Open a session and go on to where the user wanted to."""
    auth: Auth | None = request.app.state.auth
    fields = await fields_of(request)
    path, token = local_path(fields.get("next", [""])[0]), fields.get("token", [""])[0]
    if auth is None:
        return RedirectResponse(path, status_code=303)
    records = auth.records(lab)
    try:
        who, opener = await auth.verified(request, records, token)
    except TooManyTriesError as error:
        return _form(request, path, str(error), status=429, retry_after=error.wait_s)
    except AuthenticationError:
        return _form(request, path, "This token is not valid.", status=401)
    becomes(request, who)
    response = RedirectResponse(path, status_code=303)
    await auth.sessions.open(request, response, records, opener)
    return response


@router.get("/shared", dependencies=[ANYBODY])
async def open_link(request: Request, lab: WholeLab) -> Response:
    """Open a session with a link, for what it opens, and go on without the link's secret.

    Who has a session that sees it already keeps that.
    """
    auth: Auth | None = request.app.state.auth
    if auth is None or auth.local:
        return RedirectResponse("/", status_code=303)
    records = auth.records(lab)
    try:
        who, opener = await auth.verified(request, records, request.query_params.get("key", ""), link=True)
    except TooManyTriesError as error:
        return _form(request, "/", str(error), status=429, retry_after=error.wait_s)
    except AuthenticationError as error:
        return _form(request, "/", f"{error} Ask for a new one, or log in.", status=403)
    becomes(request, who)
    response = RedirectResponse(_place_of(who.only), status_code=303)
    try:
        mine = await auth.principal(request, records)
    except AuthenticationError:
        mine = None
    if mine is None or (mine.only and mine.only != who.only):
        token = await auth.tokens(records).find(opener.ref)
        if token is None:
            raise ForbiddenError("This link was revoked.")
        until = datetime.fromisoformat(token.expires_at).timestamp() if token.expires_at else None
        await auth.sessions.open(request, response, records, opener, until=until)
    return response


def _sign_in_cookie(request: Request) -> tuple[str, bool]:
    secure = request.url.scheme == "https"
    return ("__Host-promptlab-sign-in" if secure else "promptlab-sign-in"), secure


@router.get("/sign-in", dependencies=[ANYBODY])
async def begin_sign_in(request: Request, lab: WholeLab) -> Response:
    """Send the browser to the provider of accounts."""
    auth: Auth | None = request.app.state.auth
    if auth is None or auth.sign_in is None:
        return RedirectResponse("/login", status_code=303)
    address, browser = await auth.sign_in.begin(
        auth.records(lab),
        back=f"{str(request.base_url).rstrip('/')}/sign-in/back",
        path=local_path(request.query_params.get("next", "")),
    )
    response = RedirectResponse(address, status_code=303)
    name, secure = _sign_in_cookie(request)
    response.set_cookie(
        name, browser, max_age=int(SIGN_IN_S), path="/", secure=secure, httponly=True, samesite="lax"
    )
    return response


@router.get("/sign-in/back", dependencies=[ANYBODY])
async def finish_sign_in(request: Request, lab: WholeLab) -> Response:
    """Open a session for the person who the provider says is here, if an admin has invited them."""
    auth: Auth | None = request.app.state.auth
    if auth is None or auth.sign_in is None:
        return RedirectResponse("/login", status_code=303)
    records, (cookie, secure) = auth.records(lab), _sign_in_cookie(request)
    try:
        account, path = await auth.sign_in.finish(
            records, dict(request.query_params), request.cookies.get(cookie, "")
        )
    except AuthenticationError as error:
        return _form(request, "/", str(error), status=401)
    person = await auth.people(records).signed_in(account.email, account.subject, account.name)
    if person is None:
        said = f"{account.email} is not invited to this lab. Ask an admin of it."
        return _form(request, "/", said, status=403)
    becomes(request, person.principal)
    response = RedirectResponse(local_path(path), status_code=303)
    response.delete_cookie(cookie, path="/", secure=secure, httponly=True, samesite="lax")
    await auth.sessions.open(request, response, records, Opener("person", person.session_ref))
    return response


def _place_of(runs: tuple[str, ...]) -> str:
    if len(runs) == 1:
        return f"/runs/{quote(runs[0], safe='')}"
    return "/compare?" + urlencode([("run", run) for run in runs])


@router.post("/logout")
async def logout(request: Request, lab: WholeLab, who: Viewer) -> Response:
    """End the session."""
    auth: Auth | None = request.app.state.auth
    place = "/" if auth is None else "/login?left=1" if auth.sign_in else "/login"
    response = RedirectResponse(place, status_code=303)
    if auth:
        await auth.sessions.close(request, response, auth.records(lab))
    return response


def _form(
    request: Request,
    path: str,
    error: str | None = None,
    *,
    status: int = 200,
    retry_after: int | None = None,
    left: str | None = None,
) -> HTMLResponse:
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return page(
        request, "login.html", {"next": path, "error": error, "left": left}, status=status, headers=headers
    )


def local_path(path: str) -> str:
    """The path, where it is one of this Studio's pages; else the first page."""
    # `//host` and `/\host` are other sites for a browser, which also drops tabs and line ends.
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    local = local and len(quote(path, safe="")) <= _MOST_PATH
    return path if local and not path.startswith(_OWN_PAGES) else "/"
