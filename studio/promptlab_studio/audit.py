"""The audit: who did what, when, from where and with which outcome, for every change and every denied try.

Entries are kept for a year, in the ledger, by their time. A fault of the audit breaks no request, and is
logged with the entry. What is denied is counted by address: one can fill the audit with so much an hour, and
no more.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptlab.domain.masking import traceback_of
from promptlab.domain.records import made
from promptlab.errors import ConfigError
from promptlab.ports import Records
from promptlab_studio.access import Asked, asked_of, records_of
from promptlab_studio.tries import address_of

AUDIT, DENIED = "AUDIT", "AUDIT_DENIED"
"""Kinds of records: an entry by its time; a counter of denied tries by address."""
KEPT_DAYS = 366
WINDOW_S = 3600.0
MOST_DENIED, MOST_DENIED_IN_ALL = 60, 2_000
"""Denied tries that are recorded of one address, and of all, in WINDOW_S."""
AT_ONCE = 200
"""Entries of one question to the ledger."""
MOST_READ = 5_000
"""Entries that one page looks through, whatever it filters by."""
Outcome = Literal["done", "refused", "denied", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGINS = frozenset({"/session", "/logout", "/shared", "/open", "/sign-in/back"})
"""Where sessions begin and end."""
_PATH_CHARS, _AGENT_CHARS = 300, 160
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that somebody did or tried."""

    at: str
    """ISO 8601 with microseconds, UTC."""
    who: str
    """The principal's id; empty: nobody that is known."""
    name: str
    role: str
    project: str
    action: str
    """The method and the path."""
    outcome: Outcome
    status: int
    """The status of the answer."""
    address: str
    agent: str = ""
    made: str = ""
    """The address of what came of it."""


COLUMNS = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries: those that have all of it."""

    who: str = ""
    """A part of the principal's id or name."""
    action: str = ""
    """A part of the method and path."""
    address: str = ""
    """The beginning of the address."""
    project: str = ""
    outcome: str = ""
    since: str = ""
    """The first day, as in 2026-11-23."""
    until: str = ""
    """The last day."""

    def has(self, entry: Entry) -> bool:
        """Whether an entry is one of them; its time is not looked at."""
        return (
            self.who.casefold() in f"{entry.who} {entry.name}".casefold()
            and self.action.casefold() in entry.action.casefold()
            and entry.address.startswith(self.address)
            and self.project in ("", entry.project)
            and self.outcome in ("", entry.outcome)
        )


