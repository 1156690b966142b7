"""People: who may sign in with an account, and as what. An admin invites them by their e-mail address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from promptlab.domain.records import Swap, made
from promptlab.errors import ConfigError
from promptlab.ports import Records
from promptlab_studio.access import DEFAULT_PROJECT, ROLES, Principal, Role
from promptlab_studio.tokens import checked_name

PERSON, SETTING = "PERSON", "SETTING"
"""Kinds of records: a person by e-mail address; a setting by its name."""
MOST = 2_000
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")
_ADMIN_TOKEN = "admin-token"
_ADMINS = "admins"
"""The setting that counts changes of who is an admin: each of them is made only if there was none since it
looked who else is one."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in."""

    email: str
    name: str
    role: Role
    project: str = DEFAULT_PROJECT
    invited_at: str = ""
    invited_by: str = ""
    """The name of who did."""
    invited_by_id: str = ""
    """Their id, as in the audit."""
    last_seen_at: str | None = None
    """The last sign-in."""
    subject: str | None = None
    """The issuer and id of the account that signed in first: another account with the same address is
    somebody else."""

    @property
    def session_ref(self) -> str:
        """What a session of theirs is known by: it ends with this invitation, also if there is another."""
        return f"{self.email} {self.invited_at}"

    @property
    def principal(self) -> Principal:
        """The caller."""
        return Principal(f"person:{self.email}", self.name, self.role, self.project)


def checked_email(email: str) -> str:
    """An e-mail address, as people are known by it.

    Raises:
        ConfigError: it is none.
    """
    found = email.strip().lower()
    if not _EMAIL.fullmatch(found) or not found.isprintable():
        raise ConfigError(f"{email[:100]!r} is not an e-mail address.")
    return found


class Accounts(Protocol):
    """Where accounts are made for people."""

    async def invite(self, email: str) -> bool:
        """Make an account and mail the invitation; False where there is one."""

    async def remove(self, email: str) -> None:
        """Delete an account; none is fine."""


