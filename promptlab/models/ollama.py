"""Ollama's own API."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar

from yarl import URL

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.messages import Part, Reasoning, Text
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.domain.secrets import origin_of
from promptlab.errors import ConfigError, ModelError
from promptlab.models.answers import count_of, function_calls, reasoning_of
from promptlab.models.http import Answer, HttpModel
from promptlab.models.provider import Spent
from promptlab.models.usage import note_call
from promptlab.models.wire.events import gathered_lines, is_lines
from promptlab.models.wire.ollama import ollama_fields
from promptlab.models.wire.parts import loaded
from promptlab.ports import Clock

PORT = 11434
_TOP_LEVEL = ("format", "keep_alive", "think", "tools", "truncate", "dimensions", "logprobs", "top_logprobs")
"""Parameters of the request; every other one is an option of the model (top_p, num_ctx, …)."""


class OllamaModel(HttpModel):
    """Models that Ollama serves, on this machine unless `endpoint` or OLLAMA_HOST says otherwise."""

    keeps_time = True
    default_endpoint = f"http://localhost:{PORT}"
    key_variable: ClassVar[str] = "OLLAMA_API_KEY"
    probe_path = "/api/tags"
    takes = frozenset({"tools", "image"})
    forces_tools = False
    start_hint = "Start it with `ollama serve`, or set endpoint=… or OLLAMA_HOST."

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self._chat_url = URL(self.url("/api/chat"))
        self._embed_url = URL(self.url("/api/embed"))
        extras = self.config.extra_params
        given = {
            "temperature": self.config.temperature,
            "num_predict": self.config.max_tokens,
            "seed": self.config.seed,
        }
        options = {k: v for k, v in given.items() if v is not None} | {
            k: v for k, v in extras.items() if k not in (*_TOP_LEVEL, "options")
        }
        options |= extras.get("options") or {}
        self._params: dict[str, Any] = {k: extras[k] for k in _TOP_LEVEL if k in extras}
        if self.config.response_format is not None:
            self._params["format"] = _format(self.config.response_format)
        if options:
            self._params["options"] = options

    @property
    def _key_is_required(self) -> bool:
        return False

    @property
    def _environment_hosts(self) -> tuple[str, ...]:
        host = os.environ.get("OLLAMA_HOST", "").strip()
        return (origin_of(_from_host(host)),) if host else ()

    def _endpoint(self) -> str:
        if self.config.endpoint is None and (host := os.environ.get("OLLAMA_HOST", "").strip()):
            return _from_host(host)
        return super()._endpoint().removesuffix("/v1").removesuffix("/api")

    async def post(self, url: URL, payload: Mapping[str, Any]) -> Answer:
        """Make one request; a missing model's error says how to get it."""
        try:
            return await super().post(url, payload)
        except ModelError as error:
            if error.status == 404:
                error.args = (f"{error}. Pull it with `ollama pull {self.config.model_id}`.",)
            raise

    async def achat(self, messages: Prompt) -> ModelResponse:
        """Answer chat messages, or a request with parts and tools, in one attempt.

        Raises:
            ModelError: the call failed.
        """
        fields: dict[str, Any]
        if isinstance(messages, ChatRequest):
            fields = ollama_fields(messages, self.name, await loaded(messages))
        else:
            turns = [{**m, "role": "system"} if m["role"] == "developer" else m for m in messages]
            fields = {"messages": turns}
        asked = {"model": self.config.model_id, "stream": False, **self._params, **fields}
        answer = await self.post(self._chat_url, asked)
        with self.reading(answer.body, answer.headers):
            return self._answer(answer)

    def _gathered(self, body: bytes) -> dict[str, Any] | None:
        # What stands before Ollama may stream whatever it is asked for.
        return gathered_lines(body) if is_lines(body) else None

    def _answer(self, answer: Answer) -> ModelResponse:
        body = answer.body
        message = body.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise self.refusal(answer, "without a message")
        text, thought = message["content"], reasoning_of(message)
        parts: list[Part] = [Reasoning(thought)] if thought else []
        parts += [Text(text)] if text else []
        parts += function_calls(message)
        return self.answered(
            parts,
            self._usage(body, answer.headers),
            finish=body.get("done_reason"),
            latency_ms=answer.latency_ms,
        )

    def _usage(self, body: Any, headers: Mapping[str, str]) -> Spent:
        # Ollama leaves the count out where the whole prompt was in its cache.
        return Spent(count_of(body.get("prompt_eval_count")), count_of(body.get("eval_count")), None)

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        answer = await self.post(
            self._embed_url, {"model": self.config.model_id, "input": texts, **self._params}
        )
        vectors = answer.body.get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise self.refusal(answer, f"without {len(texts)} embeddings")
        note_call(self.config, count_of(answer.body.get("prompt_eval_count")))
        return vectors


def _from_host(host: str) -> str:
    """Turn OLLAMA_HOST into a URL by Ollama's rules: quotes go, a scheme brings its own port, and the address
    to listen at is not one to call.

    Raises:
        ConfigError: its port is no number.
    """
    host = host.strip(" \t\"'")
    scheme, mark, rest = host.partition("://")
    if not mark:
        scheme, rest = "http", host
    try:
        parts = urllib.parse.urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"OLLAMA_HOST={host!r} is not an address such as 127.0.0.1:{PORT} or https://host: {error}"
        ) from None
    name = parts.hostname or "127.0.0.1"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    default = (443 if scheme == "https" else 80) if mark else PORT
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{port or default}{parts.path.rstrip('/')}"


def _format(given: Mapping[str, Any]) -> Any:
    """Ollama's form of OpenAI's response_format; anything else is a JSON schema already."""
    if given.get("type") == "json_object":
        return "json"
    nested = given.get("json_schema")
    return nested["schema"] if isinstance(nested, Mapping) and "schema" in nested else dict(given)
