"""Runs over the API."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import httpx
import pytest

from tests.servers import ModelServer, Reply
from tests.studio.builders import ROWS, experiment, finished, right, started


def test_a_run_is_accepted_and_worked_on(api: httpx.Client, model: ModelServer) -> None:
    """202 with its place; in the end counts, metrics, cost and the exact configuration."""
    priced = {
        "name": "openai/mini",
        "endpoint": model.openai_url,
        "input_usd_per_mtok": 1.0,
        "output_usd_per_mtok": 2.0,
    }
    answer = api.post("/runs", json=experiment(model, tags=["nightly"], model=priced))
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['run_id']}"
    run = finished(api, answer.json()["run_id"])
    assert (run["cases"], run["succeeded"], run["failed"], run["done"], run["tags"], run["name"]) == (
        120,
        120,
        0,
        120,
        ["nightly"],
        "quiz",
    )
    assert run["metrics"]["exact_match"]["mean"] == 1.0
    assert run["cost_usd"] > 0
    assert run["summarized"]
    assert len(run["configuration"]["dataset"]["hash"]) == 64
    assert run["configuration"]["model"]["name"] == "openai/mini"
    assert len(model.requests) == 120


def test_old_names_of_the_model_are_understood(api: httpx.Client, model: ModelServer) -> None:
    """`completion_model_config` and `inference_model` mean the model; a name alone is a configuration."""
    body = experiment(model)
    config = body.pop("model")
    run = started(api, {**body, "completion_model_config": {**config, "type": "completion"}})
    assert finished(api, run["run_id"])["succeeded"] == 120
    assert (
        finished(api, started(api, {**body, "inference_model": "simulated/echo"})["run_id"])["succeeded"]
        == 120
    )


def test_references_name_assets_of_the_store(api: httpx.Client, model: ModelServer) -> None:
    """By latest version, by number and by label."""
    api.post("/prompts", json={"name": "ask", "user_prompt": "<question>"})
    api.post("/datasets", json={"name": "questions", "rows": ROWS[:3]})
    api.put("/prompts/ask/labels/production", json={"version": 0})
    run = finished(
        api,
        started(api, experiment(model, prompt_template="ask@production", dataset="questions@0"))["run_id"],
    )
    assert (run["cases"], run["configuration"]["prompt_template"]["version"]) == (3, 0)


def test_a_request_that_is_sent_again_starts_no_second_run(api: httpx.Client, model: ModelServer) -> None:
    """Same key and body: the same run. Another body: refused. Another key: another run."""
    body = experiment(model)
    first = started(api, body, **{"Idempotency-Key": "k1"})
    assert started(api, body, **{"Idempotency-Key": "k1"})["run_id"] == first["run_id"]
    finished(api, first["run_id"])
    assert started(api, body, **{"Idempotency-Key": "k1"})["run_id"] == first["run_id"]
    assert len(model.requests) == 120
    other = api.post("/runs", json={**body, "trials": 2}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:promptlab:config")
    another = started(api, body, **{"Idempotency-Key": "k2"})
    assert another["run_id"] != first["run_id"]
    finished(api, another["run_id"])


def test_requests_with_one_key_at_the_same_time_start_one_run(api: httpx.Client, model: ModelServer) -> None:
    """Whoever comes first."""
    with ThreadPoolExecutor(8) as threads:
        runs = list(
            threads.map(lambda _: started(api, experiment(model), **{"Idempotency-Key": "k"}), range(8))
        )
    assert len({run["run_id"] for run in runs}) == 1
    assert finished(api, runs[0]["run_id"])["succeeded"] == 120
    assert len(model.requests) == 120


def test_a_key_of_a_wrong_experiment_is_free_again(api: httpx.Client, model: ModelServer) -> None:
    """A run that was never started does not hold the key."""
    body = experiment(model, prompt_template={"name": "ask", "user_prompt": "<nothing>"})
    assert (
        api.post("/runs", json=body, headers={"Idempotency-Key": "k"}).json()["type"]
        == "urn:promptlab:template"
    )
    assert (
        finished(api, started(api, experiment(model), **{"Idempotency-Key": "k"})["run_id"])["succeeded"]
        == 120
    )


def test_runs_are_listed_page_by_page_and_by_name_status_and_tag(
    api: httpx.Client, model: ModelServer
) -> None:
    """Newest first; a filter may make a page shorter, never lose a run."""
    rows = {"name": "questions", "rows": ROWS[:2]}
    ids = []
    for number in range(7):
        body = experiment(
            model,
            dataset=rows,
            name="odd" if number % 2 else "even",
            tags=["third"] if number % 3 == 0 else [],
        )
        ids.append(finished(api, started(api, body)["run_id"])["run_id"])

    def listed(**params: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = (
                api.get("/runs", params={**params, **({"cursor": cursor} if cursor else {})})
                .raise_for_status()
                .json()
            )
            found += [run["run_id"] for run in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    # Runs of one second are in the order of their ids, which end at random.
    assert sorted(listed(limit=3)) == sorted(ids)
    assert sorted(listed(limit=2, name="odd")) == sorted(ids[1::2])
    assert sorted(listed(limit=1, tag="third")) == sorted(ids[::3])
    assert listed(status="failed") == []
    assert sorted(listed(limit=2, status="completed", details="true")) == sorted(ids)
    whole = api.get("/runs", params={"details": "true", "limit": 1}).json()["items"][0]
    assert whole["configuration"]["dataset"]["name"] == "questions"
    assert "configuration" not in api.get("/runs", params={"limit": 1}).json()["items"][0]


def cases(api: httpx.Client, run_id: str, limit: int) -> list[dict[str, Any]]:
    rows, cursor = [], None
    while True:
        page = (
            api.get(
                f"/runs/{run_id}/cases", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
            )
            .raise_for_status()
            .json()
        )
        assert len(page["items"]) <= limit
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


def test_cases_are_paged_in_order_with_trials(api: httpx.Client, model: ModelServer) -> None:
    """Every case once, whatever the size of the pages."""
    run = finished(api, started(api, experiment(model, trials=2))["run_id"])
    for limit in (7, 240, 500):
        rows = cases(api, run["run_id"], limit)
        assert [(row["case"], row["trial"]) for row in rows] == [
            (case, trial) for case in range(120) for trial in range(2)
        ]
    assert (rows[9]["input.question"], rows[9]["response"], rows[9]["passed.exact_match"]) == (
        "What is 4?",
        "it is 4",
        True,
    )
    assert api.get(f"/runs/{run['run_id']}/cases", params={"limit": 501}).status_code == 422


def test_a_running_run_tells_what_there_is_and_can_be_cancelled_and_resumed(
    api: httpx.Client, model: ModelServer
) -> None:
    """Counts and cases come from the ledger; what was answered is asked only once."""
    model.answer = lambda r: Reply(text=right(r), hang=True) if len(model.requests) > 60 else right(r)
    run_id = started(api, experiment(model))["run_id"]
    model.wait_for_requests(70)
    while (seen := api.get(f"/runs/{run_id}").json())["done"] < 60:
        pass
    assert (seen["status"], seen["done"], seen["failed"], seen["summarized"]) == ("running", 60, 0, False)
    assert api.get(f"/runs/{run_id}/progress").json()["done"] == 60
    rows = cases(api, run_id, 25)
    answered = [request.prompt for request in model.requests[:60]]
    assert len(rows) == 60
    assert [row["input.question"] for row in rows] == [
        row["question"] for row in ROWS if row["question"] in answered
    ]
    assert rows[0].keys() >= {"score.exact_match", "error_type", "response"}
    assert api.post(f"/runs/{run_id}/cancel").json()["status"] == "cancelled"
    model.answer = right
    model.release()
    while (again := api.post(f"/runs/{run_id}/resume")).status_code == 409:  # until the work has stopped
        assert again.json()["type"] == "urn:promptlab:run-busy"
    assert (again.status_code, again.json()["status"]) == (202, "running")
    run = finished(api, run_id)
    assert (run["succeeded"], run["generation"], run["metrics"]["exact_match"]["mean"]) == (120, 1, 1.0)
    prompts = [request.prompt for request in model.requests]
    assert {prompts.count(prompt) for prompt in answered} == {1}


def test_failed_cases_are_done_again_when_asked_for(api: httpx.Client, model: ModelServer) -> None:
    """Resume leaves them; with failed it does them."""
    model.script(Reply(status=400, text="too spicy"), prompt="What is 3?")
    run_id = started(api, experiment(model))["run_id"]
    assert finished(api, run_id)["errors"] == {"bad_request": 1}
    assert api.post(f"/runs/{run_id}/resume", json={}).json()["status"] == "completed"
    assert api.post(f"/runs/{run_id}/resume", json={"failed": True}).status_code == 202
    assert finished(api, run_id)["failed"] == 0
    assert len(model.requests) == 121


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_results_are_downloaded_whole(
    api: httpx.Client, model: ModelServer, format: str, tmp_path: Any
) -> None:
    """One row a case, in a file of the run's name."""
    run = finished(api, started(api, experiment(model))["run_id"])
    answer = api.get(f"/runs/{run['run_id']}/export", params={"format": format})
    assert f'filename="{run["run_id"]}.{format}"' in answer.headers["content-disposition"]
    path = tmp_path / f"out.{format}"
    path.write_bytes(io.BytesIO(answer.content).read())
    reader = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[format]
    with duckdb.connect(":memory:") as con:
        (found,) = con.execute(
            f"""SELECT count(*), min("response"), sum("score.exact_match") FROM {reader}('{path}')"""
        ).fetchall()
    assert found == (120, "it is 0", 120.0)
    assert api.get(f"/runs/{run['run_id']}/export", params={"format": "xml"}).status_code == 422


def test_csv_is_downloaded_as_excel_likes_it(api: httpx.Client, model: ModelServer) -> None:
    """With a delimiter and a byte order mark; neither is for other formats, and what
    cannot delimit is refused."""
    run = finished(api, started(api, experiment(model))["run_id"])
    path, excel = f"/runs/{run['run_id']}/export", {"delimiter": ";", "bom": "true"}
    assert api.get(path, params=excel).content.startswith(b"\xef\xbb\xbfcase;trial;id;")
    assert api.get(path).content.startswith(b"case,trial,id,")
    for refused in ({**excel, "format": "parquet"}, {"delimiter": "a"}, {"delimiter": ";;"}):
        assert 400 <= api.get(path, params=refused).status_code <= 422
