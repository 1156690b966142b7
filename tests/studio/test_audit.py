"""The audit: what stands in it, how it is read, and that nobody can fill it."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.audit import AUDIT, COLUMNS, MOST_DENIED, Audit, Chosen, Entry, audit_of
from promptlab_studio.memory_records import MemoryRecords

from promptlab.assets.store import AssetStore
from promptlab.errors import ConfigError
from tests.studio.hosted import OWN, Hosted
from tests.studio.live import TOKEN


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Hosted]:
    async with Hosted(tmp_path) as hosted:
        yield hosted


async def entries(studio: Hosted) -> list[dict[str, Any]]:
    """Oldest first, as they are stored."""
    return [record for _, record in await studio.records.list_records(AUDIT, limit=1000)]


async def test_a_change_says_who_what_when_from_where_and_with_which_outcome(studio: Hosted) -> None:
    """Reading and previewing are no changes."""
    engineer = studio.client(await studio.token("engineer"), address="198.51.100.7")
    body = {"name": "a", "user_prompt": "x"}
    engineer.headers["User-Agent"] = "pipeline/1.0"
    assert (await engineer.post("/api/v1/prompts", json=body)).status_code == 201
    assert (await engineer.get("/api/v1/prompts")).status_code == 200
    assert (await engineer.post("/api/v1/prompts", json={"name": "a"})).status_code == 422
    assert (await engineer.post("/prompt/placeholders", data={"content": "x"})).status_code == 200
    done, refused = await entries(studio)
    assert done["who"].startswith("token:") and done["at"].endswith("Z")
    expected = {
        "name": "engineer", "role": "engineer", "project": "default", "action": "POST /api/v1/prompts",
        "outcome": "done", "status": 201, "address": "198.51.100.7", "agent": "pipeline/1.0",
        "made": "/api/v1/prompts/a/versions/0",
    }  # fmt: skip
    assert {name: done[name] for name in expected} == expected
    assert (refused["outcome"], refused["status"], refused["made"]) == ("refused", 422, "")


async def test_logins_and_denied_tries_are_in_it(studio: Hosted) -> None:
    """A wrong token, a role too low, another site; no secret is."""
    client = studio.client()
    await client.post("/session", data={"token": "wrong-token-of-somebody"})
    await client.post("/session", data={"token": TOKEN})
    await client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"})
    await client.post("/logout", headers=OWN)
    await studio.client(await studio.token("viewer")).post("/api/v1/prompts", json={})
    await studio.client().get("/api/v1/runs?key=pl_secret")
    await studio.client().get("/")  # a browser that is sent to the login is no try
    found = [
        (e["action"], e["who"].partition(":")[0], e["outcome"], e["status"]) for e in await entries(studio)
    ]
    assert found == [
        ("POST /session", "", "denied", 401),
        ("POST /session", "admin-token", "done", 303),
        ("POST /logout", "", "denied", 403),
        ("POST /logout", "admin-token", "done", 303),
        ("POST /api/v1/prompts", "token", "denied", 403),
        ("GET /api/v1/runs", "", "denied", 401),
    ]
    assert "wrong-token" not in json.dumps(await entries(studio))
    assert "pl_secret" not in json.dumps(await entries(studio))


async def test_a_fault_of_a_change_is_in_it(studio: Hosted) -> None:
    """As failed."""

    class Broken(AssetStore):
        async def create(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("the disk is gone")

    studio.lab.assets = Broken(studio.lab.ledger, studio.lab.blobs, studio.lab.clock)
    answer = await studio.client(TOKEN).post("/api/v1/prompts", json={"name": "a", "user_prompt": "x"})
    assert answer.status_code == 500
    assert [(e["outcome"], e["status"]) for e in await entries(studio)] == [("failed", 500)]


async def test_a_fault_of_the_audit_breaks_no_request_and_is_logged(
    studio: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    """With the entry, which is nowhere else then."""

    class Down(MemoryRecords):
        async def put_record(self, *_: Any, **__: Any) -> bool:
            raise ConnectionError("no table")

    studio.app.state.audit = Audit(Down())
    with caplog.at_level(logging.ERROR, "promptlab_studio.audit"):
        answer = await studio.client(TOKEN).post("/api/v1/prompts", json={"name": "a", "user_prompt": "x"})
    assert answer.status_code == 201
    assert "could not be recorded" in caplog.text and '"action":"POST /api/v1/prompts"' in caplog.text


async def test_nobody_can_fill_it(studio: Hosted) -> None:
    """Denied tries of an address are recorded so often an hour; others' and changes still are."""
    client = studio.client()
    for _ in range(MOST_DENIED + 20):
        await client.get("/api/v1/runs")
    await studio.client(address="192.0.2.9").get("/api/v1/runs")
    await studio.client(TOKEN).post("/api/v1/prompts", json={"name": "a", "user_prompt": "x"})
    counted = Counter((e["address"], e["outcome"]) for e in await entries(studio))
    assert counted[("192.0.2.1", "denied")] == MOST_DENIED + 1
    assert counted[("192.0.2.9", "denied")] == 1
    assert counted[("192.0.2.1", "done")] == 1
    said = [e["action"] for e in await entries(studio) if "not recorded" in e["action"]]
    assert said == ["further denied tries from here of this hour are not recorded"]


