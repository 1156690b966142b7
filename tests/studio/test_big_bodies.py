"""Bodies as large as a request may bring, and keys that are there twice."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from tests.servers import ModelServer
from tests.studio.builders import experiment

pytestmark = pytest.mark.timeout(120)

MANY = 40_000
UNKNOWN = {f"unknown_{n}": n for n in range(MANY)}
LONG = {"x" * 2_000_000: 1}
BODIES: dict[str, dict[str, Any]] = {
    "unknown": UNKNOWN,
    "long": LONG,
    "unknown inside": {"dataset": {"name": "d", "rows": [], **UNKNOWN}, "prompt_template": UNKNOWN},
    "wrong rows": {"name": "d", "rows": [1] * MANY},
    "wrong messages": {"name": "p", "messages": [{"role": 1}] * MANY},
    "metrics": {"name": "e", "evaluation": [{"metric": 1, **LONG}] * 2},
}


@pytest.mark.parametrize("path", ["/prompts", "/datasets", "/runs", "/preview"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_with_thousands_of_mistakes_is_refused_in_few_words(
    api: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    """At most 50 are listed, with how many more there are; long names are cut."""
    answer = api.post(path, content=orjson.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text[:300]
    assert 0 < len(answer.json()["errors"]) <= 51
    assert len(answer.content) < 40_000


def test_how_many_more_mistakes_there_are_is_said(api: httpx.Client) -> None:
    """Behind the ones that are listed."""
    answer = api.post("/prompts", json={"name": "p", "user_prompt": "x", **UNKNOWN})
    *listed, last = answer.json()["errors"]
    assert len(listed) == 50 and last["message"] == f"and {MANY - 50:,} more"


def test_a_key_given_twice_is_an_error_that_names_it(api: httpx.Client, model: ModelServer) -> None:
    """In rows and everywhere else; nothing is stored."""
    rows = b'{"name": "twice", "rows": [{"q": "a", "answer": 1}, {"q": "b", "answer": 2, "\\u0061nswer": 3}]}'
    json = {"content-type": "application/json"}
    refused = api.post("/datasets", content=rows, headers=json)
    assert refused.status_code == 422
    assert "the key 'answer' is there twice" in refused.json()["detail"]
    assert api.get("/datasets/twice").status_code == 404
    body = orjson.dumps(experiment(model))
    twice = body[:-1] + b', "trials": 1, "trials": 2}'
    assert "the key 'trials'" in api.post("/runs", content=twice, headers=json).json()["detail"]
    upload = b'{"file_name": "a.csv", "size_bytes": 1, "size_bytes": 2}'
    assert "'size_bytes'" in api.post("/datasets/uploads", content=upload, headers=json).json()["detail"]
    once = {"name": "twice", "rows": [{"q": '"q": "q"', "answer": 1}, {"q": "b", "answer": 2}]}
    assert api.post("/datasets", json=once).status_code == 201


def test_an_integer_that_would_lose_digits_is_an_error_that_names_it(api: httpx.Client) -> None:
    """In rows and everywhere else; digits of texts and of fractions are none."""
    json = {"content-type": "application/json"}
    rows = b'{"name": "wide", "rows": [{"q": 123456789012345678901234567890}]}'
    answer = api.post("/datasets", content=rows, headers=json)
    assert answer.status_code == 422
    assert "123456789012345678901234567890 does not fit into 64 bits" in answer.json()["detail"]
    model = b'{"prompt_template": "p", "dataset": "d", "model": {"name": "simulated/x", "seed": 1%b}}'
    answer = api.post("/runs", content=model % (b"0" * 5_000), headers=json)
    assert answer.status_code == 422 and "64 bits" in answer.json()["detail"]
    fine = b'{"name": "fine", "rows": [{"q": "123456789012345678901234567890", "n": 0.1234567890123456789}]}'
    assert api.post("/datasets", content=fine, headers=json).status_code == 201


def test_metrics_whose_parameters_take_too_long_together_are_refused_at_once(
    api: httpx.Client, model: ModelServer
) -> None:
    """A hundred long patterns took 8 s, fifty schemas 4; what is said names the bound."""
    pattern = {"metric": "regex_match", "params": {"pattern": "(a|b)" * 1_900}}
    schema = {"properties": {f"p{n}": {"type": "string"} for n in range(4_000)}}
    for metrics, bound in (
        ([{**pattern, "name": f"m{n}"} for n in range(100)], "100,000"),
        (
            [{"metric": "json_schema", "name": f"m{n}", "params": {"schema": schema}} for n in range(20)],
            "1,000,000",
        ),
    ):
        answer = api.post("/runs", json={**experiment(model), "evaluation": metrics})
        assert answer.status_code == 422
        assert f"{bound}" in answer.json()["detail"] and "together" in answer.json()["detail"]
    few = [{**pattern, "name": f"m{n}"} for n in range(8)]
    assert api.post("/runs", json={**experiment(model), "evaluation": few}).status_code == 202
