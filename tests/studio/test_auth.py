"""Nobody gets in without a token."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from promptlab_studio.access import check_declared
from promptlab_studio.auth import Auth
from promptlab_studio.tries import LOGIN, PAUSE_S, TRIES, Tries
from starlette.routing import BaseRoute, Mount, Route

from promptlab.errors import ConfigError
from tests.studio.live import BEARER, TOKEN, LiveStudio

OPEN = {
    ("GET", "/api/v1/health"),
    ("GET", "/login"),
    ("POST", "/session"),
    ("GET", "/shared"),
    ("GET", "/sign-in"),
    ("GET", "/sign-in/back"),
}
OWN = {"Sec-Fetch-Site": "same-origin"}


def paths(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path of an app but the static files."""
    for route in routes:
        if isinstance(route, Mount):
            assert route.name == "static"
        elif isinstance(route, Route):
            yield from (
                (method, prefix + route.path) for method in sorted(route.methods or ()) if method != "HEAD"
            )
        else:
            # How newer versions keep included routers.
            inner = getattr(route, "original_router", None)
            assert inner is not None, route
            context = getattr(route, "include_context", None)
            yield from paths(inner.routes, prefix + getattr(context, "prefix", ""))


def test_every_route_but_health_login_and_static_needs_a_token(guarded: LiveStudio) -> None:
    """Whatever the method, and before anything else is looked at."""
    found = set(paths(guarded.app.routes))
    assert len(found) > 25
    assert found >= OPEN
    with httpx.Client(base_url=guarded.url) as client:
        for method, path in found - OPEN:
            url = path.replace("{", "").replace("}", "").replace(":path", "")
            answer = client.request(method, url)
            if path.startswith("/api/"):
                assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer"), (
                    method,
                    path,
                )
                assert answer.json()["type"] == "urn:promptlab:unauthenticated"
            else:
                assert answer.status_code == 303, (method, path)
                assert answer.headers["location"].startswith("/login"), (method, path)


def test_a_route_that_does_not_declare_who_may_call_it_keeps_the_studio_from_starting(
    guarded: LiveStudio,
) -> None:
    """The route is named."""
    check_declared(guarded.app)
    guarded.app.add_api_route("/forgotten", lambda: None, methods=["POST"])
    with pytest.raises(AssertionError, match="who may call them: POST /forgotten"):
        check_declared(guarded.app)


def test_no_studio_is_made_of_routes_that_do_not_declare_who_may_call_them(tmp_path: Path) -> None:
    """A page that forgets it is named when the app is made, before a request could reach it.

    In a process of its own: the routes are made once for all Studios of one.
    """
    program = """
import sys
from promptlab_studio.app import create_app
from promptlab_studio.pages import router
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
router.add_api_route("/forgotten", lambda: None, methods=["POST"])
create_app(StoreLab(open_parts({"type": "sqlite", "db_file": sys.argv[1]})))
"""
    made = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lab.db")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert made.returncode != 0
    assert "AssertionError: These routes do not declare who may call them: POST /forgotten." in made.stderr


@pytest.mark.parametrize("value", ["Bearer wrong", "Bearer", "Basic abc", TOKEN, f"Bearer {TOKEN}x"])
def test_only_the_token_itself_is_accepted(guarded: LiveStudio, value: str) -> None:
    """As a bearer header."""
    assert httpx.get(f"{guarded.api}/runs", headers={"Authorization": value}).status_code == 401


def test_the_token_opens_the_api(guarded: LiveStudio) -> None:
    """Reads and writes; a program says nothing of where it comes from."""
    with guarded.client(headers=BEARER) as client:
        assert client.get("/runs").json()["items"] == []
        assert client.post("/prompts", json={"name": "a", "user_prompt": "x"}).status_code == 201
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")


@contextmanager
def logged_in(studio: LiveStudio) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio.url, headers=OWN) as client:
        answer = client.post("/session", data={"token": TOKEN, "next": "/runs/x?a=1&b=2"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs/x?a=1&b=2")
        yield client


def test_the_login_form_opens_a_session_and_logout_ends_it(guarded: LiveStudio) -> None:
    """From the page that was asked for, and back to it; the old cookie is worth nothing afterwards."""
    asked = httpx.get(f"{guarded.url}/?tab=1")
    assert asked.headers["location"] == "/login?next=/%3Ftab%3D1"
    form = httpx.get(f"{guarded.url}{asked.headers['location']}")
    assert 'value="/?tab=1"' in form.text
    with logged_in(guarded) as client:
        assert client.get("/api/v1/runs").status_code == 200
        assert client.post("/api/v1/prompts", json={"name": "a", "user_prompt": "x"}).status_code == 201
        kept = dict(client.cookies)
        assert client.post("/logout").headers["location"] == "/login"
        assert client.cookies == {}
        assert httpx.get(f"{guarded.api}/runs", cookies=kept).status_code == 401


def test_the_cookie_is_kept_from_scripts_and_other_sites(tmp_path: Path) -> None:
    """`__Host-` and Secure wherever the Studio is served over https; plain only on a local AWS."""
    with LiveStudio(tmp_path, auth=Auth(TOKEN)) as studio:
        cookie = httpx.post(f"{studio.url}/session", data={"token": TOKEN}).headers["set-cookie"]
    assert cookie.startswith("__Host-promptlab=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    with LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False)) as studio:
        cookie = httpx.post(f"{studio.url}/session", data={"token": TOKEN}).headers["set-cookie"]
    assert cookie.startswith("promptlab=")
    assert "Secure" not in cookie


def test_a_session_ends_with_its_time_and_with_its_token(tmp_path: Path) -> None:
    """On the server, whatever the browser keeps."""
    with LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False, session_s=-1)) as studio:
        answer = httpx.post(f"{studio.url}/session", data={"token": TOKEN})
        value = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert httpx.get(f"{studio.api}/runs", cookies={"promptlab": value}).status_code == 401
    with LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False)) as studio, logged_in(studio) as client:
        cookies = dict(client.cookies)
        assert httpx.get(f"{studio.api}/runs", cookies=cookies).status_code == 200
    with LiveStudio(tmp_path, auth=Auth("another-token-of-some-length", secure=False)) as studio:
        assert httpx.get(f"{studio.api}/runs", cookies=cookies).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {},
    ],
)
def test_another_site_cannot_use_a_session(guarded: LiveStudio, headers: dict[str, str]) -> None:
    """Nor one that does not say where it comes from; reading is harmless."""
    with logged_in(guarded) as client:
        cookies = dict(client.cookies)
    for path in ("/api/v1/prompts", "/logout"):
        answer = httpx.post(
            f"{guarded.url}{path}", json={"name": "a", "user_prompt": "x"}, cookies=cookies, headers=headers
        )
        assert answer.status_code == 403
    assert httpx.get(f"{guarded.api}/prompts", cookies=cookies, headers=headers).json()["items"] == []


