"""Projects: those that one may see, the one that one is in, and what an admin of all changes of them."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from promptlab.domain.explain import explain
from promptlab.domain.projects import MOST_DAYS, Project, is_project_name
from promptlab.errors import ConfigError, PromptLabError
from promptlab_studio.access import PROJECT_COOKIE, Admin, Viewer, WholeLab, needs
from promptlab_studio.api.projects import ProjectIn, created, delete_with_people, seen_by
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.run_bounds import dollars_of
from promptlab_studio.views.state import whole

KEPT_S = 365 * 86_400

routes = router()


@routes.get("/projects", dependencies=[needs("look")])
async def projects_page(request: Request, lab: WholeLab, who: Viewer) -> HTMLResponse:
    """The projects that one may see."""
    projects = await seen_by(lab, who)
    spent = {p.name: await lab.for_project(p.name).spent_this_month() for p in projects if _bounded(p)}
    context = {"projects": projects, "caller": who, "most_days": MOST_DAYS, "spent": spent}
    return render(request, "projects.html", context)


@routes.post("/projects/enter", dependencies=[needs("look")])
async def enter(request: Request, lab: WholeLab, who: Viewer) -> Response:
    """Go into a project: an admin of the whole lab may, into any."""
    name = await _field(request, "name")
    if name not in {project.name for project in await seen_by(lab, who)}:
        return go_to("/projects", f"There is no project {name[:100]!r}.", "problem")
    response = go_to("/", f"You are in the project {name} now.")
    if is_project_name(name):
        response.set_cookie(PROJECT_COOKIE, name, max_age=KEPT_S, httponly=True, samesite="lax", path="/")
    else:
        response.delete_cookie(PROJECT_COOKIE, path="/")
    return response


@routes.post("/projects", dependencies=[needs("administer")])
async def create(request: Request, lab: WholeLab, who: Admin) -> Response:
    """Make a project."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    try:
        wanted = ProjectIn(
            name=fields.get("name", "").strip(),
            description=fields.get("description", "").strip(),
            retention_days=_days(fields.get("retention_days", "")),
        )
        project = await created(lab, who, wanted, Response())
    except ValidationError as error:
        return go_to("/projects", explain(error, "project", ProjectIn), "problem")
    except PromptLabError as error:
        return go_to("/projects", str(error), "problem")
    return go_to("/projects", f"There is a project {project.name} now.")


@routes.post("/projects/edit", dependencies=[needs("administer")])
async def edit(request: Request, lab: WholeLab) -> Response:
    """Change a project's description and retention, or archive it, or open it again."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    name = fields.get("name", "")
    try:
        if "archived" in fields:
            await lab.projects.edit(name, archived=fields["archived"] == "1")
        else:
            await lab.projects.edit(
                name,
                description=fields.get("description", "").strip(),
                retention_days=_days(fields.get("retention_days", "")),
                max_cost_usd_a_month=dollars_of(fields.get("max_cost_usd_a_month", "")),
            )
    except PromptLabError as error:
        return go_to("/projects", str(error), "problem")
    return go_to("/projects", f"Changed: {name}.")


@routes.post("/projects/delete", dependencies=[needs("administer")])
async def delete(request: Request, lab: WholeLab, who: Admin) -> Response:
    """Delete a project with all that it has, once its name was typed."""
    fields = {name: values[0] for name, values in (await fields_of(request)).items()}
    name = fields.get("name", "")
    if fields.get("typed", "").strip() != name:
        return go_to("/projects", f"Type the name {name[:100]!r} to delete the project.", "problem")
    try:
        await delete_with_people(lab, who, name)
    except PromptLabError as error:
        return go_to("/projects", str(error), "problem")
    return go_to("/projects", f"Deleted: the project {name}. What it had is removed within minutes.")


async def _field(request: Request, name: str) -> str:
    return (await fields_of(request)).get(name, [""])[0]


def _days(text: str) -> int | None:
    """The days of a form's field; nothing keeps runs for ever.

    Raises:
        ConfigError: it is no whole number.
    """
    if not text.strip():
        return None
    days = whole(text.strip())
    if days is None:
        raise ConfigError(f"{text[:50]!r} is no number of days.")
    return days


def _bounded(project: Project) -> bool:
    return project.max_cost_usd_a_month is not None
