"""The bound of every answer: what Lambda can send, on a laptop too, so that both give the same.

Routes keep to it by themselves: pages of a list are as short as their rows are long, texts in them are cut,
and what is cut can be had whole (`whole`). `Bounded` is the last guard: an answer is sent whole, or not at
all.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptlab.adapters.http.problems import URN
from promptlab.ports import Blobs, DirectBlobs
from promptlab_studio.problems import API, problem

MAX_ANSWER_BYTES = 4 << 20
"""The longest answer. Lambda sends 6 MB, and an answer travels as base64, which takes a third more."""
LINK_S = 900
"""Seconds that a link to a file in the bucket is valid."""
_STREAMS = "promptlab_streams"
_OF_A_BODY = (b"content-length", b"content-type")


def etag_of(value: Any) -> str:
    """The ETag of an answer: a hash of it as JSON, or of its bytes."""
    sort = orjson.OPT_SORT_KEYS
    data = value if isinstance(value, bytes) else orjson.dumps(value, default=str, option=sort)
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def tags_of(header: str) -> list[str]:
    """The ETags that If-Match or If-None-Match lists; a weak one counts like a strong one."""
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def matches(header: str, etag: str) -> bool:
    """Whether If-Match or If-None-Match lists an ETag, or any (`*`)."""
    return header.strip() == "*" or etag in tags_of(header)


def streams(request: Request) -> None:
    """Say that the answer is a file, which a laptop sends piece by piece, however long; Lambda cannot."""
    setattr(request.state, _STREAMS, True)


async def whole(
    request: Request,
    blobs: Blobs,
    data: bytes,
    *,
    file_name: str = "",
    media_type: str,
    key: str | None = None,
) -> Response:
    """Answer with data of any length; in the cloud, if they are long, by a link to a file in the bucket.

    Args:
        request: the request.
        blobs: where a file is made.
        data: the answer.
        file_name: the name of the file.
        media_type: the type of the data.
        key: the blob that these data are; then no file is made.
    """
    if len(data) <= MAX_ANSWER_BYTES:
        return Response(data, media_type=media_type)
    if isinstance(blobs, DirectBlobs):
        if key is None:
            key = f"exports/{secrets.token_hex(16)}/{file_name}"
            await blobs.put(key, data)
        return RedirectResponse(await blobs.presign_get(key, max_age_s=LINK_S), status_code=303)
    streams(request)
    return Response(data, media_type=media_type)


def _tagged(scope: Scope, answer: list[Message]) -> list[Message]:
    """An answer of the API with its ETag; 304 without a body for whom has it already."""
    start = answer[0]
    if scope["method"] != "GET" or not scope["path"].startswith(API) or start["status"] != 200:
        return answer
    headers = MutableHeaders(scope=start)
    if "etag" not in headers:
        headers["ETag"] = etag_of(b"".join(message.get("body", b"") for message in answer[1:]))
    asked = Headers(scope=scope)
    if "authorization" in asked:
        # A program may keep it, and asks each time whether it still holds: a token may be revoked, and a run
        # move on. A browser keeps nothing of a lab.
        headers["Cache-Control"] = "private, no-cache"
    known = asked.get("if-none-match")
    if known is None or not matches(known, headers["etag"]):
        return answer
    kept = [(name, value) for name, value in start["headers"] if name.lower() not in _OF_A_BODY]
    return [{**start, "status": 304, "headers": kept}, {"type": "http.response.body", "body": b""}]


class Bounded:
    """Puts an error in the place of an answer that is longer than MAX_ANSWER_BYTES; never sends half of one.

    Args:
        app: what is behind.
        streaming: files are sent however long they are (`streams`): on a laptop.
        most: the bound, in bytes.
    """

    def __init__(self, app: ASGIApp, *, streaming: bool, most: int = MAX_ANSWER_BYTES) -> None:
        self._app, self._streaming, self._most = app, streaming, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state, held, size, done = scope.setdefault("state", {}), list[Message](), 0, False

        async def bounded(message: Message) -> None:
            nonlocal size, done
            if self._streaming and state.get(_STREAMS):
                await send(message)
                return
            if done:
                return
            held.append(message)
            size += len(message.get("body", b""))
            if size > self._most:
                done = True
                held.clear()
                await self._refusal(Request(scope))(scope, receive, send)
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                done = True
                for one in _tagged(scope, held):
                    await send(one)

        await self._app(scope, receive, bounded)

    def _refusal(self, request: Request) -> Response:
        return problem(
            request,
            507,
            f"The answer would have more than {self._most:,} bytes, which is all that can be sent. Ask for "
            "less of it: a smaller `limit`, fewer columns or runs, or the file that export gives.",
            type=f"{URN}answer-too-large",
            title="The answer is too large",
        )
