"""Metrics of the run as a whole on pages and in the API: what they took of answers, slices, comparisons."""

from __future__ import annotations

from typing import Any

import httpx

from tests.servers import ModelServer
from tests.studio.builders import experiment, finished, started
from tests.studio.live import LiveStudio


def classified(model: ModelServer) -> dict[str, Any]:
    """An experiment with a metric of the run as a whole beside that of its cases."""
    table = {
        "metric": "classification",
        "extract": {"regex": "is (1?[0-9])$"},
        "extract_reference": {"regex": "is (.*)"},
        "column_mapping": {"response": "$inference", "reference": "answer"},
        "params": {"labels": [str(n) for n in range(20)]},
    }
    body = experiment(model)
    return {**body, "evaluation": [*body["evaluation"], table]}


def test_what_was_taken_of_the_answer_is_shown_beside_its_scores(
    studio: LiveStudio, model: ModelServer, api: httpx.Client
) -> None:
    body = classified(model)
    run = finished(api, started(api, body)["run_id"])
    case = next(c for c in api.get(f"/runs/{run['run_id']}/cases").json()["items"] if c["case"] < 20)
    kept = case["response"].split()[-1]
    found = api.get(f"/runs/{run['run_id']}/cases/{case['case']}").raise_for_status().json()
    assert kept in str(found) and "judged.classification" in str(found), found
    with httpx.Client(base_url=studio.url) as browser:
        page = browser.get(f"/runs/{run['run_id']}/cases/{case['case']}").raise_for_status().text
        assert "a score of the run as a whole" in page and ">Judged<" in page
        shown = browser.get(f"/runs/{run['run_id']}", params={"tab": "cases", "col": "judged.classification"})
        assert "judged by classification" in shown.raise_for_status().text
        text = f"/runs/{run['run_id']}/cases/{case['case']}/text"
        assert kept in browser.get(text, params={"of": "judged.classification"}).raise_for_status().text


def test_slices_and_comparisons_show_scores_of_the_run(
    studio: LiveStudio, model: ModelServer, api: httpx.Client
) -> None:
    """The page has the value, its interval and the verdict that the API has, adjusted with the metrics."""
    body = classified(model)
    ids = [finished(api, started(api, body)["run_id"])["run_id"] for _ in range(2)]
    pairs = [("run", run_id) for run_id in ids]
    compared = api.get("/compare", params=pairs).raise_for_status().json()["others"][0]["run_metrics"]
    accuracy = compared["classification.accuracy"]
    assert accuracy["difference"] == 0 and accuracy["p_adjusted"] == 1 and accuracy["margin"] is None
    assert accuracy["verdict"] == "no evidence of a difference"
    sliced = [*pairs, ("column", "answer")]
    found = api.get("/slices", params=sliced).raise_for_status().json()
    one = found["slices"][0]
    assert one["metrics"]["classification.accuracy"]["method"] == "bootstrap"
    assert "classification.accuracy" in one["others"][0]["metrics"]
    with httpx.Client(base_url=studio.url) as browser:
        shown = browser.get("/slices", params=[*sliced, ("metric", "classification.accuracy")])
        page = shown.raise_for_status().text
        assert "A value" in page and "metric=classification" not in page.partition("<tbody")[2]
        compare = browser.get("/compare", params=pairs).raise_for_status().text
        assert "no evidence of a difference" in compare and "classification.accuracy" in compare
