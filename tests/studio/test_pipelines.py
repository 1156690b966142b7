"""The API as pipelines use it: waiting for a run's end, choosing runs, changing only what one has seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.app import create_app

from promptlab.domain.choice import Chosen
from promptlab.errors import ConfigError
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.browser import labs


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    found = labs.open_lab(tmp_path)
    await labs.add_assets(found, 7)
    yield found
    await found.close()


@pytest.fixture
async def api(lab: StoreLab) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(lab))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost/api/v1", timeout=60
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/runs/{}", "/runs/{}/progress"])
async def test_a_question_waits_for_the_end_of_a_run(
    lab: StoreLab, api: httpx.AsyncClient, path: str
) -> None:
    """One request in place of many; it is answered when the run ends."""
    model = {"name": "simulated/slow", "latency_ms": 20, "max_concurrent_tasks": 1}
    run = await lab.start(labs.config(model))
    assert (await api.get(path.format(run.run_id))).json()["status"] == "running"
    answer = await api.get(path.format(run.run_id), params={"wait": 25})
    assert (answer.json()["status"], answer.json()["done"]) == ("completed", 7)


async def test_a_question_about_a_run_that_goes_on_is_answered_in_time(
    lab: StoreLab, api: httpx.AsyncClient
) -> None:
    """The HTTP API in front of Lambda gives up after 30 s: the bound is below it, as the document says."""
    run = await lab.start(labs.config({"name": "simulated/slow", "latency_ms": 60_000, "jitter": 0}))
    assert (await api.get(f"/runs/{run.run_id}", params={"wait": 1})).json()["status"] == "running"
    document = (await api.get("/openapi.json")).json()
    parameters = document["paths"]["/api/v1/runs/{run_id}"]["get"]["parameters"]
    (wait,) = [parameter for parameter in parameters if parameter["name"] == "wait"]
    assert "after 25 s at the latest" in wait["description"]
    await lab.cancel(run.run_id)


async def test_runs_by_day_dataset_model_and_tag(lab: StoreLab, api: httpx.AsyncClient) -> None:
    """Each alone and together, also by the lab itself."""
    run = await lab.run(labs.config({"name": "simulated/demo"}, tags=("nightly",)))
    days = ("2026-01-01T10:00:00.000000Z", "2026-01-02T10:00:00.000000Z", "2026-01-03T00:00:00.000000Z")
    for n, day in enumerate(days):
        dataset = {**run.experiment["dataset"], "name": f"d{n}"}
        old = replace(run, run_id=f"r{n}", created_at=day, experiment={**run.experiment, "dataset": dataset})
        await lab.ledger.add_run(old)

    async def ids(**params: str) -> list[str]:
        return [item["run_id"] for item in (await api.get("/runs", params=params)).json()["items"]]

    assert await ids(until="2026-01-02") == ["r1", "r0"]
    assert await ids(since="2026-01-02", until="2026-01-02") == ["r1"]
    assert await ids(since="2026-01-02T10:00:00Z", until="2026-01-03T00:00:00Z") == ["r1"]
    assert await ids(since="2026-01-03") == [run.run_id, "r2"]
    assert await ids(dataset="d1") == ["r1"] == await ids(dataset="d1@0")
    assert await ids(dataset="d1@1") == []
    assert await ids(model="demo", tag="nightly", since="2026-01-02", until="2026-01-31") == ["r2", "r1"]
    for wrong in ("yesterday", "2026-13-01", "2026-01-01T10:00", "２０２６-01-01"):
        answer = await api.get("/runs", params={"since": wrong})
        assert answer.status_code == 422 and "2026-11-23" in answer.json()["detail"]
    with pytest.raises(ConfigError, match="until"):
        Chosen(until="x")
    assert Chosen(since="2026-01-01").to_json() == {"since": "2026-01-01", "archived": "false"}


async def test_what_has_not_changed_is_not_sent_again(lab: StoreLab, api: httpx.AsyncClient) -> None:
    """Neither runs nor versions, nor lists; a change has another tag."""
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    for path in (
        f"/runs/{run.run_id}",
        f"/runs/{run.run_id}/cases",
        "/runs",
        "/prompts/sums/versions/0",
        "/datasets/arithmetic/versions/0/rows",
    ):
        first = await api.get(path)
        again = await api.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == "no-store" and "content-type" not in again.headers
        mine = await api.get(path, headers={"Authorization": "Bearer x"})
        assert mine.headers["cache-control"] == "private, no-cache"
        other = await api.get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)
    assert (await api.patch(f"/runs/{run.run_id}", json={"tags": ["a"]})).status_code == 200
    assert (await api.get(f"/runs/{run.run_id}")).headers["etag"] != first.headers["etag"]


async def test_a_change_is_made_only_to_what_was_seen(lab: StoreLab, api: httpx.AsyncClient) -> None:
    """Who comes second with an older tag is told, and nothing is done."""
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    seen = (await api.get(f"/runs/{run.run_id}")).headers["etag"]
    first = await api.patch(f"/runs/{run.run_id}", json={"tags": ["a"]}, headers={"If-Match": seen})
    assert (first.status_code, first.json()["tags"]) == (200, ["a"])
    second = await api.patch(f"/runs/{run.run_id}", json={"tags": ["b"]}, headers={"If-Match": seen})
    assert second.status_code == 412 and "changed since" in second.json()["detail"]
    now = await api.get(f"/runs/{run.run_id}")
    assert (now.json()["tags"], now.headers["etag"]) == (["a"], first.headers["etag"])
    third = await api.patch(f"/runs/{run.run_id}", json={"tags": ["b"]}, headers={"If-Match": f'{seen}, "x"'})
    assert third.status_code == 412
    for tag in (first.headers["etag"], "*"):
        again = await api.patch(f"/runs/{run.run_id}", json={"archived": False}, headers={"If-Match": tag})
        assert again.status_code == 200


class MeetingLedger:
    """A ledger in which changes of a run wait for each other, and then are made at once."""

    def __init__(self, ledger: Any, changes: int) -> None:
        self._ledger, self._missing, self._all_here = ledger, changes, asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def update_run(self, run_id: str, changes: Any, **options: Any) -> bool:
        """Wait until all are here."""
        self._missing -= 1
        if not self._missing:
            self._all_here.set()
        await self._all_here.wait()
        made: bool = await self._ledger.update_run(run_id, changes, **options)
        return made


async def test_of_changes_at_once_to_what_was_seen_one_is_made(
    lab: StoreLab, api: httpx.AsyncClient, tmp_path: Path
) -> None:
    """All of them find the tag that they saw, and then the ledger has one of them only."""
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    seen = (await api.get(f"/runs/{run.run_id}")).headers["etag"]
    parts = open_parts({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    ledger: Any = MeetingLedger(parts.ledger, 4)
    other = StoreLab(replace(parts, ledger=ledger))
    transport = httpx.ASGITransport(create_app(other))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", timeout=60) as four:
        answers = await asyncio.gather(
            *(
                four.patch(f"/runs/{run.run_id}", json={"tags": [t]}, headers={"If-Match": seen})
                for t in "abcd"
            )
        )
    await other.close()
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    (made,) = (answer.json()["tags"] for answer in answers if answer.status_code == 200)
    assert (await lab.get_run(run.run_id)).tags == tuple(made)


async def test_the_document_says_when_to_come_back(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        for operation in item.values():
            if path != "/api/v1/health":
                for status in ("429", "503"):
                    assert "Retry-After" in operation["responses"][status]["headers"], path


def test_a_list_ends_where_all_that_follows_is_older() -> None:
    """It does not read the store to its end."""
    assert Chosen(since="2026-01-02").is_before("2026-01-01T23:59:59.999999Z")
    assert not Chosen(since="2026-01-02").is_before("2026-01-02T00:00:00.000000Z")
