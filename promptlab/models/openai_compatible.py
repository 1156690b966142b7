"""OpenAI's chat and embeddings API, which most providers and servers speak."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, ClassVar

import httpx

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.errors import ConfigError, ModelError
from promptlab.models.answers import function_calls, json_text, mapping
from promptlab.models.base import Messages
from promptlab.models.failures import message_of, status_error
from promptlab.models.http import HttpModel
from promptlab.models.usage import note_answer, note_call
from promptlab.ports import Clock

# OpenAI's reasoning models refuse max_tokens; the others take either name.
_REASONING = re.compile(r"(o\d|gpt-[5-9])\b")


class OpenAICompatibleModel(HttpModel):
    """Chat completions and embeddings under one base URL, which usually ends in /v1."""

    seed_name: ClassVar[str] = "seed"

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self._chat_url = httpx.URL(self._path_url("/chat/completions"))
        self._embeddings_url = httpx.URL(self._path_url("/embeddings"))
        given = {
            "temperature": self.config.temperature,
            self._max_tokens_name(): self.config.max_tokens,
            self.seed_name: self.config.seed,
            "response_format": self.config.response_format,
        }
        self._params = {**{k: v for k, v in given.items() if v is not None}, **self.config.extra_params}

    def _path_url(self, path: str) -> str:
        return self.url(path)

    def _max_tokens_name(self) -> str:
        return "max_tokens"

    async def achat(self, messages: Messages) -> ModelResponse:
        """Answer a list of chat messages in one attempt.

        Raises:
            ModelError: the call failed.
        """
        body, latency_ms = await self.post(
            self._chat_url, {"model": self.config.model_id, "messages": messages, **self._params}
        )
        with self.reading(body):
            return self._answer(body, latency_ms)

    def _answer(self, body: dict[str, Any], latency_ms: float) -> ModelResponse:
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise self._no_choice(body)
        if isinstance(choice.get("error"), dict):
            raise self._no_choice(choice)  # OpenRouter's way of saying that the serving provider broke off
        finish = choice.get("finish_reason")
        text, metadata = self._text(body, message, finish)
        usage = mapping(body.get("usage"))
        if body.get("model") and body["model"] != self.config.model_id:
            metadata["model"] = body["model"]
        return note_answer(
            self.config,
            ModelResponse(
                response=text,
                prompt_tokens=_count(usage.get("prompt_tokens")),
                completion_tokens=_count(usage.get("completion_tokens")),
                latency_ms=latency_ms,
                cost_usd=self._cost_usd(usage),
                finish_reason=finish,
                metadata=metadata,
            ),
        )

    def _text(self, body: dict[str, Any], message: dict[str, Any], finish: Any) -> tuple[str, dict[str, Any]]:
        """The answer: its text, a refusal's text, or the tool calls as JSON."""
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(
                part.get("text") or part.get("refusal") or ""
                for part in content
                if isinstance(part, dict) and isinstance(part.get("text", ""), str)
            )
        if isinstance(content, str) and (
            content or not (message.get("refusal") or message.get("tool_calls") or finish == "content_filter")
        ):
            return content, {}
        if message.get("refusal"):
            return str(message["refusal"]), {"refusal": True}
        if message.get("tool_calls"):
            return function_calls(message)
        if finish == "content_filter":
            raise ModelError(
                f"{self.name}: a content filter removed the answer", type="content_filter", status=200
            )
        if finish == "length":
            return "", {}  # a reasoning model that thought until its tokens were used up
        raise self.invalid("without content", body)

    def _no_choice(self, body: dict[str, Any]) -> ModelError:
        """The error of an answer 200 that holds none; OpenRouter sends the serving provider's errors so."""
        error = body.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return self._without_key(
                status_error(self.name, code, {}, json_text(body).encode("utf-8", "replace"))
            )
        said, _ = message_of(body)
        return self.invalid("without choices", said)

    def _cost_usd(self, usage: dict[str, Any]) -> float | None:
        return None

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        payload = {"model": self.config.model_id, "input": texts, **self.config.extra_params}
        body, _ = await self.post(self._embeddings_url, payload)
        try:
            # The order is not promised; the index is.
            rows = sorted(body["data"], key=lambda row: row["index"])
            vectors = [[float(x) for x in row["embedding"]] for row in rows]
        except (KeyError, TypeError, ValueError):
            raise self._no_choice(body) from None
        if len(vectors) != len(texts):
            raise self.invalid(f"{len(vectors)} embeddings for {len(texts)} texts", body)
        read = mapping(body.get("usage"))
        note_call(self.config, _count(read.get("prompt_tokens")), usd=self._cost_usd(read))
        return vectors


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


