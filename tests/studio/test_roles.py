"""Every route × every caller: who gets in where. The table says it once more, by hand: a declaration that
changes, and a route that is added, is noticed here."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import iter_route_contexts
from promptlab_studio.access import ADMIN, ROLES
from promptlab_studio.admin_token import sha
from promptlab_studio.tokens import TOKEN as TOKEN_KIND

from tests.bench.real_runs import add_wide
from tests.studio.hosted import Hosted
from tests.studio.large_lab import BODIES, FORMS, PATHS, WITHOUT
from tests.studio.live import TOKEN

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

Route = tuple[str, str]
EVERYBODY = "everybody"
OPEN: set[Route] = {
    ("GET", "/login"),
    ("GET", "/open"),
    ("GET", "/shared"),
    ("GET", "/sign-in"),
    ("GET", "/sign-in/back"),
    ("POST", "/session"),
    ("GET", "/api/v1/health"),
}
LABELLER: set[Route] = {
    ("POST", "/runs/tags"),
    ("POST", "/runs/archive"),
    ("POST", "/runs/{run_id}/describe"),
    ("POST", "/runs/views"),
    ("POST", "/runs/views/remove"),
    ("PATCH", "/api/v1/runs/{run_id}"),
    ("GET", "/runs/{run_id}/label"),
    ("POST", "/runs/{run_id}/cases/{key}/label"),
    ("POST", "/api/v1/runs/{run_id}/case-labels"),
    ("POST", "/api/v1/runs/{run_id}/case-labels/{key}/remove"),
    ("POST", "/api/v1/case-labels/remove"),
}
ADMINS_PATHS = (
    *("/people", "/audit", "/deletions"),
    *(f"/api/v1/{what}" for what in ("people", "audit", "settings", "deletions")),
)
ADMINS: set[Route] = {
    (method, path)
    for method, path in [
        *((m, p) for m, p in BODIES),
        *WITHOUT,
        *(("POST", p) for p in FORMS),
        *(("GET", p) for p in PATHS),
    ]
    if path.startswith(ADMINS_PATHS)
} | {
    *(("POST", path) for path in ("/api/v1/projects", "/projects", "/projects/edit", "/projects/delete")),
    *((method, "/api/v1/projects/{name}") for method in ("PATCH", "DELETE")),
    ("DELETE", "/api/v1/projects/{name}/cache"),
}
READS: set[Route] = {
    *(("POST", path) for path in ("/api/v1/preview", "/prompt/placeholders", "/projects/enter", "/logout")),
    # Who may read a run may have its file written; whose job it is decides who may stop it.
    ("POST", "/api/v1/runs/{run_id}/sql"),
    *(("POST", "/api/v1/runs/{run_id}/exports"), ("POST", "/runs/{run_id}/exports")),
    *(("POST", f"{api}/jobs/{{job_id}}/{what}") for api in ("", "/api/v1") for what in ("cancel", "retry")),
}
"""What is sent as a body and changes nothing that others see."""
ENGINEERS_PAGES: set[Route] = {
    ("GET", "/new"),
    ("GET", "/playground"),
    ("GET", "/runs/{run_id}/score"),
    ("GET", "/prompt/edit"),
    ("GET", "/code/new"),
    ("GET", "/tokens"),
    ("GET", "/api/v1/tokens"),
    ("GET", "/api/v1/doctor"),
    ("GET", "/doctor"),
}
LINKED = ("/runs/{run_id}", "/compare")
"""What a link opens begins so, in pages and API."""


def least(method: str, path: str) -> str:
    """The least role that a route is open to."""
    route = (method, path)
    if route in OPEN:
        return EVERYBODY
    if route in ADMINS:
        return "admin"
    if route in LABELLER:
        return "labeller"
    if route in READS or (method == "GET" and route not in ENGINEERS_PAGES):
        return "viewer"
    return "engineer"


@dataclass
class Lab:
    """A hosted lab with a run, and tokens of all kinds."""

    studio: Hosted
    run: str
    tokens: dict[str, str]
    numbers: Iterator[int]

    def client(self, token: str | None) -> httpx.AsyncClient:
        """A client at an address of its own: wrong tokens are counted by it."""
        n = next(self.numbers)
        return self.studio.client(token, address=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")

    def routes(self) -> list[Route]:
        found = iter_route_contexts(self.studio.app.routes)
        return [
            (method, str(route.path))
            for route in found
            for method in sorted(getattr(route, "methods", None) or ())
        ]

    def address(self, path: str, run: str | None = None) -> str:
        for name in ("run_id", "key", "form", "name", "version", "label", "token", "file_name"):
            value = {"run_id": run or self.run, "key": "1", "form": "csv", "version": "0"}.get(name, "none")
            path = path.replace(f"{{{name}}}", value)
        return (
            path.replace("{token_id}", "none").replace("{email}", "none@example.com").replace("{number}", "0")
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with Hosted(tmp_path_factory.mktemp("lab")) as studio:
        run, other = await add_wide(studio.lab, rows=3, runs=2, trials=1)
        tokens = {role: await studio.token(role) for role in ROLES}
        tokens["expired"] = await studio.token("admin")
        record = await studio.records.get_record(TOKEN_KIND, sha(tokens["expired"]))
        assert record is not None
        await studio.records.put_record(
            TOKEN_KIND, sha(tokens["expired"]), record, expires_at=time.time() - 1
        )
        tokens["revoked"] = await studio.token("admin")
        await studio.auth.tokens(studio.records).revoke(ADMIN, sha(tokens["revoked"])[:16])
        tokens["link as bearer"] = await studio.token("viewer", only=[run.run_id])
        tokens["link"] = await studio.token("viewer", only=[other.run_id])
        tokens["nobody's"] = "pl_" + "x" * 43
        yield Lab(studio, run.run_id, tokens, itertools.count())


def shut_out(answer: httpx.Response, path: str) -> bool:
    """Whether nobody was let in."""
    if path.startswith("/api/"):
        return answer.status_code == 401 and answer.json()["type"] == "urn:promptlab:unauthenticated"
    return answer.status_code == 303 and answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("caller", ["anonymous", "expired", "revoked", "nobody's", "link as bearer"])
async def test_nobody_without_a_valid_token_gets_in_anywhere(lab: Lab, caller: str) -> None:
    """Before anything else is looked at."""
    for method, path in lab.routes():
        answer = await lab.client(lab.tokens.get(caller)).request(method, lab.address(path))
        if least(method, path) == EVERYBODY:
            assert answer.status_code in (200, 303, 401, 403), (method, path)
        else:
            assert shut_out(answer, path), (caller, method, path, answer.status_code)


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_gets_in_where_the_table_says(lab: Lab, role: str) -> None:
    """And is told which role would, elsewhere."""
    client = lab.client(lab.tokens[role])
    for method, path in lab.routes():
        needed = least(method, path)
        if needed == EVERYBODY:
            continue
        answer = await client.request(method, lab.address(path))
        if ROLES.index(role) >= ROLES.index(needed):  # type: ignore[arg-type]
            assert not shut_out(answer, path) or path == "/logout", (role, method, path)
            assert answer.status_code != 403, (role, method, path, answer.text)
        else:
            assert answer.status_code == 403, (role, method, path, answer.status_code)
            assert f"the role {needed}" in answer.text.replace("&#39;", "'"), (method, path)


async def test_the_admin_token_gets_in_everywhere(lab: Lab) -> None:
    client = lab.client(TOKEN)
    for method, path in lab.routes():
        answer = await client.request(method, lab.address(path))
        assert answer.status_code not in (401, 403) or least(method, path) == EVERYBODY, (method, path)


async def test_a_link_to_another_run_opens_nothing_of_this_one(lab: Lab) -> None:
    """No route but those of its own run, and the login."""
    guest = lab.client(None)
    opened = await guest.get(f"/shared?key={lab.tokens['link']}")
    (own,) = (opened.headers["location"].removeprefix("/runs/"),)
    guest.headers["Sec-Fetch-Site"] = "same-origin"
    seen = 0
    for method, path in lab.routes():
        if least(method, path) == EVERYBODY or path == "/logout":
            continue
        answer = await guest.request(method, lab.address(path))
        assert answer.status_code == 403, (method, path, answer.status_code)
        if least(method, path) != "viewer":
            continue
        if method == "GET" and path.removeprefix("/api/v1").startswith(LINKED) and "{run_id}" in path:
            answer = await guest.get(lab.address(path, own))
            # Its cases have no media; a check wants the name of a metric.
            there = (404,) if "{sha256}" in path else (422,) if "judge-check" in path else (200, 303)
            assert answer.status_code in there, (path, answer.status_code)
            seen += 1
    assert seen >= 8


async def test_every_route_is_walked(lab: Lab) -> None:
    """Those of the tables that other tests walk, and no other."""
    known = {("GET", p) for p in PATHS} | {("POST", p) for p in FORMS} | BODIES.keys() | WITHOUT.keys()
    assert set(lab.routes()) == known


async def test_a_principal_of_another_project_has_that_project(lab: Lab) -> None:
    """What a project keeps from others, tests/studio/test_projects.py holds to: this says whose it is."""
    made = await lab.client(lab.tokens["admin"]).post("/api/v1/projects", json={"name": "elsewhere"})
    assert made.status_code == 201
    people = lab.studio.auth.people(lab.studio.records)
    foreign = await people.put(ADMIN, "f@example.com", role="engineer", project="elsewhere")
    token = await lab.studio.token("engineer", by=foreign.principal)
    me = (await lab.client(token).get("/api/v1/me")).json()
    assert (me["project"], me["role"]) == ("elsewhere", "engineer")
