"""OpenAI's batches: a file of requests, and a file of answers. Azure and many gateways speak the same."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import orjson

from promptlab.domain.chat import Prompt
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.answers import json_text, mapping
from promptlab.models.batches.base import (
    CLOCK_SKEW_S,
    LIST_PAGES,
    Batches,
    BatchState,
    Ended,
    Limits,
    Result,
    Submission,
    count,
    encoded,
    lines_of,
    object_of,
)
from promptlab.models.failures import message_of, status_error
from promptlab.models.http import Answer
from promptlab.models.openai_compatible import OpenAICompatibleModel
from promptlab.models.wire.parts import NOTHING, Loaded

WINDOW = "24h"
BOUNDARY = "promptlab-batch-9b1f4c7e"
IMPORT_TRIES = 60
"""How often a file that the provider still imports is looked at, with two seconds between."""
IMPORT_PAUSE_S = 2.0
_ENDS: dict[str, Ended] = {
    "completed": "",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}
_NO_ROOM = ("token_limit_exceeded", "enqueued_token", "queue_full", "batch_limit")


class OpenAIBatches(Batches):
    """Files and `/batches` under the endpoint of a model. Our name is in the batch's metadata and is the
    file's name, so that either finds it."""

    limits = Limits(50_000, 200_000_000)
    keeps_days: ClassVar[int] = 30

    def __init__(self, model: OpenAICompatibleModel) -> None:
        self._model = model

    def line(self, custom_id: str, messages: Prompt, data: Loaded = NOTHING) -> bytes:
        path = self._model.batch_path
        body = self._model.payload(messages, data)
        return encoded(
            {"custom_id": custom_id, "method": "POST", "url": path, "body": body}, self._model.name
        )

    async def submit(self, batch: Submission) -> str:
        file_id = await self._upload(batch)
        answer = await self._json(
            "POST",
            "/batches",
            {
                "input_file_id": file_id,
                "endpoint": self._model.batch_path,
                "completion_window": WINDOW,
                "metadata": {"promptlab": batch.token},
            },
        )
        return self._id(answer)

    async def _upload(self, batch: Submission) -> str:
        """Upload the file of requests, and wait until it can be used."""
        head, tail = _form(f"{batch.token}.jsonl")
        size = len(head) + batch.size_bytes + len(tail)

        async def form() -> AsyncIterator[bytes]:
            yield head
            async for piece in batch.content():
                yield piece
            yield tail

        answer = await self._model.request(
            "POST",
            self._model.service_url("/files"),
            headers={
                "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
                "Content-Length": str(size),
            },
            content=form(),
            size_bytes=size,
        )
        file_id, status = self._id(answer.body), answer.body.get("status")
        for _ in range(IMPORT_TRIES):
            if status not in ("pending", "running", "uploading"):
                break
            await asyncio.sleep(IMPORT_PAUSE_S)  # Azure imports a file before it can be used
            status = (await self._json("GET", f"/files/{_quoted(file_id)}")).get("status")
        return file_id

    async def find(self, batch: Submission) -> str | None:
        named = await self._files_named(f"{batch.token}.jsonl")
        after = ""
        for _ in range(LIST_PAGES):
            page = await self._json("GET", f"/batches?limit=100{after}")
            listed = [mapping(item) for item in page.get("data") or ()]
            for item in listed:
                ours = mapping(item.get("metadata")).get("promptlab") == batch.token
                if ours or item.get("input_file_id") in named:
                    return self._id(item)
            # Newest first: what follows is older than ours can be.
            old = bool(listed) and count(listed[-1].get("created_at")) < batch.since - CLOCK_SKEW_S
            if not listed or not page.get("has_more") or old:
                return None
            after = f"&after={_quoted(str(listed[-1].get('id')))}"
        return None

    async def _files_named(self, name: str) -> frozenset[str]:
        """The ids of the newest uploads of a name: a gateway may keep no metadata."""
        try:
            page = await self._json("GET", "/files?purpose=batch&limit=100&order=desc")
        except ModelError as error:
            if error.retryable or error.type == "authentication":
                raise
            return frozenset()  # a gateway without a list of files
        files = (mapping(item) for item in page.get("data") or ())
        return frozenset(str(item.get("id")) for item in files if item.get("filename") == name)

    async def look(self, batch_id: str, batch: Submission) -> BatchState:
        found = await self._json("GET", f"/batches/{_quoted(batch_id)}")
        counts, status = mapping(found.get("request_counts")), str(found.get("status"))
        failed = count(counts.get("failed"))
        said = _errors(found.get("errors"))
        reason = _ENDS.get(status, "")
        if reason == "failed" and any(word in said for word in _NO_ROOM):
            reason = "busy"
        files = [found.get("output_file_id"), found.get("error_file_id")]
        return BatchState(
            ended=status in _ENDS,
            done=count(counts.get("completed")) + failed,
            failed=failed,
            reason=reason,
            message=said,
            files=tuple(str(name) for name in files if name),
        )

    async def results(self, batch_id: str, state: BatchState) -> AsyncIterator[Result]:
        for file_id in state.files:
            url = self._model.service_url(f"/files/{_quoted(file_id)}/content")
            async for line in lines_of(self._model.download(url), self._model.name):
                item = object_of(line)
                if isinstance(item.get("custom_id"), str):
                    yield item["custom_id"], self._result(item)

    def _result(self, item: dict[str, Any]) -> ModelResponse | ModelError:
        response, error = mapping(item.get("response")), item.get("error")
        status, body = count(response.get("status_code")), response.get("body")
        if not response and error:
            return unanswered(self._model.name, error)
        if status and status != 200:
            said = json_text(body).encode("utf-8", "replace")
            return status_error(self._model.name, status, {}, said)
        try:
            if not isinstance(body, dict):
                raise self._model.invalid("not a JSON object", body)
            with self._model.reading(body):
                return self._model.read_answer(Answer(body, 0.0, {}))
        except ModelError as broken:
            return broken

    async def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = b"" if body is None else orjson.dumps(body)
        url = self._model.service_url(path)
        return (await self._model.request(method, url, content=content)).body

    def _id(self, body: dict[str, Any]) -> str:
        found = body.get("id")
        if not isinstance(found, str) or not found:
            raise self._model.invalid("without an id", body)
        return found


def unanswered(model: str, error: Any) -> ModelError:
    """Make the error of a request that a batch left unanswered: `batch_expired`, `batch_cancelled`, …"""
    said, code = message_of({"error": error})
    kind = next((word for word in ("expired", "cancelled") if word in f"{code} {said}".lower()), "failed")
    found = ModelError(f"{model}: {said or code}", type=f"batch_{kind}")
    found.sent = False  # a request that was not worked on is not billed
    return found


def _form(filename: str) -> tuple[bytes, bytes]:
    """Return what stands before and after a file in a multipart form (RFC 7578)."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return head.encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


def _errors(errors: Any) -> str:
    """The words for why a batch was refused; each error has a code, a line and a message."""
    listed = mapping(errors).get("data")
    found = [mapping(item) for item in listed[:5]] if isinstance(listed, list) else []
    return "; ".join(f"{item.get('code')}: {item.get('message')}"[:500] for item in found)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
