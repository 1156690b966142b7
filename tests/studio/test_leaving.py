"""Deleting a person: what ends, whose their tokens are, and where their name is not any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from promptlab_studio.access import Principal
from promptlab_studio.audit import AUDIT, Audit, Entry
from promptlab_studio.leaving import Leaving, Wish
from promptlab_studio.people import People
from promptlab_studio.sessions import Opener
from promptlab_studio.tokens import Tokens

from promptlab.domain.labels import CaseLabel
from promptlab.errors import ConfigError
from tests.browser import labs
from tests.studio.hosted import OWN, Hosted
from tests.studio.live import TOKEN

MAX = "max@example.com"
PERSON = f"/api/v1/people/{MAX}"


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Hosted]:
    async with Hosted(tmp_path) as hosted:
        yield hosted


async def with_max(studio: Hosted) -> tuple[httpx.AsyncClient, Principal]:
    """An admin's program, and Max, who did this and that."""
    admin = studio.client(TOKEN)
    await admin.put(PERSON, json={"role": "admin", "name": "Max Muster"})
    found = await people(studio).find(MAX)
    assert found is not None
    await admin.put("/api/v1/people/zoe@example.com", json={"role": "engineer", "name": "Zoe"})
    max_ = await session_of(studio, found.session_ref)
    await max_.put("/api/v1/people/eve@example.com", json={"role": "viewer"})
    await labs.add_assets(studio.lab, 1)
    run = await studio.lab.run(labs.config({"name": "simulated/demo"}))
    await max_.delete(f"/api/v1/runs/{run.run_id}")
    return admin, found.principal


def people(studio: Hosted) -> People:
    return studio.auth.people(studio.records)


async def session_of(studio: Hosted, ref: str) -> httpx.AsyncClient:
    """A browser in a session that was opened with something."""
    from starlette.requests import Request
    from starlette.responses import Response

    scope = {"type": "http", "scheme": "http", "headers": [], "server": ("lab.example", 80), "path": "/"}
    answer = Response()
    await studio.auth.sessions.open(Request(scope), answer, studio.records, Opener("person", ref))
    cookie = answer.headers["set-cookie"].partition(";")[0].partition("=")
    client = studio.client(cookies={cookie[0]: cookie[2]})
    client.headers.update(OWN)
    return client


async def everything(studio: Hosted) -> str:
    """All that is recorded of people, tokens, the audit and deletions."""
    found = []
    for kind in ("PERSON", "TOKEN", "AUDIT", "DELETING", "DELETED", "PROJECT"):
        found += [
            f"{kind} {key} {value}" for key, value in await studio.records.list_records(kind, limit=900)
        ]
    return "\n".join(found)


