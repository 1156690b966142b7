"""The callers that get in through the URL, and those that do not."""

from __future__ import annotations

import pytest

from tests.cloud.conftest import Stack

pytestmark = pytest.mark.cloud
OPEN = {("GET", "/api/v1/health")}


def test_health_answers_anybody(stack: Stack) -> None:
    """Without a token, and says nothing but that it is there."""
    with stack.client(token=False) as anybody:
        answer = anybody.get("/api/v1/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_nothing_else_of_the_api_answers_without_the_token(stack: Stack) -> None:
    """Every route that the document names, and the document itself; some with a wrong token, too: all tests
    here have one address, and that has five tries."""
    document = stack.api.get("/openapi.json").raise_for_status().json()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods} | {
        ("GET", "/api/v1/openapi.json")
    }
    assert len(routes) > 15
    wrong = {("GET", "/api/v1/runs"), ("POST", "/api/v1/runs"), ("DELETE", "/api/v1/runs/{run_id}")}
    assert wrong <= routes
    answers = {}
    with stack.client(token=False) as anybody:
        for method, path in sorted(routes - OPEN):
            headers = {"Authorization": f"Bearer {'wrong-' * 8}"} if (method, path) in wrong else {}
            answer = anybody.request(method, path, headers=headers, json={} if method != "GET" else None)
            answers[method, path] = (answer.status_code, answer.headers["content-type"])
    assert answers == dict.fromkeys(answers, (401, "application/problem+json"))


@pytest.mark.parametrize("path", ["/", "/new", "/prompts", "/datasets", "/compare", "/runs/nobody-knows"])
def test_pages_lead_a_browser_to_the_login(stack: Stack, path: str) -> None:
    """And nothing of a page is shown before it."""
    with stack.client(token=False, Accept="text/html") as browser:
        answer = browser.get(path)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    assert not answer.content


def test_the_login_opens_a_session_and_the_logout_ends_it(stack: Stack) -> None:
    """A cookie that no script reads and no other site sends; the table holds its hash
    only, and when it ends."""
    with stack.client(token=False) as browser:
        refused = browser.post("/session", data={"token": "wrong-but-just-as-long-as-the-right-one-is"})
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
        welcome = browser.post("/session", data={"token": stack.token, "next": "/prompts"})
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/prompts")
        flags = welcome.headers["set-cookie"].lower()
        assert "httponly" in flags and "samesite=lax" in flags and "max-age=" in flags
        assert browser.get("/api/v1/runs").status_code == 200
        assert browser.get("/prompts").status_code == 200
        assert browser.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        (value,) = browser.cookies.values()
        sessions = _sessions(stack)
        assert sessions and value not in str(sessions) and stack.token not in str(sessions)
        assert all("expires_at" in session for session in sessions)
        assert browser.post("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
        # Whoever kept the cookie has nothing.
        assert browser.get("/api/v1/runs", headers={"Cookie": f"promptlab={value}"}).status_code == 401
    assert len(_sessions(stack)) == len(sessions) - 1


def _sessions(stack: Stack) -> list[dict[str, object]]:
    pages = (
        stack.aws("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=stack.outputs["TableName"],
            FilterExpression="begins_with(pk, :s)",
            ExpressionAttributeValues={":s": {"S": "SESSION#"}},
        )
    )
    return [item for page in pages for item in page["Items"]]
