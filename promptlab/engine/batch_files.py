"""The files of a run's batches: written line by line, in memory for one request."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from promptlab.domain.results import RunRecord
from promptlab.errors import ModelError
from promptlab.models.batches.base import MOST_REQUEST_BYTES, Limits

FLUSH_BYTES = 1 << 20

BatchStatus = Literal["ready", "submitting", "submitted", "collecting", "collected"]
Where = tuple[int, int, int]
"""Shard, case and trial."""


@dataclass(slots=True)
class Batch:
    """A batch of a run, as the ledger has it."""

    number: int
    generation: int
    """The pass that made it."""
    cases: int
    size_bytes: int
    last: Where
    """Shard, case and trial of its last request: what follows is in later batches."""
    state: BatchStatus = "ready"
    id: str | None = None
    """The provider's id, once it is known."""
    since: float = 0.0
    """When it was first about to be submitted, in seconds since 1970."""
    again: int = 0
    """How often it was submitted anew, because the account's queue had no room for it."""
    not_before: float = 0.0
    done: int = 0
    failed: int = 0
    tries: int = 0
    """Looks that failed, in a row."""
    usd: float = 0.0
    """What it may cost at most, where there is a budget."""
    spent_usd: float = 0.0
    """What it cost, once it is collected."""
    wave: str = ""
    """Whom it asks: the model under test, or the mark of a judge."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Batch:
        return cls(**{**value, "last": tuple(value["last"])})


@dataclass(slots=True)
class _File:
    """A file of requests, of which the last ones may still go to another."""

    path: Path
    most_tail: int
    """How many of its last requests may go."""
    count: int = 0
    size: int = 0
    usd: float = 0.0
    """What its requests may cost."""
    tail: deque[tuple[int, Where, float]] = field(default_factory=deque)
    """The sizes of the last requests, where their cases are, and what they may cost."""
    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = 0

    async def add(self, line: bytes, where: Where, usd: float) -> None:
        """Add a request."""
        self.count, self.size, self.usd = self.count + 1, self.size + len(line), self.usd + usd
        self.tail.append((len(line), where, usd))
        if len(self.tail) > self.most_tail:
            self.tail.popleft()
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write all of it."""
        data, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        await asyncio.to_thread(_append, self.path, data)

    @property
    def last(self) -> Where:
        """The last case of the file."""
        return max(where for _, where, _ in self.tail)

    async def pop(self) -> tuple[bytes, Where, float]:
        """Take the last request out again."""
        await self.flush()
        size, where, usd = self.tail.pop()
        self.count, self.size, self.usd = self.count - 1, self.size - size, self.usd - usd
        return await asyncio.to_thread(_cut_off, self.path, size), where, usd


@dataclass(slots=True)
class BatchWriter:
    """Writes requests to files, a new one where the next request would not fit into the provider's bounds.

    A file that is full is kept open until enough requests follow for another one: a batch has at least
    `least` of them.
    """

    prefix: Callable[[int], str]
    """The name of a batch by its number: what the custom ids of its requests begin with."""
    keep: Callable[[Batch, Path], Awaitable[None]]
    """Keeps a file that is full, and records its batch."""
    limits: Limits
    model: str
    """The model's name, for errors."""
    generation: int
    number: int
    folder: Path
    most_usd: float | None = None
    """What one batch may cost at most; a single request may cost more."""
    wave: str = ""
    """The mark of whom it asks."""
    _here: _File = field(init=False)
    _next: _File = field(init=False)

    def __post_init__(self) -> None:
        self._here, self._next = self._file(self.number), self._file(self.number + 1)

    def _file(self, number: int) -> _File:
        return _File(self.folder / f"{number:06}.jsonl", self.limits.least)

    async def add(self, line: Callable[[str], bytes], name: str, where: Where, usd: float) -> None:
        """Add a request, which may cost so many dollars; `line` writes it under a custom id, whose end its
        name is (it begins with the shard: `s12-…`).

        Raises:
            ModelError: it cannot be written, or is larger than a batch may be.
        """
        made = self._written(line, name, self.number)
        here = self._here
        fits = here.count < self.limits.requests and here.size + len(made) <= self.limits.size_bytes
        if self.most_usd is not None and here.count >= self.limits.least:
            fits = fits and (not here.count or here.usd + usd <= self.most_usd)
        if not self._next.count and fits:
            await here.add(made, where, usd)
            return
        await self._next.add(self._written(line, name, self.number + 1), where, usd)
        if self._next.count >= self.limits.least:
            await self._finish()

    def _written(self, line: Callable[[str], bytes], name: str, number: int) -> bytes:
        found = line(f"{self.prefix(number)}-{name}") + b"\n"
        most = min(self.limits.size_bytes, MOST_REQUEST_BYTES)
        if len(found) > most:
            raise ModelError(
                f"{self.model}: the request has {len(found):,} bytes, and one in a batch at most {most:,}: "
                "shorten the prompt, or make its media smaller",
                type="bad_request",
                sent=False,
            )
        return found

    async def end(self) -> None:
        """Finish the last file; of fewer requests than a batch has at least none is made, and they are left
        to be asked one by one."""
        least, here, following = self.limits.least, self._here, self._next
        if following.count and here.count + following.count >= 2 * least:
            old, new = (f'"{self.prefix(number)}-s'.encode() for number in (self.number, self.number + 1))
            for _ in range(least - following.count):
                moved, where, usd = await here.pop()
                await following.add(moved.replace(old, new, 1), where, usd)
        if here.count >= least:
            await self._finish()
        if self._here.count >= least:
            await self._finish()

    async def _finish(self) -> None:
        """Hand the file over to be kept, and go on with the next."""
        here = self._here
        await here.flush()
        batch = Batch(self.number, self.generation, here.count, here.size, here.last)
        batch.usd, batch.wave = here.usd, self.wave
        await self.keep(batch, here.path)
        await asyncio.to_thread(here.path.unlink)
        self.number += 1
        self._here, self._next = self._next, self._file(self.number + 1)


def plain(run: RunRecord) -> str:
    """The run's id as providers take it in names: letters, digits and hyphens, at most 30."""
    return re.sub(r"[^A-Za-z0-9]+", "-", run.run_id).strip("-")[:30]


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _cut_off(path: Path, size: int) -> bytes:
    """Take so many bytes from a file's end."""
    with path.open("r+b") as file:
        file.seek(-size, os.SEEK_END)
        found = file.read()
        file.truncate(file.tell() - size)
    return found
