"""Tokens for programs and people, and links that open one run or comparison: made, listed, revoked, found.

A token has 256 random bits and is shown once; what is kept is its SHA-256. Nothing of it is remembered
between requests: one that is revoked or has expired is dead at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from promptlab.domain.records import Swap, made
from promptlab.errors import ConfigError, ForbiddenError
from promptlab.ports import Records
from promptlab_studio.access import ROLES, Principal, Role
from promptlab_studio.admin_token import sha

TOKEN, USED, USED_LATELY = "TOKEN", "TOKEN_USED", "TOKEN_USED_LATELY"
"""Kinds of records: a token by its hash; when it was last used; that this was noted a minute ago at most."""
ROOT = "TOKEN_ROOT"
"""The kind that says of a token which was made with tokens who made the first of them. Apart: versions of
before, which may be deployed again, read no token with a field that they do not know."""
PREFIX = "pl_"
USED_S = 60.0
"""The last use of a token is written at most so often."""
MOST = 1_000
"""Tokens and links of a lab."""
MOST_DAYS = 730
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Token:
    """A token or a link, without what it is known by."""

    id: str
    """The beginning of its hash."""
    name: str
    role: Role
    project: str
    created_at: str
    created_by: str
    """The id of the principal who made it."""
    creator: str
    """Its name then."""
    expires_at: str | None = None
    only: tuple[str, ...] = ()
    """For a link: the ids of the runs that it opens."""
    last_used_at: str | None = None
    root: str = ""
    """Of a token that was made with tokens, the id of who made the first of them, where it was found by its
    hash."""

    @property
    def person(self) -> str | None:
        """The e-mail address of the person whom it is from; None: of nobody that has an account."""
        kind, _, email = (self.root or self.created_by).partition(":")
        return email if kind == "person" else None

    @property
    def principal(self) -> Principal:
        """The caller who sends it."""
        kind = "link" if self.only else "token"
        return Principal(f"{kind}:{self.id}", self.name, self.role, self.project, self.only)


def _token(digest: str, record: dict[str, Any], used: dict[str, Any] | None = None) -> Token:
    fields = {**record, "only": tuple(record.get("only", ()))}
    return made(Token, {**fields, "id": digest[:16], "last_used_at": (used or {}).get("at")})


Kept = Sequence[tuple[str, dict[str, Any]]]
"""Records of tokens, each with its hash."""


def _made_with(found: Kept, makers: set[str]) -> Kept:
    """The tokens and links that principals made, and those that were made with these, and so on."""
    left, makers, family = dict(found), {*makers}, list[tuple[str, dict[str, Any]]]()
    while new := [digest for digest, record in left.items() if record["created_by"] in makers]:
        family += ((digest, left.pop(digest)) for digest in new)
        makers |= {f"token:{digest[:16]}" for digest in new}
    return family


def within(token: Principal, maker: Principal) -> Principal | None:
    """Return what a token may do whose maker is a person: no more than they may now; None: nothing."""
    if token.project != maker.project and not maker.of_all:
        return None
    return replace(token, role=min(token.role, maker.role, key=ROLES.index))


class Tokens:
    """The tokens of a lab."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._used: dict[str, float] = {}

    async def create(
        self,
        who: Principal,
        name: str,
        *,
        role: Role,
        days: float | None,
        only: Sequence[str] = (),
        project: str | None = None,
    ) -> tuple[Token, str]:
        """Make a token, of at most the role of who makes it, and return it with what is shown once.

        Args:
            who: the creator.
            name: what it is for.
            role: what it may do.
            days: how long it is valid; None: until it is revoked.
            only: the runs that a link opens.
            project: default: that of the creator.

        Raises:
            ConfigError: the name, the time, or their number is out of bounds.
            ForbiddenError: the role or project is more than the creator's.
        """
        name = checked_name(name)
        project = project or who.project
        await self._check(who, role, project, days)
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        ends = None if days is None else now + timedelta(days=days)
        record = {
            "name": name,
            "role": role,
            "project": project,
            "created_at": _iso(now),
            "created_by": who.id,
            "creator": who.name,
            "expires_at": None if ends is None else _iso(ends),
            "only": list(only),
        }
        until = None if ends is None else ends.timestamp()
        if (root := await self._root(who.id)) != who.id:
            await self._records.put_record(ROOT, sha(secret), {"root": root}, expires_at=until)
        await self._records.put_record(TOKEN, sha(secret), record, expires_at=until)
        return _token(sha(secret), record), secret

    async def _check(self, who: Principal, role: Role, project: str, days: float | None) -> None:
        if role not in ROLES:
            raise ConfigError(f"There is no role {role!r}: {', '.join(ROLES)}.")
        if ROLES.index(role) > ROLES.index(who.role):
            raise ForbiddenError(
                f"{who.name} has the role {who.role} and cannot make a token of the role {role}."
            )
        if project != who.project and not who.may("administer"):
            raise ForbiddenError(
                f"{who.name} is of the project {who.project}: a token of another is an admin's."
            )
        if days is not None and not 0 < days <= MOST_DAYS:
            raise ConfigError(f"A token is valid for up to {MOST_DAYS} days, not for {days:g}.")
        if len(await self._records.list_records(TOKEN, limit=MOST)) >= MOST:
            raise ConfigError(f"There are {MOST:,} tokens and links: revoke some that nobody uses.")

    async def _root(self, maker: str) -> str:
        """The id of who a principal is from in the end."""
        kept = await self._records.list_records(TOKEN, limit=MOST)
        found = {f"token:{digest[:16]}": (digest, record) for digest, record in kept}
        while maker in found:
            digest, record = found[maker]
            maker = (await self._records.get_record(ROOT, digest) or {}).get("root", record["created_by"])
        return maker

    async def list(self, who: Principal) -> list[Token]:
        """The tokens and links that are valid: everybody's for an admin, else one's own; newest first."""
        found = await self._records.list_records(TOKEN, limit=MOST)
        used = dict(await self._records.list_records(USED, limit=MOST))
        tokens = [_token(digest, record, used.get(digest)) for digest, record in found]
        mine = [t for t in tokens if who.may("administer") or t.created_by == who.id]
        return sorted(mine, key=lambda t: t.created_at, reverse=True)

    async def revoke(self, who: Principal, token_id: str) -> Token | None:
        """End a token or link at once, with those that were made with it; None where `list` has none of
        this id."""
        found = await self._records.list_records(TOKEN, limit=MOST)
        for digest, record in found:
            if digest[:16] != token_id or not (who.may("administer") or record["created_by"] == who.id):
                continue
            for each in (digest, *(child for child, _ in _made_with(found, {f"token:{token_id}"}))):
                await self._end(each)
            return _token(digest, record)
        return None

    async def _end(self, digest: str) -> None:
        await self._records.delete_record(TOKEN, digest)
        await self._records.delete_record(USED, digest)
        await self._records.delete_record(ROOT, digest)

    async def of(self, owner: str) -> Sequence[Token]:
        """The tokens and links that a principal made."""
        found = await self._records.list_records(TOKEN, limit=MOST)
        return [_token(digest, record) for digest, record in found if record["created_by"] == owner]

    async def leave(self, owner: str, to: Principal | None) -> Sequence[str]:
        """End the links of somebody who leaves, and their tokens with those that were made with them, or
        make these another's; return their ids as principals."""
        left, root = [], "" if to is None else await self._root(to.id)
        found = await self._records.list_records(TOKEN, limit=MOST)
        # What a token of theirs made that has expired since is theirs as well.
        orphans = set[str]()
        for digest, record in found:
            if record["created_by"].startswith("token:"):
                kept = await self._records.get_record(ROOT, digest)
                orphans |= {record["created_by"]} if kept and kept["root"] == owner else set()
        for digest, record in _made_with(found, {owner, *orphans}):
            left.append(_token(digest, record).principal.id)
            if to is None or record.get("only"):
                await self._end(digest)
                continue
            ends = record["expires_at"]
            until = None if ends is None else datetime.fromisoformat(ends).timestamp()
            direct = record["created_by"] == owner
            now = {**record, "created_by": to.id, "creator": to.name} if direct else record
            if root != now["created_by"]:
                await self._records.put_record(ROOT, digest, {"root": root}, expires_at=until)
            # If it is another by now, somebody has revoked it.
            await self._records.swap_records([Swap(TOKEN, digest, record, now, until)])
        return left

    async def find(self, digest: str) -> Token | None:
        """The token with a hash, if it is valid."""
        record = await self._records.get_record(TOKEN, digest)
        if record is None:
            return None
        with_token = record["created_by"].startswith("token:")
        root = await self._records.get_record(ROOT, digest) if with_token else None
        return _token(digest, {**record, **(root or {})})

    async def used(self, digest: str) -> None:
        """Note that a token is in use now: once a minute, however many processes are asked with it."""
        now = time.time()
        if now - self._used.get(digest, 0.0) < USED_S:
            return
        if len(self._used) >= MOST:
            self._used.clear()
        self._used[digest] = now
        if await self._records.put_record(
            USED_LATELY, digest, {}, expires_at=now + USED_S, only_if_absent=True
        ):
            await self._records.put_record(USED, digest, {"at": _iso(datetime.now(UTC))})


def checked_name(name: str) -> str:
    """The name of a token or a person, without spaces around it.

    Raises:
        ConfigError: it is empty, too long, or has control characters in it.
    """
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ConfigError(
            f"A name has 1 to {MAX_NAME} printable characters: {name[:MAX_NAME]!r} has {len(name)}, or "
            "others."
        )
    return name


def as_json(token: Token) -> dict[str, Any]:
    """The token for the API."""
    return asdict(token)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
