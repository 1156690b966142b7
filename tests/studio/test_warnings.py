"""Warnings of an experiment in the API and on the Studio's pages."""

from __future__ import annotations

import httpx

from tests.servers import ModelServer
from tests.studio.builders import experiment, finished, started
from tests.studio.live import LiveStudio

LEAK = {"name": "ask", "user_prompt": "<question> in <answer></answer> tags"}


def test_a_run_has_its_warnings(studio: LiveStudio, api: httpx.Client, model: ModelServer) -> None:
    """In the answer that starts it, afterwards, and on its page; `strict` refuses it."""
    run = started(api, experiment(model, prompt_template=LEAK))
    assert "shows the expected answer" in run["warnings"][0]
    assert finished(api, run["run_id"])["warnings"] == run["warnings"]
    assert "shows the expected answer" in httpx.get(f"{studio.url}/runs/{run['run_id']}").text
    refused = api.post("/runs", json=experiment(model, prompt_template=LEAK, strict=True))
    assert refused.status_code == 422 and "shows the expected answer" in refused.text
    assert started(api, experiment(model))["warnings"] == []


def test_a_preview_and_the_new_run_page_show_warnings(studio: LiveStudio, api: httpx.Client) -> None:
    """Before anything is started, with the chosen metrics."""
    rows = {"name": "d", "rows": [{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}]}
    metric = {"metric": "exact_match", "column_mapping": {"reference": "answer"}}
    body = {"prompt_template": LEAK, "dataset": rows}
    assert api.post("/preview", json=body).json()["warnings"] == []
    shown = api.post("/preview", json={**body, "evaluation": [metric]}).json()
    assert "shows the expected answer" in shown["warnings"][0]
    api.post("/prompts", json=LEAK).raise_for_status()
    api.post("/datasets", json=rows).raise_for_status()
    query = {
        "prompt": "ask@0",
        "dataset": "d@0",
        "metric": "exact_match",
        "m.exact_match.reference": "answer",
    }
    page = httpx.get(f"{studio.url}/new", params=query)
    assert page.status_code == 200 and "shows the expected answer" in page.text