async def test_a_deleted_person_is_out_and_their_name_is_nowhere(studio: Hosted) -> None:
    """Session, link and token end; the audit and the records of deletions tell the same person's doings by a
    name without meaning; runs stay."""
    admin, who = await with_max(studio)
    tokens = Tokens(studio.records)
    _, secret = await tokens.create(who, "Max's laptop", role="engineer", days=1)
    await tokens.create(who, "Max's link", role="viewer", days=1, only=["x"])
    person = await people(studio).find(MAX)
    assert person is not None
    browser, program = (
        await session_of(studio, person.session_ref),
        studio.client(secret, address="192.0.2.9"),
    )
    assert (await browser.get("/api/v1/me")).json()["name"] == "Max Muster"
    started = await studio.lab.start(labs.config({"name": "simulated/demo"}), by=who.starts_as)
    assert (await studio.lab.watch(started)).started_by == f"person:{MAX}"
    assert (await program.post("/api/v1/prompts", json={})).status_code == 422
    assert "Max" in await everything(studio) and "192.0.2.9" in await everything(studio)

    assert (await admin.delete(PERSON.replace("max@", "MAX@"))).status_code == 204
    said = await everything(studio)
    for word in ("max@", "Max", "Muster", "MAX@", "192.0.2.9"):
        assert word not in said, said
    (record,) = [d for _, d in await studio.lab.journal.done() if d.what == "person"]
    assert record.by == "admin-token" and record.id.startswith("deleted-") and record.was == ()
    called = f"deleted person {record.id.removeprefix('deleted-')}"
    entries = [Entry(**value) for _, value in await studio.records.list_records(AUDIT, limit=100)]
    theirs = [entry for entry in entries if entry.who == f"person:{record.id}"]
    assert {(e.name, e.role, e.address) for e in theirs} == {(called, "admin", "")}
    assert {e.action.split("/")[3] for e in theirs} == {"people", "runs"}
    last = entries[-1]
    assert (last.action, last.name) == (f"DELETE /api/v1/people/{record.id}", "admin token")
    assert (await studio.lab.get_run(started.run_id)).started_by == f"person:{record.id}"
    (run,) = [d for _, d in await studio.lab.journal.done() if d.what == "run"]
    assert run.by == f"person:{record.id}"
    eve = await people(studio).find("eve@example.com")
    assert eve is not None and (eve.invited_by, eve.invited_by_id) == (called, f"person:{record.id}")
    assert (await browser.get("/api/v1/me")).status_code == 401
    assert (await program.get("/api/v1/me")).status_code == 401
    assert (await admin.delete(PERSON)).status_code == 404


async def test_who_is_invited_again_is_somebody_new(studio: Hosted) -> None:
    """No session of before comes to life again."""
    admin, _ = await with_max(studio)
    before = await people(studio).find(MAX)
    assert before is not None
    browser = await session_of(studio, before.session_ref)
    await admin.delete(PERSON)
    await studio.records.put_record("PERSON", MAX, {**asdict(before), "invited_at": "2027-01-01T00:00:00Z"})
    assert (await browser.get("/api/v1/me")).status_code == 401
    assert (await (await session_of(studio, f"{MAX} 2027-01-01T00:00:00Z")).get("/api/v1/me")).is_success


@pytest.mark.parametrize(("to", "creator"), [("", "admin token"), ("zoe@example.com", "Zoe")])
async def test_tokens_are_handed_over_and_links_end(studio: Hosted, to: str, creator: str) -> None:
    """To whoever asks, or to another; a pipeline goes on, and its doings keep its name."""
    admin, who = await with_max(studio)
    tokens = Tokens(studio.records)
    _, secret = await tokens.create(who, "nightly", role="engineer", days=1)
    await tokens.create(who, "for Jo", role="viewer", days=1, only=["x"])
    program = studio.client(secret)
    await program.post("/api/v1/prompts", json={})
    assert (await admin.delete(PERSON, params={"tokens": "hand_over", "to": to})).status_code == 204
    assert (await program.get("/api/v1/me")).json()["name"] == "nightly"
    (kept,) = (await admin.get("/api/v1/tokens")).json()["items"]
    assert (kept["name"], kept["creator"]) == ("nightly", creator) and kept["expires_at"]
    assert "nightly" in [value["name"] for _, value in await studio.records.list_records(AUDIT)]


@pytest.mark.parametrize(
    ("to", "words"),
    [("no@example.com", "nobody of the address"), (MAX, "who stays"), ("eve@example.com", "role viewer")],
)
async def test_tokens_go_to_somebody_who_stays_and_may_have_them(studio: Hosted, to: str, words: str) -> None:
    """Else nothing is deleted."""
    admin, _ = await with_max(studio)
    answer = await admin.delete(PERSON, params={"tokens": "hand_over", "to": to})
    assert answer.status_code == 422 and words in answer.json()["detail"]
    assert (await admin.get("/api/v1/people")).json()["leaving"] == 0
    assert await people(studio).find(MAX) is not None


