"""The projects of a lab: made, described, archived, kept for some days, and told apart from those that go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from promptlab.domain.projects import (
    DEFAULT_PROJECT,
    MOST_PROJECTS,
    PROJECT,
    Project,
    checked_days,
    checked_description,
    checked_project,
    checked_usd,
)
from promptlab.errors import ConfigError, ProjectExistsError, ProjectNotFoundError
from promptlab.ports import Clock, Records

UNCHANGED: Any = object()


class Projects:
    """The projects of one lab, kept among its records; the default one is always there."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records, self._clock = records, clock

    async def list(self, *, deleting: bool = False) -> list[Project]:
        """Every project by name, the default one first; with `deleting` those that are being deleted, too."""
        found = [
            Project.from_json(value)
            for _, value in await self._records.list_records(PROJECT, limit=MOST_PROJECTS + 1)
        ]
        default = next((p for p in found if p.name == DEFAULT_PROJECT), Project(name=DEFAULT_PROJECT))
        others = [p for p in found if p.name != DEFAULT_PROJECT and (deleting or not p.deleting_since)]
        return [default, *others]

    async def get(self, name: str) -> Project:
        """One project.

        Raises:
            ProjectNotFoundError: there is no such project, or it is being deleted.
        """
        project = await self.find(name)
        if project is None or project.deleting_since:
            raise ProjectNotFoundError(name)
        return project

    async def find(self, name: str) -> Project | None:
        """One project, also while it is being deleted; None where there is none."""
        record = await self._records.get_record(PROJECT, name)
        if record is None:
            return Project(name=DEFAULT_PROJECT) if name == DEFAULT_PROJECT else None
        return Project.from_json(record)

    async def create(
        self, name: str, *, description: str = "", retention_days: int | None = None, by: str = ""
    ) -> Project:
        """Make a project.

        Raises:
            ConfigError: the name, the description or the days cannot be used, or there are too many projects.
            ProjectExistsError: there is one of this name, or its deletion has not ended.
        """
        project = Project(
            name=checked_project(name),
            description=checked_description(description),
            created_at=self._clock.now(),
            created_by=by,
            retention_days=checked_days(retention_days),
        )
        if name == DEFAULT_PROJECT:
            raise ProjectExistsError(name)
        if len(await self.list(deleting=True)) > MOST_PROJECTS:
            raise ConfigError(f"A lab has {MOST_PROJECTS} projects at most: delete one first.")
        if not await self._records.put_record(PROJECT, name, project.to_json(), only_if_absent=True):
            raise ProjectExistsError(name)
        return project

    async def edit(
        self,
        name: str,
        *,
        description: str | None = None,
        archived: bool | None = None,
        retention_days: int | None = UNCHANGED,
        max_cost_usd_a_month: float | None = UNCHANGED,
    ) -> Project:
        """Change what is given of a project; `retention_days=None` keeps its runs for ever,
        `max_cost_usd_a_month=None` bounds its spending no more.

        Raises:
            ProjectNotFoundError: there is no such project.
            ConfigError: a value cannot be used, or the default project is to be archived.
        """
        project = await self.get(name)
        if description is not None:
            project = replace(project, description=checked_description(description))
        if archived is not None:
            if archived and name == DEFAULT_PROJECT:
                raise ConfigError("The default project is always open: it cannot be archived.")
            project = replace(project, archived=archived)
        if retention_days is not UNCHANGED:
            project = replace(project, retention_days=checked_days(retention_days))
        if max_cost_usd_a_month is not UNCHANGED:
            project = replace(project, max_cost_usd_a_month=checked_usd(max_cost_usd_a_month))
        await self._records.put_record(PROJECT, name, project.to_json())
        return project

    async def mark(self, name: str) -> Project:
        """Take a project out of everybody's sight, before it is deleted.

        Raises:
            ProjectNotFoundError: there is no such project.
            ConfigError: it is the default project.
        """
        if name == DEFAULT_PROJECT:
            raise ConfigError("The default project cannot be deleted: delete its runs and assets.")
        project = await self.find(name)
        if project is None:
            raise ProjectNotFoundError(name)
        project = replace(project, deleting_since=project.deleting_since or self._clock.now())
        await self._records.put_record(PROJECT, name, project.to_json())
        return project

    async def forget(self, name: str) -> None:
        """Remove the record of a project of which nothing is left."""
        await self._records.delete_record(PROJECT, name)
