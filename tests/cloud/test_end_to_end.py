"""Datasets, long rows, keys, cancelling and resuming, through the URL of a deployed stack."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import httpx
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.domain.secrets import Secret, description_of
from promptlab.worker import LEASE_S, LOOK_S
from tests.cloud.conftest import Stack
from tests.cloud.runs import cases, each_once, ended, execution, experiment, logged, right, started, until
from tests.servers import ModelServer, Reply

pytestmark = pytest.mark.cloud
LONG = 300_000
"""Characters: more than the 262,144 that a state of the state machine may hold."""


def test_a_file_goes_straight_into_the_bucket_and_a_long_row_passes(stack: Stack) -> None:
    """Through the URL that the API gives out; a prompt and an answer that fit neither a state nor an item
    arrive whole."""
    rows = [
        {"question": "short", "answer": "x"},
        {"question": "long " + "q" * LONG, "answer": "y"},
        {"question": "last", "answer": "z"},
    ]
    content = "\n".join(map(json.dumps, rows)).encode()
    wanted = {"file_name": "long rows.jsonl", "size_bytes": len(content)}
    place = stack.api.post("/datasets/uploads", json=wanted).raise_for_status().json()
    assert httpx.URL(place["upload_url"]).host != httpx.URL(stack.endpoint).host
    assert (
        httpx.request(
            place["method"], place["upload_url"], headers=place["headers"], content=content
        ).status_code
        == 200
    )
    made = stack.api.post("/datasets", json={"name": "long", "upload": place["key"]})
    assert made.status_code in (200, 201), made.text  # 200: a stack that has seen this test before
    assert stack.keys("uploads/") == []
    with ModelServer(lambda request: f"{len(request.prompt)} " + "a" * (2 * LONG)) as server:
        run_id = started(stack, experiment(server, dataset="long"))
        ended(stack, run_id)
    found = cases(stack, run_id)
    assert [len(row["input.question"]) for row in found] == [len(row["question"]) for row in rows]
    assert [row["response"] for row in found] == [
        f"{len(row['question'])} " + "a" * (2 * LONG) for row in rows
    ]


def test_the_sdk_uploads_a_file_and_gets_an_export(stack: Stack, pl: PromptLab, tmp_path: Path) -> None:
    """A dataset of some megabytes; its results come back as one file from the bucket."""
    source = tmp_path / "rows.jsonl"
    source.write_text(
        "".join(
            json.dumps({"question": f"What is {n}?", "answer": f"it is {n}", "more": "m" * 20_000}) + "\n"
            for n in range(100)
        )
    )
    with ModelServer(right) as server:
        run = pl.experiment.run(
            {
                "name": "uploaded",
                "dataset": Dataset(name="uploaded", file_path=source),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
                "model": {"name": "openai/mini", "endpoint": server.openai_url},
                "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
            }
        )
    run.export(tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 101
    assert stack.api.get(f"/runs/{run.run_id}").json()["metrics"]["exact_match"]["mean"] == 1.0


def test_a_provider_key_comes_from_its_secret_and_shows_nowhere(stack: Stack) -> None:
    """The workers send it; the table, the bucket and the API have its name only. Without the secret the run
    is refused at once."""
    key, name = f"sk-{uuid.uuid4().hex}", f"KEY_{uuid.uuid4().hex}"
    with ModelServer(right) as server:
        body = experiment(server, model={"api_key_secret": name})
        refused = stack.api.post("/runs", json=body)
        assert refused.status_code == 422 and name in refused.json()["detail"]
        assert stack.api.post("/runs", json=experiment(server, model={"api_key": key})).status_code == 422
        stack.aws("secretsmanager").create_secret(
            Name=f"{stack.outputs['SecretsPrefix']}{name}",
            SecretString=Secret(key, (server.url,)).to_text(),
            Description=description_of([server.url]),
        )
        run_id = started(stack, body)
        ended(stack, run_id)
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}
    each_once(stack, run_id, 50)
    assert (
        key
        not in str(stack.items(f"RUN#{run_id}"))
        + str(stack.items(f"RUN#{run_id}#0"))
        + stack.api.get(f"/runs/{run_id}").text
    )
    assert all(key.encode() not in stack.blob(name) for name in stack.keys(f"runs/{run_id}/"))
    assert key not in str(logged(stack, run_id))


def test_a_cancelled_run_says_so_and_resume_does_what_is_missing(stack: Stack) -> None:
    """No call starts after the cancellation; what was answered is kept and is not asked again."""
    with ModelServer(
        lambda request: (
            right(request)
            if int(request.prompt.split()[-1].rstrip("?")) < 20
            else Reply(text=right(request), hang=True)
        )
    ) as server:
        run_id = started(stack, experiment(server))
        until(
            lambda: stack.api.get(f"/runs/{run_id}/progress").json()["done"] >= 20 and server.in_flight == 10,
            "all that answers is answered",
        )
        cancelled = stack.api.post(f"/runs/{run_id}/cancel").raise_for_status().json()
        assert cancelled["status"] == "cancelled"
        assert execution(stack, run_id)["status"] == "ABORTED"
        before = len(server.requests)
        assert before <= 20 + 10
        until(lambda: not _is_renewed(stack, run_id), "the worker has seen the cancellation", 60)
        server.release()
        until(
            lambda: stack.api.get(f"/runs/{run_id}/progress").json()["done"] == before,
            "what was in flight is recorded",
            60,
        )
        assert len(server.requests) == before
        assert stack.api.get(f"/runs/{run_id}").json()["status"] == "cancelled"
        server.answer = right
        assert stack.api.post(f"/runs/{run_id}/resume").status_code == 202
        ended(stack, run_id)
        assert len(server.requests) <= 50 + 10
    each_once(stack, run_id, 50)
    assert execution(stack, run_id, generation=1)["status"] == "SUCCEEDED"


def _is_renewed(stack: Stack, run_id: str) -> bool:
    """Whether the first shard's worker goes on: with each look at its run it renews its lease, and after the
    cancellation no more."""
    leases = stack.items(f"LEASE#{run_id}#0")
    return bool(leases) and float(leases[0]["ends_at"]["N"]) > time.time() + LEASE_S - 1.5 * LOOK_S


def test_a_run_that_cannot_be_planned_fails_with_its_reason(stack: Stack) -> None:
    """A dataset whose content is gone: the execution fails, and the run says why."""
    with ModelServer(right) as server:
        body = experiment(server, 3, dataset={"name": "lost", "rows": [{"question": "a", "answer": "b"}]})
        run_id = started(stack, body)
        ended(stack, run_id)
        dataset = stack.api.get("/datasets/lost/versions/0").raise_for_status().json()
        for key in stack.keys(f"datasets/{dataset['hash']}"):
            stack.aws("s3").delete_object(Bucket=stack.outputs["BucketName"], Key=key)
        second = started(stack, body | {"dataset": "lost@0"})
        run = ended(stack, second, "failed")
    assert "No blob 'datasets/" in run["error"]
    assert execution(stack, second)["status"] == "FAILED"
