"""Who deleted what and when: what is under way, and what is gone. No content."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from promptlab.domain.records import Swap, made
from promptlab.ports import Clock, Records

PENDING, DONE = "DELETING", "DELETED"
"""The kinds of records of deletions that are under way, and of those that are done."""
KEPT_S = 365 * 86_400.0
"""For how long it is known that something was deleted."""
PAGE = 100
Deletable = Literal["run", "prompt_template", "dataset", "code", "project", "person"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One deletion."""

    what: Deletable
    id: str
    """The run's id, `name@version` of an asset, a project's name, or what a deleted person is known by."""
    by: str
    """Who asked for it."""
    at: str
    """When, ISO 8601, UTC."""
    done_at: str | None = None
    """When the last of it was removed."""
    hash: str | None = None
    """A version's hash, while its deletion is under way."""
    blobs: tuple[str, ...] = ()
    """Its blobs, likewise."""
    was: tuple[str, ...] = ()
    """A person's address, name and tokens, likewise."""
    done_to: str = ""
    """How far a person's labels and name are out of what stays, likewise."""

    @property
    def key(self) -> str:
        return f"{self.what}/{self.id}"


class Journal:
    """The deletions of one store."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records, self._clock = records, clock

    async def begin(
        self,
        what: Deletable,
        id: str,
        by: str,
        *,
        hash: str | None = None,
        blobs: tuple[str, ...] = (),
        was: tuple[str, ...] = (),
        done_to: str = "",
    ) -> Deletion:
        """Note that a deletion is under way; of one that was begun before, its first beginning counts."""
        now = self._clock.now()
        deletion = Deletion(what=what, id=id, by=by, at=now, hash=hash, blobs=blobs, was=was, done_to=done_to)
        if await self._records.put_record(PENDING, deletion.key, asdict(deletion), only_if_absent=True):
            return deletion
        return await self.pending(what, id) or deletion

    async def pending(self, what: Deletable, id: str) -> Deletion | None:
        """The deletion of something, while it is under way."""
        found = await self._records.get_record(PENDING, f"{what}/{id}")
        return _deletion(found) if found else None

    async def note(self, deletion: Deletion) -> None:
        """Note how far a deletion is."""
        await self._records.put_record(PENDING, deletion.key, asdict(deletion))

    async def drop(self, deletion: Deletion) -> None:
        """Forget a deletion that was refused before anything was removed."""
        await self._records.delete_record(PENDING, deletion.key)

    async def end(self, deletion: Deletion) -> None:
        """Note that all of it is gone."""
        now = self._clock.now()
        await self._put_done(replace(deletion, done_at=now, hash=None, blobs=(), was=(), done_to=""))
        await self._records.delete_record(PENDING, deletion.key)

    async def _put_done(self, deletion: Deletion) -> None:
        ends = datetime.fromisoformat(deletion.done_at or deletion.at).timestamp() + KEPT_S
        key = f"{deletion.at}/{deletion.key}"
        await self._records.put_record(DONE, key, asdict(deletion), expires_at=ends)

    async def rename(self, by: str, to: str) -> None:
        """Give somebody who asked for deletions another id in what is known of them."""
        async for key, found in self._all(PENDING):
            if found.by == by:
                record = await self._records.get_record(PENDING, key)
                if record is not None:  # else it has ended just now
                    await self._records.swap_records([Swap(PENDING, key, record, {**record, "by": to})])
        async for _, found in self._all(DONE):
            if found.by == by:
                await self._put_done(replace(found, by=to))

    async def all_pending(self) -> AsyncIterator[Deletion]:
        """Give the deletions that are under way."""
        async for _, found in self._all(PENDING):
            yield found

    async def done(
        self, *, after: str = "", limit: int = PAGE, newest: bool = False
    ) -> list[tuple[str, Deletion]]:
        """A page of what was deleted in the last year, oldest or newest first, with the key that the next
        page is after."""
        found = await self._records.list_records(DONE, newest=newest, after=after, limit=limit)
        return [(key, _deletion(value)) for key, value in found]

    async def _all(self, kind: str) -> AsyncIterator[tuple[str, Deletion]]:
        after = ""
        while page := await self._records.list_records(kind, after=after, limit=PAGE):
            for key, value in page:
                yield key, _deletion(value)
            after = page[-1][0]


def _deletion(record: Mapping[str, Any]) -> Deletion:
    return made(Deletion, record, blobs=tuple(record.get("blobs") or ()), was=tuple(record.get("was") or ()))


def user_name() -> str:
    """The user of this process, for records of who did something; `unknown` where the system has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # the last one on Windows, and KeyError up to Python 3.12
        return "unknown"
