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


def test_a_studio_is_called_by_its_alias_only_where_it_is_kept_warm() -> None:
    """Elsewhere a parameter that changes would not reach it: SAM publishes new code only."""
    alias = {"Ref": "StudioFunctionAliaslive"}
    for parameters, called in (
        ({}, None),
        ({"StudioProvisioned": "2"}, alias),
        ({"StudioSnapStart": "true"}, alias),
    ):
        found = resolved(template(), parameters)["Resources"]
        plain = "arn:aws:service:us-east-1:123456789012:StudioFunction"
        assert found["StudioIntegration"]["Properties"]["IntegrationUri"] == (called or plain)
        assert found["StudioPermission"]["Properties"]["FunctionName"] == (
            called or {"Ref": "StudioFunction"}
        )
        kept = found["StudioFunctionAliaslive"]["Properties"].get("ProvisionedConcurrencyConfig")
        wanted = {"ProvisionedConcurrentExecutions": 2} if "StudioProvisioned" in parameters else None
        assert kept == wanted
        assert ("SnapStart" in found["StudioFunction"]["Properties"]) is ("StudioSnapStart" in parameters)


def test_a_name_of_ones_own_may_upload_and_is_what_is_printed() -> None:
    """The bucket's CORS lists it beside the API's own name, and further origins after it."""
    parameters = STRICT | {"CorsOrigins": "https://a.example,https://b.example"}
    found = resolved(template(), parameters)["Resources"]["Bucket"]["Properties"]["CorsConfiguration"]
    (rule,) = found["CorsRules"]
    text = json.dumps(rule["AllowedOrigins"])
    assert all(
        origin in text for origin in ("https://lab.example.com", "https://a.example", "https://b.example")
    )
    assert "https://HttpApi.execute-api.us-east-1.amazonaws.com" in text and "localhost" not in text
    assert "lab.example.com" not in json.dumps(resolved(template(), {})["Resources"]["Bucket"])


def test_no_role_has_more_text_than_iam_takes() -> None:
    """10,240 characters without white space in all inline policies of a role, of which the local AWS knows
    nothing. Names that AWS makes are up to 60 characters longer than those here."""
    resources = resolved(template(), STRICT)["Resources"]
    length: dict[str, int] = {}
    for name, r in resources.items():
        policies = r["Properties"].get("Policies", []) if r["Type"] == "AWS::IAM::Role" else []
        roles = [name] if policies else [role["Ref"] for role in r["Properties"].get("Roles", [])]
        documents = [p["PolicyDocument"] for p in policies] or [r["Properties"].get("PolicyDocument")]
        for role in roles:
            for document in documents:
                text = json.dumps(document, separators=(",", ":"))
                length[role] = length.get(role, 0) + len(text) + 60 * text.count("arn:")
    assert length["StudioRole"] == max(length.values())
    assert max(length.values()) < 10_240, length


def test_all_functions_are_in_the_network_that_is_given() -> None:
    """And in none by default."""
    for parameters, subnets in ((STRICT, STRICT["SubnetIds"].split(",")), ({}, None)):
        functions = [
            r["Properties"]
            for name, r in resolved(template(), parameters)["Resources"].items()
            if r["Type"] == "AWS::Lambda::Function" and name != "SandboxFunction"
        ]
        assert [f.get("VpcConfig", {}).get("SubnetIds") for f in functions] == [subnets] * len(functions)


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
