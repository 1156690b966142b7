"""The checks of `promptlab cloud smoke`, against a Studio's API on loopback and AWS's answers as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from promptlab.cloud.inspection import RIGHTS
from promptlab.cloud.smoke import ROWS, Finding, Smoke
from promptlab.cloud.stack import Stack
from promptlab.errors import ConfigError
from promptlab.store_lab import probe

TOKEN = "a-token-of-a-stack-under-test"
ACCOUNT = "arn:aws:cloudformation:eu-west-1:123456789012:stack/lab/1"
OUTPUTS = {
    "StudioUrl": "https://abc.execute-api.eu-west-1.amazonaws.com",
    "StateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:lab",
    "TableName": "lab-Table",
    "BucketName": "lab-bucket",
    "SecretsPrefix": "lab/keys/",
    "AdminTokenParameter": "/promptlab/lab/admin-token",
    "DeadLettersUrl": "https://sqs.eu-west-1.amazonaws.com/1/lab-dead",
}
ANSWERS: dict[str, Any] = {
    "get_function_configuration": {"State": "Active", "LastUpdateStatus": "Successful"},
    "get_account_settings": {
        "AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 900}
    },
    "describe_table": {"Table": {"TableStatus": "ACTIVE", "DeletionProtectionEnabled": True}},
    "describe_continuous_backups": {
        "ContinuousBackupsDescription": {
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"}
        }
    },
    "get_bucket_versioning": {"Status": "Enabled"},
    "get_public_access_block": {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}},
    "get_bucket_policy": {
        "Policy": json.dumps(
            {"Statement": [{"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}
        )
    },
    "describe_execution": {"status": "SUCCEEDED"},
    "get_execution_history": {
        "events": [
            {"type": "ExecutionStarted"},
            {
                "stateExitedEventDetails": {
                    "name": "Plan",
                    "output": json.dumps({"functions": {"infer": "arn:aws:lambda:eu-west-1:1:function:i:7"}}),
                }
            },
        ]
    },
    "list_objects_v2": {"KeyCount": 2},
    "filter_log_events": {"events": [{"message": "planned"}]},
    "invoke": {"Payload": b'{"answers": [{"n": 0, "score": {"label": "contained"}}]}'},
    "get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
    "describe_alarms": {"MetricAlarms": [{"AlarmName": "lab-alarm", "StateValue": "OK"}]},
    "list_subscriptions_by_topic": {"Subscriptions": [{"SubscriptionArn": "arn:aws:sns:x"}]},
}


class Deployed(Stack):
    """A stack whose AWS answers as a test says."""

    def __init__(self, outputs: dict[str, str] = OUTPUTS, **answers: Any) -> None:
        super().__init__("lab", region="eu-west-1")
        self.stands, self.answers, self.asked = outputs, ANSWERS | answers, list[tuple[str, dict[str, Any]]]()

    async def described(self) -> dict[str, Any]:
        return {
            "StackStatus": "CREATE_COMPLETE",
            "StackId": ACCOUNT,
            "Parameters": [{"ParameterKey": "MaxConcurrency", "ParameterValue": "100"}],
            "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in self.stands.items()],
        }

    async def resources(self) -> dict[str, tuple[str, str]]:
        roles = {role: ("AWS::IAM::Role", f"lab-{role}") for role in {right[0] for right in RIGHTS}}
        return roles | {
            "PlanFunction": ("AWS::Lambda::Function", "lab-plan"),
            "SandboxFunction": ("AWS::Lambda::Function", "lab-sandbox"),
            "InferLogs": ("AWS::Logs::LogGroup", "/promptlab/lab/infer"),
            "StalledAlarm": ("AWS::CloudWatch::Alarm", "lab-alarm"),
            "AlarmTopic": ("AWS::SNS::Topic", "arn:aws:sns:topic"),
        }

    async def token(self, *, new: bool = False) -> str:
        return TOKEN

    async def ask(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        self.asked.append((operation, request))
        if operation == "simulate_principal_policy" and operation not in self.answers:
            return {"EvaluationResults": [{"EvalDecision": self._decision(request)}]}
        answer = self.answers[operation]
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer, "Message": "no"}}, operation)
        found: dict[str, Any] = answer
        return found

    def _decision(self, request: dict[str, Any]) -> str:
        (action,), (on,) = request["ActionNames"], request["ResourceArns"]
        keys = [key for entry in request["ContextEntries"] for key in entry["ContextKeyValues"]]
        role = request["PolicySourceArn"].rpartition("lab-")[2]
        (granted,) = (
            right[4]
            for right in RIGHTS
            if right[:2] == (role, action)
            and right[3] == "".join(keys)
            and on.endswith(right[2].partition("/")[2])
        )
        return "allowed" if granted else "implicitDeny"


@dataclass
class Api:
    """A Studio's API, as far as it is asked."""

    status: str = "completed"
    succeeded: int = ROWS
    is_open: bool = False
    deleted: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as a Studio does."""
        path = request.path.removeprefix("/api/v1")
        if path == "/health":
            return web.json_response({"status": "ok"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}" and not self.is_open:
            return web.json_response({"type": "urn:promptlab:not-authenticated", "title": "no"}, status=401)
        if request.method == "DELETE":
            self.deleted.append(path)
            return web.Response(status=204)
        if request.method == "POST":
            return web.json_response({"run_id": "20261126-000000-abcdef"}, status=202)
        if path == "/runs":
            return web.json_response({"items": [], "next_cursor": None})
        return web.json_response(
            {"status": self.status, "summary": {"succeeded": self.succeeded}, "error": "all is lost"}
        )


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    found, app = Api(), web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    found.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield found
    await runner.cleanup()


async def looked(api: Api, stack: Stack, *, keep: bool = False) -> dict[str, Finding]:
    """The findings, by what they are of; told as they come."""
    told: list[Finding] = []
    found = await Smoke(stack, told.append, endpoint=api.url, keep=keep).look()
    assert told == found
    return {one.what: one for one in found}


async def test_a_stack_that_is_well_has_nothing_that_differs(api: Api) -> None:
    """Thirteen things are looked at; the run is removed."""
    found = await looked(api, Deployed())
    assert [one for one in found.values() if one.good is not True] == [] and len(found) == 14
    assert api.deleted == ["/runs/20261126-000000-abcdef"]


@pytest.mark.parametrize(
    ("what", "answers", "said"),
    [
        (
            "functions",
            {"get_function_configuration": {"State": "Failed", "StateReason": "no subnet"}},
            "no subnet",
        ),
        (
            "concurrency",
            {"get_account_settings": {"AccountLimit": {"ConcurrentExecutions": 10}}},
            "MaxConcurrency=8",
        ),
        ("table", {"describe_table": {"Table": {"TableStatus": "ACTIVE"}}}, "not protected from deletion"),
        ("bucket", {"get_bucket_versioning": {}}, "keeps no older versions"),
        ("bucket", {"get_bucket_policy": {"Policy": '{"Statement": []}'}}, "plain http"),
        (
            "roles",
            {"simulate_principal_policy": {"EvaluationResults": [{"EvalDecision": "allowed"}]}},
            "StudioRole may",
        ),
        ("the execution", {"describe_execution": {"status": "FAILED", "cause": "why"}}, "why"),
        ("the execution", {"get_execution_history": {"events": []}}, "kept to no versions"),
        ("the execution", {"list_objects_v2": {"KeyCount": 0}}, "runs/*/map/*"),
        (
            "dead letters",
            {"get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "3"}}},
            "3 events",
        ),
        ("alarms", {"describe_alarms": {"MetricAlarms": []}}, "not there: lab-alarm"),
        (
            "alarms",
            {"describe_alarms": {"MetricAlarms": [{"AlarmName": "lab-alarm", "StateValue": "ALARM"}]}},
            "raised",
        ),
        (
            "alarms",
            {"list_subscriptions_by_topic": {"Subscriptions": [{"SubscriptionArn": "PendingConfirmation"}]}},
            "nobody is told",
        ),
    ],
)
async def test_each_check_can_fail_and_says_what_to_do(
    api: Api, what: str, answers: dict[str, Any], said: str
) -> None:
    """And takes no other with it."""
    found = await looked(api, Deployed(**answers))
    assert [name for name, one in found.items() if one.good is False] == [what]
    assert said in found[what].said


async def test_a_run_that_fails_and_a_door_that_is_open_are_told(api: Api) -> None:
    """With the run's own error."""
    api.status, api.succeeded, api.is_open = "failed", 3, True
    found = await looked(api, Deployed(), keep=True)
    assert [name for name, one in found.items() if one.good is False] == ["the door", "ten rows"]
    assert "all is lost" in found["ten rows"].said and api.deleted == []


