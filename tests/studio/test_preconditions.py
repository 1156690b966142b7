"""If-Match: what is changed, replaced or deleted is what was read, wherever GET gives an ETag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.access import Needs, declared
from promptlab_studio.preconditions import METHODS

from promptlab.adapters.http.problems import MEDIA_TYPE
from tests import aws
from tests.browser import labs
from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN
from tests.studio.test_projects import hosted

OLD = {"If-Match": '"0123456789abcdef0123456789abcdef"'}


@pytest.fixture
async def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hosted]:
    aws.credentials(monkeypatch)
    async with Hosted(tmp_path, lab=hosted(tmp_path)) as found:
        await labs.add_assets(found.lab, 3)
        yield found


async def addresses(studio: Hosted) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """What has an ETag and can be changed: the method and address, with what changes it in the end."""
    run = await studio.lab.run(labs.config({"name": "simulated/demo"}))
    draft = await studio.lab.run(labs.config({"name": "simulated/demo"}, name="other"))
    await studio.lab.projects.create("blue")
    spare = {"name": "spare", "user_prompt": "Else: <question>"}
    made = await studio.client(TOKEN).post("/api/v1/prompts", json=spare)
    newest = f"/prompts/spare/versions/{made.json()['version']}"
    return {
        f"PATCH /runs/{run.run_id}": ("runs/{run_id}", {"tags": ["a"]}),
        f"DELETE /runs/{draft.run_id}": ("runs/{run_id}", None),
        f"DELETE {newest}": ("prompts/{name}/versions/{version}", None),
        "PATCH /projects/blue": ("projects/{name}", {"description": "new"}),
        "DELETE /projects/blue": ("projects/{name}", None),
        "PUT /settings/admin-token": ("settings/admin-token", {"on": True}),
    }


async def test_only_what_was_read_is_changed(studio: Hosted) -> None:
    """Another ETag is a 412, and nothing is done; its own, or any, and it is."""
    api = studio.client(TOKEN)
    for what, (_, body) in (await addresses(studio)).items():
        method, _, path = what.partition(" ")
        url = f"/api/v1{path}"
        before = await api.get(url)
        refused = await api.request(method, url, json=body, headers=OLD)
        assert refused.status_code == 412, (what, refused.text)
        assert refused.headers["content-type"] == MEDIA_TYPE
        after = await api.get(url)
        assert (after.status_code, after.headers["etag"]) == (200, before.headers["etag"]), what
        several = {"If-Match": f'"other", W/{before.headers["etag"]}'}
        done = await api.request(method, url, json=body, headers=several)
        assert done.status_code in (200, 202, 204), (what, done.text)
    gone = await api.request("DELETE", url.replace("settings/admin-token", "runs/nothing"), headers=OLD)
    assert gone.status_code == 404  # as without


async def test_every_change_holds_to_if_match(studio: Hosted) -> None:
    """By the document: each PUT, PATCH and DELETE says 412; what has a GET is tried above."""
    api = studio.client(TOKEN)
    document = (await api.get("/api/v1/openapi.json")).json()
    tried = {f"{what.split()[0]} {path}" for what, (path, _) in (await addresses(studio)).items()}
    for path, item in document["paths"].items():
        for method in METHODS & {name.upper() for name in item}:
            operation = item[method.lower()]
            assert "412" in operation["responses"], (method, path)
            named = [one["name"].lower() for one in operation.get("parameters", ())]
            assert ("if-match" in named) == ("get" in item), (method, path)
            if "get" in item:
                alike = path.removeprefix("/api/v1/")
                alike = alike.replace("datasets/", "prompts/").replace("code/", "prompts/")
                assert f"{method} {alike}" in tried, (method, path)


async def test_what_has_no_etag_is_not_changed_under_a_condition(studio: Hosted) -> None:
    """What cannot be held against anything is not done; without the header it is."""
    api = studio.client(TOKEN)
    made = await api.post("/api/v1/tokens", json={"name": "ci", "role": "viewer", "expires_in_days": 1})
    url = f"/api/v1/tokens/{made.json()['id']}"
    for tag in (*OLD.values(), "*"):
        refused = await api.delete(url, headers={"If-Match": tag})
        assert refused.status_code == 412 and "no ETag" in refused.json()["detail"]
    assert (await api.delete(url)).status_code == 204


async def test_who_may_not_change_it_is_told_that_first(studio: Hosted) -> None:
    """A tag that is right or wrong tells nobody more than they may know, and the try is in the audit."""
    api = studio.client(TOKEN)
    run = await studio.lab.run(labs.config({"name": "simulated/demo"}))
    url = f"/api/v1/runs/{run.run_id}"
    seen = (await api.get(url)).headers["etag"]
    viewer = studio.client(await studio.token("viewer"))
    for tag in (seen, *OLD.values()):
        assert (await viewer.delete(url, headers={"If-Match": tag})).status_code == 403
        nobody: httpx.Response = await studio.client().delete(url, headers={"If-Match": tag})
        assert nobody.status_code == 401
    assert (await api.delete(url, headers=OLD)).status_code == 412
    audit = (await api.get("/api/v1/audit")).json()["items"]
    of_run = [(entry["outcome"], entry["status"]) for entry in audit if entry["action"] == f"DELETE {url}"]
    assert of_run == [("refused", 412), *[("denied", 401), ("denied", 403)] * 2]


def test_every_change_of_the_api_asks_who_it_is_first(tmp_path: Path) -> None:
    """Conditions are looked at behind the roles: each such route declares what it needs."""
    from fastapi.routing import iter_route_contexts
    from promptlab_studio.app import create_app

    app = create_app(labs.open_lab(tmp_path))
    changes = [
        context.original_route
        for context in iter_route_contexts(app.routes)
        if (context.path or "").startswith("/api/") and METHODS & set(context.methods or ())
    ]
    assert changes and all(isinstance(declared(route), Needs) for route in changes)
