"""The functions ask AWS for nothing but what their roles in the template allow: also where
the local AWS does not look.

It enforces actions and resources, and not which keys of the table a statement is bound to.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from functions import ended, fail, jobs, notify, runtime, tidy, watch
from promptlab import Dataset, PromptTemplate
from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.secrets import Secret
from promptlab.jobs import Jobs
from promptlab.store_lab import StoreLab
from promptlab.webhooks import WEBHOOK
from promptlab.wiring import open_cloud
from tests import aws
from tests.cloud.test_template import as_list, documents
from tests.functions.conftest import Elsewhere, Machine
from tests.meter import Meter, meter
from tests.servers import ModelServer, Reply

OF_TRANSACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


@dataclass(frozen=True)
class Asked:
    """One thing that a function wanted to do."""

    function: str
    action: str
    on: str
    """The partition key, the object's key, the secret's name; for a list the bucket."""


class Watch(Meter):
    """Notes what is asked for, and by which function."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.function = "studio"
        self.asked: set[Asked] = set()

    def _count(self, method: str, path: str, headers: Mapping[str, str], body: bytes, data: bytes) -> None:
        target = headers.get("X-Amz-Target", "")
        if target.startswith("AWSEvents"):  # one bus, which the statement names
            return
        found = (
            _of_table(target.rpartition(".")[2], json.loads(body)) if target.startswith("DynamoDB") else None
        )
        if found is None:
            found = [_of_secret(target, json.loads(body))] if target else _of_bucket(method, path, body)
        self.asked |= {Asked(self.function, action, on) for action, on in found}


def _of_table(operation: str, request: dict[str, Any]) -> list[tuple[str, str]]:
    if operation == "TransactWriteItems":
        actions = [
            (OF_TRANSACTIONS[kind], action.get("Item") or action["Key"])
            for one in request["TransactItems"]
            for kind, action in one.items()
        ]
    elif operation == "BatchWriteItem":
        actions = [
            (operation, put["PutRequest"]["Item"] if "PutRequest" in put else put["DeleteRequest"]["Key"])
            for puts in request["RequestItems"].values()
            for put in puts
        ]
    elif operation == "BatchGetItem":
        actions = [(operation, key) for keys in request["RequestItems"].values() for key in keys["Keys"]]
    elif operation == "Query":
        actions = [(operation, {"pk": request["ExpressionAttributeValues"][":pk"]})]
    else:
        actions = [(operation, request.get("Item") or request["Key"])]
    return [(f"dynamodb:{action}", item["pk"]["S"]) for action, item in actions]


def _of_bucket(method: str, path: str, body: bytes) -> list[tuple[str, str]]:
    parts = urlsplit(path)
    _, _, key = unquote(parts.path).lstrip("/").partition("/")
    asked = parse_qs(parts.query, keep_blank_values=True)
    if not key and method == "POST":  # many at once, each with its version
        keys = re.findall("<Key>(.*?)</Key><VersionId>", body.decode())
        assert "delete" in asked and keys, path
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html: the one right always, the
        # other one for versions.
        return [(f"s3:{right}", each) for each in keys for right in ("DeleteObject", "DeleteObjectVersion")]
    if not key:
        kind = "ListBucketVersions" if "versions" in asked else "ListBucket"
        return [(f"s3:{kind}", asked.get("prefix", [""])[0])]
    if method == "DELETE":
        return [("s3:AbortMultipartUpload" if "uploadId" in asked else "s3:DeleteObject", key)]
    return [("s3:GetObject" if method in ("GET", "HEAD") else "s3:PutObject", key)]


def _of_secret(target: str, request: dict[str, Any]) -> tuple[str, str]:
    return f"secretsmanager:{target.rpartition('.')[2]}", request.get("SecretId") or request["Name"]


def allowed(asked: Asked) -> bool:
    """Whether a statement of the function's role covers it."""
    role = f"{asked.function.capitalize()}Role"
    return any(
        asked.action in as_list(s["Action"]) and _covers(s, asked) for name, s in documents() if name == role
    )


