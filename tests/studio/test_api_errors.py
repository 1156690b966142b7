"""Every error of the API has one shape."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from promptlab_studio.security import MAX_BODY_BYTES

from promptlab.adapters.http.problems import KINDS
from tests.servers import ModelServer
from tests.studio.builders import experiment
from tests.studio.live import LiveStudio


def problem(answer: httpx.Response, status: int, kind: str = "about:blank") -> dict[str, Any]:
    """The problem details of an answer, held to the shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["type"] == kind
    assert found["instance"] == answer.request.url.path
    assert found["title"]
    assert found["detail"]
    return dict(found)


def fields(found: dict[str, Any]) -> dict[str, str]:
    return {error["field"]: error["message"] for error in found["errors"]}


def test_what_is_not_there_is_404(api: httpx.Client) -> None:
    """Paths, runs, assets, versions and labels."""
    problem(api.get("/nothing"), 404)
    assert problem(api.get("/runs/none"), 404, "urn:promptlab:run-not-found")["run_id"] == "none"
    for path in ("/runs/none/cases", "/runs/none/export", "/runs/none/progress"):
        problem(api.get(path), 404, "urn:promptlab:run-not-found")
    problem(api.post("/runs/none/cancel"), 404, "urn:promptlab:run-not-found")
    for path in ("/prompts/none", "/datasets/none/versions/latest", "/datasets/none/versions/3/rows"):
        problem(api.get(path), 404, "urn:promptlab:asset-not-found")


def test_a_wrong_method_is_405(api: httpx.Client) -> None:
    """With the ones that are allowed."""
    answer = api.delete("/runs/none/progress")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"
    assert api.put("/runs/none").headers["allow"] == "GET, PATCH, DELETE"
    assert api.delete("/prompts").headers["allow"] == "GET, POST"


def test_a_wrong_body_names_its_fields(api: httpx.Client, model: ModelServer) -> None:
    """All of them, with their paths, in the body's own words."""
    body = experiment(
        model,
        trials=0,
        dataset={"name": "d", "rows": ["x"]},
        tag=["a"],
        prompt_template={"name": "a/b", "user_prompt": "x"},
    )
    found = fields(problem(api.post("/runs", json=body), 422, "urn:promptlab:invalid-request"))
    assert found.keys() == {"trials", "dataset.rows.0", "tag"}
    assert found["tag"] == "unknown field"
    found = fields(
        problem(
            api.post("/runs", json=experiment(model, prompt_template={"name": "a/b", "user_prompt": "x"})),
            422,
            "urn:promptlab:invalid-request",
        )
    )
    assert found.keys() == {"prompt_template.name"}
    twice = [{"metric": "length"}, {"metric": "length"}]
    assert (
        "2 times"
        in problem(
            api.post("/runs", json=experiment(model, evaluation=twice)), 422, "urn:promptlab:invalid-request"
        )["detail"]
    )
    assert fields(
        problem(api.post("/prompts", json={"name": "empty"}), 422, "urn:promptlab:invalid-request")
    )["prompt_template"]
    problem(api.get("/runs", params={"limit": 0}), 422, "urn:promptlab:invalid-request")


def test_a_body_that_is_not_json_says_where(api: httpx.Client) -> None:
    """As 422, never 500."""
    found = problem(
        api.post("/runs", content=b'{"name": }', headers={"Content-Type": "application/json"}),
        422,
        "urn:promptlab:invalid-request",
    )
    assert "character 9" in found["detail"]
    problem(api.post("/runs", content=b"\x80", headers={"Content-Type": "application/json"}), 400)
    problem(api.post("/runs", json=[1]), 422, "urn:promptlab:invalid-request")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"model": {"name": "openai/mini", "api_key": "sk-very-secret"}}, "model", "api_key_secret"),
        ({"evaluation": [{"metric": "mine", "evaluator": "os:system"}]}, "evaluation.0", "built-in"),
        ({"dataset": {"name": "passwd", "file_path": "/etc/passwd"}}, "dataset.file_path", "unknown field"),
        ({"agent_proxy": "os:system"}, "agent_proxy", "code that the lab keeps"),
    ],
)
def test_keys_code_and_files_of_the_server_are_refused(
    api: httpx.Client, model: ModelServer, changes: dict[str, Any], field: str, words: str
) -> None:
    """And no value that was sent comes back."""
    answer = api.post("/runs", json=experiment(model, **changes))
    assert words in fields(problem(answer, 422, "urn:promptlab:invalid-request"))[field]
    assert "very-secret" not in answer.text
    assert api.get("/runs").json()["items"] == []


