"""The pages of sweeps, and New run with several prompts and models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from promptlab_studio.auth import Auth
from promptlab_studio.views.new_run_form import sweep_of
from promptlab_studio.views.state import Query
from starlette.datastructures import QueryParams

from tests.servers import ModelServer
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
    deadline = time.monotonic() + 60
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
