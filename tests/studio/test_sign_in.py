"""Sign-in with an account of a provider: a real one of ours, that answers rightly or wrongly."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.access import ADMIN
from promptlab_studio.audit import AUDIT
from promptlab_studio.auth import Auth
from promptlab_studio.memory_records import MemoryRecords
from promptlab_studio.oidc import Provider, SignIn
from promptlab_studio.people import People, Person

from promptlab.errors import ConfigError
from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN
from tests.studio.oidc_server import CLIENT, OidcServer, parameters


@pytest.fixture
def provider() -> Iterator[OidcServer]:
    with OidcServer() as server:
        yield server


@pytest.fixture
async def studio(tmp_path: Path, provider: OidcServer) -> AsyncIterator[Hosted]:
    """A Studio whose first admin is Zoe."""
    sign_in = SignIn(Provider(provider.issuer, CLIENT))
    auth = Auth(TOKEN, secure=False, first_admin="Zoe@example.com", sign_in=sign_in)
    async with Hosted(tmp_path, auth=auth) as hosted:
        yield hosted


async def to_provider(browser: httpx.AsyncClient, path: str = "/sign-in") -> str:
    """The way back that the provider sends the browser, which signed in there."""
    begun = await browser.get(path)
    assert begun.status_code == 303
    async with httpx.AsyncClient() as client:
        answer = await client.get(begun.headers["location"])
    assert answer.status_code == 307, answer.text
    return answer.headers["location"].removeprefix("http://lab.example")


async def signed_in(studio: Hosted, path: str = "/sign-in") -> tuple[httpx.AsyncClient, httpx.Response]:
    """A browser after the sign-in, and the last answer of it."""
    browser = studio.client()
    return browser, await browser.get(await to_provider(browser, path))


async def test_the_first_admin_signs_in_and_invites_the_others(studio: Hosted, provider: OidcServer) -> None:
    """By the code flow with PKCE; then each gets in with their role, and nobody else."""
    browser = studio.client()
    begun = await browser.get("/sign-in?next=/prompts")
    sent = parameters(begun.headers["location"])
    assert sent["response_type"] == "code" and sent["code_challenge_method"] == "S256"
    assert (
        sent["redirect_uri"] == "http://lab.example/sign-in/back" and sent["scope"] == "openid email profile"
    )
    zoe, answer = await signed_in(studio, "/sign-in?next=/prompts")
    assert (answer.status_code, answer.headers["location"]) == (303, "/prompts")
    me = (await zoe.get("/api/v1/me")).json()
    assert (me["id"], me["name"], me["role"]) == ("person:zoe@example.com", "Zoe", "admin")
    zoe.headers["Sec-Fetch-Site"] = "same-origin"
    invited = await zoe.put("/api/v1/people/Max@example.com", json={"role": "labeller"})
    assert (invited.status_code, invited.json()["email"]) == (200, "max@example.com")

    provider.claims |= {"sub": "2", "email": "max@example.com", "name": "Max"}
    max_, answer = await signed_in(studio)
    assert (await max_.get("/api/v1/me")).json()["role"] == "labeller"
    provider.claims |= {"sub": "3", "email": "eve@example.com"}
    eve, answer = await signed_in(studio)
    assert answer.status_code == 403 and "not invited" in answer.text
    assert (await eve.get("/api/v1/me")).status_code == 401

    await zoe.put("/api/v1/people/max@example.com", json={"role": "viewer"})
    assert (await max_.get("/api/v1/me")).json()["role"] == "viewer"
    assert (await zoe.delete("/api/v1/people/max@example.com")).status_code == 204
    assert (await max_.get("/api/v1/me")).status_code == 401
    actions = [(r["action"], r["outcome"]) for _, r in await studio.records.list_records(AUDIT)]
    assert ("GET /sign-in/back", "done") in actions and ("GET /sign-in/back", "denied") in actions


def changed(**more: Any) -> Any:
    return lambda claims: {**claims, **more}


def without(name: str) -> Any:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


@pytest.mark.parametrize(
    "twist",
    [
        changed(nonce="another"),
        without("nonce"),
        changed(nonce=None),
        changed(nonce=["x"]),
        changed(aud="another"),
        changed(aud=["another", "third"]),
        without("aud"),
        changed(aud=[CLIENT, "another"]),
        changed(azp="another"),
        changed(iss="https://evil.example"),
        without("iss"),
        changed(exp=int(time.time()) - 3600),
        without("exp"),
        changed(exp="never"),
        changed(iat=int(time.time()) + 3600),
        without("iat"),
        without("sub"),
        changed(email_verified=False),
        without("email_verified"),
        without("email"),
        changed(email_verified="yes"),
        changed(email={"a": 1}),
        changed(nbf=int(time.time()) + 3600),
    ],
)
async def test_an_id_token_that_is_not_right_opens_nothing(
    studio: Hosted, provider: OidcServer, twist: Any
) -> None:
    """Whichever of its claims it is."""
    provider.twist = twist
    browser, answer = await signed_in(studio)
    assert answer.status_code == 401 and "sign-in failed" in answer.text
    assert (await browser.get("/api/v1/me")).status_code == 401
    assert not [name for name in browser.cookies if name == "promptlab"]


async def test_a_token_of_another_key_or_of_none_opens_nothing(studio: Hosted, provider: OidcServer) -> None:
    """Signed by nobody, by a stranger, or with the public key as if it were a password."""
    other = OidcServer()
    with other:
        other.issuer, real = provider.issuer, provider.id_token
        provider.id_token = other.id_token  # type: ignore[method-assign]
        _, answer = await signed_in(studio)
        assert answer.status_code == 401

        def unsigned(nonce: str) -> str:
            _, body, _ = real(nonce).split(".")
            head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
            return f"{head}.{body}."

        provider.id_token = unsigned  # type: ignore[method-assign]
        _, answer = await signed_in(studio)
        assert answer.status_code == 401

        def as_password(nonce: str) -> str:
            from joserfc import jwt
            from joserfc.jwk import OctKey

            claims = jwt.decode(real(nonce), provider.key).claims
            key = OctKey.import_key(provider.key.as_pem(private=False))
            return jwt.encode({"alg": "HS256", "kid": "first"}, claims, key, algorithms=["HS256"])

        provider.id_token = as_password  # type: ignore[method-assign]
        _, answer = await signed_in(studio)
        assert answer.status_code == 401

        def cut(nonce: str) -> str:
            return real(nonce)[:-4] + "AAAA"

        for broken in (cut, lambda nonce: "x", lambda nonce: "a.b.c", lambda nonce: ""):
            provider.id_token = broken  # type: ignore[method-assign]
            _, answer = await signed_in(studio)
            assert answer.status_code == 401


async def test_a_key_that_the_provider_changed_is_found(studio: Hosted, provider: OidcServer) -> None:
    """Within a minute of the last look; keys are not read again for each forged token."""
    await signed_in(studio)
    provider.rotate()
    sign_in = studio.auth.sign_in
    assert sign_in is not None
    at, keys = sign_in._keys
    _, answer = await signed_in(studio)
    assert answer.status_code == 401 and provider.asked.count("keys") == 1
    sign_in._keys = (at - 61, keys)
    _, answer = await signed_in(studio)
    assert answer.status_code == 303 and provider.asked.count("keys") == 2


async def test_an_answer_counts_once_and_in_the_browser_that_began(
    studio: Hosted, provider: OidcServer
) -> None:
    """A stolen, planted, replayed or made-up one opens nothing."""
    victim, thief = studio.client(), studio.client(address="192.0.2.66")
    way = await to_provider(victim)
    assert (await thief.get(way)).status_code == 401  # without the cookie of who began
    await thief.get("/sign-in")
    assert (await thief.get(way)).status_code == 401  # with a cookie of one's own
    assert (await victim.get(way)).status_code == 303
    replayed = await victim.get(way)
    assert replayed.status_code == 401 and "finished already" in replayed.text

    mine, other = await to_provider(victim), await to_provider(thief)
    mixed = mine.replace(parameters(mine)["code"], parameters(other)["code"])
    assert (await victim.get(mixed)).status_code == 401  # another's code: PKCE does not fit
    for path in (
        "?code=x",
        "?state=x",
        f"?code=x&state={parameters(mine)['state']}",
        "?error=access_denied&state=x",
    ):
        assert (await victim.get(f"/sign-in/back{path}")).status_code == 401


async def test_what_the_provider_says_went_wrong_is_said(studio: Hosted, provider: OidcServer) -> None:
    """Escaped and cut."""
    browser = studio.client()
    state = parameters((await browser.get("/sign-in")).headers["location"])["state"]
    words = {"error": "access_denied", "error_description": "<b>no" + "x" * 5_000, "state": state}
    answer = await browser.get("/sign-in/back", params=words)
    assert answer.status_code == 401 and "&lt;b&gt;no" in answer.text and len(answer.text) < 10_000


async def test_another_account_of_the_same_address_is_somebody_else(
    studio: Hosted, provider: OidcServer
) -> None:
    """The address may have been given to another, or the pool made anew."""
    assert (await signed_in(studio))[1].status_code == 303
    provider.claims["sub"] = "another"
    _, answer = await signed_in(studio)
    assert answer.status_code == 403


async def test_a_provider_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """And nothing hangs."""
    auth = Auth(TOKEN, secure=False, sign_in=SignIn(Provider("http://127.0.0.1:9", CLIENT)))
    async with Hosted(tmp_path, auth=auth) as studio:
        answer = await studio.client().get("/sign-in", headers={"Accept": "text/html"})
        assert answer.status_code == 424 and "127.0.0.1:9" in answer.text


@pytest.mark.parametrize("issuer", ["http://accounts.example", "ftp://x", "accounts.example", ""])
def test_a_provider_is_asked_by_https_only(issuer: str) -> None:
    """But for this machine's."""
    with pytest.raises(ConfigError, match="https"):
        Provider(issuer, CLIENT)


