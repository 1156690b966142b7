"""OpenAI's chat and embeddings API, which most providers and servers speak."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from yarl import URL

from promptlab.domain.chat import ChatRequest, Prompt, as_request
from promptlab.domain.deployments import deployment_in
from promptlab.domain.messages import Part, Reasoning, Text, ToolCall
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.errors import ConfigError, ModelError
from promptlab.models.answers import (
    count_of,
    dollars_of,
    function_calls,
    json_text,
    mapping,
    reasoning_of,
)
from promptlab.models.http import Answer
from promptlab.models.provider import Spent
from promptlab.models.streaming import StreamingModel
from promptlab.models.usage import note_call
from promptlab.models.wire.chat import (
    chat_fields,
    mistral_media,
    openai_media,
    openrouter_media,
    vllm_media,
)
from promptlab.models.wire.parts import NOTHING, Loaded, loaded
from promptlab.models.wire.responses import (
    RESPONSES_BY_ADDRESS,
    RESPONSES_TAKE,
    parts_in,
    responses_fields,
    text_format,
    usage_in,
)
from promptlab.ports import Clock

FOUNDRY_VERSION = "2024-05-01-preview"
"""The version of Azure AI Foundry's inference API, where the endpoint names none."""
# OpenAI's reasoning models refuse max_tokens; the others take either name.
_REASONING = re.compile(r"(ft:)?(o\d|gpt-([5-9]|\d\d))(?![\da-z])")


