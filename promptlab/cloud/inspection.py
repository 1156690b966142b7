"""What of a deployed stack can be looked at without using it. Each check says what is well, or differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from promptlab.cloud.stack import Stack
from promptlab.errors import ConfigError

READY = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
NEEDED = (
    *("StudioUrl", "StateMachineArn", "TableName", "BucketName", "SecretsPrefix"),
    *("AdminTokenParameter", "DeadLettersUrl"),
)
"""The outputs of a stack of this version."""

RIGHTS = (
    ("InferRole", "secretsmanager:GetSecretValue", "secret", "", True),
    ("StudioRole", "secretsmanager:GetSecretValue", "secret", "", False),
    ("StudioRole", "ssm:GetParameter", "token", "", True),
    ("InferRole", "ssm:GetParameter", "token", "", False),
    ("InferRole", "dynamodb:BatchWriteItem", "table", "RUN#x#0", True),
    ("InferRole", "dynamodb:BatchWriteItem", "table", "SESSION#x", False),
    ("PlanRole", "dynamodb:GetItem", "table", "TOKEN#x", False),
    ("EvaluateRole", "s3:PutObject", "bucket/runs/x/parts/000000.jsonl.gz", "", True),
    ("EvaluateRole", "s3:PutObject", "bucket/datasets/x", "", False),
    ("FailRole", "s3:GetObject", "bucket/datasets/x", "", False),
)
"""Who may do what, on what, at which key of the table: what no request of a run would show."""


class DiffersError(Exception):
    """Something is not as it should be; the message says what, and what to do."""


class UnseenError(Exception):
    """Something could not be looked at; the message says why."""


class Inspection:
    """A stack, as CloudFormation describes it, and the checks of its parts."""

    def __init__(
        self, stack: Stack, described: Mapping[str, Any], resources: Mapping[str, tuple[str, str]]
    ) -> None:
        self._stack, self._described, self.resources = stack, described, resources
        self.outputs = {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", ())}

    @classmethod
    async def open(cls, stack: Stack) -> Inspection:
        """Ask for what the stack has.

        Raises:
            ConfigError: AWS cannot be asked, there is no such stack, or it is of another version.
        """
        found = cls(stack, await stack.described(), await stack.resources())
        if missing := [name for name in NEEDED if name not in found.outputs]:
            raise ConfigError(
                f"{stack} has no output {missing[0]}: it is of another version than this promptlab, or of "
                "another template. Deploy this version (sam build && sam deploy), or name another with "
                "--stack-name."
            )
        return found

    @property
    def is_local(self) -> bool:
        """Whether it is on the local AWS of `make cloud`."""
        return self._parameter("LocalCloud") == "true"

    def _parameter(self, name: str) -> str:
        given = {p["ParameterKey"]: p["ParameterValue"] for p in self._described.get("Parameters", ())}
        return str(given.get(name, ""))

    def _named(self, kind: str) -> dict[str, str]:
        return {name: physical for name, (of, physical) in self.resources.items() if of == kind}

    async def ask(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """An operation of an AWS service.

        Raises:
            ClientError: AWS refuses.
        """
        return await self._stack.ask(service, operation, **request)

    async def deployed(self) -> str:
        """The stack's own status."""
        if self._described["StackStatus"] not in READY:
            raise DiffersError(f"is {self._described['StackStatus']}: see its events in CloudFormation")
        return f"{self._described['StackStatus']}, {len(self.resources)} resources"

    async def functions(self) -> str:
        """Whether every function can be called."""
        functions = self._named("AWS::Lambda::Function")
        odd = []
        for name, physical in functions.items():
            found = await self.ask("lambda", "get_function_configuration", FunctionName=physical)
            state = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
            if state != ("Active", "Successful"):
                odd.append(f"{name} is {' and '.join(state)}: {found.get('StateReason', 'no reason given')}")
        if odd or not functions:
            raise DiffersError("; ".join(odd) or "the stack has none: is it of PromptLab's template.yaml?")
        return f"{len(functions)}, all active"

    async def concurrency(self) -> str:
        """Whether a run has room in the account."""
        found = await self.ask("lambda", "get_account_settings")
        limit = int(found["AccountLimit"]["ConcurrentExecutions"])
        free = int(found["AccountLimit"].get("UnreservedConcurrentExecutions", limit))
        wanted = int(self._parameter("MaxConcurrency") or 100)
        if wanted + 2 > limit:
            raise DiffersError(
                f"the account runs {limit} functions at once, and MaxConcurrency is {wanted}: deploy with "
                f"MaxConcurrency={max(1, limit - 2)}, or raise the quota (docs/deploy.md#quotas)"
            )
        return f"{limit} at once, {free} of them unreserved; a run takes {wanted}"

    async def table(self) -> str:
        """Whether the ledger is safe."""
        name = self.outputs["TableName"]
        table = (await self.ask("dynamodb", "describe_table", TableName=name))["Table"]
        backups = await self.ask("dynamodb", "describe_continuous_backups", TableName=name)
        recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        for fine, said in (
            (table["TableStatus"] == "ACTIVE", f"is {table['TableStatus']}"),
            (table.get("DeletionProtectionEnabled"), "is not protected from deletion"),
            (
                self.is_local or recovery["PointInTimeRecoveryStatus"] == "ENABLED",
                "has no point-in-time recovery",
            ),
        ):
            if not fine:
                raise DiffersError(f"{name} {said}")
        return "active, protected from deletion, can be restored to any second of 35 days"

    async def bucket(self) -> str:
        """Whether the bucket is safe."""
        name = self.outputs["BucketName"]
        versions = await self.ask("s3", "get_bucket_versioning", Bucket=name)
        access = await self.ask("s3", "get_public_access_block", Bucket=name)
        if versions.get("Status") != "Enabled":
            raise DiffersError(f"{name} keeps no older versions")
        if not all(access["PublicAccessBlockConfiguration"].values()):
            raise DiffersError(f"{name} may be made public")
        if not self.is_local:
            policy = json.loads((await self.ask("s3", "get_bucket_policy", Bucket=name))["Policy"])
            if not any(s["Effect"] == "Deny" and "SecureTransport" in str(s) for s in policy["Statement"]):
                raise DiffersError(f"{name} takes plain http")
        return "versioned, private" + ("" if self.is_local else ", TLS only")

    async def roles(self) -> str:
        """Ask IAM what roles may do, where a request would not show it: what they must not."""
        _, partition, _, region, account, _ = self._described["StackId"].split(":", 5)
        place, has = f"{region}:{account}", self.outputs
        arns = {
            "secret": f"arn:{partition}:secretsmanager:{place}:secret:{has['SecretsPrefix']}x-AbCdEf",
            "token": f"arn:{partition}:ssm:{place}:parameter{has['AdminTokenParameter']}",
            "table": f"arn:{partition}:dynamodb:{place}:table/{has['TableName']}",
            "bucket": f"arn:{partition}:s3:::{has['BucketName']}",
        }
        odd = []
        for role, action, thing, key, expected in RIGHTS:
            if key and self.is_local:  # there the template binds no role to keys
                continue
            name, _, rest = thing.partition("/")
            context = {"ContextKeyName": "dynamodb:LeadingKeys", "ContextKeyType": "stringList"}
            found = await self.ask(
                "iam",
                "simulate_principal_policy",
                PolicySourceArn=f"arn:{partition}:iam::{account}:role/{self.resources[role][1]}",
                ActionNames=[action],
                ResourceArns=[arns[name] + (f"/{rest}" if rest else "")],
                ContextEntries=[{**context, "ContextKeyValues": [key]}] if key else [],
            )
            if (found["EvaluationResults"][0]["EvalDecision"] == "allowed") is not expected:
                odd.append(f"{role} {'may not' if expected else 'may'} {action} on {key or thing}")
        if odd:
            raise DiffersError("; ".join(odd))
        return f"{len(RIGHTS)} rights and refusals as they should be"

    async def dead_letters(self) -> str:
        """Whether events were lost."""
        found = await self.ask(
            "sqs",
            "get_queue_attributes",
            QueueUrl=self.outputs["DeadLettersUrl"],
            AttributeNames=["ApproximateNumberOfMessages"],
        )
        if number := int(found["Attributes"]["ApproximateNumberOfMessages"]):
            raise DiffersError(f"{number} events could not be handled (docs/deploy.md#dead-letters)")
        return "none"

    async def alarms(self) -> str:
        """Whether alarms are there, quiet, and heard."""
        names = list(self._named("AWS::CloudWatch::Alarm").values())
        found = (await self.ask("cloudwatch", "describe_alarms", AlarmNames=names))["MetricAlarms"]
        if missing := sorted(set(names) - {alarm["AlarmName"] for alarm in found}):
            raise DiffersError(f"are not there: {', '.join(missing)}")
        if loud := [alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM"]:
            raise DiffersError(f"are raised: {', '.join(loud)}")
        for topic in self._named("AWS::SNS::Topic").values():
            listed = await self.ask("sns", "list_subscriptions_by_topic", TopicArn=topic)
            if any(s["SubscriptionArn"] == "PendingConfirmation" for s in listed["Subscriptions"]):
                raise DiffersError("nobody is told: the address has not confirmed the e-mail of AWS")
        return f"{len(names)}, none raised"
