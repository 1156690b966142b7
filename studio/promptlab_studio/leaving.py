"""Deletes a person: they are shut out at once, their tokens are revoked or get another owner, and their name
goes out of what stays.

What has to stay (the audit, who started a run, the records of deletions) keeps a name without a meaning in
place of theirs, the same in all of it: what one person did can still be told from what others did. It is done
in slices, and goes on where it was interrupted.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal
from urllib.parse import unquote

from promptlab.deleting.journal import Deletion, Journal
from promptlab.domain.projects import PROJECT
from promptlab.domain.records import Swap
from promptlab.errors import ConfigError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Principal
from promptlab_studio.audit import Audit, Entry
from promptlab_studio.people import MOST, PERSON, People, Person, checked_email
from promptlab_studio.tokens import Tokens

WORK_S = 15.0
"""Seconds that one request works: a hosted Studio's has 30."""
PAGE = 200
"""Runs that are looked at in one slice."""
LABELS = "labels:"
"""A place before the audit: their labels on cases are still to be removed."""
RUNS = "runs:"
"""Begins a place behind the audit: a project, a colon, and a cursor of its runs; none when it is done."""
TokensGo = Literal["revoke", "hand_over"]
NamesGo = Literal["anonymise", "keep"]
LabelsGo = Literal["keep", "delete"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What becomes of what a person leaves."""

    tokens: TokensGo = "revoke"
    """Their tokens end, or are another's from now on. Links end."""
    to: str = ""
    """The address of whom tokens are handed over to; empty: whoever asks for it."""
    names: NamesGo = "anonymise"
    """What the audit and the records of deletions say."""
    labels: LabelsGo = "keep"
    """Whether their labels on cases stay, under the name that stays, or are deleted in all projects."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a deletion came to."""

    id: str
    """What stands in the audit from now on: `person:deleted-3f9a2c41`, or `person:` and the address where
    names are kept."""
    tokens: int
    """Tokens and links that ended, or got another owner."""
    is_done: bool
    """Whether their name is out of everything; else the same call goes on."""


class Leaving:
    """Deletes people of a lab."""

    def __init__(self, lab: StoreLab, people: People, tokens: Tokens, audit: Audit) -> None:
        self._lab, self._people, self._tokens, self._audit = lab, people, tokens, audit
        self._records = lab.records
        self._journal = Journal(lab.records, lab.clock)

    async def begun(self) -> list[Deletion]:
        """The deletions of people that are under way."""
        return [found async for found in self._journal.all_pending() if found.what == "person"]

    async def delete(
        self, who: Principal, email: str, wish: Wish, *, within_s: float = WORK_S
    ) -> Left | None:
        """Delete somebody, or go on with that; None where there is nobody of this address.

        Raises:
            ConfigError: nobody would be left who is an admin, or there is nobody to hand tokens over to.
        """
        email, until = email.strip().lower(), time.monotonic() + within_s
        person = await self._people.find(email)
        deletion = next((one for one in await self.begun() if one.was[:1] == (email,)), None)
        if person is None:
            return None if deletion is None else await self._go_on(deletion, 0, until)
        owner = await self._owner(who, email, wish)
        deletion = deletion or await self._begin(who, person, wish)
        try:
            await self._people.remove(email)
        except ConfigError:
            await self._journal.drop(deletion)
            raise
        ids = await self._tokens.leave(f"person:{email}", owner)
        ended = [id for id in ids if owner is None or id.startswith("link:")]
        deletion = replace(deletion, was=(*deletion.was, *ended))
        await self._journal.note(deletion)
        return await self._go_on(deletion, len(ids), until)

    async def go_on(self, deletion: Deletion, *, within_s: float = WORK_S) -> Left:
        """Go on with a deletion that was begun."""
        return await self._go_on(deletion, 0, time.monotonic() + within_s)

    async def _owner(self, who: Principal, email: str, wish: Wish) -> Principal | None:
        """Whose tokens they will be; None: they end."""
        if wish.tokens == "revoke":
            return None
        if not wish.to:
            owner = who
        elif (found := await self._people.find(checked_email(wish.to))) is None:
            raise ConfigError(f"There is nobody of the address {wish.to[:100]!r} to hand tokens over to.")
        else:
            owner = found.principal
        if owner.id == f"person:{email}":
            raise ConfigError("Tokens are handed over to somebody who stays: name another address.")
        if not owner.may("share"):
            raise ConfigError(
                f"{owner.name} has the role {owner.role} and cannot have tokens: name an engineer or admin."
            )
        return owner

    async def _begin(self, who: Principal, person: Person, wish: Wish) -> Deletion:
        at = LABELS if wish.labels == "delete" else ""
        if wish.names == "keep":
            return await self._journal.begin(
                "person", person.email, who.id, was=(person.email, ""), done_to=at
            )
        unnamed = f"deleted-{secrets.token_hex(4)}"
        by = f"person:{unnamed}" if who.id == f"person:{person.email}" else who.id
        return await self._journal.begin("person", unnamed, by, was=(person.email, person.name), done_to=at)

    async def _go_on(self, deletion: Deletion, tokens: int, until: float) -> Left:
        id = f"person:{deletion.id}"
        if deletion.done_to == LABELS:
            for lab in await self._lab.of_each_project():
                await lab.labels.forget_rater(f"person:{deletion.was[0]}")
            deletion = replace(deletion, done_to="")
            await self._journal.note(deletion)
        if deletion.id == deletion.was[0]:  # names are kept
            await self._journal.end(deletion)
            return Left(id, tokens, True)
        at: str | None = deletion.done_to
        while at is not None:
            deletion = replace(deletion, done_to=at)
            if time.monotonic() >= until:
                await self._journal.note(deletion)
                return Left(id, tokens, False)
            if at.startswith(RUNS):
                at = await self._runs(f"person:{deletion.was[0]}", id, at)
            else:
                at = await self._audit.rewrite(partial(without, deletion), after=at) or RUNS
        await self._rest(deletion, id)
        await self._journal.end(deletion)
        return Left(id, tokens, True)

    async def _runs(self, person: str, id: str, at: str) -> str | None:
        """Take the name out of a page of the runs that they started; say where to go on, None at the end."""
        project, _, cursor = at.removeprefix(RUNS).partition(":")
        labs = {lab.project: lab for lab in await self._lab.of_each_project()}
        # By name, and from the next one on: a project may be deleted meanwhile.
        left = sorted(name for name in labs if name > project or (cursor and name == project))
        if not left:
            return None
        ledger = labs[left[0]].ledger
        runs, following = await ledger.list_runs(
            limit=PAGE, cursor=cursor or None if left[0] == project else None
        )
        for run in runs:
            if run.started_by == person:
                await ledger.update_run(run.run_id, {"started_by": id})
        return f"{RUNS}{left[0]}:{following or ''}"

    async def _rest(self, deletion: Deletion, id: str) -> None:
        """Take the name out of what people, projects and records of deletions say of who did it."""
        email, name, *_ = deletion.was
        person, called = f"person:{email}", name_of(deletion)
        for key, record in await self._records.list_records(PERSON, limit=MOST):
            by_id = record.get("invited_by_id", "")
            if by_id == person or (not by_id and record.get("invited_by") == name):
                now = {**record, "invited_by": called, "invited_by_id": id}
                await self._records.swap_records([Swap(PERSON, key, record, now)])
        for key, record in await self._records.list_records(PROJECT):
            if record.get("created_by") == person:
                now = {**record, "created_by": id}
                await self._records.swap_records([Swap(PROJECT, key, record, now)])
        for lab in await self._lab.of_each_project():
            await lab.journal.rename(person, id)
            await lab.labels.kept.rename_rater(person, id, called)


def name_of(deletion: Deletion) -> str:
    """Return what a deleted person is called: `deleted person 3f9a2c41`."""
    return f"deleted person {deletion.id.removeprefix('deleted-')}"


def without(deletion: Deletion, entry: Entry) -> Entry:
    """An entry of the audit without a person: who, from where and with what; what was done stays."""
    email, _, *tokens = deletion.was
    if entry.who == f"person:{email}":
        entry = replace(entry, who=f"person:{deletion.id}")
    elif entry.who not in tokens:
        return _without_address(entry, email, deletion.id)
    entry = replace(entry, name=name_of(deletion), address="", agent="")
    return _without_address(entry, email, deletion.id)


def _without_address(entry: Entry, email: str, instead: str) -> Entry:
    """An entry without a person's address in paths, as in `PUT /api/v1/people/zoe@example.com`."""
    place, _, last = entry.action.rpartition("/")
    if place.endswith("/people") and unquote(last).strip().lower() == email:
        return replace(entry, action=f"{place}/{instead}")
    return entry
