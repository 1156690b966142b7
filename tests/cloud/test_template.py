"""The template, as CloudFormation sees it: who may do what, what is watched, what is kept."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.code import Wheel
from promptlab.domain.keys import media_key

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (
    *("Plan", "Infer", "Evaluate", "Summarize", "Fail"),
    *("Ended", "Watch", "Tidy", "Notify", "Jobs", "Sandbox", "Studio"),
)
TIDIED = {
    *(
        "RUNS",
        "RUNS#*",
        "RUN_LABELS#*",
        "GATE#*",
        "ASSETS#*",
        "ERASING#*",
        "SO_FAR#*",
        "WEBHOOK#*",
        "TIDIED#*",
        "P#*",
    ),
    *(f"RECORDS#{kind}" for kind in ("CASE_LABEL", "DELETED", "DELETING", "PROJECT")),
}
"""What Tidy reaches besides: lists, and the records of deletions. No session, no token."""
PINNED = FUNCTIONS[1:4]
"""The functions of which an execution keeps to one version."""


@functools.cache
def template() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "infra"))
    try:
        from transform import transformed
    finally:
        sys.path.pop(0)
    found: dict[str, Any] = transformed(ROOT)
    return found


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: r["Properties"] for name, r in template()["Resources"].items() if r["Type"] == kind}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that a role has, with the role's name."""
    for role, properties in of_type("AWS::IAM::Role").items():
        for policy in properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield role, statement
    for properties in of_type("AWS::IAM::Policy").values():
        for role in properties["Roles"]:
            for statement in properties["PolicyDocument"]["Statement"]:
                yield role["Ref"], statement


def statement(role: str, sid: str) -> dict[str, Any]:
    return next(s for r, s in documents() if r == role and s["Sid"] == sid)


_STATES = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"


def names_everything(resource: Any) -> bool:
    """Whether a resource is * or an ARN of every resource of a kind, or may be under a condition."""
    if isinstance(resource, dict) and "Fn::If" in resource:
        return any(names_everything(r) for branch in resource["Fn::If"][1:] for r in as_list(branch))
    text = resource if isinstance(resource, str) else as_list(resource.get("Fn::Sub", ""))[0]
    text = re.sub(r"\$\{[^}]+\}", "X", text)
    return text == "*" or (
        text.startswith("arn:") and re.fullmatch(r"([a-z-]+[:/])?\*", text.split(":", 5)[5]) is not None
    )


@pytest.mark.parametrize(
    ("resource", "everything"),
    [
        ("*", True),
        ({"Fn::Sub": "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/*"}, True),
        ({"Fn::Sub": f"{_STATES}:*"}, True),
        ({"Fn::If": ["OnAws", "arn:aws:s3:::b/k", "*"]}, True),
        ({"Fn::Sub": "${Bucket.Arn}/runs/*"}, False),
        ({"Fn::Sub": f"{_STATES}:execution:${{Experiment.Name}}:*"}, False),
        ({"Fn::GetAtt": ["Table", "Arn"]}, False),
    ],
)
def test_the_check_itself_tells_everything_from_something(resource: Any, everything: bool) -> None:
    """The wildcard check sees what it has to see."""
    assert names_everything(resource) is everything


def test_no_role_has_an_action_with_a_wildcard() -> None:
    """Every action is spelled out."""
    assert [
        (role, action) for role, s in documents() for action in as_list(s["Action"]) if "*" in action
    ] == []


def test_every_statement_about_everything_is_on_the_list_with_its_reason() -> None:
    """A resource of * is there only for the statements of infra/wildcards.json, with those actions, and the
    list has no more."""
    listed = json.loads((ROOT / "infra" / "wildcards.json").read_text())["statements"]
    used = set()
    for role, s in documents():
        if any(names_everything(r) for r in as_list(s["Resource"])):
            entry = next(
                (i for i, e in enumerate(listed) if fnmatchcase(role, e["role"]) and e["sid"] == s["Sid"]),
                None,
            )
            assert entry is not None, (
                f"{role}/{s['Sid']} names every resource and is not in infra/wildcards.json"
            )
            assert sorted(as_list(s["Action"])) == listed[entry]["actions"], f"{role}/{s['Sid']}"
            used.add(entry)
    assert used == set(range(len(listed)))
    assert all(len(e["reason"]) > 20 for e in listed)


