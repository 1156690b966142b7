"""Gemini's batch mode, through its own API.

Gemini is called through its OpenAI-compatible endpoint. That has `/batches` since September 2025, but no
upload and no download of files, and no name by which a batch is found again. The API's own batches have a
display name (ai.google.dev/api/batch-api): so a request is written in its form here, and its answer is read
from it.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import orjson

from promptlab.domain.chat import Prompt, as_request
from promptlab.domain.messages import Part, Reasoning, Text, ToolCall
from promptlab.domain.results import ModelResponse
from promptlab.domain.secrets import origin_of
from promptlab.errors import ConfigError, ModelError
from promptlab.models.answers import call_part, count_of, json_text, mapping
from promptlab.models.batches.base import (
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
from promptlab.models.failures import status_error, status_in
from promptlab.models.openai_compatible import OpenAICompatibleModel
from promptlab.models.provider import Spent
from promptlab.models.wire.gemini import gemini_fields
from promptlab.models.wire.parts import NOTHING, Loaded

PATH = "/openai"
"""The end of the OpenAI-compatible endpoint; what stands before is the API's own."""
_NAMES = {
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "max_completion_tokens": "maxOutputTokens",
}
_EFFORTS = ("minimal", "low", "medium", "high")
_TAKEN = ("stop", "reasoning_effort", "thinking_config", *_NAMES)
_ENDS: dict[str, Ended] = {
    "SUCCEEDED": "",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
_FILTERED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")


def is_gemini(endpoint: str) -> bool:
    """Whether an endpoint is Gemini's OpenAI-compatible one, or stands for it."""
    parts = urllib.parse.urlsplit(endpoint)
    google = parts.hostname == "generativelanguage.googleapis.com"
    return google or parts.path.rstrip("/").endswith(("/v1beta/openai", "/v1alpha/openai"))


class GeminiBatches(Batches):
    """`models.batchGenerateContent` with a file of requests."""

    # The API has no bound on requests, and 2 GB on a file; what a worker handles is bounded all the same.
    limits = Limits(100_000, 200_000_000)
    keeps_days: ClassVar[int] = 2

    def __init__(self, model: OpenAICompatibleModel) -> None:
        self._model = model
        self._base = model.endpoint.partition("?")[0].removesuffix(PATH)
        self._root, _, self._version = self._base.rpartition("/")
        self._generation = self._generation_config()

    def _generation_config(self) -> dict[str, Any]:
        config = self._model.config
        extras = config.extra_params
        unknown = sorted(extras.keys() - {*_TAKEN})
        if unknown:
            raise ConfigError(
                f"Model {config.name!r}: {unknown[0]!r} cannot be sent in Gemini's batch mode, which takes "
                f"{', '.join(sorted(_TAKEN))}, temperature, max_tokens, seed and response_format: leave it "
                "out, or batch"
            )
        found: dict[str, Any] = {
            "temperature": config.temperature,
            "maxOutputTokens": config.max_tokens,
            "seed": config.seed,
            **{_NAMES[name]: value for name, value in extras.items() if name in _NAMES},
            "thinkingConfig": extras.get("thinking_config"),
        }
        if (effort := extras.get("reasoning_effort")) is not None:
            if effort not in _EFFORTS:
                raise ConfigError(
                    f"Model {config.name!r}: reasoning_effort is one of {', '.join(_EFFORTS)} in Gemini's "
                    f"batch mode, not {effort!r}"
                )
            found["thinkingConfig"] = {"thinkingLevel": effort}
        stop = extras.get("stop")
        found["stopSequences"] = [stop] if isinstance(stop, str) else stop
        found |= _format(config.response_format)
        return {name: value for name, value in found.items() if value is not None}

    def line(self, custom_id: str, messages: Prompt, data: Loaded = NOTHING) -> bytes:
        request = gemini_fields(as_request(messages), self._model.name, data)
        if self._generation:
            request["generationConfig"] = self._generation
        return encoded({"key": custom_id, "request": request}, self._model.name)

    async def submit(self, batch: Submission) -> str:
        file_name = await self._upload(batch)
        model = self._model.config.model_id.removeprefix("models/")
        url = f"{self._base}/models/{_quoted(model)}:batchGenerateContent"
        body = {"batch": {"displayName": batch.token, "inputConfig": {"fileName": file_name}}}
        answer = await self._request("POST", url, orjson.dumps(body))
        return self._name(answer)

    async def _upload(self, batch: Submission) -> str:
        """Upload the file by the API's resumable protocol, in one piece."""
        start = f"{self._root}/upload/{self._version}/files"
        headers = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(batch.size_bytes),
            "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            "Content-Type": "application/json",
        }
        about = orjson.dumps({"file": {"display_name": batch.token}})
        begun = await self._model.request("POST", start, headers=self._auth(start) | headers, content=about)
        url = begun.headers.get("x-goog-upload-url", "")
        if origin_of(url) != origin_of(start):
            raise self._model.invalid("an upload to another place", url)
        answer = await self._model.request(
            "POST",
            url,
            headers=self._auth(url)
            | {
                "X-Goog-Upload-Offset": "0",
                "X-Goog-Upload-Command": "upload, finalize",
                "Content-Length": str(batch.size_bytes),
            },
            content=batch.content(),
            size_bytes=batch.size_bytes,
        )
        return self._name(mapping(answer.body.get("file")))

    async def find(self, batch: Submission) -> str | None:
        token = ""
        for _ in range(LIST_PAGES):
            page = await self._request("GET", f"{self._base}/batches?pageSize=100{token}")
            for item in page.get("operations") or ():
                about = mapping(mapping(item).get("metadata"))
                if about.get("displayName") == batch.token:
                    return self._name(item)
            if not page.get("nextPageToken"):
                return None
            token = f"&pageToken={_quoted(str(page['nextPageToken']))}"
        return None

    async def look(self, batch_id: str, batch: Submission) -> BatchState:
        found = await self._request("GET", f"{self._base}/{urllib.parse.quote(batch_id)}")
        about = mapping(found.get("metadata"))
        stats = mapping(about.get("batchStats"))
        state = str(about.get("state")).rpartition("STATE_")[2]
        output = mapping(about.get("output")) or mapping(found.get("response"))
        failed = count(stats.get("failedRequestCount"))
        file_name = output.get("responsesFile")
        return BatchState(
            ended=state in _ENDS,
            done=count(stats.get("successfulRequestCount")) + failed,
            failed=failed,
            reason=_ENDS.get(state, ""),
            message=str(mapping(found.get("error")).get("message") or "")[:500],
            files=(file_name,) if isinstance(file_name, str) and file_name else (),
        )

    async def results(self, batch_id: str, state: BatchState) -> AsyncIterator[Result]:
        for name in state.files:
            path = urllib.parse.quote(name)
            url = f"{self._root}/download/{self._version}/{path}:download?alt=media"
            chunks = self._model.download(url, headers=self._auth(url))
            async for line in lines_of(chunks, self._model.name):
                item = object_of(line)
                if isinstance(item.get("key"), str):
                    yield item["key"], self._result(item)

    def _result(self, item: Mapping[str, Any]) -> ModelResponse | ModelError:
        if item.get("error"):
            error = {"error": _status(item["error"])}
            said = json_text(error).encode("utf-8", "replace")
            return status_error(self._model.name, status_in(error) or 500, {}, said)
        body = item.get("response")
        try:
            with self._model.reading(body):
                return self._answer(mapping(body))
        except ModelError as broken:
            return broken

    def _answer(self, body: dict[str, Any]) -> ModelResponse:
        candidates = body.get("candidates") or []
        blocked = mapping(body.get("promptFeedback")).get("blockReason")
        first = mapping(candidates[0]) if candidates else {}
        finish = first.get("finishReason")
        if not candidates and not blocked:
            raise self._model.invalid("without candidates", body)
        parts = [mapping(part) for part in mapping(first.get("content")).get("parts") or ()]
        said = _parts(parts)
        if not any(isinstance(part, Text | ToolCall) for part in said) and (blocked or finish in _FILTERED):
            raise ModelError(
                f"{self._model.name}: a content filter removed the answer ({blocked or finish})",
                type="content_filter",
                status=200,
            )
        return self._model.answered(
            said,
            _usage(mapping(body.get("usageMetadata"))),
            finish="length" if finish == "MAX_TOKENS" else str(finish or "").lower() or None,
            metadata={"model": body["modelVersion"]} if body.get("modelVersion") else {},
        )

    def _auth(self, url: str) -> dict[str, str]:
        key = self._model.key_for(url)
        return {"x-goog-api-key": key, "Authorization": ""} if key else {}

    async def _request(self, method: str, url: str, content: bytes = b"") -> dict[str, Any]:
        headers = self._auth(url) | {"Content-Type": "application/json"}
        return (await self._model.request(method, url, headers=headers, content=content)).body

    def _name(self, body: Mapping[str, Any]) -> str:
        found = body.get("name")
        if not isinstance(found, str) or not found:
            raise self._model.invalid("without a name", dict(body))
        return found


