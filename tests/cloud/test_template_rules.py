"""What `make lint-cloud` makes of rules: the template of one deployment, and the list of exceptions."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.cloud.test_template import ROOT, template

sys.path.insert(0, str(ROOT / "infra"))
from check_rules import STRICT, problems
from resolve import resolved

sys.path.pop(0)


def test_a_deployment_has_no_condition_left_and_only_its_own_resources() -> None:
    """With nothing set there is no key, no topic, no policy for a network; with all set there is."""
    plain, strict = resolved(template(), {})["Resources"], resolved(template(), STRICT)["Resources"]
    assert strict.keys() - plain.keys() == {
        "AlarmTopic",
        "KeyPolicy",
        "NetworkPolicy",
        "StudioDomain",
        "StudioMapping",
    }
    for found in (plain, strict):
        text = json.dumps(found)
        assert "Fn::If" not in text and "AWS::NoValue" not in text and "Fn::FindInMap" not in text
    assert "SSESpecification" not in plain["Table"]["Properties"]
    assert strict["Table"]["Properties"]["SSESpecification"]["KMSMasterKeyId"] == STRICT["KmsKeyArn"]
    assert strict["InferFunction"]["Properties"]["ReservedConcurrentExecutions"] == 100
    assert plain["InferLogs"]["Properties"]["RetentionInDays"] == 30


def test_on_the_local_aws_plain_http_is_not_refused() -> None:
    """It has no TLS."""
    local = resolved(template(), {"LocalCloud": "true"})["Resources"]
    assert "BucketPolicy" not in local
    assert [s["Sid"] for s in local["DeadLettersPolicy"]["Properties"]["PolicyDocument"]["Statement"]] == [
        "UndeliveredEvents"
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({("R1", "PlanFunction")}, []),
        (set(), ["strict: R1 is excused for *Function, and not broken: take it off the list"]),
        ({("R1", "PlanFunction"), ("R1", "Table")}, ["strict: R1 is broken by Table"]),
        ({("R1", "PlanFunction"), ("R2", "PlanFunction")}, ["strict: R2 is broken by PlanFunction"]),
    ],
)
def test_what_is_not_excused_is_a_problem_and_so_is_an_idle_excuse(
    found: set[tuple[str, str]], said: list[str]
) -> None:
    """The list can neither hide something new nor grow old."""
    excuse: dict[str, Any] = {"rules": ["R1"], "resources": ["*Function"], "deployments": ["strict"]}
    other: dict[str, Any] = {"rules": ["R3"], "resources": ["*"], "deployments": ["default"]}
    assert problems(found, "strict", [excuse, other]) == said


def test_every_exception_has_its_reason() -> None:
    """In a sentence, and for deployments that there are."""
    listed = json.loads((ROOT / "infra" / "rule-exceptions.json").read_text())["exceptions"]
    for entry in listed:
        assert entry.keys() == {"rules", "resources", "deployments", "reason"}
        assert len(entry["reason"]) > 40 and set(entry["deployments"]) <= {"strict", "default"}
