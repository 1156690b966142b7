"""Rules that every request and every response must keep to, whichever route they belong to."""

from __future__ import annotations

import logging
import re
import secrets
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptlab.adapters.http.problems import URN
from promptlab.domain.masking import traceback_of
from promptlab_studio.problems import problem

MAX_BODY_BYTES = 4 << 20
"""What Lambda takes in 6 MB, where a body travels as base64, or with each quote of it escaped: 4.1 MB of tiny
rows are 5.9 MB. Larger datasets are uploaded."""
MAX_UPLOAD_BYTES = 5_000_000_000
"""S3 takes 5 GiB in one PUT; the file and the rows made of it have to fit into the 10 GiB of a function."""
UPLOADS = "/api/v1/datasets/uploads/"
MAX_LOGIN_BYTES = 4 << 10
"""Nobody is known yet who sends a login."""
LOGIN = "/session"
MAX_ADDRESS_BYTES = 8 << 10
"""A page has some hundred links, and each repeats what the address filters by: 60 KB became 30 MB, 16 KB more
than the 4 MB of an answer. API Gateway takes 10 KB."""
MAX_FORM_ADDRESS_BYTES = 60_000
"""The same for /new: all that the form of a run holds is in its address, schemas too. h11 reads 64 KB."""
MAX_PARAMETERS = 1_000
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# As esbuild and most others name files after their content: app-K3ZQ7A2B.js, app.9f86d081.css.
_HASHED = re.compile(r"[.-](?:[0-9a-f]{8,64}|[A-Z0-9]{8})\.\w+$")

logger = logging.getLogger(__name__)


def content_security_policy(upload_origin: str | None = None) -> str:
    """Build the policy of what a page may load: this origin's files, and from the bucket's origin pictures
    that are longer than an answer of Lambda; files are uploaded to there."""
    ours = f"'self' {upload_origin}" if upload_origin else "'self'"
    return (
        f"default-src 'self'; img-src {ours} data:; connect-src {ours}; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class SecurityHeaders:
    """Adds the headers that every response carries."""

    def __init__(self, app: ASGIApp, *, upload_origin: str | None = None) -> None:
        self._app = app
        self._fixed = {
            "Content-Security-Policy": content_security_policy(upload_origin),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._fixed.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
                headers.setdefault("Cache-Control", _cache_control(scope["path"], message["status"]))
            await send(message)

        await self._app(scope, receive, with_headers)


def _cache_control(path: str, status: int) -> str:
    if not path.startswith("/static/") or status >= 400:
        return "no-store"
    return "public, max-age=31536000, immutable" if _HASHED.search(path) else "no-cache"


class Faults:
    """Turns what nobody expected into a 500 that names an incident; the log has the rest under that name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if begun:  # half a response is out: only a broken connection tells the client so
                raise
            incident = secrets.token_hex(6)
            logger.error(
                "incident %s at %s %s\n%s", incident, scope["method"], scope["path"], traceback_of(error)
            )
            detail = f"Something went wrong here. The log has it as incident {incident}."
            answer = problem(
                Request(scope), 500, detail, type=f"{URN}internal-error", members={"incident": incident}
            )
            await answer(scope, receive, send)


class RequestChecks:
    """Refuses requests that other sites make a browser send, and bodies and addresses that are too long.

    Args:
        app: what is behind.
        loopback_only: nobody logs in, so only this machine may ask, and under a name of its own: a
            foreign name that resolves to 127.0.0.1 is another site's page (DNS rebinding).
        cookies: the names of session cookies.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool, cookies: tuple[str, ...]) -> None:
        self._app, self._loopback_only, self._cookies = app, loopback_only, cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, limit = Request(scope), _limit(scope["path"])
        refused = self._refusal(request, limit)
        if refused:
            status, detail = refused
            await problem(request, status, detail)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, limit), send)

    def _refusal(self, request: Request, limit: int) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if self._loopback_only and _name(host) not in LOOPBACK:
            return (
                403,
                f"This Studio answers this machine only, as localhost or 127.0.0.1, not as {host!r}.",
            )
        if request.method not in _SAFE and not _is_own(
            request.headers, bool(request.cookies.keys() & set(self._cookies))
        ):
            return (
                403,
                "This request comes from another site, or from a browser too old to say where it comes from.",
            )
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > limit:
            return 413, _too_long(limit)
        return _long_address(request)


def _limit(path: str) -> int:
    """Bytes of a body."""
    if path.startswith(UPLOADS):
        return MAX_UPLOAD_BYTES
    return MAX_LOGIN_BYTES if path == LOGIN else MAX_BODY_BYTES


def _long_address(request: Request) -> tuple[int, str] | None:
    query: bytes = request.scope["query_string"]
    size = len(request.scope.get("raw_path") or request.scope["path"].encode()) + len(query)
    most = MAX_FORM_ADDRESS_BYTES if request.scope["path"] == "/new" else MAX_ADDRESS_BYTES
    if size > most:
        return 414, f"The address has {size:,} bytes; it may have {most:,}."
    if (count := query.count(b"&") + 1) > MAX_PARAMETERS:
        return 414, f"The address has {count:,} parameters; it may have {MAX_PARAMETERS:,}."
    return None


def _name(host: str) -> str:
    """A Host header without its port."""
    return re.sub(r":\d*$", "", host).lower()


def _is_own(headers: Headers, has_session: bool) -> bool:
    """Whether an unsafe request is the user's own doing and not another site's."""
    if headers.get("authorization", "").lower().startswith("bearer "):
        return True  # no other site can make a browser send it
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is not None:
        with suppress(ValueError):  # http://[ is no address
            return urlsplit(origin).netloc == headers.get("host")
        return False
    return not has_session  # a program; it has no session that somebody could ride on


def _bounded(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, _too_long(limit))
        return message

    return bounded


def _too_long(limit: int) -> str:
    said = f"The body is longer than {limit:,} bytes."
    if limit < MAX_BODY_BYTES:
        return said
    return f"{said} Upload a large dataset: POST /api/v1/datasets/uploads says where to."