class OpenAIModel(OpenAICompatibleModel):
    """OpenAI, and any server that speaks its protocol (`endpoint=…`)."""

    default_endpoint = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"

    def _max_tokens_name(self) -> str:
        return "max_completion_tokens" if _REASONING.match(self.config.model_id) else "max_tokens"


class AzureModel(OpenAICompatibleModel):
    """Azure OpenAI. The name is the deployment's: `azure/<deployment>`; the endpoint is the resource's."""

    key_variable = "AZURE_OPENAI_API_KEY"
    default_api_version: ClassVar[str] = "2024-10-21"

    def _endpoint(self) -> str:
        if self.config.endpoint is None:
            raise ConfigError(
                f"Model {self.name!r} needs its resource's endpoint, as in endpoint='https://<resource>.openai.azure.com'"
            )
        return super()._endpoint()

    @property
    def _key_is_required(self) -> bool:
        # There is no endpoint of Azure's own: the resource's is it, unless it is a stand-in.
        host = urllib.parse.urlsplit(self.endpoint).hostname or ""
        return host.endswith((".azure.com", ".azure.us", ".azure.cn"))

    def _path_url(self, path: str) -> str:
        if self.endpoint.endswith("/openai/v1"):
            return self.url(path)
        base = self.endpoint.removesuffix("/openai")
        deployment = urllib.parse.quote(self.config.model_id, safe="")
        version = urllib.parse.quote(self.config.api_version or self.default_api_version)
        return f"{base}/openai/deployments/{deployment}{path}?api-version={version}"

    def _auth_headers(self, key: str | None) -> dict[str, str]:
        return {"api-key": key} if key else {}

    def _max_tokens_name(self) -> str:
        return "max_completion_tokens" if _REASONING.match(self.config.model_id) else "max_tokens"


class OpenRouterModel(OpenAICompatibleModel):
    """OpenRouter: `openrouter/<maker>/<model>`. It says what a call cost."""

    default_endpoint = "https://openrouter.ai/api/v1"
    key_variable = "OPENROUTER_API_KEY"

    def _cost_usd(self, usage: dict[str, Any]) -> float | None:
        cost = usage.get("cost")
        return float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None


class DeepSeekModel(OpenAICompatibleModel):
    """DeepSeek."""

    default_endpoint = "https://api.deepseek.com/v1"
    key_variable = "DEEPSEEK_API_KEY"


class GroqModel(OpenAICompatibleModel):
    """Groq."""

    default_endpoint = "https://api.groq.com/openai/v1"
    key_variable = "GROQ_API_KEY"


class MistralModel(OpenAICompatibleModel):
    """Mistral."""

    default_endpoint = "https://api.mistral.ai/v1"
    key_variable = "MISTRAL_API_KEY"
    seed_name = "random_seed"


class VllmModel(OpenAICompatibleModel):
    """A vLLM server, on this machine by default; without a key unless it was started with one."""

    default_endpoint = "http://localhost:8000/v1"
    key_variable = "VLLM_API_KEY"
    start_hint = "Start it with `vllm serve <model>`, or pass endpoint=…."

    @property
    def _key_is_required(self) -> bool:
        return False