def _covers(statement: dict[str, Any], asked: Asked) -> bool:
    if asked.action.startswith("dynamodb:"):
        bound = statement.get("Condition", {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["*"]}})
        return any(
            fnmatchcase(asked.on, pattern)
            for pattern in bound["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        )
    texts = [json.dumps(resource) for resource in as_list(statement["Resource"])]
    if asked.action.startswith("s3:ListBucket"):
        (condition,) = statement.get("Condition", {"": {"s3:prefix": ["*"]}}).values()
        listed = any(fnmatchcase(asked.on, prefix) for prefix in condition["s3:prefix"])
        return listed and any('["Bucket", "Arn"]' in text for text in texts)
    names = [
        text.split("${Bucket.Arn}/")[-1].split(":secret:${AWS::StackName}/")[-1].rstrip('"}')
        for text in texts
    ]
    return any(fnmatchcase(asked.on, name) for name in names)


class ByStatus(Elsewhere):
    """A Runner whose runs go on as long as they say so."""

    async def is_active(self, run: RunRecord) -> bool:
        return run.status not in FINAL


class Handed:
    """A Starter of jobs that this test does itself."""

    async def start(self, jobs: Jobs, job_id: str) -> None:
        """Nothing begins."""


class Later:
    """A Tidier that this test calls itself."""

    async def begin(self) -> None:
        """Nothing begins."""

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass
class Watched(Machine):
    """A machine that tells the watch whose turn it is."""

    watch: Watch | None = None

    def _invoke(self, module: Any, event: dict[str, Any]) -> dict[str, Any]:
        assert self.watch is not None
        self.watch.function = module.__name__.rpartition(".")[2]
        try:
            return super()._invoke(module, event)
        finally:
            self.watch.function = "studio"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A stack whose requests are seen."""
    aws.credentials(monkeypatch)
    with meter(aws.moto_url(), Watch) as watch:
        settings = {
            "TABLE": aws.new_table(),
            "BUCKET": aws.new_bucket(),
            "SECRETS_PREFIX": "keys/",
            "ALLOWED_ADDRESSES": "127.0.0.0/8",
            "MAX_CONCURRENCY": "1",
        }
        for name, value in {f"PROMPTLAB_{name}": value for name, value in settings.items()}.items():
            monkeypatch.setenv(name, value)
        for name, value in {
            "AWS_ENDPOINT_URL": watch.url,
            "AWS_REGION": aws.REGION,
            "POWERTOOLS_SERVICE_NAME": "test",
        }.items():
            monkeypatch.setenv(name, value)
        for kept in (runtime.config, runtime.lab, runtime.worker):
            kept.cache_clear()
        lab = StoreLab(
            replace(
                open_cloud(replace(runtime.config(), admin_token="the Studio's")),
                runner=ByStatus(),
                tidier=Later(),
            )
        )
        yield Watched(lab, watch=watch)
        runtime.run(lab.close())
        runtime.run(runtime.worker().close())


def noise(length: int) -> str:
    """Text that does not deflate much."""
    chance = random.Random(length)
    return "".join(chance.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(length))


def work_through_everything(machine: Watched) -> None:
    """Long prompts and answers, a key, a fault, a resume, a cancellation, the end of
    an execution, an export."""
    secrets = SecretsManagerSecrets(os.environ["PROMPTLAB_SECRETS_PREFIX"])
    assert machine.watch is not None
    machine.watch.function = "nobody"
    with ModelServer(lambda request: noise(20_000)) as server:
        runtime.run(secrets.put("OPENAI", Secret("sk-0123456789", (server.url,))))
        runtime.run(secrets.for_project("team").put("OPENAI", Secret("sk-of-the-team", (server.url,))))
        runtime.run(secrets.close())
        machine.watch.function = "studio"
        # So that there is something to do again, and an index of before to forget.
        server.script(Reply(status=400, text="no"), Reply(text="x"), prompt="What is 7?\n" + noise(200_000))
        experiment = {
            "name": "everything",
            "dataset": Dataset(
                name="rows", rows=[{"question": f"What is {n}?", "answer": "x"} for n in range(60)]
            ),
            "prompt_template": PromptTemplate(name="long", user_prompt="<question>\n" + noise(200_000)),
            "model": {
                "name": "openai/mini",
                "endpoint": server.openai_url,
                "api_key_secret": "OPENAI",
                "options": {"note": noise(200_000)},
            },
            "evaluation": [
                {"metric": "exact_match", "column_mapping": {"reference": "answer"}},
                {"metric": "length"},
            ],
        }
        run = machine.start(experiment)
        event = {"run_id": run.run_id, "generation": 0, "error": {"Error": "Fault", "Cause": "a test"}}
        (line, *_) = [{"number": 0, "first": 0, "count": 50, "offset": 0, "length": 1}]
        machine._invoke(fail, {**event, "shard": line})
        machine.execute(run.run_id)
        again = runtime.run(machine.lab.start_resume(run.run_id, failed=True))
        assert again.generation == 1
        machine.execute(run.run_id, again.generation)
        machine._invoke(fail, {**event, "generation": again.generation})
        machine._invoke(ended, {"detail": {"name": f"{run.run_id}-{again.generation}", "status": "FAILED"}})
        _hand_over_jobs(machine, run.run_id)
        value = {"url": server.url, "secret": "s", "deliveries": []}
        runtime.run(machine.lab.records.put_record(WEBHOOK, run.run_id, value))
        told = {"detail": {"name": f"{run.run_id}-{again.generation}", "status": "SUCCEEDED"}}
        assert machine._invoke(notify, told) == {"webhook": True}
        stopped = machine.start({**experiment, "name": "stopped"})
        runtime.run(machine.lab.cancel(stopped.run_id))
        machine._invoke(ended, {"detail": {"name": f"{stopped.run_id}-0", "status": "ABORTED"}})
        team = machine.of("team")
        server.script(Reply(status=400, text="no"), Reply(text="x"), prompt="What is 9?\n" + noise(200_000))
        its = team.start(experiment)
        team.execute(its.run_id)
        again = runtime.run(team.lab.start_resume(its.run_id, failed=True))
        team.execute(its.run_id, again.generation)
        named = {**event, "run_id": its.run_id, "project": "team"}
        team._invoke(fail, {**named, "shard": line})
        team._invoke(watch, {"run_id": its.run_id, "generation": 0, "project": "team", "seen": None})
        team._invoke(ended, {"detail": {"name": f"team.{its.run_id}-1", "status": "FAILED"}})
        for one in (run, stopped):
            assert runtime.run(machine.lab.delete_run(one.run_id, by="ada")) is False
        for kind, name in (("dataset", "rows"), ("prompt_template", "long")):
            runtime.run(machine.lab.assets.delete(name, version=0, kind=kind))
        assert machine._invoke(tidy, {}) == {"deletions": 4}


def _hand_over_jobs(machine: Watched, run_id: str) -> None:
    """A dataset of an uploaded file, and a file of results; one that is cancelled."""
    key = f"uploads/{'0' * 32}/rows.jsonl"
    runtime.run(machine.lab.blobs.put(key, b'{"q": 1}\n' * 1_000))
    handed = Jobs(machine.lab, Handed())
    for kind, args, ends in (
        ("ingest", {"name": "uploaded", "upload": key}, "done"),
        ("export", {"run_id": run_id, "format": "csv"}, "done"),
        ("export", {"run_id": run_id, "format": "jsonl"}, "cancelled"),
    ):
        job = runtime.run(handed.submit(kind, args))  # type: ignore[arg-type]
        if ends == "cancelled":
            runtime.run(handed.cancel(job.id))
        assert machine._invoke(jobs, {"job_id": job.id}) == {"status": ends}
        assert runtime.run(handed.get(job.id)).status == ends


@pytest.mark.long
def test_every_request_of_a_function_is_allowed_by_its_role(machine: Watched) -> None:
    """Action, table key, object key and secret, of every step and of what the Studio does for a run."""
    work_through_everything(machine)
    assert machine.watch is not None
    asked = {a for a in machine.watch.asked if a.function != "nobody"}
    assert {a.function for a in asked} == {
        "plan",
        "infer",
        "evaluate",
        "summarize",
        "fail",
        "ended",
        "tidy",
        "jobs",
        "notify",
        "watch",
        "studio",
    }
    assert {"assets", "datasets", "runs"} <= {
        a.on.partition("/")[0] for a in asked if a.action.startswith("s3:")
    }
    assert {"ASSET", "ASSETS", "RUN", "RUNS", "LEASE", "P"} <= {
        a.on.partition("#")[0] for a in asked if a.action.startswith("dynamodb:")
    }
    refused = "\n".join(sorted(str(a) for a in asked if not allowed(a)))
    assert not refused, refused


@pytest.mark.parametrize(
    "refused",
    [
        Asked("plan", "dynamodb:GetItem", "SESSION#1"),
        Asked("infer", "dynamodb:PutItem", "TOKEN#1"),
        Asked("infer", "dynamodb:PutItem", "ASSET#dataset#x"),
        Asked("summarize", "dynamodb:DeleteItem", "RUN#1"),
        Asked("infer", "s3:PutObject", "datasets/x.jsonl"),
        Asked("evaluate", "s3:DeleteObject", "runs/1/results.parquet"),
        Asked("studio", "s3:DeleteObject", "runs/1/results.parquet"),
        Asked("studio", "s3:DeleteObjectVersion", "datasets/x.jsonl"),
        Asked("studio", "s3:ListBucketVersions", "runs/1/"),
        Asked("tidy", "s3:DeleteObjectVersion", "records/x"),
        Asked("tidy", "dynamodb:Query", "RECORDS#TOKEN"),
        Asked("fail", "s3:GetObject", "datasets/x.jsonl"),
        Asked("jobs", "dynamodb:PutItem", "RUN#1"),
        Asked("jobs", "dynamodb:GetItem", "SESSION#1"),
        Asked("jobs", "s3:DeleteObject", "datasets/x.jsonl"),
        Asked("notify", "dynamodb:PutItem", "RUN#1"),
        Asked("notify", "s3:GetObject", "datasets/x.jsonl"),
        Asked("plan", "secretsmanager:GetSecretValue", "keys/OPENAI"),
        Asked("studio", "secretsmanager:GetSecretValue", "keys/OPENAI"),
    ],
    ids=str,
)
def test_the_check_refuses_what_is_nobodys_business(refused: Asked) -> None:
    """It can fail."""
    assert not allowed(refused)
