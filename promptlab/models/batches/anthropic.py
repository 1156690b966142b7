"""Anthropic's message batches: one request with all requests in it.

A message batch has no name and no metadata. What finds one of ours again is when it was made, how many
requests it has, and, once it has ended, the custom id of one of them.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from promptlab.domain.chat import Prompt
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.answers import json_text, mapping
from promptlab.models.anthropic import AnthropicModel
from promptlab.models.batches.base import (
    CLOCK_SKEW_S,
    LIST_PAGES,
    Batches,
    BatchState,
    Limits,
    Result,
    Submission,
    UndecidedError,
    count,
    encoded,
    lines_of,
    object_of,
)
from promptlab.models.failures import status_error, status_in
from promptlab.models.http import Answer
from promptlab.models.wire.parts import NOTHING, Loaded

_COUNTS = ("succeeded", "errored", "canceled", "expired")


class AnthropicBatches(Batches):
    """`/v1/messages/batches`."""

    limits = Limits(100_000, 256_000_000)

    def __init__(self, model: AnthropicModel) -> None:
        self._model = model
        self._base = model.url("/v1/messages/batches")

    def line(self, custom_id: str, messages: Prompt, data: Loaded = NOTHING) -> bytes:
        return encoded(
            {"custom_id": custom_id, "params": self._model.payload(messages, data)}, self._model.name
        )

    async def submit(self, batch: Submission) -> str:
        head, tail = b'{"requests":[', b"]}"
        # A line's end becomes a comma; that of the last is left out.
        size = len(head) + batch.size_bytes - 1 + len(tail)

        async def body() -> AsyncIterator[bytes]:
            yield head
            left = batch.size_bytes - 1
            async for piece in batch.content():
                piece = piece.replace(b"\n", b",")[: max(left, 0)]
                left -= len(piece)
                yield piece
            yield tail

        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        answer = await self._model.request(
            "POST", self._base, headers=headers, content=body(), size_bytes=size
        )
        return self._id(answer.body)

    async def find(self, batch: Submission) -> str | None:
        after, undecided = "", False
        for _ in range(LIST_PAGES):
            page = (await self._model.request("GET", f"{self._base}?limit=100{after}")).body
            listed = [mapping(item) for item in page.get("data") or ()]
            for item in listed:
                if not _may_be(item, batch):
                    continue
                if item.get("processing_status") != "ended":
                    undecided = True
                elif await self._first_is_ours(self._id(item), batch):
                    return self._id(item)
            old = bool(listed) and _made_at(listed[-1]) < batch.since - CLOCK_SKEW_S
            if not listed or not page.get("has_more") or old:
                break
            after = f"&after_id={urllib.parse.quote(str(listed[-1].get('id')), safe='')}"
        if undecided:
            raise UndecidedError
        return None

    async def _first_is_ours(self, batch_id: str, batch: Submission) -> bool:
        """Whether the results of a batch are those of ours: their ids begin with our name."""
        async for line in lines_of(self._model.download(self._results_url(batch_id)), self._model.name):
            found = object_of(line).get("custom_id")
            return isinstance(found, str) and found.startswith(batch.prefix)
        return False

    async def look(self, batch_id: str, batch: Submission) -> BatchState:
        url = f"{self._base}/{urllib.parse.quote(batch_id, safe='')}"
        found = (await self._model.request("GET", url)).body
        counts = mapping(found.get("request_counts"))
        done = {name: count(counts.get(name)) for name in _COUNTS}
        return BatchState(
            ended=found.get("processing_status") == "ended",
            done=sum(done.values()),
            failed=sum(done.values()) - done["succeeded"],
        )

    async def results(self, batch_id: str, state: BatchState) -> AsyncIterator[Result]:
        # Not results_url: the key goes where the configuration says, and nowhere that an answer says.
        async for line in lines_of(self._model.download(self._results_url(batch_id)), self._model.name):
            item = object_of(line)
            if isinstance(item.get("custom_id"), str):
                yield item["custom_id"], self._result(mapping(item.get("result")))

    def _results_url(self, batch_id: str) -> str:
        return f"{self._base}/{urllib.parse.quote(batch_id, safe='')}/results"

    def _result(self, result: dict[str, Any]) -> ModelResponse | ModelError:
        kind, name = result.get("type"), self._model.name
        if kind in ("expired", "canceled"):
            word = "expired" if kind == "expired" else "cancelled"
            return ModelError(f"{name}: the batch was {word} first", type=f"batch_{word}", sent=False)
        if kind == "errored":
            error = mapping(result.get("error"))
            error = error if "error" in error else {"error": error}
            said = json_text(error).encode("utf-8", "replace")
            return status_error(name, status_in(error) or 500, {}, said)
        body = result.get("message")
        try:
            if not isinstance(body, dict):
                raise self._model.invalid("not a JSON object", body)
            with self._model.reading(body):
                answer = self._model.read_answer(Answer(body, 0.0, {}))
        except ModelError as broken:
            return broken
        return answer

    def _id(self, body: dict[str, Any]) -> str:
        found = body.get("id")
        if not isinstance(found, str) or not found:
            raise self._model.invalid("without an id", body)
        return found


def _may_be(item: dict[str, Any], batch: Submission) -> bool:
    """Whether a batch in the list can be one that we submitted."""
    counts = mapping(item.get("request_counts"))
    size = sum(count(counts.get(name)) for name in (*_COUNTS, "processing"))
    young = _made_at(item) >= batch.since - CLOCK_SKEW_S
    return young and size == batch.requests and item.get("id") not in batch.known


def _made_at(item: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(item.get("created_at"))).timestamp()
    except ValueError:
        return float("inf")
