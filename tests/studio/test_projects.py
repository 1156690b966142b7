"""Two projects that cannot see each other: in one table and one bucket, by every address, with equal ids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from promptlab_studio.access import ADMIN
from promptlab_studio.app import create_app
from promptlab_studio.auth import Auth
from promptlab_studio.tokens import Tokens

from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.aws.project_blobs import ProjectBlobs
from promptlab.adapters.aws.s3_blobs import S3Blobs
from promptlab.adapters.local.env_secrets import EnvSecrets
from promptlab.adapters.local.runner import LocalRunner
from promptlab.clock import SystemClock
from promptlab.domain.results import RunRecord
from promptlab.outbound import Outbound
from promptlab.store_lab import StoreLab
from promptlab.wiring import Parts
from tests import aws
from tests.studio.large_lab import BODIES, FORMS, PATHS, WITHOUT
from tests.studio.live import TOKEN

RUN = "20261126-080000-abc123"
"""The id of a run of each project."""
WORDS = {"red": "crimson-5521", "blue": "azure-9917"}
"""What stands in everything of a project."""


def hosted(folder: Path) -> StoreLab:
    """A lab over one table and one bucket, whose runs are worked on here."""
    blobs = S3Blobs(aws.new_bucket(), session=aws.session())
    ledger, clock = DynamoDBLedger(aws.new_table(), blobs, session=aws.session()), SystemClock()

    def part_of(whole: Parts, project: str) -> Parts:
        own = ProjectBlobs(blobs, project)
        records = ledger.for_project(project, own)
        runner = LocalRunner(records, own, clock, folder / project)
        return replace(whole, ledger=records, blobs=own, runner=runner, part_of=None)

    runner = LocalRunner(ledger, blobs, clock, folder / "default")
    parts = Parts(ledger, blobs, EnvSecrets(), clock, runner, Outbound(), "here", part_of=part_of)
    return StoreLab(parts)


async def run_in(lab: StoreLab, word: str, run_id: str) -> RunRecord:
    """A run whose names, rows and answers have a word in them."""
    await lab.start(
        {
            "name": "quiz",
            "dataset": {"name": f"{word}-rows", "rows": [{"q": f"{word} {n}"} for n in range(3)]},
            "prompt_template": {"name": "ask", "user_prompt": f"{word} <q>"},
            "model": "simulated/echo",
            "evaluation": [{"metric": "length"}],
            "tags": [word],
        },
        run_id=run_id,
    )
    return await lab.watch(await lab.get_run(run_id))


class Two:
    """A lab with two projects, each with a run of the same id and one of its own, and a client of each."""

    def __init__(self, lab: StoreLab, clients: dict[str, httpx.AsyncClient], own: dict[str, str]) -> None:
        self.lab, self.clients, self.own = lab, clients, own

    async def get(self, project: str, path: str, **headers: str) -> httpx.Response:
        return await self.clients[project].get(path, headers=headers)


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    aws.credentials(monkeypatch)
    lab = hosted(tmp_path)
    app = create_app(lab, auth=Auth(TOKEN, secure=False))
    tokens, clients, own = Tokens(lab.records), dict[str, httpx.AsyncClient](), dict[str, str]()
    for project, word in WORDS.items():
        await lab.projects.create(project)
        part = lab.for_project(project)
        await run_in(part, word, RUN)
        own[project] = (await run_in(part, word, f"20261126-080001-{project:a<6.6}")).run_id
        _, secret = await tokens.create(ADMIN, project, role="engineer", days=1, project=project)
        clients[project] = client(app, secret)
    clients["admin"] = client(app, TOKEN)
    yield Two(lab, clients, own)
    for one in clients.values():
        await one.aclose()
    await lab.close()


def client(app: Any, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {token}", "Sec-Fetch-Site": "same-origin"},
        timeout=60,
        follow_redirects=False,
    )


@pytest.mark.long
async def test_no_address_shows_anything_of_another_project(two: Two) -> None:
    """Every page and every route of the API, with the id that both have and with that of the other: twice, so
    that what is remembered of the one is not given to the other."""
    addresses = {address for path in PATHS.values() for address in path}
    assert len(addresses) > 40
    for project in ("red", "blue", "red"):
        other = "blue" if project == "red" else "red"
        shown = 0
        for address in sorted(addresses):
            for run_id in (RUN, two.own[other]):
                path = address.replace("{run}", run_id).replace("{other}", RUN)
                for name in ("made-qa", "long", "many", "columns", "texts", "wide"):
                    path = path.replace(f"name={name}", f"name={WORDS[other]}-rows")
                answer = await two.get(project, path)
                assert answer.status_code < 500, path
                # The address itself may come back in an error.
                said = answer.text.replace(f"{WORDS[other]}-rows", "")
                assert WORDS[other] not in said, (project, path)
                shown += WORDS[project] in answer.text
        assert shown > 10, project


async def test_a_foreign_run_is_as_unknown_as_any(two: Two) -> None:
    """In the same words, by whatever asks, reads or changes it; and it stays as it is."""
    foreign, unknown = two.own["blue"], "20261126-080001-nobody"
    red = two.clients["red"]
    asked = 0
    for (method, path), address in {**BODIES, **WITHOUT}.items():
        if "{run_id}" not in path:
            continue
        url = re.sub(r"\{\w+\}", "x", path.replace("{run_id}", "{}"))
        for body in ({}, {"archived": True}, {"failed": True}):
            said = [
                await red.request(method, url.format(run_id), json=body if method != "DELETE" else None)
                for run_id in (foreign, unknown)
            ]
            assert said[0].status_code == said[1].status_code, (method, address)
            assert said[0].text.replace(foreign, "X") == said[1].text.replace(unknown, "X"), (method, path)
            asked += said[0].status_code == 404
    for form in FORMS.values():
        if "{run}" in form:
            said = [await red.post(form.replace("{run}", run_id)) for run_id in (foreign, unknown)]
            assert said[0].status_code == said[1].status_code
            assert said[0].text.replace(foreign, "X") == said[1].text.replace(unknown, "X"), form
    assert asked > 5
    there = await two.lab.for_project("blue").get_run(foreign)
    assert (there.status, there.archived, there.generation) == ("completed", False, 0)


async def test_equal_ids_are_two_runs(two: Two) -> None:
    """What is deleted, tagged or searched in the one is as it was in the other."""
    red, blue = two.clients["red"], two.clients["blue"]
    for api, word in ((red, WORDS["red"]), (blue, WORDS["blue"]), (red, WORDS["red"])):
        rows = (await api.get(f"/api/v1/runs/{RUN}/cases")).json()["items"]
        assert [word in row["response"] for row in rows] == [True] * 3
        page = (await api.get(f"/runs/{RUN}?q={word}")).text
        assert word in page
        compared = (await api.get(f"/api/v1/compare?run={RUN}&run={RUN}")).text
        assert word in compared
    assert (await red.patch(f"/api/v1/runs/{RUN}", json={"tags": ["mine"]})).json()["tags"] == ["mine"]
    assert (await blue.get(f"/api/v1/runs/{RUN}")).json()["tags"] == [WORDS["blue"]]
    assert (await red.delete(f"/api/v1/runs/{RUN}")).status_code == 204
    assert (await red.get(f"/api/v1/runs/{RUN}")).status_code == 404
    assert WORDS["blue"] in (await blue.get(f"/api/v1/runs/{RUN}/cases")).text


async def test_one_idempotency_key_in_two_projects_is_two_runs(two: Two) -> None:
    """Neither hears of the other's; nor does a key of the default project that reads like theirs."""
    body = {
        "name": "once",
        "dataset": {"name": "one", "rows": [{"q": "1"}]},
        "prompt_template": {"name": "one", "user_prompt": "<q>"},
        "model": {"name": "simulated/echo"},
    }
    made = [
        (await two.clients[p].post("/api/v1/runs", json=body, headers={"Idempotency-Key": "k"})).json()
        for p in ("red", "blue", "red")
    ]
    assert made[0]["run_id"] == made[2]["run_id"] != made[1]["run_id"]
    alike = await two.clients["admin"].post("/api/v1/runs", json=body, headers={"Idempotency-Key": "red#k"})
    assert alike.json()["run_id"] != made[0]["run_id"]
    await two.lab.watch(await two.lab.get_run(alike.json()["run_id"]))
    for project, run in zip(("red", "blue"), made, strict=False):
        lab = two.lab.for_project(project)
        await lab.watch(await lab.get_run(run["run_id"]))


