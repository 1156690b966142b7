"""Authentication: who sent a request. What each may do, `access.py` says.

On a laptop the address that is printed opens a session, once: other users of the machine reach its port, too.
In the cloud there is one admin token, given as a bearer header or typed into the login form, which opens a
session: a record in the store, named by a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from promptlab.errors import AuthenticationError, ConfigError
from promptlab.ports import Records
from promptlab.store_lab import StoreLab
from promptlab_studio.access import ADMIN, ANYBODY, LOCAL, Principal, TheLab, Viewer
from promptlab_studio.forms import fields_of
from promptlab_studio.problems import page

SESSION, LOGIN = "SESSION", "LOGIN"
"""Kinds of records: a session by the SHA-256 of its cookie, failed logins by the client's address."""
SECURE_COOKIE, PLAIN_COOKIE = "__Host-promptlab", "promptlab"
SESSION_S = 12 * 3600
TRIES, PAUSE_S = 5, 300.0
"""After so many wrong tokens from one address, it may try again after so many seconds."""
_MIN_TOKEN = 16
TOKEN = "PROMPTLAB_STUDIO_TOKEN"
"""The environment variable with the token of a laptop's Studio, for programs."""
_MOST_PATH = 8_000
"""Characters of the address that a login goes on to."""

router = APIRouter(include_in_schema=False)


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

    local: ClassVar[bool] = False
    """The Studio serves one machine only."""
    _how: ClassVar[str] = "`promptlab cloud token` prints the one that is valid."
    cookie: str = PLAIN_COOKIE
    """The session's cookie over plain http."""

    def __init__(self, token: str, *, secure: bool = True, session_s: float = SESSION_S) -> None:
        if len(token) < _MIN_TOKEN:
            raise ConfigError(
                f"The Studio's token has {len(token)} characters: at least {_MIN_TOKEN} are needed, as "
                "secrets.token_urlsafe() makes them."
            )
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self.secure, self.session_s = secure, session_s

    def records(self, lab: StoreLab) -> Records:
        """Where sessions and failed logins are kept."""
        return lab.records

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
            raise AuthenticationError(f"This token is not valid here. {self._how}")
        session = await self._session(request, records)
        if session is None:
            raise AuthenticationError(
                f"This needs a token: send it as the header `Authorization: Bearer …`. {self._how}"
            )
        return session

    async def _session(self, request: Request, records: Records) -> Principal | None:
        cookie = request.cookies.get(self._cookie(request)[0])
        record = await records.get_record(SESSION, _sha(cookie)) if cookie else None
        # A session ends with the token that opened it.
        if record is None or record["token"] != self._digest:
            return None
        return Principal(record["id"], record["name"], record["role"], record["project"])

    def _cookie(self, request: Request) -> tuple[str, bool]:
        """The cookie's name, and whether it is `Secure`, as every name with this prefix must be."""
        secure = self.secure or request.url.scheme == "https"
        return (SECURE_COOKIE if secure else self.cookie), secure

    async def open_session(
        self, request: Request, response: Response, records: Records, who: Principal = ADMIN
    ) -> None:
        """Give the response the cookie of a new session."""
        value, (name, secure) = secrets.token_urlsafe(32), self._cookie(request)
        await records.put_record(
            SESSION,
            _sha(value),
            {"id": who.id, "name": who.name, "role": who.role, "project": who.project, "token": self._digest},
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


class LaptopAuth(Auth):
    """The login of a Studio on a laptop: the printed address holds a code that opens one session.

    Sessions live in this process, not in the store: they end with it, and whoever copies the store has none.

    Args:
        port: where the Studio listens; browsers send cookies to every port of a host.
        token: what programs send as bearer, and the login form takes; default: a random one that nobody
        knows. on_opened: called with the next code when one was used.
    """

    local = True
    _how = (
        f"In a browser, open the address that the Studio printed when it began. For programs, set {TOKEN} "
        "(16 characters or more) where it is started, and send that."
    )

    def __init__(
        self, port: int, *, token: str | None = None, on_opened: Callable[[str], None] = lambda code: None
    ) -> None:
        super().__init__(token or secrets.token_urlsafe(32), secure=False)
        self.cookie = f"{PLAIN_COOKIE}-{port}"
        self._records, self._code, self._on_opened = MemoryRecords(), secrets.token_urlsafe(32), on_opened

    @property
    def code(self) -> str:
        """The code that opens the next session."""
        return self._code

    def records(self, lab: StoreLab) -> Records:
        return self._records

    def take(self, code: str) -> bool:
        """Whether a code opens a session; it does so once."""
        if not hmac.compare_digest(_sha(code), _sha(self._code)):
            return False
        self._code = secrets.token_urlsafe(32)
        self._on_opened(self._code)
        return True


class MemoryRecords:
    """The Records of one process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[dict[str, Any], float]] = {}

    async def put_record(
        self,
        kind: str,
        key: str,
        value: Mapping[str, Any],
        *,
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        now = time.time()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}
        if only_if_absent and (kind, key) in self._kept:
            return False
        self._kept[kind, key] = dict(value), math.inf if expires_at is None else expires_at
        return True

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        value, expires_at = self._kept.get((kind, key), (None, 0.0))
        return value if expires_at > time.time() else None

    async def delete_record(self, kind: str, key: str) -> None:
        self._kept.pop((kind, key), None)

    async def list_records(
        self, kind: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        now = time.time()
        kept = sorted((k, v) for (of, k), (v, until) in self._kept.items() if of == kind and until > now)
        return [(k, v) for k, v in kept if k > after][:limit]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@router.get("/login", dependencies=[ANYBODY])
async def login_form(request: Request) -> Response:
    """The form that takes the token."""
    if request.app.state.auth is None:
        return RedirectResponse("/", status_code=303)
    return _form(request, _local_path(request.query_params.get("next", "")))


@router.get("/open", dependencies=[ANYBODY])
async def open_printed(request: Request, lab: TheLab) -> Response:
    """Open a session with the code in the printed address, and go on without it."""
    auth: Auth | None = request.app.state.auth
    if not isinstance(auth, LaptopAuth):
        return RedirectResponse("/login", status_code=303)
    response = RedirectResponse("/", status_code=303)
    if auth.take(request.query_params.get("code", "")[:200]):
        await auth.open_session(request, response, auth.records(lab), LOCAL)
        return response
    try:
        await auth.principal(request, auth.records(lab))
    except AuthenticationError:
        return _form(request, "/", "This address was used already, or is not of this Studio.", status=403)
    return response


# Not /login: there the local AWS of `make cloud` answers itself, as Cognito does.
@router.post("/session", dependencies=[ANYBODY])
async def login(request: Request, lab: TheLab) -> Response:
    """Open a session and go on to where the user wanted to."""
    auth: Auth | None = request.app.state.auth
    fields = await fields_of(request)
    path, token = _local_path(fields.get("next", [""])[0]), fields.get("token", [""])[0].strip()
    if auth is None:
        return RedirectResponse(path, status_code=303)
    address = request.client.host if request.client else "unknown"
    records = auth.records(lab)
    failed = await records.get_record(LOGIN, address) or {"failures": 0, "until": 0.0}
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
        await records.put_record(
            LOGIN, address, {"failures": failed["failures"] + 1, "until": until}, expires_at=until
        )
        return _form(request, path, "This token is not valid.", status=401)
    await records.delete_record(LOGIN, address)
    response = RedirectResponse(path, status_code=303)
    await auth.open_session(request, response, records)
    return response


@router.post("/logout")
async def logout(request: Request, lab: TheLab, who: Viewer) -> Response:
    """End the session."""
    auth: Auth | None = request.app.state.auth
    response = RedirectResponse("/login" if auth else "/", status_code=303)
    if auth:
        await auth.close_session(request, response, auth.records(lab))
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
    local = local and len(path) <= _MOST_PATH
    return path if local and not path.startswith(("/login", "/logout", "/session")) else "/"
