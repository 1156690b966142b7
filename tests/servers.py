"""A real HTTP server that stands in for every model provider, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

ROUTES = {
    "openai": re.compile(r"/chat/completions$"),
    "openai_embeddings": re.compile(r"/embeddings$"),
    "ollama": re.compile(r"/api/chat$"),
    "ollama_embeddings": re.compile(r"/api/embed$"),
    "anthropic": re.compile(r"/v1/messages$"),
    "bedrock": re.compile(r"^/model/[^/]+/converse$"),
    "bedrock_invoke": re.compile(r"^/model/[^/]+/invoke$"),
}


PATIENCE_S = 200
"""How long a busy machine may take; a test that hangs is ended at 300 (pyproject.toml)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the server got."""

    kind: str
    """A key of ROUTES, or "unknown"."""
    method: str
    path: str
    """Decoded, without the query."""
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    json: Any
    prompt: str
    """The text of the last user message; for embeddings the first text."""
    attempt: int
    """1 for the first time that this prompt was asked of this kind (since `script`), 2, …"""
    connection: int
    """The number of the TCP connection, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's reply to a request. Without `body` it is the provider's own shape around
    `text`, or its error shape."""

    text: str = "ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Mapping[str, Any] | None = None
    delay_s: float = 0.0
    hang: bool = False
    """Wait with the answer until `server.release()`, or for ever."""
    drop: bool = False
    """Close the connection without an answer."""
    truncate: bool = False
    """Close the connection in the middle of the body."""
    endless: bytes = b""
    """After the body this, again and again, until the client goes."""


Answer = Callable[[Request], "Reply | str"]


def vector(text: str) -> list[float]:
    """The embedding that the server gives a text."""
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]]


class ModelServer:
    """Speaks OpenAI, Azure, Anthropic, Ollama and Bedrock on 127.0.0.1, in a thread: `with
    ModelServer(answer) as server:`.

    `answer(request)` gives the text of the answer, or a `Reply`; it runs in the server's
    thread. `script(reply, …, prompt=…)` sets what the next attempts at a prompt (default: at
    every prompt) get instead.

    Attributes:
        requests: every request so far.
        in_flight: requests that wait for their answer now; `peak` is the most there were at once.
        connections: TCP connections accepted so far.
        waiting: the clients' ports of the requests that wait for their answer now.
    """

    def __init__(self, answer: Answer = lambda request: "ok", *, port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.in_flight = self.peak = self.connections = 0
        self.port = port
        self.waiting: set[int] = set()
        self._scripts: dict[str | None, tuple[Reply, ...]] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._broken: list[BaseException] = []
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def script(self, *replies: Reply, prompt: str | None = None) -> None:
        """The next attempts at a prompt (None: at every prompt without a script of its own) get these
        replies, one after another."""
        self._scripts[prompt] = replies
        for key in [key for key in self._seen if prompt in (None, key[1])]:
            del self._seen[key]

    def release(self) -> None:
        """Let every hanging request have its answer, now and from now on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_for_requests(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Block until `count` requests have arrived. In async code: `await
        asyncio.to_thread(server.wait_for_requests, n)`."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s), (
                f"{len(self.requests)} of {count} requests after {timeout_s} s"
            )

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        if self._broken and kind is None:
            raise self._broken[0]  # an `answer` that raised: the client saw a lost connection only

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopped, self._released = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024, limit=2**26)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        # First no more is accepted, then what was accepted gets its transport: asyncio drops, and never
        # closes, a connection whose server is closed between the two (an assert in Server._attach).
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        await asyncio.sleep(0)
        server.close()
        # Also those that accept a connection in this moment, and what comes of them.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others)
        await asyncio.sleep(0)  # an aborted socket is closed in the next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, writer))

    def _done(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        # Here and not in the task: one that is cancelled before its first step comes to no `finally`.
        writer.transport.abort()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken.append(error)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        peer: int = writer.get_extra_info("peername")[1]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while request := await self._read(reader, connection):
                self.in_flight += 1
                self.waiting.add(peer)
                self.peak = max(self.peak, self.in_flight)
                try:
                    keep = await self._respond(request, writer)
                finally:
                    self.in_flight -= 1
                    self.waiting.discard(peer)
                if not keep:
                    break
            writer.close()
            await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        path, _, query = target.partition("?")
        kind = next((kind for kind, pattern in ROUTES.items() if pattern.search(path)), "unknown")
        body = json.loads(raw) if raw else None
        prompt = _prompt(body)
        self._seen[kind, prompt] += 1
        request = Request(
            kind, method, unquote(path), query, headers, body, prompt, self._seen[kind, prompt], connection
        )
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        return request

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer; whether the connection lives on."""
        script = self._scripts.get(request.prompt, self._scripts.get(None, ()))
        reply = script[request.attempt - 1] if request.attempt <= len(script) else self.answer(request)
        if isinstance(reply, str):
            reply = Reply(text=reply)
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.hang:
            await self._released.wait()
        if reply.drop:
            return False
        body = (
            reply.body
            if reply.body is not None
            else _error(reply)
            if reply.status >= 400
            else _shape(request, reply.text)
        )
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        length = {} if reply.endless else {"Content-Length": str(len(payload))}
        headers = {"Content-Type": "application/json", **length, **reply.headers}
        head = (
            f"HTTP/1.1 {reply.status} X\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + "\r\n"
        )
        writer.write(head.encode("latin-1") + (payload[: len(payload) // 2] if reply.truncate else payload))
        await writer.drain()
        while reply.endless:
            writer.write(reply.endless)
            await writer.drain()
        return not reply.truncate and reply.headers.get("Connection") != "close"


def _prompt(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    if "messages" in body:
        content = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    texts = body.get("input", body.get("inputText", body.get("texts", "")))
    return str(texts[0] if isinstance(texts, list) and texts else texts)


def _error(reply: Reply) -> dict[str, Any]:
    return {"error": {"message": reply.text, "type": "error", "code": None}, "message": reply.text}


def _shape(request: Request, text: str) -> dict[str, Any]:
    """The provider's own form of an answer. Tokens: characters read and characters written."""
    read, written, body = len(request.prompt), len(text), request.json or {}
    match request.kind:
        case "openai":
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            return {
                "id": "c1",
                "object": "chat.completion",
                "model": body.get("model", ""),
                "choices": [choice],
                "usage": usage,
            }
        case "openai_embeddings":
            data = [
                {"object": "embedding", "index": i, "embedding": vector(t)}
                for i, t in enumerate(body["input"])
            ]
            # Providers promise the index, not the order.
            return {
                "object": "list",
                "data": data[::-1],
                "usage": {"prompt_tokens": read, "total_tokens": read},
            }
        case "ollama":
            message = {"role": "assistant", "content": text}
            return {
                "model": body["model"],
                "message": message,
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": read,
                "eval_count": written,
            }
        case "ollama_embeddings":
            return {"model": body["model"], "embeddings": [vector(t) for t in body["input"]]}
        case "anthropic":
            usage = {"input_tokens": read, "output_tokens": written}
            content = [{"type": "text", "text": text}]
            return {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "content": content,
                "stop_reason": "end_turn",
                "usage": usage,
            }
        case "bedrock":
            output = {"message": {"role": "assistant", "content": [{"text": text}]}}
            usage = {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}
            return {"output": output, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        case "bedrock_invoke" if "inputText" in body:
            return {"embedding": vector(body["inputText"]), "inputTextTokenCount": read}
        case "bedrock_invoke":
            return {"embeddings": [vector(t) for t in body["texts"]], "response_type": "embeddings_floats"}
    return {"error": {"message": f"no such path: {request.path}"}}