async def test_names_may_be_kept(studio: Hosted) -> None:
    """For those who have to tell who did what, and may."""
    admin, _ = await with_max(studio)
    assert (await admin.delete(PERSON, params={"names": "keep"})).status_code == 204
    (record,) = [d for _, d in await studio.lab.journal.done() if d.what == "person"]
    assert record.id == MAX
    named = [e for _, e in await studio.records.list_records(AUDIT) if e["name"] == "Max Muster"]
    assert len(named) == 2


@pytest.mark.parametrize("fields", [{"forget": "1", "labels": "1"}, {"labels": "1"}, {"forget": "1"}])
async def test_labels_on_cases_go_or_stay_under_another_name(studio: Hosted, fields: dict[str, str]) -> None:
    """As the box on the page says, whether names are kept or not; those of others stay."""
    _, who = await with_max(studio)
    run = await studio.lab.run(labs.config({"name": "simulated/demo"}))
    for rater in (who.id, "person:zoe@example.com"):
        label = CaseLabel(case=0, passed=True, rater=rater, rater_name=who.name)
        await studio.lab.labels.put(run.run_id, [label], rater=rater)
    await (await studio.browser()).post("/people/remove", data={"email": MAX, **fields})
    left = {label.rater for label in await studio.lab.labels.kept.of(run.run_id)} - {"person:zoe@example.com"}
    assert len(left) == ("labels" not in fields) and who.id not in left


async def test_the_last_admin_stays_and_nothing_is_begun(studio: Hosted) -> None:
    await with_max(studio)
    await studio.records.put_record("SETTING", "admin-token", {"on": False})
    leaving = Leaving(studio.lab, people(studio), Tokens(studio.records), Audit(studio.records))
    with pytest.raises(ConfigError, match="last admin"):
        await leaving.delete(Principal("local", "x"), MAX, Wish())
    assert await leaving.begun() == []


async def test_it_goes_on_where_time_was_short(studio: Hosted) -> None:
    """A long audit takes several calls; who was deleted is out from the first on."""
    admin, who = await with_max(studio)
    audit = Audit(studio.records)
    for number in range(450):
        at = f"2026-11-{1 + number // 24:02}T{number % 24:02}:00:00.000000Z"
        entry = Entry(at, who.id, who.name, "admin", "default", "POST /api/v1/runs", "done", 201, "192.0.2.7")
        await audit.add(entry)
    leaving = Leaving(studio.lab, people(studio), Tokens(studio.records), audit)
    left = await leaving.delete(Principal("admin-token", "x"), MAX, Wish(), within_s=0)
    assert left is not None and not left.is_done
    assert (await admin.get("/api/v1/people")).json()["leaving"] == 1
    assert await studio.lab.go_on_deleting() == 0
    browser = await studio.browser()
    assert "Go on taking it out" in (await browser.get("/people")).text
    assert (await browser.post("/people/go-on")).headers["location"] == "/people"
    assert await leaving.begun() == [] and "Max" not in await everything(studio)
    assert sum(e["name"].startswith("deleted person") for _, e in await _all(studio)) > 450


async def _all(studio: Hosted) -> list[tuple[str, dict[str, str]]]:
    return await studio.records.list_records(AUDIT, limit=1000)


async def test_the_page_asks_what_becomes_of_it(studio: Hosted) -> None:
    """Whom tokens may go to, how many there are; and says what was done."""
    _, who = await with_max(studio)
    await Tokens(studio.records).create(who, "nightly", role="engineer", days=1)
    browser = await studio.browser()
    page = (await browser.get(f"/people?remove={MAX}")).text
    assert "Their tokens (1)" in page and "are Zoe’s from now on" in page and "eve@example.com’s" not in page
    done = await browser.post("/people/remove", data={"email": MAX, "to": "zoe@example.com", "forget": "1"})
    assert done.headers["location"] == "/people"
    said = unquote(done.headers["set-cookie"])
    assert "Tokens and links: 1." in said and "calls them deleted-" in said
    assert "Max" not in (await browser.get("/people")).text
    nobody = await browser.post("/people/remove", data={"email": "x@example.com"})
    assert "nobody of this address" in unquote(nobody.headers["set-cookie"])
