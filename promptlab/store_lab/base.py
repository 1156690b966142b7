"""What all parts of the lab over a store stand on: its connections, its projects, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from promptlab.assets.store import AssetStore
from promptlab.deleting.journal import Journal
from promptlab.deleting.runs import RunDeleting
from promptlab.domain.projects import DEFAULT_PROJECT, checked_project
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.loops import PerLoop
from promptlab.ports import Quotas, Records, Sandbox, Secrets
from promptlab.projects import Projects
from promptlab.wiring import Parts, open_parts

if TYPE_CHECKING:
    from promptlab.queries.query_engine import QueryEngine


IDLE_S = 300.0
"""After so long without a question, what is kept for a project's is closed."""


class StoreBase:
    """The connections of one store, for one of its projects."""

    goes_on = False
    """Whether a run goes on when its starter stops waiting."""

    def __init__(self, parts: Parts, *, of: Self | None = None, project: str = DEFAULT_PROJECT) -> None:
        self._parts, self.project = parts, project
        self._whole: Self = of or self
        self._of_projects: dict[str, tuple[float, Self]] = {}
        self.ledger, self.blobs, self.clock = parts.ledger, parts.blobs, parts.clock
        self.batches = parts.batches
        self.assets = AssetStore(parts.ledger, parts.blobs, parts.clock, parts.tidier)
        self.where, self.stack = parts.where, parts.stack
        self.journal = Journal(parts.ledger, parts.clock)
        self._deleting = RunDeleting(parts.ledger, parts.blobs, parts.clock, self.journal)
        self._started: dict[str, asyncio.Task[RunRecord]] = {}
        self._sweeps: dict[str, asyncio.Task[None]] = {}
        self.outbound = parts.outbound
        self.on_ended: Callable[[RunRecord], Awaitable[object]] | None = None
        """Told of each run that was started here (`start`, `start_resume`) when it has ended."""
        self._telling: set[asyncio.Task[object]] = set()
        self._queries = _queries(parts)
        self._closing: set[asyncio.Future[None]] = set()

    def for_project(self, name: str) -> Self:
        """The lab of one project: it sees its own runs, assets, keys and cost only. Cheap, over the same
        connections; whether there is such a project is the caller's to know.

        Raises:
            ConfigError: it is no project's name, or this store has one project only.
        """
        if name == self.project:
            return self
        if self._whole is not self:
            return self._whole.for_project(name)
        if checked_project(name) == DEFAULT_PROJECT:
            return self
        if self._parts.part_of is None:
            raise ConfigError(
                f"This store has one project, {DEFAULT_PROJECT!r}: projects are of hosted labs."
            )
        self._forget_idle()
        _, lab = self._of_projects.get(name) or (
            0.0,
            type(self)(self._parts.part_of(self._parts, name), of=self, project=name),
        )
        self._of_projects[name] = self.clock.monotonic(), lab
        return lab

    def _forget_idle(self) -> None:
        """Close what is kept for projects that nobody asked of for a while: copies of their indexes."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        now = self.clock.monotonic()
        for name, (asked_at, lab) in list(self._of_projects.items()):
            if now - asked_at > IDLE_S and not lab._started and not lab._sweeps:
                del self._of_projects[name]
                closing = asyncio.ensure_future(lab._queries.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def of_each_project(self) -> Sequence[Self]:
        """The labs of all projects of this store, the default one's first; a laptop's store has that one."""
        if self._whole._parts.part_of is None:
            return [self._whole]
        return [self._whole.for_project(project.name) for project in await self.projects.list()]

    @property
    def projects(self) -> Projects:
        """The projects of the lab."""
        return Projects(self._whole.ledger, self.clock)

    @classmethod
    def open(cls, config: Mapping[str, Any] | None = None) -> Self:
        """Open the lab of a store configuration; see `wiring.open_parts`.

        Raises:
            ConfigError: the configuration is wrong.
        """
        return cls(open_parts(config))

    @property
    def sandbox_or_none(self) -> Sandbox | None:
        """What runs code that the lab keeps, if anything does."""
        return self._parts.sandbox

    @property
    def secrets(self) -> Secrets:
        """Where keys of providers are."""
        return self._parts.secrets

    @property
    def quotas(self) -> Quotas | None:
        """What says how much of the account there is, if anything does."""
        return self._parts.quotas

    def sandbox(self) -> Sandbox:
        """Return what runs code that the lab keeps.

        Raises:
            ConfigError: nothing does, here.
        """
        if self._parts.sandbox is None:
            raise ConfigError(self._parts.no_code)
        return self._parts.sandbox

    async def warm(self) -> None:
        """Load what the first question would wait for (DuckDB, some 200 ms)."""
        await (await self._queries.get()).warm()

    @property
    def code_refusal(self) -> str | None:
        """Why this lab takes no code of users, and what to do instead; None where it does."""
        return self._parts.no_code if self._parts.sandbox is None else None

    @property
    def records(self) -> Records:
        """Small JSON objects with an expiry: sessions, failed logins, idempotency keys. Those of the whole
        lab, whatever the project."""
        return self._whole.ledger

    def tell(self, on_job: object) -> None:
        """Tell nothing: what this lab does is done when its calls return."""

    def to_serve(self) -> Self:
        """Give the lab that a Studio on this machine serves: this one."""
        return self

    async def close(self) -> None:
        """Stop what was started here, as on Ctrl-C, and close the store."""
        for _, lab in self._of_projects.values():
            await lab._end_work()
        await self._end_work()
        for part in (self._parts.runner, self._parts.secrets, self.ledger, self.blobs):
            await part.close()
        for other in (self._parts.tidier, self._parts.sandbox, self._parts.quotas):
            if other is not None:
                await other.close()

    async def _end_work(self) -> None:
        for task in (started := [*self._started.values(), *self._telling]):
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)
        await self._queries.aclose()


def _queries(parts: Parts) -> PerLoop[QueryEngine]:
    """One query engine for each event loop, made on use."""

    async def opened() -> QueryEngine:
        # Here, for a run asks nothing: its SQL and statistics are 30 ms of a start.
        from promptlab.queries.query_engine import QueryEngine

        return QueryEngine(parts.ledger, parts.blobs)

    async def close(engine: QueryEngine) -> None:
        await engine.close()

    return PerLoop(opened, close)
