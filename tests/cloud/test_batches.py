"""Batch mode on a deployed stack: of Bedrock, whose files are in the stack's bucket, and of a judge. The
local AWS has no Bedrock: a server of the test's own plays it, and what Bedrock's role may do is not tried
here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.batch_server import BatchServer, Outcome
from tests.cloud.conftest import Stack
from tests.cloud.runs import cases, ended, started

pytestmark = pytest.mark.cloud
ROWS = 100
"""The least that Bedrock takes."""


@contextmanager
def variables(stack: Stack, function: str, **changes: str) -> Iterator[None]:
    """A function's environment, changed for a while."""
    client = stack.aws("lambda")
    before = client.get_function_configuration(FunctionName=function)["Environment"]
    changed = {"Variables": before["Variables"] | changes}
    client.update_function_configuration(FunctionName=function, Environment=changed)
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=function, Environment=before)


def test_a_batch_of_bedrock_is_submitted_once_and_waited_for(stack: Stack) -> None:
    """Its records lie in the folder of its run; the run names neither a bucket nor a role, and may not."""
    body = {
        "name": "night",
        "dataset": {"name": "numbers", "rows": [{"n": str(n)} for n in range(ROWS)]},
        "prompt_template": {"name": "number", "user_prompt": "<n>"},
        "model": {"name": "bedrock/amazon.nova-lite-v1:0", "batch": True},
        "evaluation": [{"metric": "length"}],
    }
    elsewhere = body | {"model": {**body["model"], "batch_s3_uri": "s3://elsewhere/batches"}}  # type: ignore[dict-item]
    refused = stack.api.post("/runs", json=elsewhere)
    assert refused.status_code == 422 and "leave batch_s3_uri out" in refused.json()["detail"]
    with (
        BatchServer(lambda prompt: f"it is {prompt}", s3=stack.aws("s3")) as bedrock,
        variables(stack, stack.function("Infer"), AWS_ENDPOINT_URL_BEDROCK=bedrock.url),
    ):
        run_id = started(stack, body)
        ended(stack, run_id)
    assert [row["response"] for row in cases(stack, run_id)] == [f"it is {n}" for n in range(ROWS)]
    (batch,) = bedrock.batches
    assert bedrock.direct == []
    folder = f"runs/{run_id}/batches/{batch.name}/"
    assert [key for key in stack.keys(folder) if key.endswith((".jsonl", ".jsonl.out"))] == [
        f"{folder}{batch.name}.jsonl",
        f"{folder}out/{batch.id.rpartition('/')[2]}/{batch.name}.jsonl.out",
    ]


def said(prompt: str) -> Outcome:
    """The model gives the number, and the judge passes even ones."""
    if "<<<RESPONSE>>>" not in prompt:
        return f"it is {prompt}"
    number = int(prompt.partition("<<<RESPONSE>>>\nit is ")[2].partition("\n")[0])
    return json.dumps({"reasoning": "I looked.", "label": "no" if number % 2 else "yes"})


def test_a_judge_in_batch_mode_is_asked_once_after_the_answers(stack: Stack) -> None:
    """The model is called, the judge is not: what it is to say is submitted by the workers, in a wave of its
    own, and waited for without one."""
    with BatchServer(said) as server:
        model = {"name": "openai/mini", "endpoint": f"{server.url}/v1"}
        judge = {**model, "name": "openai/judge", "batch": True, "structured": "none"}
        body = {
            "name": "judged at night",
            "dataset": {"name": "numbers", "rows": [{"n": str(n)} for n in range(ROWS)]},
            "prompt_template": {"name": "number", "user_prompt": "<n>"},
            "model": model,
            "evaluation": [
                {"metric": "rubric", "judge": judge, "params": {"criterion": "It is even."}},
            ],
        }
        run_id = started(stack, body)
        ended(stack, run_id)
        assert [row["score.rubric"] for row in cases(stack, run_id)] == [1 - n % 2 for n in range(ROWS)]
        asked = [prompt for batch in server.batches for prompt in batch.requests.values()]
        assert {batch.model for batch in server.batches} == {"judge"}
        assert len(asked) == len(set(asked)) == ROWS
        assert sorted(server.direct) == sorted(str(n) for n in range(ROWS))