class Audit:
    """The audit of a lab."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._full: dict[str, float] = {}

    async def add(self, entry: Entry) -> None:
        """Record an entry; of those that are denied, as many as an hour has room for."""
        if entry.outcome == "denied" and not await self._has_room(entry):
            return
        await self._put(entry)

    async def _put(self, entry: Entry, key: str = "") -> None:
        ends = datetime.fromisoformat(entry.at).timestamp() + KEPT_DAYS * 86_400
        key = key or f"{entry.at}#{secrets.token_hex(4)}"
        await self._records.put_record(AUDIT, key, asdict(entry), expires_at=ends)

    async def rewrite(self, change: Callable[[Entry], Entry], *, after: str = "") -> str | None:
        """Change a few hundred entries behind a key, oldest first; return the key that the next are behind,
        or None after the last."""
        found = await self._records.list_records(AUDIT, after=after, limit=AT_ONCE)
        for key, record in found:
            entry = made(Entry, record)
            if (changed := change(entry)) != entry:
                await self._put(changed, key)
        return found[-1][0] if len(found) == AT_ONCE else None

    async def _has_room(self, entry: Entry) -> bool:
        for name, most in ((entry.address, MOST_DENIED), ("", MOST_DENIED_IN_ALL)):
            now = time.time()
            if self._full.get(name, 0.0) > now:
                return False
            count, until = await self._records.count_up(DENIED, name or "all", expires_at=now + WINDOW_S)
            if count > most:
                if len(self._full) > MOST_DENIED_IN_ALL:
                    self._full.clear()
                self._full[name] = until
                if count == most + 1:
                    more = f"further denied tries{' from here' if name else ''} of this hour are not recorded"
                    await self._put(Entry(**{**asdict(entry), "action": more}))
                return False
        return True

    async def page(
        self, chosen: Chosen, *, before: str | None = None, limit: int = 50
    ) -> tuple[list[Entry], str | None]:
        """Entries, newest first, and where the next page begins; None: there are no more.

        A page looks through MOST_READ entries: it may have fewer than `limit`, and a next one.

        Raises:
            ConfigError: a day is none, or `before` is no place where a page ended.
        """
        found: list[Entry] = []
        read, last = 0, None
        async for key, entry in self._newest(chosen, before):
            if len(found) == limit or read == MOST_READ:
                return found, last
            read, last = read + 1, key
            if chosen.has(entry):
                found.append(entry)
        return found, None

    async def _newest(self, chosen: Chosen, before: str | None) -> AsyncIterator[tuple[str, Entry]]:
        first, until = _day(chosen.since), _day(chosen.until)
        begins = _iso(first) if first else ""
        after = _iso(until + timedelta(days=1)) if until else ""
        if before:
            if len(before) > 100 or not _is_time(before[:27]):
                raise ConfigError(f"{before[:100]!r} is not where a page of the audit ended.")
            after = min(after or before, before)
        while found := await self._records.list_records(AUDIT, newest=True, after=after, limit=AT_ONCE):
            for key, record in found:
                if key < begins:
                    return
                yield key, made(Entry, record)
            after = found[-1][0]


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"{text[:40]!r} is not a day, as in 2026-11-23.") from None


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 27


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _outcome(status: int) -> Outcome:
    if status in (401, 403, 429):
        return "denied"
    return "done" if status < 400 else "failed" if status >= 500 else "refused"


def audit_of(request: Request) -> Audit:
    """The audit of the lab that the app serves."""
    state = request.app.state
    if not hasattr(state, "audit"):
        state.audit = Audit(records_of(request))
    found: Audit = state.audit
    return found


class Audited:
    """Records what its requests come to, before the answer is out: a function is frozen after it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self._app(scope, receive, send)
            return
        asked = asked_of(scope)

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._record(scope, asked, message)
            await send(message)

        await self._app(scope, receive, recording)

    async def _record(self, scope: Scope, asked: Asked, message: Message) -> None:
        request, status = Request(scope), message["status"]
        if not _is_of_interest(request, asked, status):
            return
        who, outcome = asked.principal, _outcome(status)
        place = Headers(raw=message["headers"]).get("location", "")
        entry = Entry(
            at=_iso(datetime.now(UTC)),
            who=who.id if who else "",
            name=who.name if who else "",
            role=who.role if who else "",
            project=who.project if who else "",
            action=f"{request.method} {asked.path or request.url.path}"[:_PATH_CHARS],
            outcome=outcome,
            status=status,
            address=address_of(request),
            agent=request.headers.get("user-agent", "")[:_AGENT_CHARS],
            made=place.partition("?")[0][:_PATH_CHARS] if outcome == "done" else "",
        )
        try:
            await audit_of(request).add(entry)
        except Exception as error:  # noqa: BLE001 - what happened has happened, and the log has it
            logger.error(
                "this entry of the audit could not be recorded: %s\n%s",
                orjson.dumps(asdict(entry)).decode(),
                traceback_of(error),
            )


def _is_of_interest(request: Request, asked: Asked, status: int) -> bool:
    if request.url.path in _LOGINS and (asked.principal is not None or status >= 400):
        return True
    if status in (401, 403, 429):
        return True
    changes = request.method not in _SAFE and asked.action not in (None, "look")
    return changes and asked.principal is not None
