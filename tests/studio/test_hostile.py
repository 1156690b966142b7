"""More than a thousand hostile requests: nobody gets in, nothing is changed, nothing breaks."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.bench.real_runs import add_wide
from tests.studio.hosted import Hosted
from tests.studio.hostile import Hostile, hostile_requests
from tests.studio.live import TOKEN

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

REQUESTS = hostile_requests()
KINDS = sorted({one.kind for one in REQUESTS})
AT_ONCE = 16
OPEN = {"/login", "/api/v1/health", "/open", "/shared", "/session"}
"""What anybody may ask for."""
SECRET = re.compile(r"made-qa|input\.\w+|\broot:|SQLite format|def accepts|SHELL=|Traceback|run_id\"")
"""What stands in the lab, in files of the machine, and in errors that say too much."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Hosted, str]]:
    async with Hosted(tmp_path_factory.mktemp("lab")) as hosted:
        run, *_ = await add_wide(hosted.lab, rows=3, runs=1, trials=1)
        yield hosted, run.run_id


async def ask(hosted: Hosted, run: str, number: int, one: Hostile) -> httpx.Response:
    """From an address of its own, so that no try is stopped by the count of the tries before it."""
    client = hosted.client(address=f"10.1.{number >> 8 & 255}.{number & 255}")
    path = one.path.replace("{run}", run)
    headers = {name: value.encode("latin-1") for name, value in one.headers.items()}
    request = client.build_request(one.method, "http://lab.example/", headers=headers, content=one.content)
    # As it is: httpx would take `..` out of a path.
    raw = path.partition("#")[0].encode("ascii", "backslashreplace")
    request.url = httpx.URL(scheme="http", host="lab.example", raw_path=raw)
    answer = await client.send(request, follow_redirects=False)
    await client.aclose()
    return answer


def got_in(one: Hostile, answer: httpx.Response) -> str:
    """What a request got that it should not have; empty: nothing."""
    path = one.path.partition("?")[0]
    location = answer.headers.get("location", "")
    if answer.status_code >= 500:
        return "a fault"
    if any(
        "promptlab" in cookie and "Max-Age=0" not in cookie
        for cookie in answer.headers.get_list("set-cookie")
    ):
        return "a session"
    if location and not (location == "/" or location.startswith("/login")):
        return f"sent to {location}"
    if found := SECRET.search(answer.text):
        return f"read {found[0]!r}"
    if answer.status_code < 300 and path not in OPEN and not re.fullmatch(r"/static/[\w.-]+", path):
        return f"let in with {answer.status_code}"
    if one.method == "POST" and path == "/session" and answer.status_code not in (401, 403, 413, 422, 429):
        return f"logged in with {answer.status_code}"
    if "evil.example" in location or "javascript:" in location:
        return "another site"
    return ""


async def test_there_are_more_than_a_thousand_of_every_kind() -> None:
    """Each of its own."""
    assert len(REQUESTS) >= 2_706
    assert min(Counter(one.kind for one in REQUESTS).values()) >= 5


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_gets_in(studio: tuple[Hosted, str], kind: str) -> None:
    """Whatever they send, a few at once."""
    hosted, run = studio
    gate = asyncio.Semaphore(AT_ONCE)

    async def tried(number: int, one: Hostile) -> str:
        async with gate:
            said = got_in(one, await ask(hosted, run, number, one))
        return f"{one}: {said}" if said else ""

    mine = [(n, one) for n, one in enumerate(REQUESTS) if one.kind == kind]
    found = [said for said in await asyncio.gather(*(tried(n, one) for n, one in mine)) if said]
    assert not found, f"{len(found)} of {len(mine)}:\n" + "\n".join(found[:20])


async def test_nothing_was_changed(studio: tuple[Hosted, str]) -> None:
    """The run, its cases, people, tokens and the token's switch are as they were."""
    hosted, run = studio
    admin = hosted.client(TOKEN, address="10.2.0.1")
    assert [r["run_id"] for r in (await admin.get("/api/v1/runs")).json()["items"]] == [run]
    for path in ("people", "tokens"):
        assert (await admin.get(f"/api/v1/{path}")).json()["items"] == []
    assert (await admin.get("/api/v1/settings/admin-token")).json() == {"on": True}