class OpenAICompatibleModel(StreamingModel):
    """Chat completions and embeddings under one base URL, which usually ends in /v1."""

    keeps_time = True
    seed_name: ClassVar[str] = "seed"
    request_paths: ClassVar[tuple[str, ...]] = ("/chat/completions", "/embeddings", "/responses")
    speaks = ("chat", "responses")
    takes = frozenset({"tools", "image", "audio", "document", "uri"})
    by_address = frozenset({"image"})
    media_part: ClassVar[staticmethod[Any, dict[str, Any]]] = staticmethod(openai_media)
    """Makes a part of a message of a medium."""
    reasoning_back: ClassVar[str | None] = None
    """The name under which thoughts go back with the calls of tools that came of them."""
    probe_path: ClassVar[str | None] = "/models"

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self._by_responses = self.config.api == "responses"
        if self._by_responses:
            self.takes, self.by_address = self.takes & RESPONSES_TAKE, RESPONSES_BY_ADDRESS
        self._chat_url = URL(
            self._responses_url() if self._by_responses else self._path_url("/chat/completions")
        )
        self._embeddings_url = URL(self._path_url("/embeddings"))
        self._params = {**self._own_params(), **self.config.extra_params}
        if self._by_responses and self.config.batch:
            raise ConfigError(
                f"Model {self.name!r}: batches ask for chat completions: leave out api, or batch"
            )

    def _own_params(self) -> dict[str, Any]:
        config = self.config
        given: dict[str, Any]
        if self._by_responses:  # it has no seed
            given = {"temperature": config.temperature, "max_output_tokens": config.max_tokens}
            if config.response_format is not None:
                given["text"] = {**config.extra_params.get("text", {}), **text_format(config.response_format)}
        else:
            given = {
                "temperature": config.temperature,
                self._max_tokens_name(): config.max_tokens,
                self.seed_name: config.seed,
                "response_format": config.response_format,
            }
        return {name: value for name, value in given.items() if value is not None}

    def _responses_url(self) -> str:
        return self.service_url("/responses")

    def _path_url(self, path: str) -> str:
        return self.url(path)

    batch_path: ClassVar[str] = "/v1/chat/completions"
    """The path by which a line of a batch's file names what it asks."""

    def service_url(self, path: str) -> str:
        """The URL of what is not one model's: files, batches."""
        return self.url(path)

    @property
    def asked_model(self) -> str:
        """The name of the model in the body of a request."""
        return self.config.model_id

    def _max_tokens_name(self) -> str:
        return "max_tokens"

    def payload(self, messages: Prompt, data: Loaded = NOTHING) -> dict[str, Any]:
        """The body of a request, with media of which the bytes are given."""
        fields: dict[str, Any]
        if self._by_responses:
            fields = responses_fields(as_request(messages), self.name, data)
        elif isinstance(messages, ChatRequest):
            part, back = self.media_part, self.reasoning_back
            fields = chat_fields(messages, self.name, data, media_part=part, reasoning=back)
        else:
            fields = {"messages": messages}
        return {"model": self.asked_model, **self._params, **fields}

    async def achat(self, messages: Prompt) -> ModelResponse:
        """Answer chat messages, or a request with parts and tools, in one attempt.

        Raises:
            ModelError: the call failed.
        """
        data = await loaded(messages) if isinstance(messages, ChatRequest) else NOTHING
        options = {} if self._by_responses else {"stream_options": {"include_usage": True}}
        answer = await self.ask_for_answer(self._chat_url, self.payload(messages, data), options)
        with self.reading(answer.body, answer.headers):
            return self.read_answer(answer)

    def read_answer(self, answer: Answer) -> ModelResponse:
        """Read the answer of a request.

        Raises:
            ModelError: it holds none.
        """
        body = answer.body
        if self._by_responses:
            return self._read_response(answer)
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise self.refusal(answer, "without choices")
        if isinstance(choice.get("error"), dict):
            # OpenRouter's way of saying that the serving provider broke off
            raise self.refusal(answer, "broken off", choice)
        finish = choice.get("finish_reason")
        text, metadata = self._text(answer, message, finish)
        thought = reasoning_of(message)
        parts: list[Part] = [Reasoning(thought)] if thought else []
        parts += [Text(text)] if text else []
        parts += function_calls(message)
        return self._answered(answer, parts, finish, metadata)

    def _answered(
        self,
        answer: Answer,
        parts: list[Part],
        finish: Any,
        metadata: dict[str, Any],
    ) -> ModelResponse:
        body = answer.body
        if body.get("model") and body["model"] != self.config.model_id:
            metadata["model"] = body["model"]
        if (tier := self._other_tier(body)) is not None:
            metadata["service_tier"] = tier
        spent = self._usage(body, answer.headers)
        return self.answered(parts, spent, finish=finish, latency_ms=answer.latency_ms, metadata=metadata)

    def _read_response(self, answer: Answer) -> ModelResponse:
        """Read an answer of the Responses API."""
        body = answer.body
        output, status = body.get("output"), body.get("status")
        if not isinstance(output, list) or status == "failed":
            raise self.refusal(answer, "without output")
        parts, refused = parts_in(output)
        why = mapping(body.get("incomplete_details")).get("reason")
        if why == "content_filter" and not any(isinstance(part, Text | ToolCall) for part in parts):
            raise ModelError(
                f"{self.name}: a content filter removed the answer", type="content_filter", status=200
            )
        return self._answered(answer, parts, why or status, {"refusal": True} if refused else {})

    def _text(self, answer: Answer, message: dict[str, Any], finish: Any) -> tuple[str, dict[str, Any]]:
        """Read the words of an answer: its text, a refusal's, or those of a sound; and what they are."""
        content = _content(message.get("content"))
        if content:
            return content, {}
        if message.get("refusal"):
            return str(message["refusal"]), {"refusal": True}
        if spoken := mapping(message.get("audio")).get("transcript"):
            return str(spoken), {}
        if function_calls(message):
            return "", {}
        if finish == "content_filter":
            raise ModelError(
                f"{self.name}: a content filter removed the answer", type="content_filter", status=200
            )
        if answer.body.get("error"):
            raise self.refusal(answer, "without content")
        if content is not None or finish == "length" or reasoning_of(message):
            # A reasoning model that thought until its tokens were used up, or said nothing else.
            return "", {}
        raise self.refusal(answer, "without content")

    def _usage(self, body: Any, headers: Mapping[str, str]) -> Spent:
        usage = mapping(body.get("usage"))
        usd = self._cost_usd(usage, headers)
        if self._by_responses:
            spent = usage_in(usage, usd)
        else:
            read = count_of(usage.get("prompt_tokens"))
            spent = Spent(read, _written(usage), usd, *_cached(usage), _reasoned(usage))
        if usd is None and (tier := self._other_tier(body)) is not None:
            return spent._replace(cost_usd=self._dollars(spent, tier))
        return spent

    def _other_tier(self, body: dict[str, Any]) -> str | None:
        """Find the tier that was billed, where it is not the one that was asked for: asked for flex and
        served by default, or the other way round."""
        tier = body.get("service_tier")
        asked = self.config.extra_params.get("service_tier") or "default"
        return tier if isinstance(tier, str) and tier != asked else None

    def _cost_usd(self, usage: dict[str, Any], headers: Mapping[str, str]) -> float | None:
        """Read what the call cost, where whoever answered says so: LiteLLM's proxy does, in a header."""
        return dollars_of(headers.get("x-litellm-response-cost"))

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        payload = {"model": self.asked_model, "input": texts, **self.config.extra_params}
        answer = await self.post(self._embeddings_url, payload)
        try:
            # The order is not promised; the index is.
            rows = sorted(answer.body["data"], key=lambda row: row["index"])
            vectors = [[float(x) for x in row["embedding"]] for row in rows]
        except (KeyError, TypeError, ValueError):
            raise self.refusal(answer, "without embeddings") from None
        if len(vectors) != len(texts):
            raise self.invalid(f"{len(vectors)} embeddings for {len(texts)} texts", answer.body)
        read = mapping(answer.body.get("usage"))
        note_call(self.config, count_of(read.get("prompt_tokens")), usd=self._cost_usd(read, answer.headers))
        return vectors


