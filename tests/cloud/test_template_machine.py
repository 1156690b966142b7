"""The state machine's definition, and the check that holds it."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "infra" / "experiment.asl.json"


def problems(machine: dict[str, Any]) -> list[str]:
    sys.path.insert(0, str(ROOT / "infra"))
    try:
        from check_asl import problems as check
    finally:
        sys.path.pop(0)
    found: list[str] = check(machine)
    return found


def machine() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DEFINITION.read_text())
    return found


def child(m: dict[str, Any]) -> dict[str, Any]:
    states: dict[str, Any] = m["States"]["Shards"]["ItemProcessor"]["States"]
    return states


def test_the_definition_is_json_before_substitution_and_has_no_problem() -> None:
    """Editors and linters can read the file as it is."""
    assert problems(machine()) == []


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "JSONL": lambda m: m["States"]["Shards"]["ItemReader"]["ReaderConfig"].update(InputType="JSON"),
    "get one object": lambda m: m["States"]["Shards"]["ItemReader"].update(
        Resource="arn:aws:states:::s3:listObjectsV2"
    ),
    "MaxConcurrencyPath": lambda m: m["States"]["Shards"].pop("MaxConcurrencyPath"),
    "ToleratedFailurePercentage": lambda m: m["States"]["Shards"].update(ToleratedFailurePercentage=5),
    "ResultWriter": lambda m: m["States"]["Shards"].pop("ResultWriter"),
    "DISTRIBUTED and STANDARD": lambda m: m["States"]["Shards"]["ItemProcessor"]["ProcessorConfig"].update(
        ExecutionType="EXPRESS"
    ),
    "ItemSelector": lambda m: m["States"]["Shards"].pop("ItemSelector"),
    "ResultPath": lambda m: m["States"]["Shards"].pop("ResultPath"),
    "Label": lambda m: m["States"]["Shards"].pop("Label"),
    "Infer: does not catch States.ALL": lambda m: child(m)["Infer"].pop("Catch"),
    "Plan: does not catch States.DataLimitExceeded": lambda m: m["States"]["Plan"]["Catch"].pop(0),
    "Evaluate: does not retry": lambda m: child(m)["Evaluate"].pop("Retry"),
    "JitterStrategy": lambda m: child(m)["Infer"]["Retry"][1].pop("JitterStrategy"),
    "tries 10 times where Lambda has no place": lambda m: child(m)["Infer"]["Retry"][1].update(
        MaxAttempts=10
    ),
    "Infer: has no TimeoutSeconds": lambda m: child(m)["Infer"].pop("TimeoutSeconds"),
    "above 900": lambda m: child(m)["Infer"].update(TimeoutSeconds=300),
    "the machine has no TimeoutSeconds": lambda m: m.pop("TimeoutSeconds"),
    "SecondsPath": lambda m: child(m).update(Wait={"Type": "Wait", "Seconds": 5, "Next": "Infer"}),
    "stands beside the run": lambda m: m["States"]["Watch"]["Catch"][0].update(Next="RecordFailure"),
    "$.error": lambda m: child(m)["Infer"]["Catch"][0].pop("ResultPath"),
}


@pytest.mark.parametrize("names", BREAKS)
def test_the_check_sees_what_would_break_a_run(names: str) -> None:
    """Each broken copy of the definition is refused, naming what is wrong."""
    broken = copy.deepcopy(machine())
    BREAKS[names](broken)
    assert any(names in problem for problem in problems(broken))


def test_a_failed_path_never_ends_in_success() -> None:
    """Every state that records a fault goes on to a Fail, and a run that is summed up as failed does too."""
    m = machine()
    assert m["States"]["RecordFailure"]["Next"] == "RunFailed" and m["States"]["RunFailed"]["Type"] == "Fail"
    assert child(m)["RecordFault"]["Next"] == "ShardFailed" and child(m)["ShardFailed"]["Type"] == "Fail"
    assert m["States"]["Outcome"]["Choices"] == [
        {"Variable": "$.summary.status", "StringEquals": "failed", "Next": "RunFailed"}
    ]


def test_a_run_without_work_skips_the_map() -> None:
    """No shards: straight to Summarize."""
    choice = machine()["States"]["AnyShards"]
    assert choice["Choices"][-1]["Next"] == "Shards" and choice["Default"] == "Summarize"
    some = {"Variable": "$.shards", "NumericGreaterThan": 0}
    assert all(
        some in (one, *one.get("And", ())) or one == some | {"Next": "Shards"} for one in choice["Choices"]
    )


def test_a_run_that_may_end_early_is_planned_again_after_each_step() -> None:
    """Whatever the first plan says, and none of the others: the end of a map tells which plan comes next."""
    states = machine()["States"]
    assert states["Shards"]["Next"] == "More"
    assert (
        states["More"]["Choices"] == [{"Variable": "$.more", "BooleanEquals": True, "Next": "PlanNext"}]
        and states["More"]["Default"] == "Summarize"
    )
    first, further = states["Plan"], states["PlanNext"]
    given = dict(further["Parameters"]["Payload"])
    assert (given.pop("done.$"), given.pop("functions.$")) == ("$.rows", "$.functions")
    assert given == first["Parameters"]["Payload"] and further["Next"] == "AnyShards"
    assert further["ResultSelector"] == first["ResultSelector"]


def test_a_run_in_batch_mode_waits_in_the_state_machine() -> None:
    """Batch says how long; a run without batches goes straight to its shards."""
    states = machine()["States"]
    first = states["AnyShards"]["Choices"][0]
    assert first["Next"] == "Batch" and {"Variable": "$.batch", "BooleanEquals": True} in first["And"]
    assert states["Batch"]["Next"] == "BatchedAll"
    assert states["BatchedAll"]["Choices"][0]["Next"] == "WaitForBatches"
    assert states["BatchedAll"]["Default"] == "Shards"
    wait = states["WaitForBatches"]
    assert (wait["Type"], wait["SecondsPath"], wait["Next"]) == ("Wait", "$.work.wait_s", "Batch")


def test_every_task_of_a_run_tries_again_in_the_same_way() -> None:
    """The list stands at each of them, since ASL can share none."""
    m = machine()
    tasks = {
        name: s for name, s in {**m["States"], **child(m)}.items() if ":lambda:" in s.get("Resource", "")
    }
    assert len(tasks) == 8
    assert all(task["Retry"] == tasks["Plan"]["Retry"] for task in tasks.values())


def test_every_placeholder_is_substituted_by_the_template() -> None:
    """A name in ${…} that the template does not give would be deployed as it stands."""
    import re

    from tests.cloud.test_template import template

    for machine_, path in (("Experiment", DEFINITION), ("Watch", DEFINITION.with_name("watch.asl.json"))):
        given = set(template()["Resources"][machine_]["Properties"]["DefinitionSubstitutions"])
        assert set(re.findall(r"\$\{(\w+)\}", path.read_text())) == given


def test_a_run_goes_on_without_anybody_to_look_at_it() -> None:
    """Whatever the start of the watch says, Plan is next."""
    m = machine()
    watch = m["States"]["Watch"]
    assert watch["Next"] == "Plan"
    assert [catch["Next"] for catch in watch["Catch"]] == ["Plan"]


def test_a_run_that_names_no_project_is_of_the_default_one() -> None:
    """What an older version started has none; every step is told."""
    m = machine()
    choice = m["States"][m["StartAt"]]
    assert choice["Choices"] == [{"Variable": "$.project", "IsPresent": True, "Next": "Watch"}]
    default = m["States"][choice["Default"]]
    assert (default["Result"], default["ResultPath"], default["Next"]) == ("default", "$.project", "Watch")
    tasks = [s for s in {**m["States"], **child(m)}.values() if s["Type"] == "Task"]
    payloads = [s["Parameters"].get("Payload") or s["Parameters"]["Input"] for s in tasks]
    assert len(payloads) == 9 and all(payload["project.$"] == "$.project" for payload in payloads)


def test_the_watch_ends_with_the_run_and_not_before() -> None:
    """A look that fails is made again later; only `over` ends it."""
    states = json.loads(DEFINITION.with_name("watch.asl.json").read_text())["States"]
    assert [c["Next"] for c in states["Look"]["Catch"]] == ["Wait"]
    assert (states["IsOver"]["Default"], states["IsOver"]["Choices"][0]["Next"]) == ("Wait", "Over")
