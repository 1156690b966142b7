"""Authentication: who sent a request. Every route declares `Viewer`; accounts and roles will be
known here and nowhere else.

On a laptop there is no login: only this machine can ask. In the cloud there is one admin token, given as a
bearer header or typed into the login form, which opens a session: a record in the store, named by a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from promptlab.errors import AuthenticationError, ConfigError
from promptlab.ports import Records
from promptlab.store_lab import StoreLab
from promptlab_studio.problems import page

SESSION, LOGIN = "SESSION", "LOGIN"
"""Kinds of records: a session by the SHA-256 of its cookie, failed logins by the client's address."""
SECURE_COOKIE, PLAIN_COOKIE = "__Host-promptlab", "promptlab"
SESSION_S = 12 * 3600
TRIES, PAUSE_S = 5, 300.0
"""After so many wrong tokens from one address, it may try again after so many seconds."""
_MIN_TOKEN = 16

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller."""

    name: str
    role: str = "admin"


LOCAL = Principal("local")
ADMIN = Principal("admin")


class Auth:
    """The one admin token.

    Args:
        token: the token itself; only its hash is kept.
        secure: the Studio is served over https only. False for plain http on a local AWS: then the cookie is
            `Secure` where the request came by https.
        session_s: seconds after which a session ends.

    Raises:
        ConfigError: the token is too short to keep anybody out.
    """

    def __init__(self, token: str, *, secure: bool = True, session_s: float = SESSION_S) -> None:
        if len(token) < _MIN_TOKEN:
            raise ConfigError(
                f"The Studio's token has {len(token)} characters: at least {_MIN_TOKEN} are needed, as "
                "secrets.token_urlsafe() makes them."
            )
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self.secure, self.session_s = secure, session_s

    def accepts(self, token: str) -> bool:
        """Whether it is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), self._digest)

    async def principal(self, request: Request, records: Records) -> Principal:
        """Return the sender of a request.

        Raises:
            AuthenticationError: it has neither the token nor a session.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() == "bearer" and self.accepts(token.strip()):
                return ADMIN
            raise AuthenticationError(
                "This token is not valid here. `promptlab cloud token` prints the one that is."
            )
        session = await self._session(request, records)
        if session is None:
            raise AuthenticationError(
                "This needs a token: send it as the header `Authorization: Bearer …`. `promptlab cloud "
                "token` prints it."
            )
        return session

    async def _session(self, request: Request, records: Records) -> Principal | None:
        cookie = request.cookies.get(self._cookie(request)[0])
        record = await records.get_record(SESSION, _sha(cookie)) if cookie else None
        # A session ends with the token that opened it.
        if record is None or record["token"] != self._digest:
            return None
        return Principal(record["name"], record["role"])

    def _cookie(self, request: Request) -> tuple[str, bool]:
        """The cookie's name, and whether it is `Secure`, as every name with this prefix must be."""
        secure = self.secure or request.url.scheme == "https"
        return (SECURE_COOKIE if secure else PLAIN_COOKIE), secure

    async def open_session(
        self, request: Request, response: Response, records: Records, who: Principal = ADMIN
    ) -> None:
        """Give the response the cookie of a new session."""
        value, (name, secure) = secrets.token_urlsafe(32), self._cookie(request)
        await records.put_record(
            SESSION,
            _sha(value),
            {"name": who.name, "role": who.role, "token": self._digest},
            expires_at=time.time() + self.session_s,
        )
        response.set_cookie(
            name, value, max_age=int(self.session_s), path="/", secure=secure, httponly=True, samesite="lax"
        )

    async def close_session(self, request: Request, response: Response, records: Records) -> None:
        """End the request's session, if it has one."""
        name, secure = self._cookie(request)
        if cookie := request.cookies.get(name):
            await records.delete_record(SESSION, _sha(cookie))
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def lab_of(request: Request) -> StoreLab:
    """The lab that the app serves."""
    lab: StoreLab = request.app.state.lab
    return lab


async def principal(request: Request) -> Principal:
    """Return the caller of a request.

    Raises:
        AuthenticationError: nobody that is known.
    """
    auth: Auth | None = request.app.state.auth
    return LOCAL if auth is None else await auth.principal(request, lab_of(request).records)


async def _lab(request: Request) -> StoreLab:
    # As a coroutine: FastAPI calls functions in a thread, which cost each request more than its progress.
    return lab_of(request)


TheLab = Annotated[StoreLab, Depends(_lab)]
Viewer = Annotated[Principal, Depends(principal)]


@router.get("/login")
async def login_form(request: Request) -> Response:
    """The form that takes the token."""
    if request.app.state.auth is None:
        return RedirectResponse("/", status_code=303)
    return _form(request, _local_path(request.query_params.get("next", "")))


# Not /login: there the local AWS of `make cloud` answers itself, as Cognito does.
@router.post("/session")
async def login(request: Request, lab: TheLab) -> Response:
    """Open a session and go on to where the user wanted to."""
    auth: Auth | None = request.app.state.auth
    # Parsed here: the form parsers of the framework want one more package.
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    path, token = _local_path(fields.get("next", [""])[0]), fields.get("token", [""])[0].strip()
    if auth is None:
        return RedirectResponse(path, status_code=303)
    address = request.client.host if request.client else "unknown"
    failed = await lab.records.get_record(LOGIN, address) or {"failures": 0, "until": 0.0}
    if failed["failures"] >= TRIES:
        wait = max(1, round(failed["until"] - time.time()))
        return _form(
            request,
            path,
            f"Too many wrong tokens. Try again in {wait} seconds.",
            status=429,
            retry_after=wait,
        )
    if not auth.accepts(token):
        until = time.time() + PAUSE_S
        await lab.records.put_record(
            LOGIN, address, {"failures": failed["failures"] + 1, "until": until}, expires_at=until
        )
        return _form(request, path, "This token is not valid.", status=401)
    await lab.records.delete_record(LOGIN, address)
    response = RedirectResponse(path, status_code=303)
    await auth.open_session(request, response, lab.records)
    return response


@router.post("/logout")
async def logout(request: Request, lab: TheLab, who: Viewer) -> Response:
    """End the session."""
    auth: Auth | None = request.app.state.auth
    response = RedirectResponse("/login" if auth else "/", status_code=303)
    if auth:
        await auth.close_session(request, response, lab.records)
    return response


def _form(
    request: Request,
    path: str,
    error: str | None = None,
    *,
    status: int = 200,
    retry_after: int | None = None,
) -> HTMLResponse:
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return page(request, "login.html", {"next": path, "error": error}, status=status, headers=headers)


def _local_path(path: str) -> str:
    """The path, where it is one of this Studio's pages; else the first page."""
    # `//host` and `/\host` are other sites for a browser, which also drops tabs and line ends.
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if local and not path.startswith(("/login", "/logout", "/session")) else "/"