def test_roles_are_made_of_named_statements_only() -> None:
    """No managed policy, no NotAction or NotResource, nothing but Allow with a Sid."""
    assert [name for name, role in of_type("AWS::IAM::Role").items() if "ManagedPolicyArns" in role] == []
    for role, s in documents():
        assert (
            {"Sid", "Effect", "Action", "Resource"}
            <= s.keys()
            <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        ), (role, s)
        assert s["Effect"] == "Allow"


def test_every_function_has_a_role_of_its_own() -> None:
    """Nothing that one function may do is another's by sharing."""
    roles = [f["Role"]["Fn::GetAtt"][0] for f in of_type("AWS::Lambda::Function").values()]
    assert sorted(roles) == sorted(f"{name}Role" for name in FUNCTIONS)


def test_every_function_is_one_file_named_after_its_state() -> None:
    """`InferFunction` runs functions/infer.py."""
    handlers = {name: f["Handler"] for name, f in of_type("AWS::Lambda::Function").items()}
    assert handlers == {f"{name}Function": f"functions.{name.lower()}.handler" for name in FUNCTIONS}


def test_only_workers_read_provider_keys_and_only_the_studio_the_admin_token() -> None:
    """A secret's value is for who needs it."""
    readers = {
        role
        for role, s in documents()
        if "secretsmanager:GetSecretValue" in as_list(s["Action"]) and "/keys/*" in json.dumps(s["Resource"])
    }
    admin = {role for role, s in documents() if "admin-token" in json.dumps(s["Resource"])}
    assert readers == {"InferRole", "EvaluateRole"}
    assert admin == {"StudioRole"}


