"""The sandbox's function as workers call it: which version, and for which project."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import orjson
import pytest
from aiohttp import web

from promptlab.adapters.aws.lambda_sandbox import LambdaSandbox
from promptlab.adapters.aws.project_blobs import ProjectBlobs
from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.local.file_blobs import FileBlobs
from tests import aws

ARN = "arn:aws:lambda:us-east-1:123456789012:function:lab-sandbox"
BUNDLE = "0" * 64


@dataclass
class Lambda:
    """Invoke, as it is sent."""

    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Function, tenant in the payload, tenant of the invocation."""
    signed: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        event = orjson.loads(await request.read())
        function = unquote(request.path).split("/functions/")[1].split("/")[0]
        qualifier = request.query.get("Qualifier")
        name = f"{function}:{qualifier}" if qualifier else function
        self.asked.append((name, event["tenant"], request.headers.get("X-Amz-Tenant-Id")))
        self.signed.append(request.headers["Authorization"])
        return web.json_response({"answers": []})


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lambda]:
    aws.credentials(monkeypatch)
    fake, app = Lambda(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


def sandbox(fake: Lambda, folder: Path, *, by_tenant: bool) -> LambdaSandbox:
    for place in (folder, folder / "projects" / "red"):
        (place / "code" / "bundles").mkdir(parents=True, exist_ok=True)
        (place / "code" / "bundles" / f"{BUNDLE}.json").write_text('{"wheels": []}')
    session = AwsSession(region="us-east-1", endpoint_url=fake.url)
    return LambdaSandbox(ARN, FileBlobs(folder), session=session, by_tenant=by_tenant)


async def test_an_execution_calls_the_version_that_it_keeps_to(fake: Lambda, tmp_path: Path) -> None:
    """All projects of the process do; another execution another, and one of an older version what is
    deployed."""
    whole = sandbox(fake, tmp_path, by_tenant=False)
    red = whole.for_project("red", ProjectBlobs(FileBlobs(tmp_path), "red"))
    for version in (f"{ARN}:7", f"{ARN}:8", None):
        whole.call(version)
        for one in (whole, red):
            await one.ask(BUNDLE, {"role": "check"})
    await whole.close()
    assert [name for name, _, _ in fake.asked[::2]] == [f"{ARN}:7", f"{ARN}:8", ARN]
    assert [name for name, _, _ in fake.asked[1::2]] == [f"{ARN}:7", f"{ARN}:8", ARN]


@pytest.mark.parametrize("by_tenant", [True, False])
async def test_a_call_says_whose_it_is(fake: Lambda, tmp_path: Path, by_tenant: bool) -> None:
    """In the payload, so that no process works for two; to Lambda, under the signature, where it isolates."""
    whole = sandbox(fake, tmp_path, by_tenant=by_tenant)
    red = whole.for_project("red", ProjectBlobs(FileBlobs(tmp_path), "red"))
    for one in (red, whole, red):
        await one.ask(BUNDLE, {"role": "check"})
    await whole.close()
    assert [tenant for _, tenant, _ in fake.asked] == ["red", "default", "red"]
    told = ["red", "default", "red"] if by_tenant else [None] * 3
    assert [tenant for _, _, tenant in fake.asked] == told
    assert all(("x-amz-tenant-id" in signed) is by_tenant for signed in fake.signed)
