"""The pages of sweeps, and New run with several prompts and models."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.auth import Auth
from promptlab_studio.views.new_run_form import sweep_of
from promptlab_studio.views.state import Query
from starlette.datastructures import QueryParams

from tests.servers import ModelServer, Reply
from tests.studio.builders import ROWS, experiment, right
from tests.studio.live import TOKEN, LiveStudio


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A provider that answers right."""
    with ModelServer(right) as server:
        yield server


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A Studio's client with a token."""
    with (
        LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False)) as studio,
        httpx.Client(base_url=studio.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client,
    ):
        yield client


def test_a_matrix_is_started_ranked_and_shown(client: httpx.Client, model: ModelServer) -> None:
    """POST starts a run for each cell, once; the page has a row for each, the best first, with the way to
    Compare and to the runs; what is wrong is a problem that names the cell."""
    config = {
        **experiment(model, dataset={"name": "questions", "rows": ROWS[:30]}),
        "prompt_template": [
            {"name": "ask", "user_prompt": "<question>"},
            {"name": "wrong", "user_prompt": "<question> none"},
        ],
    }
    answer = client.post("/api/v1/sweeps", json={"experiment": config})
    assert answer.status_code == 202, answer.text
    sweep = answer.json()
    assert answer.headers["Location"] == f"/api/v1/sweeps/{sweep['sweep_id']}"
    deadline = time.monotonic() + 200
    while not (found := client.get(answer.headers["Location"]).json())["ended"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = client.post("/api/v1/sweeps", json={"experiment": config}).json()
    assert again == sweep and len(model.requests) == 60
    best, worst = found["cells"]
    assert (best["choices"], best["p_best"], worst["against_leader"]["verdict"]) == (
        {"prompt_template": "ask"},
        1.0,
        "worse",
    )
    page = client.get(f"/sweeps/{sweep['sweep_id']}").text
    assert page.index(best["run_id"]) < page.index(worst["run_id"])
    assert f"/compare?run={best['run_id']}&amp;run={worst['run_id']}" in page and "−1.000" in page
    assert f"/sweeps/{sweep['sweep_id']}" in client.get("/sweeps").text
    assert f"/sweeps/{sweep['sweep_id']}" in client.get(f"/runs/{best['run_id']}").text
    assert client.get("/sweeps/none").status_code == 404
    for body, why in (
        ({"experiment": config | {"matrix": {"dataset": ["a"]}}}, "ranked over the same rows"),
        ({"experiment": config | {"model": [{"name": "openai/mini", "temperature": "warm"}]}}, "temperature"),
        ({}, "give one of both"),
    ):
        refused = client.post("/api/v1/sweeps", json=body)
        assert refused.status_code == 422 and why in refused.text, refused.text


def wait(client: httpx.Client, sweep_id: str) -> dict[str, Any]:
    """The ranking, once no run of the sweep is under way."""
    deadline = time.monotonic() + 200
    while True:
        found: dict[str, Any] = client.get(f"/api/v1/sweeps/{sweep_id}").json()
        if not any(cell["status"] == "running" for cell in found["cells"]):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stopped_sweep_goes_on_from_its_page(client: httpx.Client, model: ModelServer) -> None:
    """Nobody gives the experiment again: the run that was cancelled does what it is missing, the one that had
    not begun begins, with the prompt that it was to have; nothing is asked twice."""
    rows = ROWS[:20]
    model.answer = lambda request: Reply(text=right(request), hang=request.prompt == rows[15]["question"])
    prompts = [
        {"name": name, "user_prompt": f"<question>{more}"} for name, more in (("ask", ""), ("b", " none"))
    ]
    config = {**experiment(model, dataset={"name": "questions", "rows": rows}), "prompt_template": prompts}
    sweep_id = client.post(
        "/api/v1/sweeps",
        json={
            "experiment": config,
        },
    ).json()["sweep_id"]
    while len(model.requests) < 20:
        time.sleep(0.01)
    place = f"/sweeps/{sweep_id}"
    assert f'{place}/continue"' not in client.get(place).text
    client.post(f"/api/v1/sweeps/{sweep_id}/cancel")
    model.release()
    assert {cell["status"] for cell in wait(client, sweep_id)["cells"]} == {"cancelled", "waiting"}
    model.answer = right
    assert f'{place}/continue"' in client.get(place).text
    assert client.post(f"/api/v1/sweeps/{sweep_id}/continue", json={"max_cost_usd": 0}).status_code == 422
    assert client.post(f"{place}/continue", data={"max_cost_usd": ""}).headers["location"] == place
    while not (found := wait(client, sweep_id))["ended"]:
        time.sleep(0.05)
    assert {cell["status"] for cell in found["cells"]} == {"completed"} and not found["cancelled"]
    asked = Counter(request.prompt for request in model.requests)
    assert len(asked) == 40 and sum(asked.values()) <= 41  # the call in flight, once more
    assert f'{place}/continue"' not in client.get(place).text


def test_new_run_says_what_all_runs_cost(client: httpx.Client) -> None:
    """Of two prompts with three models; a model without a price is named, and more runs than a sweep has are
    refused before the button is pressed."""
    for name in ("a", "b"):
        client.post("/api/v1/prompts", json={"name": name, "user_prompt": f"{name * 400} <question>"})
    client.post("/api/v1/datasets", json={"name": "q", "rows": ROWS[:30]})
    one = {"prompt": "a@0", "dataset": "q@0", "model": "openai/gpt-5-mini", "max_tokens": "100"}

    def cost(more: dict[str, Any]) -> str:
        page = client.get("/new", params={**one, **more}).text
        return re.sub(r"\s+", " ", re.sub("<[^>]+>", "", page.partition("<h2>Cost</h2>")[2][:2500]))

    alone = cost({})
    usd = float(re.findall(r"≈ \$([\d.]+)", alone)[0])
    assert "for all" not in alone
    several = cost({"more_prompts": "b@0", "more_models": "openai/gpt-5-mini-2025-08-07 openai/nobody-knows"})
    assert "for all 6 runs" in several and "calls of all runs180" in several.replace(" 180", "180")
    assert "Without openai/nobody-knows" in several
    assert float(re.findall(r"≈ \$([\d.]+)", several)[0]) == pytest.approx(4 * usd, rel=0.1)
    assert "24 runs at most" in cost({"more_models": " ".join(f"openai/m{n}" for n in range(30))})


def test_further_prompts_and_models_of_the_form_are_a_sweep() -> None:
    """With the parameters of the first model; without any it is one run."""
    pairs = [("prompt", "a@0"), ("dataset", "q@0"), ("model", "simulated/demo"), ("temperature", "0.5")]
    assert sweep_of(Query.of("/new", QueryParams(pairs)), ()) is None
    more = [*pairs, ("more_prompts", "a@1"), ("more_prompts", "a@0"), ("more_models", "simulated/echo")]
    found = sweep_of(Query.of("/new", QueryParams(more)), ())
    assert found is not None
    assert found["prompt_template"] == ["a@0", "a@1"]
    assert [(one["name"], one["temperature"]) for one in found["model"]] == [
        ("simulated/demo", 0.5),
        ("simulated/echo", 0.5),
    ]