def test_steps_reach_no_session_and_no_token_in_the_ledger() -> None:
    """Outside the Studio, every statement on the table is bound to keys of runs, assets,
    leases, budgets and rates."""
    for role, s in documents():
        if role != "StudioRole" and any(a.startswith("dynamodb:") for a in as_list(s["Action"])):
            keys = s["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
            # "For all values" holds for none, too: for an operation that names no key.
            on_aws = {"Fn::If": ["OnAws", "false", "true"]}
            assert s["Condition"]["Null"] == {"dynamodb:LeadingKeys": on_aws}
            own = {"SCHEMA", "RUN#*", "ASSET#*", "LEASE#*", "TRIED#*", "BATCH#*", "RECORDS#GONE"}
            spending = {"BUDGET#*", "CACHE#*", "CACHE_EPOCH#*", "PERMITS#*", "RATE#*", "RECORDS#PROJECT"}
            more = {
                "InferRole": spending,
                "EvaluateRole": spending,
                "SummarizeRole": {"BUDGET#*"},
                "TidyRole": TIDIED,
                "NotifyRole": {"WEBHOOK#*"},
                "JobsRole": {
                    *("ASSETS#*", "ERASING#*", "JOB#*", "JOB_CANCEL#*", "JOB_SLOT#*"),
                    "RECORDS#CASE_LABEL",
                },
            }.get(role, set())
            assert {key.removeprefix("P#*#") for key in keys} <= own | more, role
            if role != "TidyRole":  # the same of every project, and nothing else of one
                in_projects = {key.removeprefix("P#*#") for key in keys if key.startswith("P#*#")}
                assert in_projects == {key for key in keys if not key.startswith("P#*#")} - {
                    "SCHEMA",
                    "RECORDS#PROJECT",  # of all projects, in one partition: names, budgets, days
                }, role


def test_who_reaches_a_folder_of_the_bucket_reaches_that_of_each_project() -> None:
    """But uploads and exports, which have the projects inside."""
    whole = "${Bucket.Arn}/"
    for role, s in documents():
        named = [
            one["Fn::Sub"] for one in as_list(s["Resource"]) if isinstance(one, dict) and "Fn::Sub" in one
        ]
        keys = {str(one).removeprefix(whole) for one in named if str(one).startswith(whole)}
        if "projects/*" in keys:
            continue
        in_projects = {key.removeprefix("projects/*/") for key in keys if key.startswith("projects/*/")}
        outside = {key for key in keys if not key.startswith(("projects/", "uploads/", "exports/"))}
        assert in_projects == outside, (role, s["Sid"])


def test_the_machine_starts_only_itself_and_only_its_own_steps() -> None:
    """The map's right to start children names this machine; the functions are named one by one."""
    assert statement("ExperimentRole", "StartShards")["Resource"] == {"Ref": "Experiment"}
    invoked = statement("ExperimentRole", "Steps")["Resource"]
    assert invoked[:5] == [{"Fn::GetAtt": [f"{n}Function", "Arn"]} for n in FUNCTIONS[:5]]
    assert invoked[5:] == [{"Fn::Sub": f"${{{n}Function.Arn}}:*"} for n in PINNED]
    assert statement("ExperimentRole", "StartWatch")["Resource"] == {"Ref": "Watch"}
    assert statement("WatchMachineRole", "Look")["Resource"] == {"Fn::GetAtt": ["WatchFunction", "Arn"]}


@pytest.mark.parametrize(
    ("metric", "of"),
    [
        ("ExecutionsFailed", {"Experiment"}),
        ("ExecutionsTimedOut", {"Experiment"}),
        ("Errors", {"InferFunction", "EvaluateFunction"}),
        ("Throttles", {"InferFunction", "EvaluateFunction", "StudioFunction"}),
        ("5xx", {"HttpApi"}),
    ],
)
def test_what_needs_watching_has_an_alarm(metric: str, of: set[str]) -> None:
    """Each alarm watches one resource of this stack and stays quiet without data."""
    alarms = [a for a in of_type("AWS::CloudWatch::Alarm").values() if a["MetricName"] == metric]
    assert {a["Dimensions"][0]["Value"]["Ref"] for a in alarms} == of
    assert all(a["TreatMissingData"] == "notBreaching" for a in alarms)


def test_a_run_that_stands_still_raises_an_alarm() -> None:
    """By the metric that `watch` counts for this stack, from the minutes that a parameter says."""
    alarm = of_type("AWS::CloudWatch::Alarm")["StalledAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("PromptLab", "MinutesWithoutProgress")
    assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]
    assert alarm["Threshold"] == {"Ref": "StallMinutes"}
    assert alarm["TreatMissingData"] == "notBreaching"


def test_what_no_function_could_take_is_kept_and_raises_an_alarm() -> None:
    """What EventBridge cannot deliver, and what the function cannot handle, ends in one queue, which both
    may write to and an alarm watches."""
    queue = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    for rule in of_type("AWS::Events::Rule").values():
        (target,) = rule["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": queue}
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] >= 3600
    asynchronous = list(of_type("AWS::Lambda::EventInvokeConfig").values())
    names = ("Ended", "Tidy", "Notify", "Jobs")
    assert [a["FunctionName"] for a in asynchronous] == [{"Ref": f"{name}Function"} for name in names]
    for name, config in zip(names, asynchronous, strict=True):
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == queue
        assert statement(f"{name}Role", "FailedEvents")["Resource"] == queue
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    undelivered = policy["PolicyDocument"]["Statement"][0]
    assert undelivered["Principal"] == {"Service": "events.amazonaws.com"}
    assert undelivered["Condition"] == {
        "ArnEquals": {"aws:SourceArn": [{"Fn::GetAtt": [r, "Arn"]} for r in of_type("AWS::Events::Rule")]}
    }
    alarm = of_type("AWS::CloudWatch::Alarm")["DeadLettersAlarm"]
    assert alarm["Dimensions"] == [
        {"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetters", "QueueName"]}}
    ]


