"""The versions that an execution keeps to, asked of a server that answers as Lambda does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from promptlab.adapters.aws.function_versions import FunctionVersions
from promptlab.adapters.aws.session import AwsSession
from tests import aws

ARN = "arn:aws:lambda:us-east-1:123456789012:function"


class Hurried:
    """A clock that does not wait."""

    slept = 0

    def monotonic(self) -> float:
        return float(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept += 1

    def now(self) -> str:
        raise AssertionError("nobody asks for the time of day")


@dataclass
class Lambda:
    """The two operations of Lambda that are used."""

    refusals: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Publish version 7, or tell how it is."""
        name = unquote(request.path).split("/functions/")[1].split("/")[0]
        self.asked.append((request.method, name))
        if code := self.refusals.get(name):
            return web.json_response({"Message": "no"}, status=403, headers={"x-amzn-errortype": code})
        self.pending -= 1
        state: dict[str, Any] = {"Version": "7", "State": "Pending" if self.pending >= 0 else "Active"}
        return web.json_response(state, status=201 if request.method == "POST" else 200)


@pytest.fixture
async def answering(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lambda]:
    aws.credentials(monkeypatch)
    fake, app = Lambda(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    fake.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield fake
    await runner.cleanup()


async def pinned(fake: Lambda, **functions: str) -> dict[str, str]:
    """What an execution is told."""
    versions = FunctionVersions(session=AwsSession(region=aws.REGION, endpoint_url=fake.url), clock=Hurried())
    try:
        return await versions.pinned(functions)
    finally:
        await versions.close()


async def test_each_function_is_given_with_its_newest_version(answering: Lambda) -> None:
    """By its step."""
    found = await pinned(answering, infer=f"{ARN}:infer", evaluate=f"{ARN}:evaluate")
    assert found == {"infer": f"{ARN}:infer:7", "evaluate": f"{ARN}:evaluate:7"}


async def test_a_version_that_is_not_ready_is_waited_for(answering: Lambda) -> None:
    """Lambda refuses calls of one that is pending."""
    answering.pending = 3
    assert await pinned(answering, infer=f"{ARN}:infer") == {"infer": f"{ARN}:infer:7"}
    assert [method for method, _ in answering.asked] == ["POST", "GET", "GET", "GET"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "CodeStorageExceededException"])
async def test_where_nothing_can_be_published_the_run_takes_what_is_deployed(
    answering: Lambda, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so."""
    answering.refusals = {f"{ARN}:infer": code}
    assert await pinned(answering, infer=f"{ARN}:infer") == {"infer": f"{ARN}:infer"}
    assert "not pinned" in caplog.text and code in caplog.text


async def test_a_function_that_is_just_being_deployed_is_tried_again_by_the_machine(
    answering: Lambda,
) -> None:
    """To take it as it is would be to take half a deployment."""
    answering.refusals = {f"{ARN}:infer": "ResourceConflictException"}
    with pytest.raises(ClientError, match="ResourceConflict"):
        await pinned(answering, infer=f"{ARN}:infer")
