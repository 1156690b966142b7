"""Sessions: what a browser is known by after a login. A record on the server, named by a cookie."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from starlette.responses import Response

from promptlab.ports import Records
from promptlab_studio.admin_token import sha

SESSION, SEEN = "SESSION", "SESSION_SEEN"
"""Kinds of records: a session by the SHA-256 of its cookie, and that it was used not long ago. Apart, so that
nothing that notes a use can bring back a session that was ended meanwhile."""
SECURE_COOKIE, PLAIN_COOKIE = "__Host-promptlab", "promptlab"
SESSION_S, IDLE_S = 12 * 3600.0, 2 * 3600.0
"""A session ends so long after the login, and so long after its last request."""
NOTED_S = 300.0
"""Its last request is known to so many seconds."""

By = Literal["admin", "token", "person", "local"]


@dataclass(frozen=True, slots=True)
class Opener:
    """What a session was opened with, and lives as long as."""

    by: By
    ref: str
    """The hash of the admin token or of a token; of a person the e-mail address, and when they were
    invited."""


class Sessions:
    """The sessions of a Studio.

    Args:
        cookie: the cookie's name over plain http.
        secure: the Studio is served over https only.
        session_s: seconds after which a session ends.
        idle_s: seconds without a request after which it ends; None: it does not.
    """

    def __init__(self, *, cookie: str, secure: bool, session_s: float, idle_s: float | None) -> None:
        self._plain, self._secure, self._session_s, self._idle_s = cookie, secure, session_s, idle_s

    def _cookie(self, request: Request) -> tuple[str, bool]:
        """The cookie's name, and whether it is `Secure`, as every name with this prefix must be."""
        secure = self._secure or request.url.scheme == "https"
        return (SECURE_COOKIE if secure else self._plain), secure

    async def opener(self, request: Request, records: Records) -> Opener | None:
        """Return what the request's session was opened with; None where it has none that is valid."""
        cookie = request.cookies.get(self._cookie(request)[0])
        if not cookie:
            return None
        name = sha(cookie)
        session, seen = await asyncio.gather(
            records.get_record(SESSION, name), records.get_record(SEEN, name)
        )
        if session is None or (self._idle_s is not None and seen is None):
            return None
        if seen is not None and time.time() - seen["at"] > NOTED_S:
            await self._note(records, name)
        return Opener(session["by"], session["ref"])

    async def open(
        self,
        request: Request,
        response: Response,
        records: Records,
        opener: Opener,
        *,
        until: float | None = None,
    ) -> None:
        """Give the response the cookie of a new session, and end the one that the request came with.

        Args:
            request: the login.
            response: the answer to it.
            records: where sessions are kept.
            opener: what the session lives as long as.
            until: when it ends at the latest, in seconds since 1970.
        """
        await self._end(request, records)
        value, (name, secure) = secrets.token_urlsafe(32), self._cookie(request)
        now = time.time()
        ends = now + self._session_s if until is None else min(until, now + self._session_s)
        record: dict[str, Any] = {"by": opener.by, "ref": opener.ref}
        await self._note(records, sha(value))
        await records.put_record(SESSION, sha(value), record, expires_at=ends)
        response.set_cookie(
            name,
            value,
            max_age=int(ends - now),
            path="/",
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    async def _note(self, records: Records, name: str) -> None:
        if self._idle_s is not None:
            now = time.time()
            await records.put_record(SEEN, name, {"at": now}, expires_at=now + self._idle_s)

    async def close(self, request: Request, response: Response, records: Records) -> None:
        """End the request's session, if it has one."""
        name, secure = self._cookie(request)
        await self._end(request, records)
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")

    async def _end(self, request: Request, records: Records) -> None:
        if cookie := request.cookies.get(self._cookie(request)[0]):
            await records.delete_record(SESSION, sha(cookie))
            await records.delete_record(SEEN, sha(cookie))
