"""What metrics of the run as a whole took out of each answer, on the page of the case and in the API."""

from __future__ import annotations

import httpx

from tests.servers import ModelServer
from tests.studio.builders import experiment, finished, started
from tests.studio.live import LiveStudio


def test_what_was_taken_of_the_answer_is_shown_beside_its_scores(
    studio: LiveStudio, model: ModelServer, api: httpx.Client
) -> None:
    table = {
        "metric": "classification",
        "extract": {"regex": "is (1?[0-9])$"},
        "extract_reference": {"regex": "is (.*)"},
        "column_mapping": {"response": "$inference", "reference": "answer"},
        "params": {"labels": [str(n) for n in range(20)]},
    }
    body = experiment(model)
    body = {**body, "evaluation": [*body["evaluation"], table]}
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