class People:
    """The people of a lab, and whether the admin token is of use.

    Args:
        records: where they are kept.
        first_admin: the address that may sign in as admin before anybody is invited.
        accounts: where accounts are made for who is invited; None: the provider has them.
    """

    def __init__(
        self, records: Records, first_admin: str | None = None, *, accounts: Accounts | None = None
    ) -> None:
        self._records, self._accounts = records, accounts
        self.first_admin = checked_email(first_admin) if first_admin else None

    async def find(self, email: str) -> Person | None:
        """The person with an address, if there is one."""
        record = await self._records.get_record(PERSON, email)
        return made(Person, record) if record else None

    async def of_session(self, ref: str) -> Person | None:
        """The person whose session it is; None once they were removed, also if they were invited again."""
        person = await self.find(ref.partition(" ")[0])
        return person if person is not None and person.session_ref == ref else None

    async def everybody(self) -> list[Person]:
        """Everybody, by address."""
        found = await self._records.list_records(PERSON, limit=MOST)
        return [made(Person, record) for _, record in found]

    async def put(
        self, who: Principal, email: str, *, role: Role, name: str = "", project: str | None = None
    ) -> Person:
        """Invite somebody, or change the name, role and project of who was invited before.

        Raises:
            ConfigError: the address, name or role is not valid, there are too many people, or nobody would be
                left who is an admin.
        """
        email = checked_email(email)
        if role not in ROLES:
            raise ConfigError(f"There is no role {role!r}: {', '.join(ROLES)}.")
        invited = False
        while True:
            # Before the people are read: who changes an admin meanwhile changes this, too.
            guard = await self._records.get_record(SETTING, _ADMINS)
            records = dict(await self._records.list_records(PERSON, limit=MOST))
            everybody = {key: made(Person, record) for key, record in records.items()}
            before = everybody.get(email)
            if before is None and len(everybody) >= MOST:
                raise ConfigError(f"There are {MOST:,} people: remove some first.")
            leaves = before is not None and before.role == "admin" and role != "admin"
            if leaves:
                await self._keep_an_admin(email, list(everybody.values()))
            person = Person(
                email,
                checked_name(name or (before.name if before else email)),
                role,
                project or (before.project if before else who.project),
                invited_at=before.invited_at if before else _now(),
                invited_by=before.invited_by if before else who.name,
                invited_by_id=before.invited_by_id if before else who.id,
                last_seen_at=before.last_seen_at if before else None,
                subject=before.subject if before else None,
            )
            if before is None and self._accounts is not None and not invited:
                invited = await self._accounts.invite(email) or True
            changed = Swap(PERSON, email, records.get(email), asdict(person))
            if await self._records.swap_records([changed, *([_noted(guard)] if leaves else [])]):
                return person

    async def remove(self, email: str) -> bool:
        """Remove somebody, whose sessions end at once; False where there is nobody of this address.

        Raises:
            ConfigError: nobody would be left who is an admin.
        """
        while True:
            guard = await self._records.get_record(SETTING, _ADMINS)
            record = await self._records.get_record(PERSON, email)
            if record is None:
                return False
            leaves = made(Person, record).role == "admin"
            if leaves:
                await self._keep_an_admin(email, await self.everybody())
            gone = Swap(PERSON, email, record, None)
            if await self._records.swap_records([gone, *([_noted(guard)] if leaves else [])]):
                break
        if self._accounts is not None:
            await self._accounts.remove(email)
        return True

    @property
    def mails(self) -> bool:
        """Whether who is invited gets a mail."""
        return self._accounts is not None

    async def _keep_an_admin(self, email: str, everybody: Sequence[Person]) -> None:
        others = [p for p in everybody if p.role == "admin" and p.email != email and p.last_seen_at]
        if not others and not await self.admin_token_works():
            raise ConfigError(
                f"{email} is the last admin who has signed in, and the admin token is switched off: make "
                "somebody else an admin who signs in, or switch the token on, before."
            )

    async def signed_in(self, email: str, subject: str, name: str) -> Person | None:
        """The person who an identity provider says is here; None where nobody invited this address, or
        another account of the same address was here first."""
        was = await self._records.get_record(PERSON, email)
        person = made(Person, was) if was else None
        if person is None and email == self.first_admin:
            person = Person(email, name or email, "admin", invited_at=_now(), invited_by="AdminEmail")
        if person is None or person.subject not in (None, subject):
            return None
        seen: dict[str, Any] = {**asdict(person), "subject": subject, "last_seen_at": _now()}
        if person.name == person.email and name.strip().isprintable() and name.strip():
            seen["name"] = name.strip()[:100]
        if not await self._records.swap_records([Swap(PERSON, email, was, seen)]):
            return await self.signed_in(email, subject, name)  # somebody changed or removed them just now
        return Person(**seen)

    async def admin_token_works(self) -> bool:
        """Whether the admin token opens anything."""
        return bool((await self._records.get_record(SETTING, _ADMIN_TOKEN) or {}).get("on", True))

    async def switch_admin_token(self, on: bool) -> None:
        """Switch the admin token on or off, with the sessions that it opened.

        Raises:
            ConfigError: nobody has signed in as an admin yet, so that nobody could switch it on again.
        """
        while True:
            guard = await self._records.get_record(SETTING, _ADMINS)
            was = await self._records.get_record(SETTING, _ADMIN_TOKEN)
            if not on and not any(p.role == "admin" and p.last_seen_at for p in await self.everybody()):
                raise ConfigError(
                    "No admin has signed in with an account yet: without the admin token nobody could get "
                    "in. Sign in first."
                )
            if await self._records.swap_records(
                [Swap(SETTING, _ADMIN_TOKEN, was, {"on": on}), _noted(guard)]
            ):
                return


def _noted(guard: Mapping[str, Any] | None) -> Swap:
    return Swap(SETTING, _ADMINS, guard, {"changes": guard["changes"] + 1 if guard else 1})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
