"""A real HTTP server that plays the batches of four providers, for tests.

It keeps what it was given while clients come and go, so that a test can kill one and look what the next one
does. Bedrock's records are in S3, which moto plays.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import web

Outcome = str | dict[str, Any] | tuple[int, str] | None
"""The text of an answer, or all of its body; or the status and words of an error; None: no answer, for the
batch ended first."""


@dataclass(slots=True)
class Life:
    """The life of a client: it dies at a step, before or after the step is done."""

    at: int | None = None
    after: bool = False
    steps: int = 0
    dead: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self) -> bool:
        """Count a step; whether this is the one at which the client dies."""
        with self.lock:
            self.steps += 1
            if self.at is not None and self.steps >= self.at:
                self.dead = True
                return self.steps == self.at
            return False


@dataclass(slots=True)
class Made:
    """A batch that the server has."""

    id: str
    kind: str
    name: str | None
    model: str
    requests: dict[str, str]
    """The prompts, by custom id."""
    made_at: float = 0.0
    looks: int = 0
    file_id: str = ""
    token: str = ""
    """Bedrock's client token."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """The requests as they were sent."""


class BatchServer:
    """`with BatchServer(answer) as server:`.

    Attributes:
        batches: every batch that was made, in order.
        looks: how often a batch is looked at before it has ended.
        ends: how batches end: "completed", "expired", "cancelled" or "failed".
        now: the time by which batches are made, in seconds since 1970.
        refuse: a status that making a batch is answered with, and how often.
    """

    def __init__(self, answer: Callable[[str], Outcome] = lambda prompt: prompt, *, s3: Any = None) -> None:
        self.answer, self.looks, self.ends = answer, 1, "completed"
        self.batches: list[Made] = []
        self.files: dict[str, tuple[str, bytes]] = {}
        self.refuse: list[tuple[int, str]] = []
        self.no_room: list[str] = []
        self.calls: Counter[str] = Counter()
        self.direct: list[str] = []
        self.life = Life()
        self.now: Callable[[], float] = time.time
        self._s3 = s3
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch-server", daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; of a client that is dead by now, only do what it asked, if that was in time."""
        dies = self.life.step()
        if self.life.dead and not (dies and self.life.after):
            return _dropped(request)
        body = await request.read()
        response = await self._answered(request, body)
        return _dropped(request) if self.life.dead else response

    async def _answered(self, request: web.Request, body: bytes) -> web.Response:
        path = request.path
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found is None or request.method != method:
                continue
            self.calls[name] += 1
            reply = getattr(self, f"_{name}")(request, body, *found.groups())
            reply = await reply if asyncio.iscoroutine(reply) else reply
            if isinstance(reply, web.Response):
                return reply
            return web.Response(body=reply) if isinstance(reply, bytes) else web.json_response(reply)
        return web.json_response({"error": {"message": f"no such path: {request.method} {path}"}}, status=404)

    def _made(self, made: Made) -> web.Response | None:
        """Keep a batch, unless making it is to be refused."""
        if self.refuse:
            status, said = self.refuse.pop(0)
            return web.json_response({"error": {"message": said}}, status=status)
        made.made_at = self.now()
        self.batches.append(made)
        return None

    def _of(self, batch_id: str) -> Made | None:
        return next((one for one in self.batches if one.id == batch_id), None)

    def _ended(self, made: Made) -> bool:
        return made.looks > self.looks

    def _outcomes(self, made: Made) -> dict[str, Outcome]:
        # Backwards: no provider promises an order.
        return {name: self.answer(prompt) for name, prompt in reversed(made.requests.items())}

    # ----------------------------------------------------------------- OpenAI, and Azure
    def _chat(self, request: web.Request, body: bytes) -> Any:
        prompt = json.loads(body)["messages"][-1]["content"]
        self.direct.append(prompt)
        return _chat(prompt, str(self.answer(prompt)))

    def _file(self, request: web.Request, body: bytes) -> Any:
        head, _, rest = body.partition(b'name="file"; filename="')
        assert b"batch" in head
        name, _, rest = rest.partition(b'"')
        content = rest.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        file_id = f"file-{uuid.uuid4().hex[:8]}"
        self.files[file_id] = (name.decode(), content)
        return {"id": file_id, "status": "processed"}

    def _files(self, request: web.Request, body: bytes) -> Any:
        return {"data": [{"id": file_id, "filename": name} for file_id, (name, _) in self.files.items()]}

    def _batch(self, request: web.Request, body: bytes) -> Any:
        asked = json.loads(body)
        assert asked["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]][1].splitlines()]
        assert all(line["url"] == asked["endpoint"] and line["method"] == "POST" for line in lines)
        name = asked["metadata"]["promptlab"]
        requests = {line["custom_id"]: line["body"]["messages"][-1]["content"] for line in lines}
        made = Made(f"batch_{uuid.uuid4().hex[:8]}", "openai", name, lines[0]["body"]["model"], requests)
        made.file_id, made.bodies = asked["input_file_id"], [line["body"] for line in lines]
        return self._made(made) or self._openai(made)

    def _batches(self, request: web.Request, body: bytes) -> Any:
        return _page(self.batches, request, "after", self._openai)

    def _look(self, request: web.Request, body: bytes, batch_id: str) -> Any:
        if (made := self._of(batch_id)) is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        made.looks += 1
        return self._openai(made)

    def _openai(self, made: Made) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": made.id,
            "object": "batch",
            "input_file_id": made.file_id,
            "created_at": int(made.made_at),
            "metadata": {"promptlab": made.name},
            "request_counts": {"total": len(made.requests), "completed": 0, "failed": 0},
            "status": "in_progress",
        }
        if made.name in self.no_room:
            error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
            return found | {"status": "failed", "errors": {"data": [error]}}
        if self._ended(made) and self.ends == "failed":
            error = {"code": "model_not_found", "message": "There is no such model", "line": 1}
            return found | {"status": "failed", "errors": {"data": [error]}}
        if self._ended(made):
            found |= {"status": self.ends, "output_file_id": f"out-{made.id}"}
            found |= {"error_file_id": f"err-{made.id}"}
        return found

    def _content(self, request: web.Request, body: bytes, file_id: str) -> Any:
        kind, _, batch_id = file_id.partition("-")
        made = self._of(batch_id)
        assert made is not None
        lines = []
        for name, outcome in self._outcomes(made).items():
            response = error = None
            if isinstance(outcome, str | dict):
                answer = _chat(made.requests[name], outcome)
                response = {"status_code": 200, "body": answer}
            elif outcome is None:
                error = {"code": f"batch_{self.ends}", "message": f"This batch {self.ends} first."}
            else:
                said = {"error": {"message": outcome[1]}}
                response = {"status_code": outcome[0], "body": said}
            if (kind == "out") == isinstance(outcome, str | dict):
                lines.append({"id": "r", "custom_id": name, "response": response, "error": error})
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    # --------------------------------------------------------------------------- Anthropic
    def _message(self, request: web.Request, body: bytes) -> Any:
        prompt = json.loads(body)["messages"][-1]["content"]
        self.direct.append(prompt)
        return _message(prompt, str(self.answer(prompt)))

    def _message_batch(self, request: web.Request, body: bytes) -> Any:
        assert request.headers["anthropic-version"]
        lines = json.loads(body)["requests"]
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", line["custom_id"]) for line in lines)
        requests = {line["custom_id"]: line["params"]["messages"][-1]["content"] for line in lines}
        model = lines[0]["params"]["model"]
        made = Made(f"msgbatch_{uuid.uuid4().hex[:8]}", "anthropic", None, model, requests)
        made.bodies = [line["params"] for line in lines]
        return self._made(made) or self._anthropic(made)

    def _message_batches(self, request: web.Request, body: bytes) -> Any:
        for made in self.batches:
            made.looks += 1
        return _page(self.batches, request, "after_id", self._anthropic)

    def _message_look(self, request: web.Request, body: bytes, batch_id: str) -> Any:
        if (made := self._of(batch_id)) is None:
            said = {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}
            return web.json_response(said, status=404)
        made.looks += 1
        return self._anthropic(made)

    def _anthropic(self, made: Made) -> dict[str, Any]:
        ended = self._ended(made)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = len(made.requests)
        return {
            "id": made.id,
            "type": "message_batch",
            "created_at": datetime.fromtimestamp(made.made_at, UTC).isoformat(),
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts,
            "results_url": "https://elsewhere.invalid/results" if ended else None,
        }

    def _message_results(self, request: web.Request, body: bytes, batch_id: str) -> Any:
        made = self._of(batch_id)
        assert made is not None
        lines = []
        for name, outcome in self._outcomes(made).items():
            if isinstance(outcome, str | dict):
                result = {"type": "succeeded", "message": _message(made.requests[name], outcome)}
            elif outcome is None:
                result = {"type": "canceled" if self.ends == "cancelled" else "expired"}
            else:
                kind = "invalid_request_error" if outcome[0] == 400 else "overloaded_error"
                error = {"type": kind, "message": outcome[1]}
                result = {"type": "errored", "error": {"type": "error", "error": error}}
            lines.append({"custom_id": name, "result": result})
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    # ------------------------------------------------------------------------------ Gemini
    def _gemini_start(self, request: web.Request, body: bytes) -> Any:
        assert request.headers["X-Goog-Upload-Command"] == "start"
        name = json.loads(body)["file"]["display_name"]
        file_id = uuid.uuid4().hex[:8]
        self.files[f"files/{file_id}"] = (name, b"")
        url = f"{self.url}/upload/v1beta/files/{file_id}"
        return web.json_response({}, headers={"X-Goog-Upload-URL": url})

    def _gemini_upload(self, request: web.Request, body: bytes, file_id: str) -> Any:
        name = f"files/{file_id}"
        self.files[name] = (self.files[name][0], body)
        return {"file": {"name": name}}

    def _gemini_batch(self, request: web.Request, body: bytes, model: str) -> Any:
        assert request.headers["x-goog-api-key"] == "sk-test"
        assert "Authorization" not in request.headers
        asked = json.loads(body)["batch"]
        lines = [json.loads(line) for line in self.files[asked["inputConfig"]["fileName"]][1].splitlines()]
        requests = {line["key"]: line["request"]["contents"][-1]["parts"][0]["text"] for line in lines}
        made = Made(f"batches/{uuid.uuid4().hex[:8]}", "gemini", asked["displayName"], model, requests)
        made.bodies = [line["request"] for line in lines]
        return self._made(made) or self._gemini(made)

    def _gemini_batches(self, request: web.Request, body: bytes) -> Any:
        return {"operations": [self._gemini(made) for made in reversed(self.batches)]}

    def _gemini_look(self, request: web.Request, body: bytes, batch_id: str) -> Any:
        made = self._of(f"batches/{batch_id}")
        assert made is not None
        made.looks += 1
        return self._gemini(made)

    def _gemini(self, made: Made) -> dict[str, Any]:
        words = {"completed": "SUCCEEDED", "expired": "EXPIRED", "cancelled": "CANCELLED", "failed": "FAILED"}
        ended = self._ended(made)
        state = words[self.ends] if ended else "RUNNING"
        about: dict[str, Any] = {"displayName": made.name, "state": f"BATCH_STATE_{state}"}
        about["batchStats"] = {"requestCount": str(len(made.requests)), "successfulRequestCount": "0"}
        if ended and self.ends == "completed":
            about["output"] = {"responsesFile": f"files/{made.id.rpartition('/')[2]}"}
        return {"name": made.id, "metadata": about, "done": ended}

    def _gemini_results(self, request: web.Request, body: bytes, file_id: str) -> Any:
        made = self._of(f"batches/{file_id}")
        assert made is not None
        lines: list[dict[str, Any]] = []
        for name, outcome in self._outcomes(made).items():
            if isinstance(outcome, dict):
                lines.append({"key": name, "response": outcome})
            elif isinstance(outcome, str):
                prompt = made.requests[name]
                usage = {"promptTokenCount": len(prompt), "candidatesTokenCount": len(outcome)}
                parts = {"parts": [{"text": outcome}], "role": "model"}
                response = {
                    "candidates": [{"content": parts, "finishReason": "STOP"}],
                    "usageMetadata": usage,
                }
                lines.append({"key": name, "response": response})
            elif outcome is not None:
                lines.append({"key": name, "error": {"code": 3, "message": outcome[1]}})
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    # ----------------------------------------------------------------------------- Bedrock
    def _converse(self, request: web.Request, body: bytes, model: str) -> Any:
        prompt = json.loads(body)["messages"][-1]["content"][0]["text"]
        self.direct.append(prompt)
        return _converse(prompt, str(self.answer(prompt)))

    async def _job(self, request: web.Request, body: bytes) -> Any:
        asked = json.loads(body)
        assert asked["modelInvocationType"] == "Converse"
        same = [made for made in self.batches if made.token == asked["clientRequestToken"]]
        if same:  # AWS gives the job that there is
            return {"jobArn": same[0].id}
        bucket, _, key = asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"][5:].partition("/")
        found = await asyncio.to_thread(self._s3.get_object, Bucket=bucket, Key=key)
        data = await asyncio.to_thread(found["Body"].read)
        lines = [json.loads(line) for line in data.splitlines()]
        if len(lines) < 4:
            return web.json_response({"message": "at least 4 records"}, status=400)
        requests = {
            line["recordId"]: line["modelInput"]["messages"][-1]["content"][0]["text"] for line in lines
        }
        job_id = uuid.uuid4().hex[:12]
        arn = f"arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/{job_id}"
        made = Made(arn, "bedrock", asked["jobName"], asked["modelId"], requests)
        made.token, made.bodies = asked["clientRequestToken"], [line["modelInput"] for line in lines]
        made.file_id = asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]
        return self._made(made) or {"jobArn": arn}

    def _jobs(self, request: web.Request, body: bytes) -> Any:
        part = request.query.get("nameContains", "")
        found = [made for made in reversed(self.batches) if part in str(made.name)]
        return {"invocationJobSummaries": [self._bedrock(made) for made in found]}

    async def _job_look(self, request: web.Request, body: bytes, arn: str) -> Any:
        made = self._of(arn)
        assert made is not None
        made.looks += 1
        if self._ended(made) and self.ends == "completed":
            await asyncio.to_thread(self._write_records, made)
        return self._bedrock(made)

    def _bedrock(self, made: Made) -> dict[str, Any]:
        words = {"completed": "Completed", "expired": "Expired", "cancelled": "Stopped", "failed": "Failed"}
        at = datetime.fromtimestamp(made.made_at, UTC).isoformat()
        return {
            "jobArn": made.id,
            "jobName": made.name,
            "modelId": made.model,
            "roleArn": "arn:aws:iam::123456789012:role/batches",
            "status": words[self.ends] if self._ended(made) else "InProgress",
            "submitTime": at,
            "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://records/in"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": made.file_id}},
        }

    def _write_records(self, made: Made) -> None:
        lines: list[dict[str, Any]] = []
        for name, outcome in self._outcomes(made).items():
            if isinstance(outcome, str | dict):
                lines.append({"recordId": name, "modelOutput": _converse(made.requests[name], outcome)})
            elif outcome is not None:
                error = {"errorCode": outcome[0], "errorMessage": outcome[1]}
                lines.append({"recordId": name, "error": error})
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        bucket, _, prefix = made.file_id[5:].partition("/")
        key = f"{prefix}{made.id.rpartition('/')[2]}/{made.name}.jsonl.out"
        self._s3.put_object(Bucket=bucket, Key=key, Body=data)


