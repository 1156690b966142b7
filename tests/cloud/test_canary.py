"""A run on a deployed stack against an endpoint that sends the key back in every form."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.canary import KEY, answer, inflated, looked_at, rows
from tests.cloud.conftest import Stack
from tests.cloud.runs import cases, ended, experiment, started, until
from tests.cloud.test_cli import promptlab
from tests.servers import ModelServer

pytestmark = pytest.mark.cloud


def test_a_run_on_the_stack_leaves_the_key_nowhere(stack: Stack, tmp_path: Path) -> None:
    """Not in the table, the bucket, the API's answers, or what functions and services print. Once it is
    deleted nothing of it is left."""
    asked, secret = rows(), f"canary-{uuid.uuid4().hex[:8]}"  # a worker keeps one of this name for a while
    with ModelServer(answer) as server:
        command = ("cloud", "secrets", "set", secret, "--host", server.url)
        promptlab(*command, folder=tmp_path, stdin=KEY)
        model = {"api_key_secret": secret, "max_retries": 0}
        body = experiment(server, model=model, prompt_template={"name": "canary", "user_prompt": "<ask>"})
        body["dataset"] = {"name": "canaries", "rows": asked}
        body["evaluation"] = [{"metric": "length"}]
        run_id = started(stack, body)
        ended(stack, run_id)
        assert {f"Bearer {KEY}"} == {request.headers["authorization"] for request in server.requests}
    promptlab("cloud", "secrets", "delete", secret, "--yes", folder=tmp_path)
    found = cases(stack, run_id)
    assert len(found) == len(asked) and sum("***" in repr(case) for case in found) > len(asked) / 2
    looked_at("the API", repr(found).encode())
    pages = stack.aws("dynamodb").get_paginator("scan").paginate(TableName=stack.outputs["TableName"])
    for item in (item for page in pages for item in page["Items"]):
        looked_at(f"{item['pk']} {item['sk']}", repr({n: inflated(v) for n, v in item.items()}).encode())
    keys = stack.keys(f"runs/{run_id}/")
    assert keys
    for key in keys:
        looked_at(key, repr(inflated(stack.blob(key))).encode())
    folder = Path(os.environ["PROMPTLAB_CLOUD_FOLDER"])
    state = (path for path in (folder / "state").iterdir() if path.is_file())
    kept = [path for path in state if path.name != "secretsmanager.json"]
    for path in (folder / "ministack.log", *kept):
        looked_at(path.name, path.read_bytes())
    assert stack.api.delete(f"/runs/{run_id}").status_code in (202, 204)
    until(lambda: not versions(stack, f"runs/{run_id}/"), "Tidy removes all versions of all that the run had")
    assert stack.answered(run_id, 10) == []


def versions(stack: Stack, prefix: str) -> list[Any]:
    """The versions and delete markers of a folder of the bucket."""
    page = stack.aws("s3").list_object_versions(Bucket=stack.outputs["BucketName"], Prefix=prefix)
    return [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
