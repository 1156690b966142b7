"""`promptlab cloud smoke`, as somebody runs it after a first deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cloud.conftest import Stack
from tests.cloud.test_cli import promptlab

pytestmark = pytest.mark.cloud
UNSEEN = {"roles", "logs"}
"""What the local AWS has not got: IAM's simulator, and the lines of functions."""


def test_a_stack_that_is_well_has_nothing_that_differs(stack: Stack, tmp_path: Path) -> None:
    """Ten rows are run and removed; what the local AWS cannot tell is said to be unknown."""
    said = promptlab("cloud", "smoke", "--endpoint", stack.endpoint, folder=tmp_path)
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    unseen = {rest.partition(":")[0] for mark, rest in lines if mark == "?"}
    assert {mark for mark, _ in lines} <= {"ok", "?"} and unseen <= UNSEEN
    assert "ten rows" in said and "the run is deleted" in said and "with the versions infer" in said
    assert "promptlab-smoke" not in {run["name"] for run in stack.api.get("/runs").json()["items"]}


def test_what_differs_is_told_with_what_to_do(stack: Stack, tmp_path: Path) -> None:
    """A table that anybody may delete; the other checks are made all the same."""
    table = {"TableName": stack.outputs["TableName"]}
    stack.aws("dynamodb").update_table(**table, DeletionProtectionEnabled=False)
    try:
        command = ("cloud", "smoke", "--json", "--endpoint", stack.endpoint)
        found = json.loads(promptlab(*command, folder=tmp_path, code=1))
    finally:
        stack.aws("dynamodb").update_table(**table, DeletionProtectionEnabled=True)
    assert [one["what"] for one in found if one["good"] is False] == ["table"]
    (differs,) = (one["said"] for one in found if one["what"] == "table")
    assert "not protected from deletion" in differs and stack.outputs["TableName"] in differs
    assert [one["good"] for one in found if one["what"] == "ten rows"] == [True]


def test_a_stack_that_is_not_there_is_named(stack: Stack, tmp_path: Path) -> None:
    """Nothing is looked at."""
    promptlab("cloud", "smoke", "--stack-name", "nobody", folder=tmp_path, code=2)