async def test_an_admin_of_the_lab_enters_projects_and_nobody_else_does(two: Two) -> None:
    """By a header or by the page; a project that one may not see is as unknown as one that is not there."""
    admin = two.clients["admin"]
    assert (await admin.get("/api/v1/runs")).json()["items"] == []
    entered = await two.get("admin", f"/api/v1/runs/{RUN}/cases", **{"Promptlab-Project": "red"})
    assert WORDS["red"] in entered.text
    answer = await admin.post("/projects/enter", data={"name": "blue"})
    assert answer.headers["location"] == "/"
    page = await admin.get("/")
    assert WORDS["blue"] in page.text and WORDS["red"] not in page.text
    said = [
        (await two.get("red", "/api/v1/runs", **{"Promptlab-Project": name})) for name in ("blue", "green")
    ]
    assert [a.status_code for a in said] == [404, 404]
    assert said[0].text.replace("blue", "X") == said[1].text.replace("green", "X")
    two.clients["red"].cookies.set("promptlab-project", "blue")
    assert WORDS["blue"] not in (await two.get("red", "/")).text
    names = [p["name"] for p in (await two.get("red", "/api/v1/projects")).json()["items"]]
    assert names == ["red"]
    assert (await two.get("red", "/api/v1/projects/blue")).status_code == 404


