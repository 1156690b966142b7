"""The SDK's runs as records: found, labelled, tagged, put away."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.domain.choice import Chosen
from promptlab.domain.results import RunRecord, RunStatus
from promptlab.lab import Lab
from promptlab.run_labels import ANY, no_such_label
from promptlab.sdk.run import Run
from promptlab.sync import run_sync


def id_of(run: Run | str) -> str:
    """Give the id of a run, or the id itself."""
    return run if isinstance(run, str) else run.run_id


class RunRecords:
    """Runs as they are recorded."""

    def __init__(self, lab: Lab, quiet: bool) -> None:
        self._lab, self._quiet = lab, quiet

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.get_async(run_id))

    async def get_async(self, run_id: str) -> Run:
        """As `get`."""
        return Run(self._lab, await self._lab.get_run(run_id))

    def list(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        model: str | None = None,
        prompt: str | None = None,
        dataset: str | None = None,
        since: str | None = None,
        until: str | None = None,
        by: str | None = None,
        status: RunStatus | None = None,
        archived: bool | None = False,
        limit: int = 100,
    ) -> Sequence[Run]:
        """List the newest runs.

        Args:
            name: only runs of the experiment of this name.
            tag: only runs with this tag.
            model: only runs of this model, with or without its provider.
            prompt: only runs of this prompt template, `qa` or `qa@3`.
            dataset: only runs over this dataset, `questions` or `questions@3`.
            since: only runs that were started on this day (`2026-11-23`, UTC) or later.
            until: only runs that were started on this day or before.
            by: only runs that this one started: a run's `started_by`, or the part after its colon.
            status: only runs with this status.
            archived: archived runs only, or the others; None: both.
            limit: runs at most.
        """
        return run_sync(
            self.list_async(
                name,
                tag=tag,
                model=model,
                prompt=prompt,
                dataset=dataset,
                since=since,
                until=until,
                by=by,
                status=status,
                archived=archived,
                limit=limit,
            )
        )

    async def list_async(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        model: str | None = None,
        prompt: str | None = None,
        dataset: str | None = None,
        since: str | None = None,
        until: str | None = None,
        by: str | None = None,
        status: RunStatus | None = None,
        archived: bool | None = False,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Do as `list`."""
        chosen = Chosen(status, tag, model, prompt, archived, dataset, since, until, by)
        found: list[RunRecord] = []
        cursor: str | None = None
        while len(found) < limit:
            page, cursor = await self._lab.list_runs(
                name=name, chosen=chosen, limit=limit - len(found), cursor=cursor
            )
            found += page
            if cursor is None:
                break
        return [Run(self._lab, run) for run in found]

    def cancel(self, run_id: str) -> Run:
        """Stop a run, whichever process works on it; what was answered is kept, and `resume` goes on with it.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.cancel_async(run_id))

    async def cancel_async(self, run_id: str) -> Run:
        """As `cancel`."""
        return Run(self._lab, await self._lab.cancel(run_id))

    def tag(self, run_id: str, *tags: str, remove: Sequence[str] = ()) -> Run:
        """Give a run tags, and take those of `remove` away.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a tag cannot be used.
        """
        return run_sync(self.tag_async(run_id, *tags, remove=remove))

    async def tag_async(self, run_id: str, *tags: str, remove: Sequence[str] = ()) -> Run:
        """Do as `tag`."""
        run = await self._lab.get_run(run_id)
        kept = [tag for tag in dict.fromkeys((*run.tags, *tags)) if tag not in remove]
        return Run(self._lab, await self._lab.edit_run(run_id, tags=kept))

    def describe(self, run: Run | str, *, title: str | None = None, description: str | None = None) -> Run:
        """Give a run a title, a description or both; None leaves it as it is.

        Args:
            run: the run, or its id.
            title: what it is called, up to 200 characters; empty: as its experiment.
            description: what is said of it, up to 2,000 characters; empty: nothing.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the title or the description is too long.
        """
        return run_sync(self.describe_async(run, title=title, description=description))

    async def describe_async(
        self, run: Run | str, *, title: str | None = None, description: str | None = None
    ) -> Run:
        """Do as `describe`."""
        changed = await self._lab.edit_run(id_of(run), title=title, description=description)
        return Run(self._lab, changed)

    def label(self, run: Run | str, label: str, *, was: str | None = ANY) -> Run:
        """Point a label, such as production, of the run's experiment at a run.

        It leaves the run that it pointed at before, at once; `compare` and gates take it as a baseline.

        Args:
            run: the run, or its id.
            label: the label.
            was: the id of the run that it must point at until now, None for none; without, whichever it does.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used.
            LabelMovedError: it points at another run than `was`; nothing is changed.
        """
        return run_sync(self.label_async(run, label, was=was))

    async def label_async(self, run: Run | str, label: str, *, was: str | None = ANY) -> Run:
        """Do as `label`."""
        return Run(self._lab, await self._lab.label_run(id_of(run), label, was=was))

    def unlabel(self, run: Run | str, label: str) -> Run:
        """Take a label from a run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """
        return run_sync(self.unlabel_async(run, label))

    async def unlabel_async(self, run: Run | str, label: str) -> Run:
        """Do as `unlabel`."""
        return Run(self._lab, await self._lab.unlabel_run(id_of(run), label))

    def labelled(self, name: str, label: str) -> Run:
        """Give the run of an experiment that a label points at.

        Raises:
            LabelNotFoundError: there is none.
        """
        return run_sync(self.labelled_async(name, label))

    async def labelled_async(self, name: str, label: str) -> Run:
        """Do as `labelled`."""
        labels = await self._lab.run_labels(name)
        if label not in labels:
            raise no_such_label(name, label, labels)
        return await self.get_async(labels[label])

    def archive(self, run_id: str, archived: bool = True) -> Run:
        """Leave a run out of lists, or put it back.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.archive_async(run_id, archived))

    async def archive_async(self, run_id: str, archived: bool = True) -> Run:
        """Do as `archive`."""
        return Run(self._lab, await self._lab.edit_run(run_id, archived=archived))

    def delete(self, run_id: str) -> bool:
        """Remove a run for good, with its answers, scores and results. Assets stay.

        After an interruption in the middle the same call removes the rest.

        Returns:
            Whether all of it is gone; a hosted lab removes what it had within minutes. Nobody sees it either
            way.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it.
        """
        return run_sync(self.delete_async(run_id))

    async def delete_async(self, run_id: str) -> bool:
        """Do as `delete`."""
        return await self._lab.delete_run(run_id)