def test_a_browser_without_fetch_metadata_is_known_by_its_origin(guarded: LiveStudio) -> None:
    """The origin has to be this Studio's."""
    with logged_in(guarded) as client:
        cookies = dict(client.cookies)
    assert (
        httpx.post(
            f"{guarded.api}/prompts",
            json={"name": "a", "user_prompt": "x"},
            cookies=cookies,
            headers={"Origin": guarded.url},
        ).status_code
        == 201
    )


def test_another_site_cannot_log_anybody_in(guarded: LiveStudio) -> None:
    """Into an account that is not theirs."""
    assert (
        httpx.post(
            f"{guarded.url}/session", data={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"}
        ).status_code
        == 403
    )


async def test_wrong_tokens_are_answered_ever_more_slowly(guarded: LiveStudio) -> None:
    """After some tries an address has to wait, even with the right one; then it may try again."""
    form = f"{guarded.url}/session"
    for _ in range(TRIES):
        answer = httpx.post(form, data={"token": "wrong", "next": "/runs/1"})
        assert answer.status_code == 401
        assert "not valid" in answer.text
    answer = httpx.post(form, data={"token": TOKEN})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= PAUSE_S
    ends = time.time() + PAUSE_S
    await guarded.lab.ledger.count_up(LOGIN, "127.0.0.1", by=-100, expires_at=ends)
    guarded.app.state.auth.tries = Tries()  # five minutes later
    assert httpx.post(form, data={"token": TOKEN}).status_code == 303


def test_the_right_token_forgets_the_wrong_ones_before_it(guarded: LiveStudio) -> None:
    """Somebody who mistypes now and then is never made to wait."""
    form = f"{guarded.url}/session"
    for _ in range(2):
        for _ in range(TRIES - 1):
            assert httpx.post(form, data={"token": "wrong"}).status_code == 401
        assert httpx.post(form, data={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/logout",
        "",
    ],
)
def test_login_leads_to_no_other_site(guarded: LiveStudio, path: str) -> None:
    """Only to a path of this one."""
    assert (
        httpx.post(f"{guarded.url}/session", data={"token": TOKEN, "next": path}).headers["location"] == "/"
    )


def test_htmx_is_sent_to_the_login_page(guarded: LiveStudio) -> None:
    """As a whole page, not into the element that it was filling."""
    answer = httpx.get(f"{guarded.url}/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


def test_no_token_is_stored(guarded: LiveStudio, tmp_path: Path) -> None:
    """Neither the admin token nor a session's cookie, only hashes."""
    with logged_in(guarded) as client:
        (cookie,) = client.cookies.values()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [content for content in files if TOKEN.encode() in content or cookie.encode() in content]


def test_a_short_token_is_refused() -> None:
    """It would keep nobody out."""
    with pytest.raises(ConfigError, match="at least 16"):
        Auth("short")


def test_a_laptop_answers_only_under_its_own_names(studio: LiveStudio) -> None:
    """A foreign name that resolves to 127.0.0.1 is another site's page."""
    for host in (f"127.0.0.1:{studio.port}", f"localhost:{studio.port}", "LOCALHOST", "[::1]:8000"):
        assert httpx.get(f"{studio.api}/runs", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        f"evil.example:{studio.port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "0.0.0.0",
    ):
        assert httpx.get(f"{studio.api}/runs", headers={"Host": host}).status_code == 403, host


def test_another_site_cannot_write_to_a_laptop(studio: LiveStudio) -> None:
    """Though nobody logs in."""
    body = {"name": "a", "user_prompt": "x"}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://localhost:1"}, {"Origin": "null"}):
        assert httpx.post(f"{studio.api}/prompts", json=body, headers=headers).status_code == 403
    for headers in ({}, OWN, {"Sec-Fetch-Site": "none"}, {"Origin": studio.url}):
        assert httpx.post(f"{studio.api}/prompts", json=body, headers=headers).status_code < 300


def test_a_laptop_needs_no_login(studio: LiveStudio) -> None:
    """Its form leads to the first page."""
    assert httpx.get(f"{studio.url}/login").headers["location"] == "/"
    assert httpx.post(f"{studio.url}/session", data={"token": "x", "next": "/a"}).headers["location"] == "/a"
