"""The Studio's function, as the HTTP API calls it, while AWS has no time for it."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest
from promptlab_studio.security import MAX_BODY_BYTES

from functions import runtime, studio
from tests import aws
from tests.aws_faults import Asked, FaultyAws
from tests.functions.conftest import Context
from tests.studio.long_rows import add_long_things, long_row
from tests.studio.test_answer_sizes import addresses

LAMBDA_BYTES = 6 * 1024 * 1024
"""What Lambda takes in an event and sends in an answer."""
BODY = {
    "name": "quiz",
    "dataset": {"name": "rows", "rows": [{"q": "1"}]},
    "prompt_template": {"name": "ask", "user_prompt": "<q>"},
    "model": {"name": "simulated/demo"},
    "evaluation": [{"metric": "length"}],
}


@dataclass
class Hosted:
    """A deployed Studio, and AWS behind a proxy."""

    faulty: FaultyAws
    thread: ThreadPoolExecutor

    async def ask(
        self, method: str, path: str, body: Any = None, *, encoded: bool = False, **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, headers and body of an answer; with `encoded` the body goes as base64, as other types than
        JSON and text do."""
        route, _, query = path.partition("?")
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": route,
            "rawQueryString": query,
            "headers": {"host": "lab.example", "authorization": "Bearer token-of-24-characters!!", **headers},
            "requestContext": {
                "http": {"method": method, "path": route, "protocol": "HTTP/1.1", "sourceIp": "10.0.0.1"}
            },
            "isBase64Encoded": False,
        }
        if body is not None:
            event["headers"]["content-type"] = "application/json"
            event["body"] = json.dumps(body)
        if encoded:
            event |= {"body": b64encode(event["body"].encode()).decode(), "isBase64Encoded": True}
        call = self.thread.submit(studio.handler, event, Context())
        answer: dict[str, Any] = await asyncio.wrap_future(call)
        # As the runtime's client sends it, and refuses it when it is longer.
        assert len(json.dumps(answer, ensure_ascii=False).encode()) <= LAMBDA_BYTES
        body = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        if answer["headers"].get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if "json" not in answer["headers"].get("content-type", "json"):
            return answer["statusCode"], answer["headers"], body.decode()
        return answer["statusCode"], answer["headers"], json.loads(body or "null")

    async def made(self, make: Any) -> Any:
        """What `make` does with the lab, on the loop that the handler uses."""
        call = self.thread.submit(lambda: runtime.run(make(runtime.lab())))
        return await asyncio.wrap_future(call)


