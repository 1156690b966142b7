"""Access: who may do what. Every route declares it with `needs(…)` or `ANYBODY`; an app with a route that
declares neither does not start.

    @routes.post("/runs/{run_id}/cancel", dependencies=[needs("run")])
    async def cancel(request: Request, run_id: str) -> Response: …

    @router.get("/runs")
    async def list_runs(lab: TheLab, who: Viewer) -> Any: …
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount

from promptlab.domain.projects import DEFAULT_PROJECT as DEFAULT_PROJECT
from promptlab.domain.projects import Project, is_project_name
from promptlab.errors import (
    AuthenticationError,
    ForbiddenError,
    ProjectArchivedError,
    ProjectNotFoundError,
)
from promptlab.ports import Records
from promptlab.store_lab import StoreLab

Role = Literal["viewer", "labeller", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what the ones before it may."""
Action = Literal["look", "label", "run", "code", "share", "administer"]
ACTIONS: Mapping[Action, Role] = MappingProxyType(
    {
        "look": "viewer",  # read runs, assets and comparisons, and preview what is not stored
        "label": "labeller",  # tag, describe and archive runs
        "run": "engineer",  # start, cancel, resume and delete runs; create and label assets; upload
        "code": "engineer",  # send code of one's own
        "share": "engineer",  # links to a run or comparison; tokens of at most one's own role
        "administer": "admin",  # people, everybody's tokens, settings, the audit
    }
)
"""The least role for each action."""
CHANGES: frozenset[Action] = frozenset({"label", "run", "code"})
"""Actions that an archived project does not take."""
PROJECT_HEADER, PROJECT_COOKIE = "promptlab-project", "promptlab-project"
"""What says which project an admin of the whole lab is in: a request's header, or a browser's cookie."""
_SCOPE = "promptlab.asked"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller."""

    id: str
    """Names it in the audit: `admin-token`, `token:<id>`, `person:<id>`, `link:<id>`, `local`."""
    name: str
    role: Role = "admin"
    project: str = DEFAULT_PROJECT
    only: tuple[str, ...] = ()
    """The ids of the runs that a link opens; nothing else is open to it."""
    everywhere: bool = False
    """It is an admin of the whole lab, who may enter every project; `project` is the one that it is in."""

    @property
    def of_all(self) -> bool:
        """Whether it is an admin of the default project: that is one of the whole lab."""
        return self.role == "admin" and not self.only and (self.everywhere or self.project == DEFAULT_PROJECT)

    @property
    def starts_as(self) -> str | None:
        """What `started_by` of a run says of it; None: the user of this process, who is all that it knows."""
        return None if self.id == LOCAL.id else self.id

    def may(self, action: Action) -> bool:
        """Whether its role allows an action. The admin of another project administers nothing but that."""
        return (action != "administer" or self.of_all) and ROLES.index(self.role) >= ROLES.index(
            ACTIONS[action]
        )


LOCAL = Principal("local", "local")
ADMIN = Principal("admin-token", "admin token")


class Needs:
    """A dependency: lets in whose role allows the action.

    Args:
        action: what the route does.
        link: the route is one of those that a link to a run or comparison opens: its runs are the path's
            `run_id`, or the `run`s of the address.
    """

    def __init__(self, action: Action, *, link: bool = False) -> None:
        self.action, self.link = action, link

    async def __call__(self, request: Request) -> Principal:
        """Return the caller.

        Raises:
            AuthenticationError: nobody that is known asks.
            TooManyTriesError: too many wrong tokens came from the caller's address.
            ForbiddenError: the caller's role does not allow it.
        """
        asked_of(request.scope).action = self.action
        who = await principal(request)
        if who.only and not (self.link and set(runs_named(request)) <= set(who.only)):
            raise ForbiddenError("This link opens one run or comparison, and nothing else. Log in for more.")
        if not who.may(self.action):
            least = ACTIONS[self.action]
            raise ForbiddenError(
                f"This needs the role {least}{'' if least == 'admin' else ' or above'}; {who.name} has the "
                f"role {who.role}{_where(who)}. An admin can change that."
            )
        if self.action in CHANGES and asked_of(request.scope).archived:
            raise ProjectArchivedError(
                f"The project {who.project!r} is archived: it can be read, and nothing is changed in it."
            )
        return who


def _where(who: Principal) -> str:
    return f" in the project {who.project}" if who.role == "admin" else ""


def runs_named(request: Request) -> list[str]:
    """The runs that a request is about."""
    if "run_id" in request.path_params:
        return [request.path_params["run_id"]]
    return request.query_params.getlist("run") or [""]


def needs(action: Action, *, link: bool = False) -> Any:
    """Declare which action a route is."""
    return Depends(Needs(action, link=link))


async def anybody() -> None:
    """Let everybody in."""


ANYBODY = Depends(anybody)
"""Declares a route that asks nobody who it is: login, health."""


@dataclass(slots=True)
class Asked:
    """What is found out about a request while it is answered."""

    principal: Principal | None = None
    action: Action | None = None
    archived: bool = False
    """Whether the project is."""
    path: str = ""
    """What stands in the audit in place of its path, which names somebody who was deleted."""


def asked_of(scope: MutableMapping[str, Any]) -> Asked:
    """Return what is known of a request so far."""
    found: Asked = scope.setdefault(_SCOPE, Asked())
    return found


def part(scope: MutableMapping[str, Any]) -> None:
    """Make a copied scope note what it finds out by itself, beginning with what is known."""
    scope[_SCOPE] = replace(asked_of(scope))


async def principal(request: Request) -> Principal:
    """Return the caller of a request; it is found out once.

    Raises:
        AuthenticationError: nobody that is known.
        TooManyTriesError: too many wrong tokens came from the caller's address.
    """
    asked = asked_of(request.scope)
    if asked.principal is None:
        auth = request.app.state.auth
        found = LOCAL if auth is None else await auth.principal(request, records_of(request))
        project = await _project_of(request, found)
        asked.archived = project.archived
        asked.principal = replace(found, project=project.name, everywhere=found.of_all)
    return asked.principal


async def _project_of(request: Request, who: Principal) -> Project:
    """The project that a request is about: the caller's own, or the one that an admin of all names.

    Raises:
        ProjectNotFoundError: there is none of this name, or it is not the caller's to see.
    """
    projects = whole_lab(request).projects
    named = request.headers.get(PROJECT_HEADER)
    if named is not None:
        if named != who.project and not who.of_all:
            raise ProjectNotFoundError(named)
        return await projects.get(named)
    cookie = request.cookies.get(PROJECT_COOKIE) if who.of_all else None
    if cookie and is_project_name(cookie):
        with suppress(ProjectNotFoundError):  # it was deleted since
            return await projects.get(cookie)
    # Nobody has to be asked of the one that is always there, and can be neither archived nor deleted.
    return (
        Project(name=DEFAULT_PROJECT) if who.project == DEFAULT_PROJECT else await projects.get(who.project)
    )


def who_of(request: Request) -> Principal | None:
    """The caller, for templates; None on a page for everybody."""
    return asked_of(request.scope).principal


def is_hosted(request: Request) -> bool:
    """Whether the Studio serves others than this machine: it has accounts, tokens and an audit then."""
    auth = request.app.state.auth
    return auth is not None and not auth.local


def may(request: Request, action: Action) -> bool:
    """Whether the caller may do something, for templates: what nobody may do is not offered."""
    who = who_of(request)
    if who is None and not is_hosted(request):
        return True
    return who is not None and not who.only and who.may(action)


def becomes(request: Request, who: Principal) -> None:
    """Note who a login found out that the caller is."""
    asked_of(request.scope).principal = who


def records_of(request: Request) -> Records:
    """Where sessions, tokens, people and the audit are kept: for the whole lab, whatever the project."""
    lab, auth = request.app.state.lab, request.app.state.auth
    found: Records = lab.records if auth is None else auth.records(lab)
    return found


def whole_lab(request: Request) -> StoreLab:
    """The lab that the app serves, for what belongs to no project: logins, people, projects themselves."""
    lab: StoreLab = request.app.state.lab
    return lab


def lab_of(request: Request) -> StoreLab:
    """The lab as the caller may see it: that of one project.

    Raises:
        AuthenticationError: it is not known yet who calls.
    """
    who = who_of(request)
    if who is None:
        raise AuthenticationError("Who asks is not known yet.")
    return whole_lab(request).for_project(who.project)


def takes_code(request: Request) -> bool:
    """Whether the lab takes code of users at all."""
    return whole_lab(request).code_refusal is None


async def _lab(request: Request) -> StoreLab:
    # As a coroutine: FastAPI calls functions in a thread, which cost each request more than its progress.
    # Whoever declared what it needs is asked there, too: this comes first, or after it.
    await principal(request)
    return lab_of(request)


async def _whole_lab(request: Request) -> StoreLab:
    return whole_lab(request)


WholeLab = Annotated[StoreLab, Depends(_whole_lab)]
TheLab = Annotated[StoreLab, Depends(_lab)]
Viewer = Annotated[Principal, needs("look")]
LinkViewer = Annotated[Principal, needs("look", link=True)]
Labeller = Annotated[Principal, needs("label")]
Engineer = Annotated[Principal, needs("run")]
Admin = Annotated[Principal, needs("administer")]


def declared(route: BaseRoute) -> Needs | Literal["anybody"] | None:
    """Return what a route declares; None: nothing."""
    dependant = getattr(route, "dependant", None)
    for dependency in dependant.dependencies if dependant else ():
        if isinstance(dependency.call, Needs):
            return dependency.call
        if dependency.call is anybody:
            return "anybody"
    return None


def check_declared(app: FastAPI) -> None:
    """Keep a Studio from starting with a route that does not declare who may call it.

    Raises:
        AssertionError: there is one; it is named.
    """
    if missing := list(undeclared(app)):
        raise AssertionError(f"These routes do not declare who may call them: {'; '.join(missing)}.")


def undeclared(app: FastAPI) -> Iterator[str]:
    """The routes of an app that do not declare who may call them; static files are for everybody."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, Mount) and route.name == "static":
            continue
        if declared(route) is None:
            yield f"{' '.join(sorted(context.methods or ()))} {context.path}"
