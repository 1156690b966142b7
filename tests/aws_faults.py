"""A proxy on 127.0.0.1 before moto that goes wrong the way AWS does."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web

from tests import aws

Fault = Literal["throttled", "halved", "lost", "broken", "cut", "refused"]
"""The fault that happens instead of an answer.

throttled: DynamoDB refuses for want of throughput.
halved: DynamoDB does the first half of a batch and hands the other back.
lost: it is done, and the connection closes without an answer.
broken: a 500, and nothing is done.
cut: the connection closes in the middle of the answer's body.
refused: a 403, and nothing is done.
"""
_HALVES = {
    "BatchWriteItem": ("RequestItems", "UnprocessedItems"),
    "BatchGetItem": ("RequestItems", "UnprocessedKeys"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how many of its operation came before it."""

    operation: str
    """DynamoDB's operation, or the HTTP method."""
    number: int
    path: str
    body: Any = None


@dataclass(slots=True)
class FaultyAws:
    """`async with FaultyAws(lambda asked: "throttled" if asked.number < 3 else None) as faulty:`; its `url`
    is the endpoint."""

    fault: Callable[[Asked], Fault | None] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None
    _client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._client and self._runner
        await self._client.close()
        await self._runner.cleanup()

    def count(self, operation: str) -> int:
        """How many requests of an operation came."""
        return sum(asked.operation == operation for asked in self.asked)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = request.headers.get("X-Amz-Target")
        operation = target.rpartition(".")[2] if target else request.method
        data = await request.read()
        asked = Asked(operation, self.count(operation), request.path_qs, json.loads(data) if target else None)
        self.asked.append(asked)
        match self.fault(asked):
            case "throttled":
                return _error(400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
            case "broken":
                return _error(500, "InternalServerError")
            case "refused":
                return _error(403, "AccessDenied")
            case "halved":
                return await self._halved(request, asked)
            case "lost":
                await self._forward(request, data)
                return _closed(request)
            case "cut":
                return await self._cut(request, data)
        return web.Response(**_as_response(*await self._forward(request, data)))

    async def _forward(self, request: web.Request, data: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._client
        # AWS does a transaction once for each token; moto knows no tokens.
        token = json.loads(data).get("ClientRequestToken") if request.headers.get("X-Amz-Target") else None
        if token in self._answers:
            status, body = self._answers[token]
            return status, {"Content-Type": "application/x-amz-json-1.0"}, body
        headers = {
            k: v
            for k, v in request.headers.items()
            if k.lower() not in ("host", "content-length", "transfer-encoding")
        }
        async with self._client.request(
            request.method,
            aws.moto_url() + request.raw_path,
            data=io.BytesIO(data),
            headers={**headers, "Content-Length": str(len(data))},
        ) as answer:
            body = await answer.read()
        if token and answer.status == 200:
            self._answers[token] = answer.status, body
        return (
            answer.status,
            {
                k: v
                for k, v in answer.headers.items()
                if k.lower() not in ("content-length", "connection", "date", "server")
            },
            body,
        )

    async def _halved(self, request: web.Request, asked: Asked) -> web.Response:
        wanted, left = _HALVES[asked.operation]
        ((table, those),) = asked.body[wanted].items()
        entries = those if isinstance(those, list) else those["Keys"]
        half = -(-len(entries) // 2)
        first, rest = (
            ([*entries[:half]], [*entries[half:]])
            if isinstance(those, list)
            else ({**those, "Keys": entries[:half]}, {**those, "Keys": entries[half:]})
        )
        status, headers, body = await self._forward(
            request, json.dumps({**asked.body, wanted: {table: first}}).encode()
        )
        # The checksum of moto's own answer does not fit this one.
        headers = {k: v for k, v in headers.items() if k.lower() != "x-amz-crc32"}
        answer = {**json.loads(body), left: {table: rest} if entries[half:] else {}}
        return web.Response(**_as_response(status, headers, json.dumps(answer).encode()))

    async def _cut(self, request: web.Request, data: bytes) -> web.StreamResponse:
        status, headers, body = await self._forward(request, data)
        answer = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(body))})
        await answer.prepare(request)
        await answer.write(body[: len(body) // 2])
        # The client must have read the half before the connection ends.
        await asyncio.sleep(0)
        _closed(request)
        return answer


def _closed(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def _error(status: int, code: str) -> web.Response:
    return web.json_response(
        {"__type": code, "message": "as the test wants it"},
        status=status,
        content_type="application/x-amz-json-1.0",
    )


def _as_response(status: int, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    return {"status": status, "headers": headers, "body": body}


@dataclass(slots=True)
class QuickClock:
    """A clock on which waiting takes no time; those who wait at once wait side by side,
    not one after another."""

    seconds: float = 0.0

    def now(self) -> str:
        return "2026-11-23T09:00:00.000000Z"

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, until)
