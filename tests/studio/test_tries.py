"""Wrong tokens are counted, typed or sent, one by one or at once; and what replaces a token ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from promptlab_studio.access import ADMIN
from promptlab_studio.admin_token import MAX_AGE_S, AdminToken
from promptlab_studio.app import create_app
from promptlab_studio.auth import Auth
from promptlab_studio.security import MAX_LOGIN_BYTES
from promptlab_studio.tokens import Tokens
from promptlab_studio.tries import PAUSE_S, TRIES, Tries

from promptlab.errors import TooManyTriesError
from promptlab.store_lab import StoreLab
from tests.aws_faults import QuickClock
from tests.browser import labs
from tests.studio.live import BEARER, TOKEN

From = Callable[[str], httpx.AsyncClient]
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    opened = labs.open_lab(tmp_path)
    yield opened
    await opened.close()


@asynccontextmanager
async def studio(lab: StoreLab, auth: Auth | None = None) -> AsyncIterator[From]:
    """Clients of one process of a Studio, by the address that they have."""
    app = create_app(lab, auth=auth or Auth(TOKEN, secure=False))
    clients: list[httpx.AsyncClient] = []

    def at(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=(address, 1))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://lab.example"))
        return clients[-1]

    yield at
    for client in clients:
        await client.aclose()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_of_fifty_tries_at_once_five_are_looked_at(lab: StoreLab) -> None:
    """By two processes of the Studio; the right token among them is not found out, nor is one after them."""
    async with studio(lab) as one, studio(lab) as other:
        clients = one(HERE), other(HERE)
        tokens = [f"wrong-{n:02}" for n in range(49)]
        answers = await asyncio.gather(
            *(clients[n % 2].get("/api/v1/runs", headers=bearer(token)) for n, token in enumerate(tokens))
        )
        assert Counter(a.status_code for a in answers) == {401: TRIES, 429: 49 - TRIES}
        late = await clients[1].get("/api/v1/runs", headers=BEARER)
        assert (late.status_code, late.json()["type"]) == (429, "urn:promptlab:too-many-tries")
        assert 0 < int(late.headers["retry-after"]) <= PAUSE_S
        typed = await clients[0].post("/session", data={"token": TOKEN})
        assert typed.status_code == 429 and not typed.cookies
        elsewhere = await one(THERE).get("/api/v1/runs", headers=BEARER)
        assert elsewhere.status_code == 200


@pytest.mark.parametrize("with_admin", [False, True])
async def test_twenty_requests_at_once_with_right_tokens_are_all_let_in(
    lab: StoreLab, with_admin: bool
) -> None:
    """From one address that nobody knows yet, by two processes: a pipeline begins so, or an office."""
    patient = [Auth(TOKEN, secure=False), Auth(TOKEN, secure=False)]
    for auth in patient:
        auth.tries = Tries(look_again_s=[0.05] * 200)
    async with studio(lab, patient[0]) as one, studio(lab, patient[1]) as other:
        clients = one(HERE), other(HERE)
        made = [await Tokens(lab.records).create(ADMIN, f"t{n}", role="viewer", days=1) for n in range(4)]
        sent = [TOKEN if with_admin else made[0][1], *(secret for _, secret in made)]
        answers = await asyncio.gather(
            *(clients[n % 2].get("/api/v1/runs", headers=bearer(sent[n % 5])) for n in range(20))
        )
        assert Counter(answer.status_code for answer in answers) == {200: 20}
        if not with_admin:  # whose token forgets wrong ones, too
            patient[0].tries = Tries(())
            wrong = [await clients[0].get("/api/v1/runs", headers=bearer(f"wrong-{n}")) for n in range(6)]
            assert [answer.status_code for answer in wrong] == [401] * TRIES + [429]


async def test_typed_and_sent_tokens_are_counted_together(lab: StoreLab) -> None:
    async with studio(lab) as at:
        client = at(HERE)
        for n in range(TRIES):
            sent = n % 2
            answer = await (
                client.get("/api/v1/runs", headers=bearer("wrong"))
                if sent
                else client.post("/session", data={"token": "wrong"})
            )
            assert answer.status_code == 401
        assert (await client.get("/api/v1/runs", headers=bearer("wrong"))).status_code == 429


async def test_right_tokens_are_no_tries(lab: StoreLab) -> None:
    """However many viewers of an office come one after another. A viewer's token takes its own try back, and
    forgets no wrong ones: somebody with a token of their own could else guess for ever."""
    async with studio(lab) as at:
        admin, office = at(THERE), at(HERE)
        made = [
            (
                await admin.post("/api/v1/tokens", json={"name": f"v{n}", "role": "viewer"}, headers=BEARER)
            ).json()
            for n in range(2 * TRIES)
        ]
        for token in made[:-1]:
            answer = await office.get("/api/v1/runs", headers=bearer(token["token"]))
            assert answer.status_code == 200
        for _ in range(TRIES - 1):
            assert (await office.get("/api/v1/runs", headers=bearer("wrong"))).status_code == 401
        assert (await office.get("/api/v1/runs", headers=bearer(made[-1]["token"]))).status_code == 200
        assert (await office.get("/api/v1/runs", headers=bearer("wrong"))).status_code == 401
        assert (await office.get("/api/v1/runs", headers=bearer("wrong"))).status_code == 429


async def test_who_has_the_right_token_is_not_shut_out_by_others_behind_the_same_address(
    lab: StoreLab,
) -> None:
    """Where it was used before: an office has one address, and one of its programs an old token."""
    async with studio(lab) as at:
        client = at(HERE)
        assert (await client.get("/api/v1/runs", headers=BEARER)).status_code == 200
        for _ in range(3 * TRIES):
            await client.get("/api/v1/runs", headers=bearer("wrong"))
        assert (await client.get("/api/v1/runs", headers=BEARER)).status_code == 200


async def test_of_ipv6_a_network_is_one_address(lab: StoreLab) -> None:
    """Everybody has 2^64 of them."""
    async with studio(lab) as at:
        for n in range(TRIES):
            answer = await at(f"2001:db8::{n:x}").get("/api/v1/runs", headers=bearer("wrong"))
            assert answer.status_code == 401
        again = await at("2001:db8::ffff:1").get("/api/v1/runs", headers=bearer("wrong"))
        assert again.status_code == 429
        assert (await at("2001:db8:0:1::1").get("/api/v1/runs", headers=BEARER)).status_code == 200


async def test_a_header_cannot_choose_the_address(lab: StoreLab) -> None:
    """It is that of the connection, as API Gateway saw it."""
    async with studio(lab) as at:
        client = at(HERE)
        for n in range(TRIES):
            forged = {"X-Forwarded-For": f"198.51.100.{n}", "Forwarded": f"for=198.51.100.{n}"}
            await client.get("/api/v1/runs", headers={**bearer("wrong"), **forged})
        forged = {"X-Forwarded-For": "198.51.100.99", "X-Real-IP": "198.51.100.99"}
        answer = await client.get("/api/v1/runs", headers={**bearer("wrong"), **forged})
        assert answer.status_code == 429


class Vault:
    """Where the admin token is read, and how often it was."""

    def __init__(self) -> None:
        self.token: str | None = TOKEN
        self.reads = 0

    async def read(self) -> str | None:
        self.reads += 1
        return self.token


async def test_a_replaced_admin_token_is_dead_within_a_minute_and_its_sessions_with_it(
    lab: StoreLab,
) -> None:
    """It is read once a minute, not with every request; the new one opens from then on."""
    vault, clock = Vault(), QuickClock()
    auth = Auth(vault.read, secure=False)
    auth.admin_token = AdminToken(vault.read, clock=clock)
    async with studio(lab, auth) as at:
        program, browser = at(HERE), at(HERE)
        assert (await browser.post("/session", data={"token": TOKEN})).status_code == 303
        for _ in range(20):
            assert (await program.get("/api/v1/runs", headers=BEARER)).status_code == 200
            assert (await browser.get("/api/v1/runs")).status_code == 200
        assert vault.reads == 1
        vault.token = "the-token-after-that-one"
        clock.seconds += MAX_AGE_S
        assert (await browser.get("/api/v1/runs")).status_code == 401
        assert (await program.get("/api/v1/runs", headers=BEARER)).status_code == 401
        assert (await program.get("/api/v1/runs", headers=bearer(vault.token))).status_code == 200
        assert vault.reads == 2
        vault.token = None
        clock.seconds += MAX_AGE_S
        answer = await program.get("/api/v1/runs", headers=bearer("the-token-after-that-one"))
        assert answer.status_code == 401


async def test_what_cannot_be_read_is_not_believed(lab: StoreLab) -> None:
    """A token is not valid for longer because the place where it is kept is down."""

    async def down() -> str:
        raise ConnectionError("no answer")

    auth = Auth(down, secure=False)
    async with studio(lab, auth) as at:
        answer = await at(HERE).get("/api/v1/runs", headers=BEARER)
        assert answer.status_code == 500 and "incident" in answer.json()


async def test_a_new_login_ends_the_old_session(lab: StoreLab) -> None:
    """A cookie from before is worth nothing, whoever has it."""
    async with studio(lab) as at:
        browser = at(HERE)
        await browser.post("/session", data={"token": TOKEN})
        (before,) = browser.cookies.values()
        own = {"Sec-Fetch-Site": "same-origin"}
        await browser.post("/session", data={"token": TOKEN}, headers=own)
        (after,) = browser.cookies.values()
        assert before != after
        assert (await browser.get("/api/v1/runs")).status_code == 200
        thief = at(THERE)
        thief.cookies.set("promptlab", before)
        assert (await thief.get("/api/v1/runs")).status_code == 401


async def test_a_cookie_that_nobody_was_given_opens_nothing_and_does_not_become_a_session(
    lab: StoreLab,
) -> None:
    """Whoever plants one in a browser does not know the one that the login gives it."""
    async with studio(lab) as at:
        victim = at(HERE)
        victim.cookies.set("promptlab", "planted")
        own = {"Sec-Fetch-Site": "same-origin"}
        answer = await victim.post("/session", data={"token": TOKEN}, headers=own)
        assert answer.headers["set-cookie"].partition("=")[2].partition(";")[0] != "planted"
        thief = at(THERE)
        thief.cookies.set("promptlab", "planted")
        assert (await thief.get("/api/v1/runs")).status_code == 401


async def test_a_session_ends_when_nobody_uses_it(lab: StoreLab) -> None:
    """Before its own end, and what notes its use does not bring back one that was ended."""
    async with studio(lab, Auth(TOKEN, secure=False, idle_s=-1)) as at:
        browser = at(HERE)
        await browser.post("/session", data={"token": TOKEN})
        assert (await browser.get("/api/v1/runs")).status_code == 401


async def test_a_login_has_four_kilobytes(lab: StoreLab) -> None:
    """Said or not: nothing that is longer is read to its end."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"token=" + b"t" * 1_000

    async with studio(lab) as at:
        long = b"token=" + b"t" * MAX_LOGIN_BYTES
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for content in (long, pieces()):
            answer = await at(HERE).post("/session", content=content, headers=form)
            assert answer.status_code == 413
            assert answer.json()["detail"] == "The body is longer than 4,096 bytes."
        longest = {"token": TOKEN, "next": "/new?" + "a=%41&" * 300}
        assert (await at(HERE).post("/session", data=longest)).status_code == 303


def test_the_client_does_not_go_on_with_a_wrong_token() -> None:
    """It says when to try again."""
    assert TooManyTriesError(30).wait_s == 30
    assert "30 seconds" in str(TooManyTriesError("30"))
