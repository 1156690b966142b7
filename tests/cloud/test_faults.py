"""Faults underneath cost no case and pay for none twice.

DynamoDB that throttles and leaves items unprocessed: tests/unit/test_dynamodb_ledger.py, behind a proxy that
does it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.aws.s3_blobs import S3Blobs
from promptlab.adapters.aws.step_functions import StepFunctionsRunner
from promptlab.clock import SystemClock
from tests.cloud.conftest import Stack
from tests.cloud.runs import each_once, ended, execution, experiment, processes, right, started, until
from tests.servers import ModelServer, Reply, Request

pytestmark = pytest.mark.cloud


def slow(request: Request) -> Reply:
    """The right answer, after two seconds."""
    return Reply(text=right(request), delay_s=2)


def test_a_worker_that_is_killed_loses_nothing(stack: Stack) -> None:
    """Its process gets SIGKILL with calls in flight: the shard is taken up again, and only those calls are
    made again."""
    function = stack.function("Infer")
    with ModelServer(slow) as server:
        run_id = started(stack, experiment(server))
        server.wait_for_requests(25, 120)
        in_flight = server.in_flight
        for process in processes(function):
            os.kill(process, signal.SIGKILL)
        ended(stack, run_id)
        assert (
            50 <= len(server.requests) <= 50 + in_flight + 10
        )  # the ten that may have begun between the count and the signal
    each_once(stack, run_id, 50)


def test_a_worker_that_runs_into_its_deadline_comes_back(stack: Stack) -> None:
    """15 seconds for a shard of 12: it stops in time and goes on in further invocations. One that is cut off
    in a call is tried again."""
    stuck = Reply(text="it is 30", delay_s=25)
    with ModelServer(
        lambda request: stuck if request.prompt == "What is 30?" and request.attempt == 1 else slow(request)
    ) as server:
        with timeout(stack, stack.function("Infer"), 15):
            run_id = started(stack, experiment(server))
            ended(stack, run_id)
        assert 51 <= len(server.requests) <= 50 + 10
        assert len({request.connection for request in server.requests}) > 10  # more than one worker's
    each_once(stack, run_id, 50)


@contextmanager
def timeout(stack: Stack, function: str, seconds: int) -> Iterator[None]:
    """The function's timeout, changed for a while, as the parameter WorkerTimeout would."""
    client = stack.aws("lambda")
    before = client.get_function_configuration(FunctionName=function)["Timeout"]
    client.update_function_configuration(FunctionName=function, Timeout=seconds)
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=function, Timeout=before)


def test_a_deployment_under_a_run_changes_nothing_of_it(stack: Stack) -> None:
    """Evaluate is replaced by one without a table while calls are in flight: the run ends as it began. A
    run that begins then meets the new one."""
    client, function = stack.aws("lambda"), stack.function("Evaluate")
    before = client.get_function_configuration(FunctionName=function)["Environment"]
    broken = {"Variables": before["Variables"] | {"PROMPTLAB_TABLE": "not-there"}}
    with ModelServer(slow) as server:
        run_id = started(stack, experiment(server))
        server.wait_for_requests(5, 120)
        client.update_function_configuration(FunctionName=function, Environment=broken)
        try:
            ended(stack, run_id)
            later = started(stack, experiment(server, 2))
            ended(stack, later, "failed")
        finally:
            client.update_function_configuration(FunctionName=function, Environment=before)
        retried = stack.api.post(f"/runs/{later}/resume")
        assert retried.status_code == 202, retried.text
        ended(stack, later)
    each_once(stack, run_id, 50)


def test_a_start_that_is_sent_twice_starts_one_run(stack: Stack) -> None:
    """The same request with its Idempotency-Key, and the same execution by its name,
    while it goes on and after."""
    with ModelServer(slow) as server:
        body, key = experiment(server, 12), uuid.uuid4().hex
        run_id = started(stack, body, **{"Idempotency-Key": key})
        assert started(stack, body, **{"Idempotency-Key": key}) == run_id
        asyncio.run(handed_over(stack, run_id))
        ended(stack, run_id)
        asyncio.run(handed_over(stack, run_id))
        assert started(stack, body, **{"Idempotency-Key": key}) == run_id
        until(lambda: execution(stack, run_id)["status"] == "SUCCEEDED", "the execution ends")
        assert len(server.requests) == 12
    each_once(stack, run_id, 12)


async def handed_over(stack: Stack, run_id: str) -> None:
    """The same pass to the state machine once more, as a Studio that was cut off would."""
    blobs = S3Blobs(stack.outputs["BucketName"])
    ledger = DynamoDBLedger(stack.outputs["TableName"], blobs)
    runner = StepFunctionsRunner(stack.outputs["StateMachineArn"], ledger, SystemClock())
    run = await ledger.get_run(run_id)
    assert run is not None and await runner.hand_over(run)
    for part in (runner, ledger, blobs):
        await part.close()


def test_an_invocation_that_comes_twice_pays_for_nothing_twice(stack: Stack) -> None:
    """Infer for the same shard at the same time, and once more when all is done."""
    function = stack.function("Infer")
    with ModelServer(slow) as server, ThreadPoolExecutor(4) as threads:
        run_id = started(stack, experiment(server))
        server.wait_for_requests(1, 120)
        (line,) = map(json.loads, stack.blob(f"runs/{run_id}/manifest-0.jsonl").splitlines())
        event = {"run_id": run_id, "generation": 0, "shard": line}
        list(threads.map(lambda _: invoked(stack, function, event), range(4)))
        ended(stack, run_id)
        assert invoked(stack, function, event) == {"remaining": 0, "wait_s": 0}
        assert len(server.requests) == 50
    each_once(stack, run_id, 50)


def invoked(stack: Stack, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """Invoke a function and return its answer."""
    answer = stack.aws("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return dict(payload)


def test_a_provider_that_asks_for_a_pause_is_waited_for(stack: Stack) -> None:
    """By the state machine, which is not paid for waiting; the answered cases stay answered."""
    with ModelServer(right) as server:
        server.script(Reply(status=429, headers={"Retry-After": "8"}), prompt="What is 7?")
        run_id = started(stack, experiment(server, 12))
        ended(stack, run_id)
        assert len(server.requests) == 13
    each_once(stack, run_id, 12)
