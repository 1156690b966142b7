"""Tokens and links: what they open, and when they do not any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from promptlab_studio.access import ADMIN, Principal, Role
from promptlab_studio.admin_token import sha
from promptlab_studio.tokens import MOST_DAYS, ROOT, TOKEN, USED, Tokens

from promptlab.errors import ConfigError, ForbiddenError
from tests.bench.real_runs import add_wide
from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN as ADMIN_TOKEN

ENGINEER = Principal("person:e@example.com", "E", "engineer")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Hosted]:
    async with Hosted(tmp_path) as hosted:
        yield hosted


async def test_a_token_is_shown_once_and_kept_as_a_hash(studio: Hosted, tmp_path: Path) -> None:
    """256 random bits; neither list nor store has it."""
    admin = studio.client(ADMIN_TOKEN)
    made = (await admin.post("/api/v1/tokens", json={"name": "nightly", "role": "engineer"})).json()
    assert made["token"].startswith("pl_") and len(made["token"]) == 46
    listed = (await admin.get("/api/v1/tokens")).json()["items"]
    assert [(t["id"], t["name"], t["role"], t["creator"]) for t in listed] == [
        (made["id"], "nightly", "engineer", "admin token")
    ]
    assert made["token"] not in (await admin.get("/api/v1/tokens")).text
    assert sha(made["token"]).startswith(made["id"])
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [data for data in files if made["token"].encode() in data]
    used = await studio.client(made["token"]).get("/api/v1/me")
    assert used.json() | {"may": None} == {
        "id": f"token:{made['id']}",
        "name": "nightly",
        "role": "engineer",
        "project": "default",
        "may": None,
    }


async def test_a_revoked_token_is_dead_at_once_and_its_sessions_with_it(studio: Hosted) -> None:
    """Also where it was right a moment ago."""
    token = await studio.token("viewer")
    program, browser = studio.client(token), await studio.browser(token)
    assert (await program.get("/api/v1/runs")).status_code == 200
    assert (await browser.get("/")).status_code == 200
    admin = studio.client(ADMIN_TOKEN)
    assert (await admin.delete(f"/api/v1/tokens/{sha(token)[:16]}")).status_code == 204
    assert (await program.get("/api/v1/runs")).status_code == 401
    assert (await browser.get("/")).headers["location"].startswith("/login")
    assert (await admin.delete(f"/api/v1/tokens/{sha(token)[:16]}")).status_code == 404


async def test_an_expired_token_is_dead(studio: Hosted) -> None:
    """At its end, not some time after."""
    token = await studio.token("viewer")
    record = await studio.records.get_record(TOKEN, sha(token))
    assert record is not None
    await studio.records.put_record(TOKEN, sha(token), record, expires_at=time.time() - 0.001)
    assert (await studio.client(token).get("/api/v1/runs")).status_code == 401
    assert (await studio.client(ADMIN_TOKEN).get("/api/v1/tokens")).json()["items"] == []


async def test_the_last_use_is_noted_once_a_minute(studio: Hosted) -> None:
    """However many processes are asked at once."""
    token = await studio.token("viewer")
    others = [Tokens(studio.records) for _ in range(3)]
    await asyncio.gather(*(tokens.used(sha(token)) for tokens in others for _ in range(5)))
    await studio.client(token).get("/api/v1/runs")
    (_, used), *more = await studio.records.list_records(USED)
    assert not more
    listed = (await studio.client(ADMIN_TOKEN).get("/api/v1/tokens")).json()["items"]
    assert listed[0]["last_used_at"] == used["at"]


async def test_nobody_makes_a_token_that_may_more_than_they(studio: Hosted) -> None:
    """By role or project; and each sees and revokes only their own, but for admins."""
    engineer = studio.client(await studio.token("engineer"))
    for role in ("engineer", "labeller", "viewer"):
        assert (await engineer.post("/api/v1/tokens", json={"name": "x", "role": role})).status_code == 201
    refused = await engineer.post("/api/v1/tokens", json={"name": "x", "role": "admin"})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:promptlab:forbidden")
    refused = await engineer.post("/api/v1/tokens", json={"name": "x", "project": "another"})
    assert refused.status_code == 403
    assert len((await engineer.get("/api/v1/tokens")).json()["items"]) == 3
    everybodys = (await studio.client(ADMIN_TOKEN).get("/api/v1/tokens")).json()["items"]
    assert len(everybodys) == 4
    (other,) = [t for t in everybodys if t["created_by"] == "admin-token"]
    assert (await engineer.delete(f"/api/v1/tokens/{other['id']}")).status_code == 404
    viewer = studio.client(await studio.token("viewer"))
    assert (await viewer.get("/api/v1/tokens")).status_code == 403


@pytest.mark.parametrize(
    ("name", "days", "words"),
    [("", 1, "1 to 100"), ("n" * 101, 1, "1 to 100"), ("a\nb", 1, "printable"), ("a", MOST_DAYS + 1, "days")],
)
async def test_a_token_has_bounds(studio: Hosted, name: str, days: float, words: str) -> None:
    """Named in the error."""
    with pytest.raises(ConfigError, match=words):
        await Tokens(studio.records).create(ADMIN, name, role="viewer", days=days)
    with pytest.raises(ForbiddenError):
        await Tokens(studio.records).create(ENGINEER, "a", role="admin", days=1)


async def test_a_token_that_begins_like_one_but_is_the_admins_works(tmp_path: Path) -> None:
    """Whoever sets that by hand may begin it so."""
    from promptlab_studio.auth import Auth

    async with Hosted(tmp_path, auth=Auth("pl_the-admins-own-token", secure=False)) as studio:
        assert (await studio.client("pl_the-admins-own-token").get("/api/v1/me")).json()["role"] == "admin"


async def test_a_link_opens_one_run_and_nothing_else(studio: Hosted) -> None:
    """With its cases, exports and API; not by a bearer, not in the login form, not other runs."""
    one, other = await add_wide(studio.lab, rows=3, runs=2, trials=1)
    engineer = studio.client(await studio.token("engineer"))
    made = (await engineer.post("/api/v1/links", json={"runs": [one.run_id], "expires_in_days": 2})).json()
    assert made["only"] == [one.run_id] and made["role"] == "viewer" and made["name"] == one.name
    url = made["url"].removeprefix("http://lab.example")
    guest = studio.client()
    assert (await guest.get(url)).headers["location"] == f"/runs/{one.run_id}"
    run, api = f"/runs/{one.run_id}", f"/api/v1/runs/{one.run_id}"
    page = await guest.get(run)
    assert page.status_code == 200 and "Shared with you" in page.text
    assert 'href="/new' not in page.text and "/logout" in page.text
    opens = (
        f"{run}?tab=summary",
        f"{run}/cases/1",
        f"{run}/cases.csv",
        api,
        f"{api}/progress",
        f"{api}/cases",
    )
    for path in (*opens, f"{api}/export"):
        assert (await guest.get(path)).status_code == 200, path
    for path in (
        "/", "/prompts", "/datasets", "/new", "/tokens", "/audit", "/api/v1/runs", "/api/v1/prompts",
        "/api/v1/me", "/api/v1/openapi.json", f"/runs/{other.run_id}", f"/api/v1/runs/{other.run_id}/cases",
        f"/live?run={one.run_id}", f"/compare?run={one.run_id}&run={other.run_id}", "/compare",
        f"/api/v1/compare?run={one.run_id}&run={other.run_id}", f"{run}%2F..%2F{other.run_id}",
    ):  # fmt: skip
        assert (await guest.get(path)).status_code in (403, 404), path
    own = {"Sec-Fetch-Site": "same-origin"}
    for path in (f"{run}/cancel", f"{run}/resume", "/runs/tags?n=1", "/tokens", "/links"):
        assert (await guest.post(path, headers=own)).status_code == 403, path
    assert (await guest.delete(api, headers=own)).status_code == 403
    secret = url.rpartition("=")[2]
    assert (await studio.client(secret).get(api)).status_code == 401
    assert (await studio.client().post("/session", data={"token": secret})).status_code == 401
    await engineer.delete(f"/api/v1/tokens/{made['id']}")
    assert (await guest.get(api)).status_code == 401
    assert (await studio.client().get(url)).status_code == 403


async def test_a_link_to_a_comparison_opens_its_runs_too(studio: Hosted) -> None:
    """In any order, and no other."""
    one, other, third = await add_wide(studio.lab, rows=3, runs=3, trials=1)
    admin = studio.client(ADMIN_TOKEN)
    made = await admin.post("/api/v1/links", json={"runs": [one.run_id, other.run_id], "name": "review"})
    guest = studio.client()
    place = (await guest.get(made.json()["url"].removeprefix("http://lab.example"))).headers["location"]
    assert place == f"/compare?run={one.run_id}&run={other.run_id}"
    for path in (place, f"/compare?run={other.run_id}&run={one.run_id}", f"/runs/{other.run_id}"):
        assert (await guest.get(path)).status_code == 200, path
    assert (await guest.get(f"/compare?run={one.run_id}&run={third.run_id}")).status_code == 403
    assert (await guest.get(f"{place}&run={third.run_id}")).status_code == 403


async def test_a_link_takes_nobodys_own_session_away(studio: Hosted) -> None:
    """Who sees the run already stays who they are."""
    (one,) = await add_wide(studio.lab, rows=3, runs=1, trials=1)
    mine = await studio.browser()
    made = await mine.post("/api/v1/links", json={"runs": [one.run_id]})
    answer = await mine.get(made.json()["url"].removeprefix("http://lab.example"))
    assert answer.status_code == 303 and "set-cookie" not in answer.headers
    assert (await mine.get("/people")).status_code == 200


async def test_a_link_needs_a_run_that_there_is(studio: Hosted) -> None:
    """One to four."""
    admin = studio.client(ADMIN_TOKEN)
    assert (await admin.post("/api/v1/links", json={"runs": ["none"]})).status_code == 404
    for runs in ([], ["a"] * 5):
        assert (await admin.post("/api/v1/links", json={"runs": runs})).status_code == 422


async def test_the_page_makes_shows_and_revokes_tokens(studio: Hosted) -> None:
    """The secret stands on the answer alone; a mistake is said beside the form."""
    (one,) = await add_wide(studio.lab, rows=3, runs=1, trials=1)
    admin = await studio.browser()
    assert "None yet" in (await admin.get("/tokens")).text
    made = await admin.post("/tokens", data={"name": "<b>nightly", "role": "engineer", "days": "30"})
    assert made.status_code == 200 and "pl_" in made.text and "&lt;b&gt;nightly" in made.text
    page = (await admin.get("/tokens")).text
    assert "pl_" not in page and "&lt;b&gt;nightly" in page
    link = await admin.post("/links", data={"run": one.run_id, "days": "1", "name": "Friday"})
    assert "/shared?key=pl_" in link.text
    wrong = await admin.post("/tokens", data={"name": "", "role": "engineer"})
    assert wrong.status_code == 422 and "1 to 100" in wrong.text
    (token,) = [t for t in (await admin.get("/api/v1/tokens")).json()["items"] if not t["only"]]
    answer = await admin.post("/tokens/revoke", data={"id": token["id"]})
    assert answer.headers["location"] == "/tokens"
    assert "&lt;b&gt;nightly" not in (await admin.get("/tokens")).text


async def invited(studio: Hosted, role: Role, project: str = "default") -> Principal:
    """Max, who may sign in, as somebody who asks."""
    person = await studio.auth.people(studio.records).put(
        ADMIN, "max@example.com", role=role, project=project
    )
    return person.principal


async def role_of(studio: Hosted, token: str) -> str | None:
    """What a token may do now; None: nothing."""
    answer = await studio.client(token).get("/api/v1/me")
    return answer.json()["role"] if answer.status_code == 200 else None


async def test_a_token_may_do_no_more_than_its_maker_may_now(studio: Hosted) -> None:
    """Who is made less than an admin keeps no token of one, nor one that was made with it; and who gets the
    role back gets it back for their tokens, too."""
    max_ = await invited(studio, "admin")
    first = await studio.token("admin", by=max_)
    second = (await studio.client(first).post("/api/v1/tokens", json={"name": "b", "role": "admin"})).json()
    third = (
        await studio.client(second["token"]).post("/api/v1/tokens", json={"name": "c", "role": "engineer"})
    ).json()
    tokens = (first, second["token"], third["token"])
    assert [await role_of(studio, token) for token in tokens] == ["admin", "admin", "engineer"]
    browser = await studio.browser(first)
    await invited(studio, "viewer")
    assert [await role_of(studio, token) for token in tokens] == ["viewer"] * 3
    up = await studio.client(second["token"]).put("/api/v1/people/max@example.com", json={"role": "admin"})
    assert up.status_code == 403
    assert (await browser.get("/people")).status_code == 403
    await invited(studio, "labeller")
    assert [await role_of(studio, token) for token in tokens] == ["labeller"] * 3
    await invited(studio, "admin")
    assert [await role_of(studio, token) for token in tokens] == ["admin", "admin", "engineer"]


async def test_who_is_moved_to_another_project_leaves_their_tokens_behind(studio: Hosted) -> None:
    """They opened what is not theirs any more; an admin of the whole lab may have tokens of any."""
    token = await studio.token("engineer", by=await invited(studio, "engineer"))
    assert await role_of(studio, token) == "engineer"
    await invited(studio, "engineer", "elsewhere")
    assert await role_of(studio, token) is None
    await invited(studio, "admin", "elsewhere")
    assert await role_of(studio, token) is None
    await invited(studio, "admin", "default")
    assert await role_of(studio, token) == "engineer"


async def test_what_was_made_with_a_token_ends_with_it(studio: Hosted) -> None:
    """Whoever had a token that leaked has none of those that they made with it, either; others stay."""
    admin = studio.client(ADMIN_TOKEN)
    leaked, kept = await studio.token("engineer"), await studio.token("engineer")
    chain = [leaked]
    for name in "abc":
        made = await studio.client(chain[-1]).post("/api/v1/tokens", json={"name": name, "role": "engineer"})
        chain.append(made.json()["token"])
    assert (await admin.delete(f"/api/v1/tokens/{sha(chain[1])[:16]}")).status_code == 204
    assert [await role_of(studio, token) for token in (*chain, kept)] == ["engineer", *[None] * 3, "engineer"]
    assert {t["name"] for t in (await admin.get("/api/v1/tokens")).json()["items"]} == {"engineer"}


async def test_who_is_deleted_leaves_no_token_that_their_tokens_made(studio: Hosted) -> None:
    """And where tokens are handed over, all of them are their new owner's, and may do what that one may."""
    admin, max_ = studio.client(ADMIN_TOKEN), await invited(studio, "admin")
    for to, roles in (("revoke", [None, None]), ("hand_over", ["engineer", "engineer"])):
        max_ = await invited(studio, "admin")
        first = await studio.token("admin", by=max_)
        made = await studio.client(first).post("/api/v1/tokens", json={"name": "b", "role": "engineer"})
        await admin.put("/api/v1/people/zoe@example.com", json={"role": "engineer"})
        params = {"tokens": to, "to": "zoe@example.com" if to == "hand_over" else ""}
        assert (await admin.delete("/api/v1/people/max@example.com", params=params)).status_code == 204
        assert [await role_of(studio, token) for token in (first, made.json()["token"])] == roles
    # The token that made it has expired.
    await studio.records.delete_record(TOKEN, sha(first))
    assert await role_of(studio, made.json()["token"]) == "engineer"
    await admin.delete("/api/v1/people/zoe@example.com")
    assert [await role_of(studio, token) for token in (first, made.json()["token"])] == [None, None]
    assert (await admin.get("/api/v1/tokens")).json()["items"] == []
    assert await studio.records.get_record(ROOT, sha(made.json()["token"])) is None