async def test_the_admin_token_can_be_switched_off_once_an_admin_signed_in(
    studio: Hosted, provider: OidcServer
) -> None:
    """With its sessions; not before, and the last admin then stays."""
    program, browser = studio.client(TOKEN), await studio.browser()
    off = {"on": False}
    assert (await program.put("/api/v1/settings/admin-token", json=off)).status_code == 422
    zoe, _ = await signed_in(studio)
    zoe.headers["Sec-Fetch-Site"] = "same-origin"
    assert (await zoe.put("/api/v1/settings/admin-token", json=off)).json() == off
    assert (await program.get("/api/v1/runs")).status_code == 401
    assert (await browser.get("/api/v1/runs")).status_code == 401
    assert "last admin" in (await zoe.delete("/api/v1/people/zoe@example.com")).json()["detail"]
    demoted = await zoe.put("/api/v1/people/zoe@example.com", json={"role": "viewer"})
    assert demoted.status_code == 422
    await zoe.put("/api/v1/settings/admin-token", json={"on": True})
    assert (await studio.client(TOKEN, address="192.0.2.5").get("/api/v1/runs")).status_code == 200


class Late(MemoryRecords):
    """Records whose readers of people wait for each other, so that all of them decide by the same."""

    def __init__(self, readers: int) -> None:
        super().__init__()
        self.readers, self.together = readers, asyncio.Event()

    async def list_records(self, kind: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
        found = await super().list_records(kind, **options)
        if kind == "PERSON":
            self.readers -= 1
            if self.readers <= 0:
                self.together.set()
            await self.together.wait()
        return found


@pytest.mark.parametrize("way", ["removed", "demoted", "token"])
async def test_admins_who_go_at_the_same_moment_leave_one(way: str) -> None:
    """Whichever is first, the last one stays: nobody is let in by what they read before the other went."""
    records = Late(2)
    for email in ("a@b.c", "d@e.f"):
        seen = Person(email, email, "admin", last_seen_at="2026-11-26T08:00:00Z")
        await records.put_record("PERSON", email, asdict(seen))
    people = People(records)
    if way != "token":
        await records.put_record("SETTING", "admin-token", {"on": False})
    going = {
        "removed": lambda: [people.remove("a@b.c"), people.remove("d@e.f")],
        "demoted": lambda: [people.put(ADMIN, email, role="viewer") for email in ("a@b.c", "d@e.f")],
        "token": lambda: [people.switch_admin_token(False), people.remove("a@b.c"), people.remove("d@e.f")],
    }
    if way == "token":
        records.readers = 3
    ends = await asyncio.gather(*going[way](), return_exceptions=True)
    assert sum(isinstance(end, ConfigError) for end in ends) == 1, ends
    admins = [person for person in await people.everybody() if person.role == "admin"]
    assert len(admins) == 1 or await people.admin_token_works()


async def test_logging_out_ends_the_session_and_offers_to_leave_the_provider(
    studio: Hosted, provider: OidcServer
) -> None:
    """By a link: the page that a form leads to is this Studio's."""
    zoe, _ = await signed_in(studio)
    zoe.headers["Sec-Fetch-Site"] = "same-origin"
    kept = dict(zoe.cookies)
    left = await zoe.post("/logout")
    assert left.headers["location"] == "/login?left=1"
    assert (await studio.client(cookies=kept).get("/api/v1/me")).status_code == 401
    page = (await zoe.get("/login?left=1")).text
    assert f"{provider.issuer}/logout?client_id={CLIENT}" in page and "/sign-in?next=" in page


async def test_people_are_kept_on_a_page(studio: Hosted) -> None:
    """Invited, changed and removed; what is wrong is said beside the form."""
    admin = await studio.browser()
    assert "zoe@example.com" in (await admin.get("/people")).text
    answer = await admin.post(
        "/people", data={"email": "max@example.com", "role": "engineer", "name": "<Max>"}
    )
    assert answer.headers["location"] == "/people"
    page = (await admin.get("/people")).text
    assert "&lt;Max&gt;" in page and "max@example.com" in page
    for wrong in ({"email": "x", "role": "viewer"}, {"email": "a@b.c", "role": "king"}):
        answer = await admin.post("/people", data=wrong)
        assert answer.status_code == 422 and 'role="alert"' in answer.text
    await admin.post("/people/remove", data={"email": "max@example.com"})
    assert "&lt;Max&gt;" not in (await admin.get("/people")).text
    answer = await admin.post("/people/admin-token", data={"on": ""})
    assert answer.status_code == 303 and (await admin.get("/people")).status_code == 200
    assert await studio.auth.people(studio.records).find("max@example.com") is None
    assert ADMIN.may("administer")