def _parts(given: list[dict[str, Any]]) -> list[Part]:
    """Read the parts of an answer."""
    parts = list[Part]()
    for part in given:
        if "functionCall" in part:
            call = mapping(part["functionCall"])
            parts.append(call_part(call.get("name"), call.get("args"), call.get("id")))
        elif text := str(part.get("text") or ""):
            parts.append(Reasoning(text) if part.get("thought") else Text(text))
    return parts


def _usage(usage: Mapping[str, Any]) -> Spent:
    said, thought = (count_of(usage.get(name)) for name in ("candidatesTokenCount", "thoughtsTokenCount"))
    return Spent(
        count_of(usage.get("promptTokenCount")),
        None if said is None and thought is None else (said or 0) + (thought or 0),
        None,
        cached_tokens=count_of(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thought,
    )


def _format(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Gemini's form of structured output, from OpenAI's."""
    if given is None or given.get("type") == "text":
        return {}
    nested = mapping(given.get("json_schema"))
    schema = nested.get("schema") or given.get("schema")
    return {"responseMimeType": "application/json", **({"responseJsonSchema": schema} if schema else {})}


def _status(error: Any) -> Any:
    """A google.rpc.Status as an HTTP error: its code is gRPC's, which starts at 1."""
    code = {3: 400, 4: 408, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
    if isinstance(error, dict) and error.get("code") in code:
        return error | {"code": code[error["code"]]}
    return error


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
