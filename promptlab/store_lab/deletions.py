"""Runs and projects of a store deleted, whole and with a record, by one process or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from promptlab.deleting.journal import Deletion, user_name
from promptlab.deleting.projects import ProjectDeleting, Retention, again_soon, once_a_day
from promptlab.deleting.versions import VersionDeleting
from promptlab.domain.choice import Chosen
from promptlab.domain.projects import DEFAULT_PROJECT
from promptlab.domain.results import FINAL
from promptlab.domain.run_checks import checked
from promptlab.errors import (
    CursorError,
    RunBusyError,
    RunInUseError,
    RunNotFoundError,
)
from promptlab.run_labels import labels_at
from promptlab.store_lab.runs import Runs


class Deletions(Runs):
    """What is removed for good."""

    async def delete_run(
        self, run_id: str, *, by: str | None = None, within_s: float | None = None, one_of_many: bool = False
    ) -> bool:
        """Remove a run for good, with its answers, scores and results, and every older version of its files.

        It is out of everybody's sight first; after an interruption in the middle, the same call removes the
        rest, and so does `go_on_deleting`. Assets stay.

        Args:
            run_id: the run.
            by: who wants that, for the record of it; the user of this process by default.
            within_s: seconds to work on it at most.
            one_of_many: leave it to the caller to call `begin_to_tidy` once, after all of them.

        Returns:
            Whether all of it is gone; else the rest is left to `go_on_deleting`, as always in the cloud.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it: cancel it first.
            RunInUseError: a label points at it.
        """
        until = None if within_s is None else self.clock.monotonic() + within_s
        found = await self.ledger.get_run(run_id)
        if found is None and await self.journal.pending("run", run_id) is None:
            raise RunNotFoundError(run_id)
        if found is not None and not found.deleting_since:
            run = await self._seen(checked(found))
            if run.status not in FINAL or await self.is_worked_on(run):
                raise RunBusyError(f"Run {run_id} is {run.status}: cancel it first, then delete it.")
            if labels := labels_at(await self.run_labels(run.name), run_id):
                raise RunInUseError(
                    f"Run {run_id} is {' and '.join(labels)} of {run.name!r}: move or remove the label first "
                    f"(promptlab label {run_id} {labels[0]} --remove)."
                )
        async with self._parts.runner.claimed(run_id):
            if found is not None and not found.deleting_since:
                await self._deleting.mark(found, by or user_name())
            await (await self._queries.get()).forget(run_id)
            if self._parts.tidier is None:
                return await self._deleting.remove(run_id, until)
        if not one_of_many:
            await self.begin_to_tidy()
        return False

    async def deletions(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[Sequence[Deletion], str | None]:
        """Read a page of what was deleted in the last year, newest first, and the cursor of the next or None.

        Those that are under way come before the first page's, and are not counted in its `limit`.

        Raises:
            CursorError: no list ended there.
        """
        first = cursor is None
        if cursor is not None and (not cursor.isprintable() or not 0 < len(cursor) <= 500):
            raise CursorError(f"{cursor[:100]!r} is not where a list of deletions ended.")
        pending = [one async for one in self.journal.all_pending()] if first else []
        page = await self.journal.done(after=cursor or "", limit=limit, newest=True)
        # What it has of a person's name, and how far it is, is nobody's business.
        found = [replace(one, was=(), done_to="", hash=None, blobs=()) for one in pending]
        following = page[-1][0] if len(page) == limit else None
        return [*reversed(found), *(deletion for _, deletion in page)], following

    async def begin_to_tidy(self) -> None:
        """Have what was deleted removed soon, where another process does that."""
        if self._parts.tidier is not None:
            await self._parts.tidier.begin()

    async def go_on_deleting(self, within_s: float | None = None) -> int:
        """Remove what deletions left that were interrupted, or had too little time; give their number."""
        until = None if within_s is None else self.clock.monotonic() + within_s
        if self._whole is not self:
            return await self._gone_on(until)
        return sum([await lab._gone_on(until) for lab in await self.of_each_project()])

    async def _gone_on(self, until: float | None) -> int:
        done = 0
        while found := [deletion async for deletion in self.journal.all_pending()]:
            before = done
            for deletion in found:
                if until is not None and self.clock.monotonic() >= until:
                    return done
                done += await self._removed(deletion, until)
            if done == before:  # else there may be more by now
                break
        return done

    async def _removed(self, deletion: Deletion, until: float | None) -> bool:
        if deletion.what == "run":
            # Nobody begins a pass over a run that is marked, and two who remove it do no harm.
            return await self._deleting.remove(deletion.id, until)
        if deletion.what == "person":
            return False  # the Studio's, which alone has sessions, tokens and the audit
        if deletion.what == "project":
            return await self._project_removed(deletion, until)
        versions = VersionDeleting(self.ledger, self.blobs, self.clock, self.journal)
        await versions.finish(deletion)
        return True

    async def _project_removed(self, deletion: Deletion, until: float | None) -> bool:
        lab = self.for_project(deletion.id)
        if not await ProjectDeleting(lab.ledger, lab.blobs, self.clock).remove(deletion.by, until):
            return False
        await self.projects.forget(deletion.id)
        await self.journal.end(deletion)
        return True

    async def delete_project(self, name: str, *, by: str | None = None) -> bool:
        """Remove a project for good, with its runs, assets and files; its keys of providers stay.

        Nobody sees it from now on. After an interruption, the same call or `go_on_deleting` removes the rest.

        Returns:
            Whether all of it is gone; in the cloud it is gone within minutes.

        Raises:
            ProjectNotFoundError: there is no such project.
            RunBusyError: a run of it goes on: cancel it first.
            ConfigError: it is the default project.
        """
        whole = self._whole
        if name != DEFAULT_PROJECT and (await whole.projects.find(name)) is not None:
            going, _ = await whole.for_project(name).list_runs(
                chosen=Chosen("running", archived=None), limit=1
            )
            if going:
                raise RunBusyError(
                    f"Run {going[0].run_id} of the project {name!r} is running: cancel it first."
                )
        await whole.projects.mark(name)
        deletion = await whole.journal.begin("project", name, by or user_name())
        if whole._parts.tidier is None:
            return await whole._project_removed(deletion, None)
        await whole.begin_to_tidy()
        return False

    async def apply_retention(self, within_s: float | None = None) -> int:
        """Mark runs that ended longer ago than their project keeps them, once a day; give their number.

        `go_on_deleting` removes them.
        """
        until = None if within_s is None else self.clock.monotonic() + within_s
        marked = 0
        for project in await self.projects.list():
            if project.retention_days is None or not await once_a_day(self.ledger, project.name):
                continue
            lab = self.for_project(project.name)
            found = await Retention(lab.ledger, lab.blobs, self.clock).mark(project.retention_days, until)
            if found is None:
                await again_soon(self.ledger, project.name)
                break
            marked += found
        return marked