async def test_what_credentials_may_not_see_is_unknown_and_no_difference(api: Api) -> None:
    """IAM's simulator is often closed to whoever deploys."""
    found = await looked(
        api, Deployed(simulate_principal_policy="AccessDenied", describe_alarms="AccessDenied")
    )
    assert {name for name, one in found.items() if one.good is None} == {"roles", "alarms"}
    assert all(one.good is not False for one in found.values())


async def test_a_stack_of_another_version_is_not_looked_at(api: Api) -> None:
    """Its outputs tell."""
    older = {name: value for name, value in OUTPUTS.items() if name != "AdminTokenParameter"}
    with pytest.raises(ConfigError, match="no output AdminTokenParameter"):
        await looked(api, Deployed(older))


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"refused": "code of users cannot be confined here"}', "does not start: code of users"),
        (b'{"errorMessage": "Runtime.ExitError"}', "does not start"),
        (b'{"answers": [{"n": 0, "score": {"label": "reached a socket"}}]}', "does not hold code of users"),
    ],
)  # fmt: skip
async def test_a_sandbox_that_does_not_hold_is_told(api: Api, payload: bytes, says: str) -> None:
    found = await Smoke(Deployed(invoke={"Payload": payload}), endpoint=api.url).look()
    (sandbox,) = [finding for finding in found if finding.what == "the sandbox"]
    assert sandbox.good is False and says in sandbox.said


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_the_probe_tells_a_sandbox_from_none() -> None:
    """In the sandbox it is contained; called here it reaches what it looks for."""
    from promptlab.engine.sandbox.guard import Guard

    guard = Guard()
    try:
        (answer,) = guard.answer(probe.event())["answers"]
    finally:
        guard.close()
    assert answer["score"] == {"label": probe.CONTAINED}
    space: dict[str, Any] = {}
    source = probe.event()["bundle"]["content"]["files"]["probe.py"].replace('"a process": os.fork,', "")
    exec(source, space)
    assert "a socket" in space["probe"]({})
