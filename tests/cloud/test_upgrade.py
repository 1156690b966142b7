"""A stack of an older version, with runs in it, becomes one of this version; a deleted one comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.cloud.stack import Stack as DeployedStack
from tests.cloud.conftest import Stack
from tests.cloud.older import ROOT, checkout, deployed
from tests.cloud.runs import cases, ended, experiment, started
from tests.servers import ModelServer, Reply, Request

# It builds and deploys two versions.
pytestmark = [pytest.mark.cloud, pytest.mark.timeout(2400)]
COMMIT = "d3fe37b"
NAME = "older"
KEPT = ("TableName", "BucketName", "StateMachineArn", "StudioUrl", "SecretsPrefix")
ROWS = 120
ILL = "What is 7?"


def answer(request: Request) -> str:
    """The right answer."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as model:
        model.script(Reply(status=400, text="no"), prompt=ILL)
        yield model


@pytest.fixture(scope="module")
def old(stack: Stack, server: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The older stack: its outputs, its token, and a run of which one case failed."""
    folder = tmp_path_factory.mktemp("older")
    before = deployed(checkout(COMMIT, folder), folder / "cloud", NAME)
    run_id = started(before, experiment(server, ROWS))
    run = ended(before, run_id)
    assert (run["summary"]["succeeded"], run["summary"]["failed"]) == (ROWS - 1, 1)
    found = {
        "outputs": before.outputs,
        "token": before.token,
        "run_id": run_id,
        "cases": cases(before, run_id),
    }
    before.close()
    return found


async def test_a_stack_of_an_older_version_keeps_its_runs_and_its_token(
    old: dict[str, Any], server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table, bucket and address stay; the run shows as before; `resume` answers what failed; the token that
    `promptlab cloud token` printed before the update opens it after; new runs work."""
    monkeypatch.chdir(tmp_path)
    assert await DeployedStack(NAME).token() == old["token"]
    after = deployed(ROOT, tmp_path / "cloud", NAME, os.environ["PROMPTLAB_CLOUD_BUILD"])
    try:
        assert {k: after.outputs[k] for k in KEPT} == {k: old["outputs"][k] for k in KEPT}
        assert after.token == old["token"]
        assert [(c["case"], c["response"]) for c in cases(after, old["run_id"])] == [
            (c["case"], c["response"]) for c in old["cases"]
        ]
        again = after.api.post(f"/runs/{old['run_id']}/resume", json={"failed": True})
        assert again.status_code == 202, again.text
        run = ended(after, old["run_id"])
        assert (run["summary"]["succeeded"], run["summary"]["failed"]) == (ROWS, 0)
        assert len([r for r in server.requests if r.prompt != ILL]) == ROWS - 1  # nothing was paid twice
        new = started(after, experiment(server, 10))
        assert ended(after, new)["summary"]["succeeded"] == 10
        secrets = after.aws("secretsmanager").list_secrets()["SecretList"]
        assert [s["Name"] for s in secrets if s["Name"].startswith(f"{NAME}/")] == []
        protected = after.aws("dynamodb").describe_table(TableName=after.outputs["TableName"])
        assert protected["Table"]["DeletionProtectionEnabled"] is True
    finally:
        after.close()


def test_a_deleted_stack_is_deployed_again_over_its_table_and_bucket(
    stack: Stack, old: dict[str, Any], tmp_path: Path
) -> None:
    """Its runs are there, its token is the same."""
    client = stack.aws("cloudformation")
    client.delete_stack(StackName=NAME)
    client.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1})
    client.create_change_set(
        StackName=NAME,
        ChangeSetName="import",
        ChangeSetType="IMPORT",
        TemplateBody=(ROOT / "infra" / "import.yaml").read_text(),
        ResourcesToImport=[
            {
                "ResourceType": kind,
                "LogicalResourceId": name,
                "ResourceIdentifier": {f"{name}Name": old["outputs"][f"{name}Name"]},
            }
            for kind, name in (("AWS::DynamoDB::Table", "Table"), ("AWS::S3::Bucket", "Bucket"))
        ],
    )
    client.get_waiter("change_set_create_complete").wait(
        StackName=NAME, ChangeSetName="import", WaiterConfig={"Delay": 1}
    )
    client.execute_change_set(StackName=NAME, ChangeSetName="import")
    client.get_waiter("stack_import_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1})
    after = deployed(ROOT, tmp_path / "cloud", NAME, os.environ["PROMPTLAB_CLOUD_BUILD"])
    try:
        for name in ("TableName", "BucketName"):
            assert after.outputs[name] == old["outputs"][name]
        assert after.token == old["token"]
        found = cases(after, old["run_id"])
        assert [c["case"] for c in found] == list(range(ROWS)) and all(c["response"] for c in found)
    finally:
        after.close()