async def test_only_admins_of_the_whole_lab_change_projects_people_and_tokens(two: Two) -> None:
    """The admin of one project may do all in it, and nothing that is of the lab."""
    tokens = Tokens(two.lab.records)
    _, secret = await tokens.create(ADMIN, "chief", role="admin", days=1, project="red")
    chief = client(two.clients["red"]._transport.app, secret)  # type: ignore[attr-defined]
    assert WORDS["red"] in (await chief.get(f"/api/v1/runs/{RUN}/cases")).text
    for context in iter_route_contexts(two.clients["red"]._transport.app.routes):  # type: ignore[attr-defined]
        path = str(context.path)
        if path.startswith("/api/v1/projects") and "POST" in (context.methods or ()):
            assert (await chief.post(path, json={"name": "mine"})).status_code == 403
    assert (await chief.patch("/api/v1/projects/red", json={"archived": True})).status_code == 403
    assert (await chief.delete("/api/v1/projects/blue")).status_code == 403
    assert (await chief.get("/people")).status_code in (403, 303)
    await chief.aclose()


async def test_a_project_that_is_deleted_leaves_nothing_and_lets_nobody_in(two: Two) -> None:
    """Its tokens are dead, its files and items gone; the other one has all that it had."""
    admin = two.clients["admin"]
    assert (await admin.delete("/api/v1/projects/red")).status_code == 202
    assert (await two.get("red", "/api/v1/runs")).status_code == 401
    assert [p["name"] for p in (await admin.get("/api/v1/projects")).json()["items"]] == ["default", "blue"]
    table = aws.bare_table(two.lab.ledger._table.name)  # type: ignore[attr-defined]
    keys = {item["pk"] for item in table.scan()["Items"]}
    assert [pk for pk in keys if pk.startswith("P#red#")] == [] and any(
        pk.startswith("P#blue#") for pk in keys
    )
    assert await two.lab.blobs.keys("projects/red/") == []
    assert (await two.get("blue", f"/api/v1/runs/{RUN}/cases")).text.count(WORDS["blue"]) > 3
    made = await admin.post("/api/v1/projects", json={"name": "red"})
    assert made.status_code == 201
    assert (await two.get("red", "/api/v1/runs")).status_code == 401


async def test_nothing_is_changed_in_an_archived_project(two: Two) -> None:
    """It can be read; it says why, and can be opened again."""
    admin, red = two.clients["admin"], two.clients["red"]
    assert (await admin.patch("/api/v1/projects/red", json={"archived": True})).json()["archived"] is True
    assert WORDS["red"] in (await red.get(f"/api/v1/runs/{RUN}/cases")).text
    for answer in (
        await red.delete(f"/api/v1/runs/{RUN}"),
        await red.post("/api/v1/prompts", json={"name": "x", "user_prompt": "x"}),
        await red.patch(f"/api/v1/runs/{RUN}", json={"tags": []}),
    ):
        assert answer.status_code == 409 and "'red' is archived" in answer.json()["detail"]
    await admin.patch("/api/v1/projects/red", json={"archived": False})
    assert (await red.patch(f"/api/v1/runs/{RUN}", json={"tags": []})).status_code == 200


async def test_runs_older_than_their_project_keeps_them_are_deleted(two: Two) -> None:
    """But for archived ones, and once a day; the other project keeps all."""
    lab, red = two.lab, two.lab.for_project("red")
    old = {"finished_at": "2020-01-01T00:00:00.000000Z"}
    for run_id in (RUN, two.own["red"]):
        await red.ledger.update_run(run_id, old)
    await red.edit_run(two.own["red"], archived=True)
    assert (await two.clients["admin"].patch("/api/v1/projects/red", json={"retention_days": 30})).json()[
        "retention_days"
    ] == 30
    assert await lab.apply_retention() == 1
    assert await lab.apply_retention() == 0
    assert await lab.go_on_deleting() == 1
    assert await red.ledger.get_run(RUN) is None
    assert (await red.get_run(two.own["red"])).archived
    ((_, deletion),) = await red.journal.done()
    assert (deletion.by, deletion.id) == ("retention", RUN)
    assert len((await lab.for_project("blue").list_runs())[0]) == 2