def test_a_wrong_experiment_is_422_and_leaves_nothing_behind(api: httpx.Client, model: ModelServer) -> None:
    """With the library's own message."""
    cases = [
        ({"prompt_template": {"name": "ask", "user_prompt": "<nothing>"}}, "template", "<nothing>"),
        ({"evaluation": [{"metric": "exact_mach"}]}, "config", "exact_match"),
        ({"model": "opnai/mini"}, "config", "openai"),
        ({"dataset": {"name": "empty", "rows": []}}, "dataset", "no rows"),
        ({"dataset": "nowhere@1"}, "asset-not-found", "nowhere"),
    ]
    for changes, code, words in cases:
        status = 404 if code == "asset-not-found" else 422
        assert (
            words
            in problem(api.post("/runs", json=experiment(model, **changes)), status, f"urn:promptlab:{code}")[
                "detail"
            ]
        )
    assert [api.get(path).json()["items"] for path in ("/runs", "/prompts", "/datasets")] == [[], [], []]
    assert model.requests == []


def test_an_endpoint_that_does_not_answer_is_424(api: httpx.Client, model: ModelServer) -> None:
    """Before the run is recorded."""
    from tests.servers import ModelServer as Gone

    with Gone() as gone:
        pass
    problem(api.post("/runs", json=experiment(gone)), 424, "urn:promptlab:endpoint-unreachable")


def test_a_long_body_is_413(api: httpx.Client) -> None:
    """Whether or not it says how long it is."""
    problem(
        api.post(
            "/prompts", content=b"x" * (MAX_BODY_BYTES + 1), headers={"Content-Type": "application/json"}
        ),
        413,
    )
    pieces = (b"x" * (1 << 20) for _ in range(6))
    problem(api.post("/prompts", content=pieces, headers={"Content-Type": "application/json"}), 413)


def test_a_cursor_that_no_list_gave_is_422(api: httpx.Client) -> None:
    """Runs and cases."""
    problem(api.get("/runs", params={"cursor": "nonsense"}), 422, "urn:promptlab:cursor")
    problem(api.get("/runs/none/cases", params={"cursor": "1"}), 422, "urn:promptlab:invalid-request")


def test_a_fault_is_a_500_with_an_incident_and_nothing_of_its_cause(studio: LiveStudio) -> None:
    """The log has the rest; security headers are there too."""

    @studio.app.get("/api/v1/broken")
    async def broken() -> None:
        raise RuntimeError("the secret inside")

    # Routes are tried in order, and the static files come last.
    answer = httpx.get(f"{studio.api}/broken")
    found = problem(answer, 500, "urn:promptlab:internal-error")
    assert found["incident"] in found["detail"]
    assert "secret" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_browser_gets_a_page(studio: LiveStudio) -> None:
    """Outside the API, where it asks for HTML."""
    answer = httpx.get(f"{studio.url}/nothing", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at /nothing." in answer.text
    assert (
        httpx.get(f"{studio.api}/nothing", headers={"Accept": "text/html"}).headers["content-type"]
        == "application/problem+json"
    )


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    """A client tells them apart by it."""
    codes = [kind.code for kind in KINDS.values()]
    assert len(codes) == len(set(codes))
