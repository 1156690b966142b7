"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from yarl import URL

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.messages import Part, Reasoning, Text, ToolCall
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_usd, price_of
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.answers import call_part, count_of, dollars_of, mapping
from promptlab.models.http import Answer
from promptlab.models.provider import Spent
from promptlab.models.streaming import StreamingModel
from promptlab.models.wire.anthropic import REDACTED, anthropic_fields
from promptlab.models.wire.parts import NOTHING, Loaded, loaded
from promptlab.ports import Clock

API_VERSION = "2023-06-01"
MAX_TOKENS = 4096
"""Tokens to write at most, where the configuration does not say: the API wants a number."""


class AnthropicModel(StreamingModel):
    """Claude models. The API has no seed and no embeddings."""

    keeps_time = True
    default_endpoint = "https://api.anthropic.com"
    key_variable: ClassVar[str] = "ANTHROPIC_API_KEY"
    endpoint_variables = ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE")
    request_paths = ("/messages",)
    takes = frozenset({"tools", "image", "document", "uri"})
    probe_path = "/v1/models?limit=1000"

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self.endpoint = self.endpoint.removesuffix("/v1")
        self._url = URL(self.url("/v1/messages"))
        extras = self.config.extra_params
        self._params: dict[str, Any] = {"max_tokens": self.config.max_tokens or MAX_TOKENS, **extras}
        if self.config.temperature is not None:
            self._params["temperature"] = self.config.temperature
        if self.config.response_format is not None:
            self._params["output_config"] = {
                **extras.get("output_config", {}),
                "format": _output_format(dict(self.config.response_format)),
            }

    def _auth_headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": API_VERSION, **({"x-api-key": key} if key else {})}

    def payload(self, messages: Prompt, data: Loaded = NOTHING) -> dict[str, Any]:
        """The body of a request; system and developer messages go into `system`."""
        if isinstance(messages, ChatRequest):
            fields = anthropic_fields(messages, self.name, data)
            return {"model": self.config.model_id, **self._params, **fields}
        system = "\n\n".join(m["content"] for m in messages if m["role"] in ("system", "developer"))
        turns = [m for m in messages if m["role"] not in ("system", "developer")]
        payload = {
            "model": self.config.model_id,
            **self._params,
            "messages": turns or [{"role": "user", "content": system}],
        }
        if system and turns:
            payload["system"] = system
        return payload

    async def achat(self, messages: Prompt) -> ModelResponse:
        """Answer chat messages, or a request with parts and tools, in one attempt.

        Raises:
            ModelError: the call failed.
        """
        data = await loaded(messages) if isinstance(messages, ChatRequest) else NOTHING
        answer = await self.ask_for_answer(self._url, self.payload(messages, data))
        with self.reading(answer.body, answer.headers):
            return self.read_answer(answer)

    def read_answer(self, answer: Answer) -> ModelResponse:
        """Read the answer of a request.

        Raises:
            ModelError: it holds none.
        """
        body = answer.body
        parts = self._parts(answer)
        metadata = {}
        if body.get("model") and body["model"] != self.config.model_id:
            metadata["model"] = body["model"]
        return self.answered(
            parts,
            self._usage(body, answer.headers),
            finish=body.get("stop_reason"),
            latency_ms=answer.latency_ms,
            metadata=metadata,
        )

    def _usage(self, body: Any, headers: Mapping[str, str]) -> Spent:
        usage = mapping(body.get("usage"))
        return Spent(
            _read(usage),
            count_of(usage.get("output_tokens")),
            _cost_usd(self.config, usage, headers),
            count_of(usage.get("cache_read_input_tokens")),
            count_of(usage.get("cache_creation_input_tokens")),
            count_of(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
        )

    def _parts(self, answer: Answer) -> list[Part]:
        """Read the blocks of an answer."""
        blocks, stop = answer.body.get("content"), answer.body.get("stop_reason")
        if not isinstance(blocks, list):
            raise self.refusal(answer, "without content")
        parts = list[Part]()
        for block in blocks:
            kind = block.get("type")
            if kind == "text" and block.get("text"):
                parts.append(Text(block["text"]))
            elif kind == "thinking":
                parts.append(Reasoning(str(block.get("thinking") or ""), block.get("signature") or None))
            elif kind == "redacted_thinking":
                parts.append(Reasoning("", f"{REDACTED}{block.get('data')}"))
            elif kind == "tool_use":
                parts.append(call_part(block.get("name"), block.get("input"), block.get("id")))
        if stop == "refusal" and not any(isinstance(part, Text | ToolCall) for part in parts):
            raise ModelError(
                f"{self.name}: the model refused to answer (stop_reason refusal)",
                type="content_filter",
                status=200,
            )
        return parts


def _cost_usd(config: ModelConfig, usage: dict[str, Any], headers: Mapping[str, str]) -> float | None:
    """Read the cost, or work it out where tokens were written to the cache for an hour; None leaves it to
    the price table."""
    told = dollars_of(headers.get("x-litellm-response-cost"))
    an_hour = count_of(mapping(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    if told is not None or not an_hour:
        return told
    return cost_usd(
        price_of(config),
        _read(usage),
        count_of(usage.get("output_tokens")),
        cached=count_of(usage.get("cache_read_input_tokens")),
        cache_write=count_of(usage.get("cache_creation_input_tokens")),
        for_an_hour=an_hour,
    )


def _read(usage: dict[str, Any]) -> int | None:
    """Tokens read, from the cache or not."""
    parts = [
        count_of(usage.get(name))
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    ]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _output_format(given: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's form of a JSON schema; OpenAI's form of one is turned into it."""
    nested = given.get("json_schema")
    return (
        {"type": "json_schema", "schema": nested["schema"]}
        if isinstance(nested, dict) and "schema" in nested
        else given
    )