def entry(at: str, **more: Any) -> Entry:
    fields = {
        "at": at, "who": "token:1", "name": "ci", "role": "engineer", "project": "default", "outcome": "done",
        "action": "POST /api/v1/runs", "status": 202, "address": "192.0.2.1", **more,
    }  # fmt: skip
    return Entry(**fields)


async def test_it_is_read_by_time_in_pages_and_by_filters() -> None:
    """Newest first, over the ends of months and years."""
    audit = Audit(MemoryRecords())
    times = [f"{day}T12:00:00.000000Z" for day in ("2025-12-31", "2026-01-01", "2026-01-31", "2026-02-01")]
    for n, at in enumerate(times):
        await audit.add(
            entry(at, name=f"ci {n}", address=f"192.0.2.{n}", outcome="failed" if n == 2 else "done")
        )
    found, more = await audit.page(Chosen(), limit=3)
    assert [e.at for e in found] == times[:0:-1] and more is not None
    rest, more = await audit.page(Chosen(), before=more, limit=3)
    assert ([e.at for e in rest], more) == (times[:1], None)
    for chosen, wanted in (
        (Chosen(since="2026-01-01"), [3, 2, 1]),
        (Chosen(until="2026-01-31"), [2, 1, 0]),
        (Chosen(since="2026-01-01", until="2026-01-01"), [1]),
        (Chosen(who="CI 3"), [3]),
        (Chosen(who="token:1", address="192.0.2.2"), [2]),
        (Chosen(outcome="failed"), [2]),
        (Chosen(project="default"), [3, 2, 1, 0]),
        (Chosen(project="red"), []),
        (Chosen(action="delete"), []),
    ):
        found, _ = await audit.page(chosen)
        assert [times.index(e.at) for e in found] == wanted, chosen
    for wrong in (Chosen(since="yesterday"), Chosen(until="2026-13-01")):
        with pytest.raises(ConfigError, match="is not a day"):
            await audit.page(wrong)
    with pytest.raises(ConfigError, match="not where a page"):
        await audit.page(Chosen(), before="x")


async def test_it_is_exported_as_csv_and_jsonl(studio: Hosted) -> None:
    """With the filters; what begins like a formula is none in a spreadsheet."""
    audit = Audit(studio.records)
    studio.app.state.audit = audit
    await audit.add(entry("2026-01-01T00:00:00.000000Z", agent="=cmd|'/c calc'!A0"))
    await audit.add(entry("2026-01-02T00:00:00.000000Z", outcome="denied", status=403))
    admin = studio.client(TOKEN)
    answer = await admin.get("/api/v1/audit/export?format=csv")
    assert 'filename="audit.csv"' in answer.headers["content-disposition"]
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert tuple(header) == COLUMNS and len(rows) == 2
    assert rows[1][header.index("agent")] == "'=cmd|'/c calc'!A0"
    lines = (await admin.get("/api/v1/audit/export?format=jsonl&outcome=denied")).text.splitlines()
    assert [json.loads(line)["status"] for line in lines] == [403]
    page = (await admin.get("/api/v1/audit?limit=1")).json()
    assert page["items"][0]["outcome"] == "denied" and page["next_cursor"]
    page = (await admin.get("/api/v1/audit", params={"cursor": page["next_cursor"]})).json()
    assert (page["items"][0]["agent"], page["next_cursor"]) == ("=cmd|'/c calc'!A0", None)
    assert (await admin.get("/api/v1/audit?since=never")).status_code == 422
    assert (await admin.get("/api/v1/audit?outcome=never")).status_code == 422


async def test_the_page_shows_filters_and_says_what_is_wrong(studio: Hosted) -> None:
    """What came from outside is escaped."""
    audit = Audit(studio.records)
    await audit.add(entry("2026-01-01T00:00:00.000000Z", action="GET /<script>"))
    admin = await studio.browser()
    page = (await admin.get("/audit")).text
    assert "GET /&lt;script&gt;" in page and "POST /session" in page
    assert "POST /session" not in (await admin.get("/audit?action=script")).text
    assert "Nothing matches" in (await admin.get("/audit?who=nobody+like+this")).text
    assert "is not a day" in (await admin.get("/audit?since=x")).text


def test_the_app_has_one_audit(tmp_path: Path) -> None:
    """Its bound is counted in one place."""
    from starlette.requests import Request

    studio = Hosted(tmp_path)
    request = Request({"type": "http", "app": studio.app, "headers": []})
    assert audit_of(request) is audit_of(request)