_OPENAI = r"(?:/v1|/openai(?:/v1)?)"
ROUTES = (
    ("POST", rf"{_OPENAI}/(?:deployments/[^/]+/)?chat/completions", "chat"),
    ("POST", rf"{_OPENAI}/files", "file"),
    ("GET", rf"{_OPENAI}/files", "files"),
    ("GET", rf"{_OPENAI}/files/([^/]+)/content", "content"),
    ("POST", rf"{_OPENAI}/batches", "batch"),
    ("GET", rf"{_OPENAI}/batches", "batches"),
    ("GET", rf"{_OPENAI}/batches/([^/]+)", "look"),
    ("POST", "/v1/messages", "message"),
    ("POST", "/v1/messages/batches", "message_batch"),
    ("GET", "/v1/messages/batches", "message_batches"),
    ("GET", "/v1/messages/batches/([^/]+)", "message_look"),
    ("GET", "/v1/messages/batches/([^/]+)/results", "message_results"),
    ("POST", "/v1beta/openai/chat/completions", "chat"),
    ("POST", "/upload/v1beta/files", "gemini_start"),
    ("POST", "/upload/v1beta/files/([^/]+)", "gemini_upload"),
    ("POST", "/v1beta/models/([^/]+):batchGenerateContent", "gemini_batch"),
    ("GET", "/v1beta/batches", "gemini_batches"),
    ("GET", "/v1beta/batches/([^/]+)", "gemini_look"),
    ("GET", "/download/v1beta/files/([^/]+):download", "gemini_results"),
    ("POST", "/model/([^/]+)/converse", "converse"),
    ("POST", "/model-invocation-job", "job"),
    ("GET", "/model-invocation-jobs", "jobs"),
    ("GET", "/model-invocation-job/(.+)", "job_look"),
)


def _dropped(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _page(batches: list[Made], request: web.Request, after: str, shown: Callable[[Made], Any]) -> Any:
    """A page of two, newest first: whoever looks for one has to turn pages."""
    newest = list(reversed(batches))
    ids = [made.id for made in newest]
    start = ids.index(request.query[after]) + 1 if after in request.query else 0
    page = newest[start : start + 2]
    return {"data": [shown(made) for made in page], "has_more": start + 2 < len(newest)}


def _chat(prompt: str, text: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(text)}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


def _message(prompt: str, text: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    usage = {"input_tokens": len(prompt), "output_tokens": len(text)}
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}


def _converse(prompt: str, text: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    output = {"message": {"role": "assistant", "content": [{"text": text}]}}
    usage = {"inputTokens": len(prompt), "outputTokens": len(text)}
    return {"output": output, "stopReason": "end_turn", "usage": usage}
