"""The runs of a store as records: listed, found, labelled, edited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from promptlab.domain.choice import Chosen, checked_description, checked_tags, checked_title
from promptlab.domain.outline import RunOutline
from promptlab.domain.records import BATCH
from promptlab.domain.results import FINAL, Batched, Progress, RunRecord, waits_for
from promptlab.domain.run_checks import checked
from promptlab.errors import RunChangedError, RunNotFoundError, StoreDamagedError
from promptlab.run_labels import ANY, RunLabels, labels_at
from promptlab.store_lab.base import StoreBase

EDITED = ("tags", "archived", "title", "description")
"""What people change of a run."""
MAX_LOOKED_AT = 1_000
"""Runs that a filtered list looks at for one page."""


class Runs(StoreBase):
    """The records of runs."""

    async def _get(self, run_id: str) -> RunRecord:
        run = await self.ledger.get_run(run_id)
        if run is None or run.deleting_since:
            raise RunNotFoundError(run_id)
        return checked(run)

    async def get_run(self, run_id: str) -> RunRecord:
        """One run, as it is now.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return (await self.with_labels([await self._seen(await self._get(run_id))]))[0]

    async def with_labels(self, runs: Sequence[RunRecord]) -> list[RunRecord]:
        """Give the runs with the labels that point at them."""
        names = list({run.name for run in runs})
        found = await asyncio.gather(*(RunLabels(self.ledger).of(name) for name in names))
        known = dict(zip(names, found, strict=True))
        return [
            replace(run, labels=labels) if (labels := labels_at(known[run.name], run.run_id)) else run
            for run in runs
        ]

    async def run_labels(self, name: str) -> Mapping[str, str]:
        """Read the labels of an experiment's runs, each with the id of its run."""
        return await RunLabels(self.ledger).of(name)

    async def label_run(self, run_id: str, label: str, *, was: str | None = ANY) -> RunRecord:
        """Point a label of the run's experiment at the run; it leaves the run that it pointed at before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used.
            LabelMovedError: it points at another run than `was`.
        """
        run = await self._get(run_id)
        await RunLabels(self.ledger).move(run.name, label, run_id, was=was)
        return await self.get_run(run_id)

    async def unlabel_run(self, run_id: str, label: str) -> RunRecord:
        """Take a label from the run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """
        run = await self._get(run_id)
        await RunLabels(self.ledger).remove(run.name, label, was=run_id)
        return await self.get_run(run_id)

    async def edit_run(
        self,
        run_id: str,
        *,
        tags: Sequence[str] | None = None,
        archived: bool | None = None,
        title: str | None = None,
        description: str | None = None,
        was: RunRecord | None = None,
    ) -> RunRecord:
        """Replace what people say of a run, or take it out of the lists and back; None leaves it as it is.

        Args:
            run_id: the run.
            tags: its tags from now on.
            archived: whether lists leave it out.
            title: what it is called, up to 200 characters; empty: as its experiment.
            description: what is said of it, up to 2,000 characters.
            was: the run as it was read: nothing is changed if any of these is another by now.

        Raises:
            RunNotFoundError: there is no such run.
            RunChangedError: it is no longer what it `was`.
            ConfigError: a tag, the title or the description is too long, or there are more than 50 tags.
        """
        changes: dict[str, Any] = {}
        if title is not None:
            changes["title"] = checked_title(title)
        if description is not None:
            changes["description"] = checked_description(description)
        if tags is not None:
            changes["tags"] = checked_tags(tags)
        if archived is not None:
            changes["archived"] = archived
        await self._get(run_id)
        seen = None if was is None else {name: getattr(was, name) for name in EDITED}
        if not await self.ledger.update_run(run_id, changes, if_is=seen):
            raise RunChangedError(run_id)
        return await self.get_run(run_id)

    async def _seen(self, run: RunRecord) -> RunRecord:
        """A run that says it is running while nobody works on it was killed."""
        if run.status in FINAL or await self._parts.runner.is_active(run):
            return run
        # It may have ended between the two looks.
        run = await self._get(run.run_id)
        return run if run.status in FINAL else replace(run, status="interrupted")

    async def is_worked_on(self, run: RunRecord) -> bool:
        """Whether somebody still works on a run: one that is cancelled records what was in flight."""
        return await self._parts.runner.is_active(run)

    async def list_runs(
        self,
        *,
        name: str | None = None,
        chosen: Chosen = Chosen(),  # noqa: B008 - frozen
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[RunRecord], str | None]:
        """Read a page of the runs that match, newest first, and the cursor of the next page or None.

        At most MAX_LOOKED_AT runs are looked at: a page may hold fewer than `limit` while there are more.

        Raises:
            CursorError: no list ended there.
        """
        found, looked_at = list[RunRecord](), 0
        while True:
            # Never more than fit: the ledger's cursor is at the end of what it gave.
            page, cursor = await self.ledger.list_runs(name=name, limit=limit - len(found), cursor=cursor)
            seen = [await self._seen(run) for run in map(checked, page) if chosen.may_match(run)]
            found += [run for run in seen if chosen.matches(run)]
            looked_at += max(len(page), 20)
            if page and chosen.is_before(page[-1].created_at):
                return await self.with_labels(found), None  # newest first: what follows is older still
            if cursor is None or len(found) >= limit or looked_at >= MAX_LOOKED_AT:
                return await self.with_labels(found), cursor

    async def outline_runs(
        self,
        *,
        archived: bool = False,
        metrics: Collection[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[RunOutline], str | None]:
        """Read a page of the outlines of the runs that are archived, or of all others, newest first, and the
        cursor of the next page or None. It may hold fewer than `limit` while there are more.

        Args:
            archived: whether those that are archived are meant.
            metrics: the metrics that the summaries are read with; None: no summary is read.
            limit: the runs of the page.
            cursor: where the page before ended.

        Raises:
            CursorError: no list ended there.
        """
        page, cursor = await self.ledger.outline_runs(metrics=metrics, limit=limit, cursor=cursor)
        found = [one for one in page if one.run.archived == archived and one.run.deleting_since is None]
        runs = await self.with_labels([await self._seen(checked(one.run)) for one in found])
        return [replace(one, run=run) for one, run in zip(found, runs, strict=True)], cursor

    async def whole(self, outlines: Sequence[RunOutline]) -> list[RunRecord]:
        """Read the runs of outlines, with their summaries, in order; those deleted since are left out."""
        found = await asyncio.gather(*(self._whole_of(one) for one in outlines))
        return [run for run in found if run is not None]

    async def _whole_of(self, outline: RunOutline) -> RunRecord | None:
        try:
            run = checked(outline.whole) if outline.whole else await self._get(outline.run.run_id)
        except RunNotFoundError:
            return None
        except StoreDamagedError as error:
            return replace(outline.run, unreadable=str(error))
        return replace(await self._seen(run), labels=outline.run.labels)

    async def run_ids(self) -> AsyncIterator[str]:
        """The ids of all runs, newest first."""
        cursor = None
        while True:
            # From the ledger itself: `list_runs` would look at the lock of every run.
            runs, cursor = await self.ledger.list_runs(limit=500, cursor=cursor)
            for run in runs:
                if not run.deleting_since:
                    yield run.run_id
            if cursor is None:
                return

    async def progress(self, run_id: str) -> Progress:
        """How far a run is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run: RunRecord | None = None
        with suppress(StoreDamagedError):  # its rows can be counted all the same
            run = await self._get(run_id)
        progress = await self.ledger.progress(run_id)
        if run is None:
            return progress
        if waiting := waits_for(run):
            progress = replace(progress, waiting=waiting)
        if run.status == "completed" or not in_batches(run):
            return progress
        # Here and not in `engine.batching`, which is loaded by runs in batch mode only.
        found = await self.ledger.get_record(BATCH, run_id)
        return replace(progress, batched=Batched.from_json(found) if found and found.get("open") else None)


def in_batches(run: RunRecord) -> bool:
    """Whether a run is in batch mode."""
    model = run.experiment.get("model")
    return isinstance(model, Mapping) and model.get("batch") is True