def test_every_asynchronous_caller_is_known() -> None:
    """Whoever adds a function that something else than a state machine or the API calls has to say where
    its lost events go."""
    called = {
        p["FunctionName"].get("Ref", "StudioFunction"): p["Principal"]
        for p in of_type("AWS::Lambda::Permission").values()
    }
    assert called == {
        "EndedFunction": "events.amazonaws.com",
        "TidyFunction": "events.amazonaws.com",
        "NotifyFunction": "events.amazonaws.com",
        "StudioFunction": "apigateway.amazonaws.com",
    }


def test_every_role_takes_a_boundary_and_everything_kept_a_key() -> None:
    """By parameter; without it AWS's own key and no boundary."""
    none = {"Ref": "AWS::NoValue"}
    assert all(
        role["PermissionsBoundary"] == {"Fn::If": ["HasBoundary", {"Ref": "PermissionsBoundary"}, none]}
        for role in of_type("AWS::IAM::Role").values()
    )
    key = {"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, none]}
    assert all(group["KmsKeyId"] == key for group in of_type("AWS::Logs::LogGroup").values())
    assert [t["KmsMasterKeyId"] for t in of_type("AWS::SNS::Topic").values()] == [key, key]
    assert [q["KmsMasterKeyId"] for q in of_type("AWS::SQS::Queue").values()] == [key]
    resources = template()["Resources"]
    assert "KmsKeyArn" in json.dumps(resources["Table"]["Properties"]["SSESpecification"])
    assert "KmsKeyArn" in json.dumps(resources["Bucket"]["Properties"]["BucketEncryption"])
    roles = {r["Ref"] for r in resources["KeyPolicy"]["Properties"]["Roles"]}
    # What runs code of users keeps nothing, and has no use for the key.
    assert roles == {f"{n}Role" for n in (*FUNCTIONS, "Experiment") if n != "Sandbox"}
    via = resources["KeyPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]["Condition"]
    assert via["StringEquals"].keys() == {"kms:ViaService"}


def test_nothing_names_a_partition_of_aws() -> None:
    """China and GovCloud have ARNs and host names of their own."""
    text = json.dumps(
        {n: r for n, r in template()["Resources"].items() if "Definition" not in r["Properties"]}
    )
    # Names of services, as principals and as an endpoint's, are the same in all of them.
    services = re.sub(r'"(?:Service|Principal|iam:PassedToService)": "[a-z]+\.amazonaws\.com"', "", text)
    services = services.replace('{"Fn::Sub": "com.amazonaws.${AWS::Region}.s3"}', "")
    assert re.findall(r"arn:aws\b|amazonaws", services) == []


def test_an_execution_keeps_to_the_versions_that_plan_found() -> None:
    """Shards and the sum of a run are worked on by the code that it began with."""
    (states,) = (
        m["Definition"]["States"]
        for m in of_type("AWS::StepFunctions::StateMachine").values()
        if "Shards" in m["Definition"]["States"]
    )
    child = states["Shards"]["ItemProcessor"]["States"]
    called = {name: s["Parameters"] for name, s in {**states, **child}.items() if s["Type"] == "Task"}
    assert {name for name, p in called.items() if "FunctionName.$" in p} == {*PINNED, "Batch"}
    assert all(called[name]["FunctionName.$"] == f"$.functions.{name.lower()}" for name in PINNED)
    assert states["Shards"]["ItemSelector"]["functions.$"] == "$.functions"
    environment = of_type("AWS::Lambda::Function")["PlanFunction"]["Environment"]["Variables"]
    for name in PINNED:
        assert environment[f"PROMPTLAB_{name.upper()}_FUNCTION"] == {"Fn::GetAtt": [f"{name}Function", "Arn"]}


def test_code_of_users_runs_with_no_right_but_to_log() -> None:
    """Nothing of the stack: no table, no bucket, no secret, no machine, and no name of any."""
    found = [(s["Sid"], as_list(s["Action"])) for role, s in documents() if role == "SandboxRole"]
    assert {sid for sid, _ in found} == {"Logs", "Traces", "NetworkInterfaces"}
    assert {action.split(":")[0] for _, actions in found for action in actions} == {"logs", "xray", "ec2"}
    function = of_type("AWS::Lambda::Function")["SandboxFunction"]
    variables = function["Environment"]["Variables"]
    named = {name: value for name, value in variables.items() if "TABLE" in name or "BUCKET" in name}
    assert set(named.values()) == {""}
    assert "GetAtt" not in json.dumps(variables)
    assert "MACHINE" not in json.dumps(variables) and variables["PROMPTLAB_SECRETS_PREFIX"] == ""


def test_only_who_scores_answers_or_looks_at_code_may_ask_the_sandbox() -> None:
    asked = [
        (role, s["Action"])
        for role, s in documents()
        if {"Fn::GetAtt": ["SandboxFunction", "Arn"]} in as_list(s["Resource"])
    ]
    assert sorted(asked) == [
        (f"{name}Role", "lambda:InvokeFunction") for name in ("Evaluate", "Infer", "Studio", "Summarize")
    ]


def test_the_sandbox_has_a_network_that_leads_nowhere() -> None:
    """Two subnets without a route, no gateway of any kind but the one to packages and media in the bucket."""
    resources = template()["Resources"]
    kinds = {r["Type"] for r in resources.values()}
    assert not kinds & {
        *("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route"),
        *("AWS::EC2::EgressOnlyInternetGateway", "AWS::EC2::TransitGatewayAttachment"),
    }
    own = resources["SandboxFunction"]["Properties"]["VpcConfig"]["Fn::If"]
    assert own[0] == "IsolatesSandbox"
    assert own[1]["SubnetIds"] == [{"Ref": "SandboxSubnetA"}, {"Ref": "SandboxSubnetB"}]
    assert all(not s["MapPublicIpOnLaunch"] for s in of_type("AWS::EC2::Subnet").values())
    (endpoint,) = of_type("AWS::EC2::VPCEndpoint").values()
    (only,) = endpoint["PolicyDocument"]["Statement"]
    # What workers sign addresses of for it: packages of code, and media of cases.
    wheel = Wheel(file_name="a-1-py3-none-any.whl", sha256="0" * 64, size_bytes=1)
    folders = [key.rpartition("/")[0] for key in (wheel.blob, media_key("0" * 64))]
    places = [f"${{Bucket.Arn}}/{place}{folder}/*" for folder in folders for place in ("", "projects/*/")]
    assert (only["Action"], only["Resource"]) == ("s3:GetObject", [{"Fn::Sub": place} for place in places])
    (group,) = of_type("AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [(443, 443)]


def test_a_lab_that_takes_no_code_has_no_sandbox() -> None:
    """AllowCode=false leaves out the function, its role, its network, and the right to ask it."""
    found = {name: r for name, r in template()["Resources"].items() if name.startswith("Sandbox")}
    assert len(found) >= 13
    assert {r.get("Condition") for r in found.values()} == {
        "AllowsCode",
        "IsolatesSandbox",
        "SandboxInVpc",
    }
    conditions = template()["Conditions"]
    assert conditions["AllowsCode"] == {"Fn::Equals": [{"Ref": "AllowCode"}, "true"]}
    for name in ("IsolatesSandbox", "SandboxInVpc"):
        assert {"Condition": "AllowsCode"} in conditions[name]["Fn::And"]
    assert template()["Parameters"]["SandboxNetwork"]["Default"] == "none"
    assert {"Fn::Not": [{"Condition": "SandboxReaches"}]} in conditions["IsolatesSandbox"]["Fn::And"]


def test_alarms_and_dashboards_stay_within_what_costs_nothing() -> None:
    """Ten alarms and three dashboards are free; a metric under metric math would count as an alarm each."""
    assert len(of_type("AWS::CloudWatch::Alarm")) <= 10
    assert len(of_type("AWS::CloudWatch::Dashboard")) <= 3


def test_the_dashboard_is_json_and_names_only_what_exists() -> None:
    """Its body parses once its references are filled in, and each is a resource of the template."""
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    body = dashboard["DashboardBody"]["Fn::Sub"]
    references = set(re.findall(r"\$\{([A-Za-z:]+)\}", body))
    assert references <= template()["Resources"].keys() | {"AWS::Region", "AWS::StackName"}
    assert len(json.loads(re.sub(r"\$\{[A-Za-z:]+\}", "x", body))["widgets"]) >= 6


def test_the_dashboard_shows_every_number_that_the_functions_count() -> None:
    """And none that they do not: a misspelt name would be an empty graph."""
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    body = json.loads(re.sub(r"\$\{[A-Za-z:]+\}", "x", dashboard["DashboardBody"]["Fn::Sub"]))
    shown, space = set(), ""
    for widget in body["widgets"]:
        for row in widget["properties"].get("metrics", ()):
            space = row[0] if row[0] not in (".", "...") else space
            if space == "PromptLab" and row[0] != "...":
                shown.add(row[1])
    sources = (Path(__file__).parents[2] / "functions").glob("*.py")
    counted = {name for path in sources for name in re.findall(r'add_metric\(\s*"(\w+)"', path.read_text())}
    assert shown == counted
    assert {"Cases", "Failures", "Throttles"} <= counted


def test_every_log_group_is_kept_for_a_bounded_time_and_every_function_has_one() -> None:
    """Logs expire, and no function makes a group of its own that would not."""
    groups = of_type("AWS::Logs::LogGroup")
    assert all(g["RetentionInDays"] == {"Ref": "LogRetentionDays"} for g in groups.values())
    assert {f["LoggingConfig"]["LogGroup"]["Ref"] for f in of_type("AWS::Lambda::Function").values()} == {
        f"{n}Logs" for n in FUNCTIONS
    }
    assert {"ExperimentLogs", "AccessLogs"} <= groups.keys()


def test_a_log_level_is_that_of_lambda_too() -> None:
    """Lambda leaves out what is below a level of its own: DEBUG was never to be seen."""
    levels = template()["Parameters"]["LogLevel"]["AllowedValues"]
    names = template()["Mappings"]["LogLevels"]
    assert {level: name["Lambda"] for level, name in names.items()} == {
        level: {"WARNING": "WARN"}.get(level, level) for level in levels
    }
    for function in of_type("AWS::Lambda::Function").values():
        assert function["LoggingConfig"]["ApplicationLogLevel"] == {
            "Fn::FindInMap": ["LogLevels", {"Ref": "LogLevel"}, "Lambda"]
        }


def test_everything_is_traced() -> None:
    """X-Ray is on for every function and for both machines."""
    assert all(f["TracingConfig"] == {"Mode": "Active"} for f in of_type("AWS::Lambda::Function").values())
    machines = of_type("AWS::StepFunctions::StateMachine").values()
    assert [m["TracingConfiguration"] for m in machines] == [{"Enabled": True}] * 2


def test_the_ledger_is_on_demand_recoverable_and_kept() -> None:
    """The table costs nothing idle, can be restored to any second, expires what asks for it,
    and outlives the stack."""
    table = template()["Resources"]["Table"]
    properties = table["Properties"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "GlobalSecondaryIndexes" not in properties


def test_the_bucket_is_encrypted_versioned_private_and_kept() -> None:
    """Nobody outside reads it, over plain http nobody at all, and it outlives the stack."""
    bucket = template()["Resources"]["Bucket"]
    properties = bucket["Properties"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert (
        all(properties["PublicAccessBlockConfiguration"].values())
        and len(properties["PublicAccessBlockConfiguration"]) == 4
    )
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    (policy,) = of_type("AWS::S3::BucketPolicy").values()
    (deny,) = policy["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_lifecycle_never_expires_parts_or_results() -> None:
    """Parts that a later `resume` merges again only move to a cheaper class; only uploads, exports
    and old versions expire."""
    rules = {
        r["Id"]: r for r in template()["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    }
    assert {name: r["Prefix"] for name, r in rules.items() if "ExpirationInDays" in r} == {
        "presigned-uploads": "uploads/",
        "exports": "exports/",
    }
    for name in ("presigned-uploads", "exports"):
        assert rules[name]["ExpirationInDays"] == 1
        assert rules[name]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 1
    assert rules["old-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] >= 7
    assert rules["large-files-of-runs"]["Transitions"][0]["StorageClass"] == "INTELLIGENT_TIERING"
    assert int(rules["large-files-of-runs"]["ObjectSizeGreaterThan"]) >= 128 * 1024


def test_what_an_import_takes_over_is_what_the_template_has() -> None:
    """The same names, kinds and keys, kept on deletion: CloudFormation imports nothing else."""
    from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

    imported = yaml_parse((ROOT / "infra" / "import.yaml").read_text())["Resources"]
    assert imported.keys() == {"Table", "Bucket"}
    for name, resource in imported.items():
        mine = template()["Resources"][name]
        assert {k: resource[k] for k in ("Type", "DeletionPolicy", "UpdateReplacePolicy")} == {
            k: mine[k] for k in ("Type", "DeletionPolicy", "UpdateReplacePolicy")
        }
        assert resource.get("Properties", {}).items() <= mine["Properties"].items()


def test_only_the_local_flag_lifts_the_demand_for_tls() -> None:
    """TLS is demanded unless LocalCloud says true, and its default does not."""
    source = template()
    assert source["Resources"]["BucketPolicy"]["Condition"] == "OnAws"
    assert source["Conditions"]["OnAws"] == {"Fn::Equals": [{"Ref": "LocalCloud"}, "false"]}
    assert source["Parameters"]["LocalCloud"]["Default"] == "false"


def test_the_admin_token_is_in_no_secret_and_no_output() -> None:
    """A parameter of Systems Manager costs nothing; the stack knows its name only."""
    assert of_type("AWS::SecretsManager::Secret") == {} and of_type("AWS::SSM::Parameter") == {}
    assert "resolve:" not in json.dumps(template())


def test_every_parameter_has_a_default_and_a_bound() -> None:
    """`sam deploy` works without an answer, and a wrong answer is refused before anything is made."""
    for name, parameter in template()["Parameters"].items():
        assert "Default" in parameter and "Description" in parameter, name
        if parameter["Type"] != "CommaDelimitedList":
            assert {"AllowedValues", "AllowedPattern", "MinValue"} & parameter.keys(), name


def test_the_ends_that_no_step_sees_reach_the_ledger() -> None:
    """An execution that was stopped, timed out or failed is handed to `ended`."""
    rule = of_type("AWS::Events::Rule")["EndedFunctionExecutionEnded"]
    assert rule["EventPattern"]["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert rule["EventPattern"]["detail"]["stateMachineArn"] == [{"Ref": "Experiment"}]
    assert rule["Targets"][0]["Arn"] == {"Fn::GetAtt": ["EndedFunction", "Arn"]}


def test_what_clients_need_is_an_output() -> None:
    """The CLI finds all it needs in the stack's outputs."""
    assert {
        "StudioUrl",
        "ApiUrl",
        "StateMachineArn",
        "TableName",
        "BucketName",
        "AdminTokenParameter",
        "SecretsPrefix",
    } <= template()["Outputs"].keys()


def test_the_api_logs_neither_queries_nor_headers() -> None:
    """An access log with a query string could hold a token."""
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    logged = json.loads(stage["AccessLogSettings"]["Format"])
    assert not re.search(
        r"querystring|\$context\.requestOverride|header|authorizer", json.dumps(logged), re.IGNORECASE
    )
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
