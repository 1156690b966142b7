"""Jobs in the cloud: the Studio has Lambda invoke a function, which does them over table and bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from functions import jobs, runtime
from promptlab.adapters.aws.lambda_jobs import LambdaStarter
from promptlab.adapters.aws.session import AwsSession
from promptlab.jobs import Jobs, TaskStarter
from tests import aws
from tests.functions.conftest import Context, Machine
from tests.functions.test_studio_function import Hosted, hosted  # noqa: F401 - a fixture

CONFIG = {
    "name": "quiz",
    "dataset": {"name": "rows", "rows": [{"q": str(n)} for n in range(7)]},
    "prompt_template": {"name": "ask", "user_prompt": "<q>"},
    "model": {"name": "simulated/demo"},
    "evaluation": [{"metric": "length"}],
}


class Noted:
    """A starter that notes what Lambda would be given."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def start(self, jobs: Jobs, job_id: str) -> None:
        self.events.append({"job_id": job_id, "project": jobs.project})


def test_an_export_is_written_by_the_function_and_waits_in_the_bucket(machine: Machine) -> None:
    """Once, however often Lambda delivers the event."""
    run = machine.start({**CONFIG, "dataset": {**CONFIG["dataset"]}})
    machine.execute(run.run_id)
    starter = Noted()
    known = Jobs(machine.lab, starter)
    job = runtime.run(known.submit("export", {"run_id": run.run_id, "format": "jsonl"}))
    for _ in range(2):
        assert jobs.handler(starter.events[0], Context()) == {"status": "done"}
    job = runtime.run(known.get(job.id))
    lines = runtime.run(machine.lab.blobs.get(job.result["key"])).splitlines()
    assert [orjson.loads(line)["input.q"] for line in lines] == [str(n) for n in range(7)]
    assert job.attempts == 1


def test_a_function_that_dies_is_tried_again(machine: Machine) -> None:
    """The record says that it ran; the next invocation does it from the start."""
    key = f"uploads/{'0' * 32}/rows.jsonl"
    runtime.run(machine.lab.blobs.put(key, b'{"q": 1}\n' * 1_000))
    starter = Noted()
    known = Jobs(machine.lab, starter)
    job = runtime.run(known.submit("ingest", {"name": "made", "upload": key}))
    record = runtime.run(machine.lab.records.get_record("JOB", job.id)) or {}
    runtime.run(machine.lab.records.put_record("JOB", job.id, {**record, "status": "running", "attempts": 1}))
    assert jobs.handler(starter.events[0], Context()) == {"status": "done"}
    job = runtime.run(known.get(job.id))
    assert (job.attempts, job.result["rows"]) == (2, 1_000)


def test_a_job_that_a_function_has_no_time_for_says_so(machine: Machine) -> None:
    """It is no longer there for the next invocation to take up."""
    key = f"uploads/{'0' * 32}/rows.jsonl"
    runtime.run(machine.lab.blobs.put(key, b'{"q": 1}\n' * 100_000))
    starter = Noted()
    known = Jobs(machine.lab, starter)
    job = runtime.run(known.submit("ingest", {"name": "made", "upload": key}))
    assert jobs.handler(starter.events[0], Context(runtime.RESERVE_S)) == {"status": "failed"}
    error = runtime.run(known.get(job.id)).error
    assert error is not None and "longer than" in error["detail"]


@pytest.fixture
async def invoked() -> AsyncIterator[tuple[str, list[tuple[str, dict[str, str], Any]]]]:
    """Lambda's address, and what it was asked."""
    seen: list[tuple[str, dict[str, str], Any]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.headers), orjson.loads(await request.read())))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    async with TestServer(app) as server:
        yield str(server.make_url("")), seen


class OfTeam:
    """As much of a project's jobs as the starter asks."""

    project = "team"


async def test_lambda_is_given_the_event_and_not_waited_for(
    invoked: tuple[str, list[tuple[str, dict[str, str], Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asynchronous invocation of the function that the stack names."""
    aws.credentials(monkeypatch)
    url, seen = invoked
    starter = LambdaStarter("promptlab-jobs", session=AwsSession(region=aws.REGION, endpoint_url=url))
    await starter.start(OfTeam(), "0" * 32)
    await starter.close()
    ((path, headers, body),) = seen
    assert path == "/2015-03-31/functions/promptlab-jobs/invocations"
    assert headers["X-Amz-Invocation-Type"] == "Event" and body == {"job_id": "0" * 32, "project": "team"}


async def test_a_hosted_studio_s_jobs_by_its_api(hosted: Hosted) -> None:  # noqa: F811
    """202 and where to look; then the file from the bucket."""
    ids = await hosted.made(_small)
    for format_, style in (("csv", {"delimiter": ";", "bom": True}), ("parquet", {})):
        status, headers, job = await hosted.ask(
            "POST", f"/api/v1/runs/{ids['run']}/exports", {"format": format_, **style}
        )
        assert (status, headers["location"]) == (202, f"/api/v1/jobs/{job['id']}")
        await hosted.made(lambda lab, job=job: Jobs(lab, TaskStarter()).work(job["id"]))
        _, _, job = await hosted.ask("GET", f"/api/v1/jobs/{job['id']}?wait=25")
        assert job["status"] == "done" and "key" not in job["result"]
        status, headers, _ = await hosted.ask("GET", job["file"])
        assert status == 303
        async with httpx.AsyncClient() as client:
            data = (await client.get(headers["location"])).content
        assert len(data) == job["result"]["size_bytes"]
    status, _, said = await hosted.ask("GET", f"/api/v1/jobs/{'0' * 32}")
    assert (status, said["type"]) == (404, "urn:promptlab:job-not-found")


async def _small(lab: Any) -> dict[str, str]:
    from tests.bench.real_runs import add_wide

    (run,) = await add_wide(lab, rows=6, runs=1, trials=1)
    return {"run": run.run_id}


async def test_what_is_too_much_for_a_request_is_sent_to_a_job(
    hosted: Hosted,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large file to ingests, a large run to exports, each by name."""
    size = {"file_name": "a.jsonl", "size_bytes": 200_000_000}
    _, _, place = await hosted.ask("POST", "/api/v1/datasets/uploads", size)
    body = {"name": "big", "upload": place["key"]}
    status, _, said = await hosted.ask("POST", "/api/v1/datasets", body)
    assert status == 422 and "POST /api/v1/datasets/ingests" in said["detail"]

    ids = await hosted.made(_small)
    from dataclasses import replace

    async def grown(lab: Any) -> None:
        run = await lab.ledger.get_run(ids["run"])
        await lab.ledger.add_run(replace(run, run_id="large", cases=60_000))

    await hosted.made(grown)
    status, _, said = await hosted.ask("GET", "/api/v1/runs/large/export?format=csv")
    assert status == 409 and "POST /api/v1/runs/large/exports" in said["detail"]


def test_the_studio_is_told_of_the_function() -> None:
    """By the variable that the template sets."""
    from promptlab.wiring import CloudConfig

    base = {"PROMPTLAB_TABLE": "t", "PROMPTLAB_BUCKET": "b", "PROMPTLAB_SECRETS_PREFIX": "p"}
    found = CloudConfig.from_environment({**base, "PROMPTLAB_JOBS_FUNCTION": "arn"})
    assert found.jobs_function == "arn" and CloudConfig.from_environment(base).jobs_function is None