@pytest.fixture
async def hosted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hosted]:
    aws.credentials(monkeypatch)
    clients = {
        name: boto3.client(name, region_name=aws.REGION, endpoint_url=aws.moto_url())
        for name in ("stepfunctions", "ssm")
    }
    bucket = aws.new_bucket()
    clients["ssm"].put_parameter(Name=bucket, Value="token-of-24-characters!!", Type="SecureString")
    machine = clients["stepfunctions"].create_state_machine(
        name=bucket,
        definition=json.dumps(
            {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 3600, "End": True}}}
        ),
        roleArn="arn:aws:iam::123456789012:role/any",
    )["stateMachineArn"]
    async with FaultyAws() as faulty:
        settings = {
            "PROMPTLAB_TABLE": aws.new_table(),
            "PROMPTLAB_BUCKET": bucket,
            "PROMPTLAB_SECRETS_PREFIX": "keys/",
            "PROMPTLAB_STATE_MACHINE": machine,
            "PROMPTLAB_ADMIN_TOKEN_PARAMETER": bucket,
            "AWS_ENDPOINT_URL": faulty.url,
            "AWS_REGION": aws.REGION,
            "POWERTOOLS_SERVICE_NAME": "test",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        caches = (runtime.config, runtime.lab, runtime.worker, runtime.runner, studio.app)
        if runtime.runner.cache_info().currsize:  # that of the tests before
            await asyncio.to_thread(runtime.runner().close)
        for kept in caches:
            kept.cache_clear()
        with ThreadPoolExecutor(1) as thread:
            yield Hosted(faulty, thread)
            await asyncio.wrap_future(thread.submit(lambda: runtime.run(runtime.lab().close())))
            await asyncio.wrap_future(thread.submit(lambda: runtime.runner().close()))
        for kept in caches:
            kept.cache_clear()
    for client in clients.values():
        client.close()


@pytest.mark.parametrize(
    ("operation", "method", "path"),
    [
        ("GetItem", "GET", "/api/v1/runs/none"),
        ("Query", "GET", "/api/v1/runs"),
        ("PutItem", "POST", "/api/v1/prompts"),
        ("StartExecution", "POST", "/api/v1/runs"),
        ("PUT", "POST", "/api/v1/runs"),
    ],
)
async def test_what_aws_throttles_is_503_and_says_when_to_come_back(
    hosted: Hosted, operation: str, method: str, path: str
) -> None:
    """And once AWS has time again, the same request is answered."""
    body = None if method == "GET" else BODY if "runs" in path else {"name": "ask", "user_prompt": "<q>"}
    fault = "broken" if operation == "PUT" else "throttled"
    hosted.faulty.fault = lambda asked: fault if asked.operation == operation else None  # type: ignore[assignment,return-value]
    status, headers, said = await hosted.ask(method, path, body, **{"idempotency-key": "k"})
    assert (status, headers["retry-after"], said["type"]) == (503, "5", "urn:promptlab:store-busy")
    hosted.faulty.fault = lambda asked: None
    status, _, _ = await hosted.ask(method, path, body, **{"idempotency-key": "k"})
    assert status in (200, 201, 202, 404)


async def test_a_run_whose_start_failed_is_started_by_the_same_request_sent_again(hosted: Hosted) -> None:
    """Once, however often it is sent: the run is recorded already, and under the same name."""

    def first_is_throttled(asked: Asked) -> str | None:
        return "throttled" if asked.operation == "StartExecution" and asked.number < 3 else None

    hosted.faulty.fault = first_is_throttled  # type: ignore[assignment]
    key, body = {"idempotency-key": "once"}, {**BODY, "webhook": {"url": "https://ci.example.com/ended"}}
    assert (await hosted.ask("POST", "/api/v1/runs", body, **key))[0] == 503
    answers = [await hosted.ask("POST", "/api/v1/runs", body, **key) for _ in range(3)]
    assert {status for status, _, _ in answers} == {202}
    secrets = [said["webhook"]["secret"] for _, _, said in answers]
    assert secrets[0] and secrets[1:] == [None, None]  # the 503 showed none
    (run_id,) = {said["run_id"] for _, _, said in answers}
    names = [asked.body["name"] for asked in hosted.faulty.asked if asked.operation == "StartExecution"]
    assert set(names) == {f"{run_id}-0"} and len(names) > 3
    _, _, listed = await hosted.ask("GET", "/api/v1/runs")
    assert [run["run_id"] for run in listed["items"]] == [run_id]


@pytest.mark.parametrize("accepts", [pytest.param("identity", marks=pytest.mark.long), "gzip"])
async def test_no_answer_is_longer_than_lambda_sends_and_long_texts_come_from_the_bucket(
    hosted: Hosted, accepts: str
) -> None:
    """Rows of 10 MB, runs over them, and prompts, by every route that shows them."""
    ids = await hosted.made(add_long_things)
    headers = {"accept-encoding": accepts}
    for _, path in addresses():
        address = path.replace("{run}", ids["run"]).replace("{other}", ids["other"])
        status, said, _ = await hosted.ask("GET", address, **headers)
        assert status < 500, path
        if "/text" in path or path.endswith(("run}/export", "cases.csv", "cases.jsonl", "/0.0", "/rows/1")):
            assert status == 303, path
            async with httpx.AsyncClient() as client:
                found = await client.get(said["location"])
            assert found.status_code == 200 and len(found.content) > 4_000_000
    _, _, page = await hosted.ask("GET", "/api/v1/datasets/long/versions/0/rows?limit=1", **headers)
    (cut,) = [cut for cut in page["cut"] if cut["path"] == ["question"]]
    status, said, _ = await hosted.ask("GET", cut["url"], **headers)
    async with httpx.AsyncClient() as client:
        assert (await client.get(said["location"])).json() == long_row(0)


@pytest.mark.parametrize("encoded", [False, True])
async def test_bodies_are_as_long_as_lambda_takes_them(hosted: Hosted, encoded: bool) -> None:
    """Tiny rows, whose quotes are escaped in the event: the bound of a body keeps it below Lambda's."""
    rows = [{"q": "1"}] * ((MAX_BODY_BYTES - 100) // 12)
    body = {"name": "tiny", "rows": rows}
    assert MAX_BODY_BYTES - 1_000 < len(json.dumps(body)) <= MAX_BODY_BYTES
    event = json.dumps({"body": json.dumps(body), "headers": {"x": "y" * 10_240}})
    assert len(event) < LAMBDA_BYTES
    status, _, said = await hosted.ask("POST", "/api/v1/datasets", body, encoded=encoded)
    assert (status, said["content"]["rows"]) == (201, len(rows))
    rows += rows[:1_000]
    status, _, said = await hosted.ask("POST", "/api/v1/datasets", body, encoded=encoded)
    assert status == 413 and f"{MAX_BODY_BYTES:,} bytes" in said["detail"] and "uploads" in said["detail"]


async def test_the_admin_token_is_read_once_a_minute_and_not_with_every_request(hosted: Hosted) -> None:
    """Nor before anybody uses it."""
    assert (await hosted.ask("GET", "/api/v1/health"))[0] == 200
    assert hosted.faulty.count("GetParameter") == 0
    for _ in range(5):
        assert (await hosted.ask("GET", "/api/v1/runs"))[0] == 200
    assert hosted.faulty.count("GetParameter") == 1


async def test_a_missing_secret_is_named_with_the_command_that_sets_it(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is stored; a model without one hears of secrets, and of no environment variable."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "studio")
    model = {"name": "openai/gpt-6-luna", "api_key_secret": "team"}
    status, _, said = await hosted.ask("POST", "/api/v1/runs", {**BODY, "model": model})
    assert status == 422
    assert "names the secret 'team', which is not there: promptlab cloud secrets set team" in said["detail"]
    status, _, said = await hosted.ask("POST", "/api/v1/runs", {**BODY, "model": {"name": "openai/x"}})
    assert status == 422
    assert "promptlab cloud secrets set NAME" in said["detail"] and "OPENAI_API_KEY" not in said["detail"]
    _, _, listed = await hosted.ask("GET", "/api/v1/runs")
    assert listed["items"] == []