def _content(content: Any) -> str | None:
    """The text of a message: a string, the texts among its parts, or an object as JSON;
    None where there is none."""
    if isinstance(content, list):
        parts = (part if isinstance(part, str) else _part_text(part) for part in content)
        return "".join(parts)
    if isinstance(content, dict):
        return json_text(content)
    return content if isinstance(content, str) else None


def _part_text(part: Any) -> str:
    text = mapping(part).get("text") or mapping(part).get("refusal") or ""
    if isinstance(text, str):
        return text
    raise TypeError(f"a part's text is a {type(text).__name__}")


def _written(usage: dict[str, Any]) -> int | None:
    """Tokens written. Reasoning is a part of `completion_tokens` at OpenAI and stands beside them at xAI: the
    total tells."""
    written = count_of(usage.get("completion_tokens"))
    reasoned = _reasoned(usage)
    read, total = count_of(usage.get("prompt_tokens")), count_of(usage.get("total_tokens"))
    if written is None or not reasoned or read is None or total is None:
        return written
    return written + reasoned if total - read - written >= reasoned else written


def _reasoned(usage: dict[str, Any]) -> int | None:
    return count_of(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))


def _cached(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """Tokens from the cache and into it: in OpenAI's details, as OpenRouter and LiteLLM add to them,
    or as DeepSeek has them."""
    details = mapping(usage.get("prompt_tokens_details"))
    read = (details.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"))
    written = (
        *(details.get(name) for name in ("cache_write_tokens", "cache_creation_tokens")),
        usage.get("cache_creation_input_tokens"),
    )
    return _first(read), _first(written)


def _first(counts: Iterable[Any]) -> int | None:
    return next((count for count in map(count_of, counts) if count is not None), None)


class OpenAIModel(OpenAICompatibleModel):
    """OpenAI, and any server that speaks its protocol (`endpoint=…`)."""

    default_endpoint = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"
    endpoint_variables = ("OPENAI_BASE_URL", "OPENAI_API_BASE")

    def _max_tokens_name(self) -> str:
        return "max_completion_tokens" if _REASONING.match(self.config.model_id) else "max_tokens"


class AzureModel(OpenAICompatibleModel):
    """Azure OpenAI. The name is the deployment's: `azure/<deployment>`; the endpoint is the resource's."""

    key_variable = "AZURE_OPENAI_API_KEY"
    endpoint_variables = ("AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE")
    probe_path = None  # it lists the models of a region, and not the deployments
    default_api_version: ClassVar[str] = "2024-10-21"

    def _endpoint(self) -> str:
        if self.config.endpoint is None and not any(map(os.environ.get, self.endpoint_variables)):
            raise ConfigError(
                f"Model {self.name!r} needs its resource's endpoint, as in "
                "endpoint='https://<resource>.openai.azure.com'"
            )
        return super()._endpoint()

    @property
    def _key_is_required(self) -> bool:
        # There is no endpoint of Azure's own: the resource's is it, unless it is a stand-in.
        host = urllib.parse.urlsplit(self.endpoint).hostname or ""
        return host.endswith((".azure.com", ".azure.us", ".azure.cn"))

    def _path_url(self, path: str) -> str:
        base, _, query = self.endpoint.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        if base.endswith("/openai/v1"):
            return self.url(path)
        if base.endswith("/models"):
            # Azure AI Foundry's inference API: one address for all models of a resource.
            given["api-version"] = self.config.api_version or given.get("api-version") or FOUNDRY_VERSION
            return f"{base}{path}?{urllib.parse.urlencode(given)}"
        # Azure's portal shows a "target URI" that holds the deployment and the version.
        base = base.partition("/openai/deployments/")[0].removesuffix("/openai")
        deployment = urllib.parse.quote(self.asked_model, safe="")
        given["api-version"] = self.config.api_version or given.get("api-version") or self.default_api_version
        return f"{base}/openai/deployments/{deployment}{path}?{urllib.parse.urlencode(given)}"

    @property
    def asked_model(self) -> str:
        """The deployment: where the endpoint names one, that goes before the model's name."""
        return deployment_in(self.endpoint) or self.config.model_id

    @property
    def batch_path(self) -> str:  # type: ignore[override]
        """As the versions of the API have it: Azure's own leaves the version out."""
        return "/v1/chat/completions" if self._is_v1 else "/chat/completions"

    @property
    def _is_v1(self) -> bool:
        return self.endpoint.partition("?")[0].endswith("/openai/v1")

    def service_url(self, path: str) -> str:
        """The URL of what is not one deployment's: files, batches."""
        if self._is_v1:
            return self.url(path)
        base, _, given = self._path_url("").partition("?")
        resource = base.partition("/openai/deployments/")[0]
        path, mark, query = path.partition("?")
        return f"{resource}/openai{path}?{query}{'&' if mark else ''}{given}"

    def _auth_headers(self, key: str | None) -> dict[str, str]:
        return {"api-key": key} if key else {}

    def _max_tokens_name(self) -> str:
        return "max_completion_tokens" if _REASONING.match(self.config.model_id) else "max_tokens"


class OpenRouterModel(OpenAICompatibleModel):
    """OpenRouter: `openrouter/<maker>/<model>`. It says what a call cost."""

    default_endpoint = "https://openrouter.ai/api/v1"
    key_variable = "OPENROUTER_API_KEY"
    endpoint_variables = ("OPENROUTER_BASE_URL", "OPENROUTER_API_BASE")
    probe_path = "/key"  # its list of models wants no key
    takes = frozenset({"tools", "image", "audio", "video", "document", "uri"})
    by_address = frozenset({"image", "document", "video"})
    media_part = staticmethod(openrouter_media)
    reasoning_back = "reasoning"

    def _cost_usd(self, usage: dict[str, Any], headers: Mapping[str, str]) -> float | None:
        own = dollars_of(usage.get("cost"))
        return super()._cost_usd(usage, headers) if own is None else own


class DeepSeekModel(OpenAICompatibleModel):
    """DeepSeek."""

    default_endpoint = "https://api.deepseek.com/v1"
    key_variable = "DEEPSEEK_API_KEY"
    endpoint_variables = ("DEEPSEEK_BASE_URL", "DEEPSEEK_API_BASE")
    takes = frozenset({"tools"})
    reasoning_back = "reasoning_content"


class GroqModel(OpenAICompatibleModel):
    """Groq."""

    default_endpoint = "https://api.groq.com/openai/v1"
    key_variable = "GROQ_API_KEY"
    endpoint_variables = ("GROQ_BASE_URL", "GROQ_API_BASE")
    takes = frozenset({"tools", "image", "uri"})


class MistralModel(OpenAICompatibleModel):
    """Mistral."""

    default_endpoint = "https://api.mistral.ai/v1"
    key_variable = "MISTRAL_API_KEY"
    endpoint_variables = ("MISTRAL_BASE_URL", "MISTRAL_API_BASE")
    seed_name = "random_seed"
    by_address = frozenset({"image", "document", "audio"})
    media_part = staticmethod(mistral_media)


class VllmModel(OpenAICompatibleModel):
    """A vLLM server, on this machine by default; without a key unless it was started with one."""

    default_endpoint = "http://localhost:8000/v1"
    key_variable = "VLLM_API_KEY"
    endpoint_variables = ("VLLM_BASE_URL",)
    start_hint = "Start it with `vllm serve <model>`, or pass endpoint=…."
    takes = frozenset({"tools", "image", "audio", "video", "uri"})
    by_address = frozenset({"image", "audio", "video"})
    media_part = staticmethod(vllm_media)

    @property
    def _key_is_required(self) -> bool:
        return False
