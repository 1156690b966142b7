"""Projects: list, create, describe, archive, keep for some days, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from promptlab.domain.projects import MOST_DAYS, MOST_DESCRIPTION, MOST_USD, Project
from promptlab.errors import ProjectNotFoundError
from promptlab.projects import UNCHANGED
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Admin, Principal, Viewer, WholeLab
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import Body, Flag, Number, Whole

router = APIRouter(prefix="/projects", tags=["projects"], route_class=Exact)
Name = Annotated[str, Path(max_length=100, description="The project's name.")]
_DAYS = "Days after which runs that have ended are deleted, unless they are archived; null keeps them."

_USD = "Dollars that the calls of its runs may cost in a calendar month (UTC); null for no bound."


class ProjectIn(Body):
    """A project to make."""

    name: str = Field(max_length=100, description="2 to 32 of a-z, 0-9 and -, beginning with a letter.")
    description: str = Field(default="", max_length=MOST_DESCRIPTION, description="What it is for.")
    retention_days: Whole | None = Field(default=None, ge=1, le=MOST_DAYS, description=_DAYS)


class ProjectEditIn(Body):
    """What changes of a project; what is left out stays."""

    description: str | None = Field(default=None, max_length=MOST_DESCRIPTION, description="What it is for.")
    archived: Flag | None = Field(default=None, description="Whether it can be read only.")
    retention_days: Whole | None = Field(default=None, ge=1, le=MOST_DAYS, description=_DAYS)
    max_cost_usd_a_month: Number | None = Field(
        default=None, ge=0, le=MOST_USD, allow_inf_nan=False, description=_USD
    )


class ProjectOut(BaseModel):
    """A project."""

    name: str = Field(description="Its name.")
    description: str = Field(description="What it is for.")
    created_at: str = Field(description="ISO 8601, UTC; empty for the default project.")
    created_by: str = Field(description="The id of who made it.")
    archived: bool = Field(description="Whether it can be read only.")
    retention_days: int | None = Field(description=_DAYS)
    max_cost_usd_a_month: float | None = Field(default=None, description=_USD)
    spent_usd_this_month: float | None = Field(
        default=None,
        description="Dollars of that budget that are spent; null without one, and where several are listed.",
    )
    cached_answers: int | None = Field(
        default=None,
        description="About how many answers are kept for equal requests; null where several are listed.",
    )


class ProjectPage(BaseModel):
    """The projects that the caller may see."""

    items: list[ProjectOut] = Field(description="The default project first, then by name.")


async def seen_by(lab: StoreLab, who: Principal) -> list[Project]:
    """The projects that somebody may see: an admin of the whole lab all, everybody else their own."""
    if who.of_all:
        return await lab.projects.list()
    return [await lab.projects.get(who.project)]


@router.get("", summary="List projects", response_model=ProjectPage)
async def list_projects(lab: WholeLab, who: Viewer) -> Any:
    """Those that the caller may see: of a laptop's store, the one that it has."""
    return {"items": [_object(project) for project in await seen_by(lab, who)]}


@router.post("", status_code=201, summary="Create a project", response_model=ProjectOut)
async def create_project(lab: WholeLab, who: Admin, body: ProjectIn, response: Response) -> Any:
    """With runs, assets, keys of providers and people of its own."""
    return _object(await created(lab, who, body, response))


async def created(lab: StoreLab, who: Principal, body: ProjectIn, response: Response) -> Project:
    """Make a project that nobody can enter yet but admins of the whole lab."""
    if await lab.projects.find(body.name) is None:
        await forget_people(lab, body.name)
    project = await lab.projects.create(
        body.name, description=body.description, retention_days=body.retention_days, by=who.id
    )
    response.headers["Location"] = f"/api/v1/projects/{project.name}"
    return project


@router.get("/{name}", summary="Look at a project", response_model=ProjectOut)
async def get_project(lab: WholeLab, who: Viewer, name: Name) -> Any:
    """One that the caller may see; any other is not there."""
    for project in await seen_by(lab, who):
        if project.name == name:
            part = lab.for_project(name)
            more = {"spent_usd_this_month": await part.spent_this_month()}
            return _object(project) | more | {"cached_answers": await part.cached_answers()}
    raise ProjectNotFoundError(name)


@router.patch("/{name}", summary="Change a project", response_model=ProjectOut)
async def edit_project(lab: WholeLab, who: Admin, name: Name, body: ProjectEditIn) -> Any:
    """Its description, whether it is archived, for how long it keeps runs, what they may cost. Its name
    stays."""
    days = body.retention_days if "retention_days" in body.model_fields_set else UNCHANGED
    usd = body.max_cost_usd_a_month if "max_cost_usd_a_month" in body.model_fields_set else UNCHANGED
    return _object(
        await lab.projects.edit(
            name,
            description=body.description,
            archived=body.archived,
            retention_days=days,
            max_cost_usd_a_month=usd,
        )
    )


@router.delete(
    "/{name}/cache", status_code=204, summary="Forget a project's kept answers", response_class=Response
)
async def clear_cache(lab: WholeLab, who: Admin, name: Name) -> Response:
    """Those that runs with `cache` keep for equal requests: from now on none of them is given again."""
    await lab.projects.get(name)
    await lab.for_project(name).clear_cache()
    return Response(status_code=204)


@router.delete("/{name}", status_code=202, summary="Delete a project", response_class=Response)
async def delete_project(lab: WholeLab, who: Admin, name: Name) -> Response:
    """With its runs, assets, files, tokens and people. Nobody sees it from now on; what it had is removed
    within minutes. Keys of providers are out of the Studio's reach: `promptlab cloud projects delete` removes
    them, too."""
    await delete_with_people(lab, who, name)
    return Response(status_code=202)


async def delete_with_people(lab: StoreLab, who: Principal, name: str) -> None:
    """Delete a project, and with it who could enter another one of its name."""
    await lab.projects.get(name)
    await lab.delete_project(name, by=who.id)
    await forget_people(lab, name)


async def forget_people(lab: StoreLab, name: str) -> None:
    """Revoke the tokens of a project that is gone, and remove its people."""
    for kind in ("TOKEN", "PERSON"):
        after = ""
        while page := await lab.records.list_records(kind, after=after, limit=100):
            for key, value in page:
                if value.get("project") == name:
                    await lab.records.delete_record(kind, key)
                    await lab.records.delete_record("TOKEN_ROOT", key)
            after = page[-1][0]


def _object(project: Project) -> dict[str, Any]:
    return {key: value for key, value in project.to_json().items() if key != "deleting_since"}
