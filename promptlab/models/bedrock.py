"""Amazon Bedrock: chat through Converse, embeddings through InvokeModel, over aiobotocore."""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib.util
import os
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar

import orjson

from promptlab import awake
from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.masking import Mask, hide_text, remember
from promptlab.domain.messages import Part, Reasoning, Text, ToolCall
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_usd, price_of
from promptlab.domain.results import MAX_SAID, ModelResponse
from promptlab.domain.secrets import origin_of
from promptlab.errors import ConfigError, MissingExtraError, ModelError
from promptlab.loops import PerLoop
from promptlab.models.answers import call_part, count_of, mapping
from promptlab.models.bedrock_client import (
    ENDPOINT_VARIABLES,
    address_of,
    close_client,
    open_client,
    session_of,
)
from promptlab.models.bodies import BodyTooLargeError, read_body, read_json
from promptlab.models.certificates import tls_remedy
from promptlab.models.endpoints import clean_endpoint, proxy_for
from promptlab.models.failures import NO_MODEL, OF_A_DAY, retry_after_s, trim
from promptlab.models.provider import NO_HEADERS, ProviderModel, Spent
from promptlab.models.proxies import proxy_shown
from promptlab.models.usage import note_call
from promptlab.models.wire.anthropic import REDACTED
from promptlab.models.wire.bedrock import converse_fields
from promptlab.models.wire.parts import NOTHING, Loaded, loaded
from promptlab.outbound import Outbound
from promptlab.ports import Clock

_INFERENCE = {"top_p": "topP", "topP": "topP", "stop": "stopSequences", "stopSequences": "stopSequences"}
_OF_CONVERSE = (
    "toolConfig",
    "guardrailConfig",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "performanceConfig",
)
_OF_SESSION = ("region", "region_name", "profile", "profile_name")
OF_BATCHES = ("batch_s3_uri", "batch_role_arn")
_AWS = re.compile(r"https://bedrock-runtime(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|api\.aws):443")
# Codes say more than the status: a model that is loading and a full account are both 429.
_CODES = {
    "ThrottlingException": ("rate_limit", True),
    "TooManyRequestsException": ("rate_limit", True),
    "ModelNotReadyException": ("server_error", True),
    "ModelErrorException": ("server_error", True),
    "ModelTimeoutException": ("timeout", True),
    "ServiceQuotaExceededException": ("quota", False),
    "ResourceNotFoundException": ("not_found", False),
    "ValidationException": ("bad_request", False),
    "AccessDeniedException": ("authentication", False),
}
_BY_STATUS = {
    401: ("authentication", False),
    403: ("authentication", False),
    404: ("not_found", False),
    408: ("timeout", True),
    429: ("rate_limit", True),
}


class BedrockModel(ProviderModel):
    """Models on Amazon Bedrock; credentials and region come the usual AWS ways.

    `region` and `profile` are taken from the parameters too, `top_p` and `stop` become inferenceConfig,
    Converse's own fields go as they are, and every other parameter becomes one of
    additionalModelRequestFields.
    """

    batch_texts: ClassVar[int] = 96
    takes = frozenset({"tools", "image", "video", "document"})

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        if self.config.api_key or self.config.api_key_env or self.config.api_key_secret:
            raise ConfigError(
                f"Model {self.name!r} takes AWS credentials, not api_key: set AWS_PROFILE, "
                "AWS_ACCESS_KEY_ID and …, or AWS_BEARER_TOKEN_BEDROCK"
            )
        if self.config.response_format is not None:
            raise ConfigError(
                f"Model {self.name!r}: Converse has no response_format; ask for JSON in the prompt, or "
                "pass toolConfig=…"
            )
        if importlib.util.find_spec("aiobotocore") is None:
            raise MissingExtraError("Amazon Bedrock", "aws")
        self._check_endpoint()
        self._params = self._converse_params()
        self._mask = Mask(os.environ.get("AWS_BEARER_TOKEN_BEDROCK"))
        remember(os.environ.get("AWS_BEARER_TOKEN_BEDROCK"))
        self._clients: PerLoop[Any] = PerLoop(functools.partial(open_client, self.config), close_client)

    def guard(self, outbound: Outbound) -> None:
        """Set which addresses calls may reach.

        Raises:
            ConfigError: a deployed lab would sign requests, with its own rights, for an endpoint that an
                experiment names.
        """
        super().guard(outbound)
        if outbound.hosted and (self.config.endpoint or self.config.extra_params.keys() & _OF_SESSION[2:]):
            raise ConfigError(
                f"Model {self.name!r}: Bedrock in the cloud is that of the stack's own account: leave "
                "endpoint and profile out (region may be given)."
            )

    def _check_endpoint(self) -> None:
        """Refuse to send Bedrock's bearer token, which the environment holds, where an experiment says.

        Raises:
            ConfigError: the endpoint is neither AWS's nor named in the environment.
        """
        url = self.config.endpoint
        if url is None:
            return
        clean = clean_endpoint(url, self.name)
        named = (os.environ.get(variable) for variable in ENDPOINT_VARIABLES)
        if (
            "AWS_BEARER_TOKEN_BEDROCK" in os.environ
            and not _AWS.fullmatch(origin_of(clean))
            and origin_of(clean) not in [origin_of(one) for one in named if one]
        ):
            raise ConfigError(
                f"Model {self.name!r}: AWS_BEARER_TOKEN_BEDROCK is sent to AWS only, and not to {clean}. If "
                f"it is meant to go there, say so on this machine: {ENDPOINT_VARIABLES[0]}={clean}"
            )

    def _converse_params(self) -> dict[str, Any]:
        extras = {k: v for k, v in self.config.extra_params.items() if k not in (*_OF_SESSION, *OF_BATCHES)}
        given: dict[str, Any] = {"maxTokens": self.config.max_tokens, "temperature": self.config.temperature}
        inference = {k: v for k, v in given.items() if v is not None}
        inference |= {
            _INFERENCE[k]: [v] if k == "stop" and isinstance(v, str) else v
            for k, v in extras.items()
            if k in _INFERENCE
        }
        more = {
            k: v
            for k, v in extras.items()
            if k not in (*_INFERENCE, *_OF_CONVERSE, "additionalModelRequestFields")
        }
        more |= extras.get("additionalModelRequestFields") or {}
        params: dict[str, Any] = {k: extras[k] for k in _OF_CONVERSE if k in extras}
        return (
            params
            | ({"inferenceConfig": inference} if inference else {})
            | ({"additionalModelRequestFields": more} if more else {})
        )

    def payload(self, messages: Prompt, data: Loaded = NOTHING) -> dict[str, Any]:
        """The parameters of a call of Converse."""
        if isinstance(messages, ChatRequest):
            fields = converse_fields(messages, self.name, data)
            return {"modelId": self.config.model_id, **self._params, **fields}
        system = [{"text": m["content"]} for m in messages if m["role"] in ("system", "developer")]
        turns = [
            {"role": m["role"], "content": [{"text": m["content"]}]}
            for m in messages
            if m["role"] not in ("system", "developer")
        ]
        request: dict[str, Any] = {
            "modelId": self.config.model_id,
            "messages": turns or [{"role": "user", "content": system}],
            **self._params,
        }
        if system and turns:
            request["system"] = system
        return request

    async def achat(self, messages: Prompt) -> ModelResponse:
        """Answer chat messages, or a request with parts and tools, in one attempt.

        Raises:
            ModelError: the call failed.
        """
        data = await loaded(messages) if isinstance(messages, ChatRequest) else NOTHING
        request = self.payload(messages, data)
        client = await self._clients.get()
        started = time.perf_counter()
        body = await self.call(client.converse(**request))
        latency_ms = (time.perf_counter() - started) * 1000
        said = {name: value for name, value in body.items() if name != "ResponseMetadata"}
        with self.reading(said, _headers(body)):
            return self.read_answer(body, latency_ms)

    def read_answer(self, body: dict[str, Any], latency_ms: float | None) -> ModelResponse:
        """Read the answer of a request.

        Raises:
            ModelError: it holds none.
        """
        parts = self._parts(body)
        spent, finish = self._usage(body, NO_HEADERS), body.get("stopReason")
        return self.answered(parts, spent, finish=finish, latency_ms=latency_ms)

    def _usage(self, body: Any, headers: Mapping[str, str]) -> Spent:
        usage = mapping(body.get("usage"))
        return Spent(
            _read(usage),
            count_of(usage.get("outputTokens")),
            _cost_usd(self.config, usage),
            count_of(usage.get("cacheReadInputTokens")),
            count_of(usage.get("cacheWriteInputTokens")),
        )

    def _parts(self, body: dict[str, Any]) -> list[Part]:
        """Read the blocks of an answer."""
        stop = body.get("stopReason")
        blocks = ((body.get("output") or {}).get("message") or {}).get("content")
        if not isinstance(blocks, list):
            raise self.invalid("without content")
        parts = list[Part]()
        for block in blocks:
            if block.get("text"):
                parts.append(Text(self._mask.hide_text(block["text"])))
            elif "reasoningContent" in block:
                parts.append(self._thought(mapping(block["reasoningContent"])))
            elif "toolUse" in block:
                use = block["toolUse"]
                parts.append(call_part(use.get("name"), use.get("input"), use.get("toolUseId")))
        filtered = stop in ("content_filtered", "guardrail_intervened")
        if filtered and not any(isinstance(part, Text | ToolCall) for part in parts):
            raise ModelError(
                f"{self.name}: a content filter removed the answer ({stop})",
                type="content_filter",
                status=200,
            )
        return parts

    def _thought(self, block: dict[str, Any]) -> Reasoning:
        if isinstance(redacted := block.get("redactedContent"), bytes | str):
            # A batch's records are JSON, and have it in base64 already.
            coded = redacted if isinstance(redacted, str) else base64.b64encode(redacted).decode()
            return Reasoning("", f"{REDACTED}{coded}")
        said = mapping(block.get("reasoningText"))
        return Reasoning(self._mask.hide_text(str(said.get("text") or "")), said.get("signature") or None)

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        client = await self._clients.get()
        if "titan-embed" in self.config.model_id:
            answers = [
                await self._invoke(client, {"inputText": text, **self._embed_params()}) for text in texts
            ]
            with self.reading(answers):
                return [answer["embedding"] for answer in answers]
        if "cohere.embed" in self.config.model_id:
            body = {
                "texts": texts,
                "input_type": "search_document",
                "truncate": "END",
                **self._embed_params(),
            }
            answer = await self._invoke(client, body)
            with self.reading(answer):
                found = answer["embeddings"]
                vectors: list[list[float]] = found["float"] if isinstance(found, dict) else found
                return vectors
        raise ModelError(
            f"{self.name} has no embeddings that we know: use bedrock/amazon.titan-embed-text-v2:0 or "
            "bedrock/cohere.embed-…",
            type="bad_request",
        )

    def _embed_params(self) -> dict[str, Any]:
        return {k: v for k, v in self.config.extra_params.items() if k not in _OF_SESSION}

    async def _invoke(self, client: Any, body: dict[str, Any]) -> dict[str, Any]:
        value = await self.call(self._read_invoke(client, body))
        if not isinstance(value, dict) or not ("embedding" in value or "embeddings" in value):
            raise self.invalid("without embeddings")
        note_call(self.config, count_of(value.get("inputTextTokenCount")))
        return value

    async def _read_invoke(self, client: Any, body: dict[str, Any]) -> Any:
        answer = await client.invoke_model(modelId=self.config.model_id, body=orjson.dumps(body))
        async with answer["body"]:  # what this gives differs between aiobotocore 2 and 3
            read = await read_body(answer["body"].iter_chunks(2**16))
        try:
            return read_json(read)
        except orjson.JSONDecodeError:
            return None

    async def call(self, call: Awaitable[Any], timeout_s: float | None = None) -> Any:
        """Wait for a call of AWS, `timeout_s` of the configuration by default.

        Raises:
            ModelError: it failed.
        """
        errors = importlib.import_module("botocore.exceptions")
        timeout_s = timeout_s or self.config.timeout_s
        try:
            async with awake.timeout(timeout_s):
                return await call
        except (TimeoutError, errors.ReadTimeoutError, errors.ConnectTimeoutError):
            raise ModelError(
                f"{self.name}: no whole answer within {timeout_s:g} s (timeout_s)",
                type="timeout",
                retryable=True,
            ) from None
        except BodyTooLargeError as error:
            raise ModelError(
                f"{self.name}: the answer is {error}", type="answer_too_large", status=200
            ) from error
        except errors.ClientError as error:
            raise self._refusal(error.response) from error
        except (
            errors.NoCredentialsError,
            errors.PartialCredentialsError,
            errors.CredentialRetrievalError,
            errors.TokenRetrievalError,
        ) as error:
            raise ModelError(f"{self.name}: {error}", type="authentication") from error
        except errors.ParamValidationError as error:
            raise ModelError(f"{self.name}: {trim(str(error))}", type="bad_request") from error
        except importlib.import_module("botocore.parsers").ResponseParserError as error:
            raise ModelError(
                f"{self.name}: the answer is not JSON: {trim(self._mask.hide_text(str(error)))[:200]}",
                type="invalid_response",
                retryable=True,
            ) from error
        except errors.SSLError as error:
            said, remedy = str(error), tls_remedy("AWS_CA_BUNDLE", "SSL_CERT_FILE")
            raise ModelError(
                f"{self.name}: no trusted TLS connection: {trim(self._mask.hide_text(said))} ({remedy})",
                type="connection",
                sent=False,
            ) from error
        except errors.ProxyConnectionError as error:
            raise ModelError(
                f"{self.name}: the proxy before Bedrock made no connection: {_proxy_said(error)} "
                "(https_proxy names it, no_proxy=.amazonaws.com goes without)",
                type="connection",
                retryable=True,
                sent=False,
            ) from error
        except (errors.HTTPClientError, errors.ConnectionError, OSError) as error:
            raise ModelError(
                f"{self.name}: the connection failed: {trim(self._mask.hide_text(str(error)))}",
                type="connection",
                retryable=True,
            ) from error

    def _refusal(self, response: dict[str, Any]) -> ModelError:
        code, said = (
            response["Error"].get("Code", ""),
            trim(self._mask.hide_text(response["Error"].get("Message", ""))),
        )
        about = response.get("ResponseMetadata", {})
        status = about.get("HTTPStatusCode", 0)
        kind, retryable = (
            _CODES.get(code)
            or _BY_STATUS.get(status)
            or (("server_error", True) if status >= 500 else ("bad_request", False))
        )
        if code == "ThrottlingException" and OF_A_DAY.search(said):
            kind, retryable = "quota", False
        elif code == "ValidationException" and NO_MODEL.search(said):
            kind = "not_found"
        wait_s = retry_after_s(about.get("HTTPHeaders", {})) if retryable else None
        error = ModelError(
            f"{self.name}: HTTP {status} {code}: {said}",
            type=kind,
            status=status,
            retryable=retryable,
            retry_after_s=wait_s,
        )
        error.said, error.request_id = said[:MAX_SAID], about.get("RequestId")
        return error

    def ways(self) -> list[str]:
        """Say where calls go, and through which proxy."""
        try:
            region = session_of(self.config).get_config_variable("region")
        except (ConfigError, importlib.import_module("botocore.exceptions").BotoCoreError):
            return []  # `check` says what is wrong
        address = address_of(self.config, region)
        proxy = proxy_for(address)
        through = f"through the proxy {proxy_shown(proxy)}" if proxy else "without a proxy"
        return [f"calls go to {address}, {through}"]

    async def check(self) -> None:
        """Find out, without a call to Bedrock, whether there are a region and credentials.

        Raises:
            ConfigError: there is no region, no such profile, or no credentials.
        """
        errors = importlib.import_module("botocore.exceptions")
        try:
            session = await asyncio.to_thread(session_of, self.config)
            if os.environ.get("AWS_BEARER_TOKEN_BEDROCK") or await session.get_credentials() is not None:
                return
        except errors.BotoCoreError as error:
            raise ConfigError(f"Model {self.name!r}: the AWS configuration does not work: {error}") from error
        raise ConfigError(
            f"Model {self.name!r} needs AWS credentials and found none: run `aws configure` or `aws sso "
            "login`, or set AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_BEARER_TOKEN_BEDROCK"
        )

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The model can be used again."""
        await self._clients.aclose()


def _read(usage: dict[str, Any]) -> int | None:
    """Tokens read; Converse counts those from and for the cache apart."""
    names = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    known = [count for count in (count_of(usage.get(name)) for name in names) if count is not None]
    return sum(known) if known else None


def _cost_usd(config: ModelConfig, usage: dict[str, Any]) -> float | None:
    """The cost where tokens were written to the cache for an hour; None leaves it to the price table."""
    kept = usage.get("cacheDetails")
    hours = (mapping(one) for one in (kept if isinstance(kept, list) else ()))
    an_hour = sum(count_of(one.get("inputTokens")) or 0 for one in hours if one.get("ttl") == "1h")
    if not an_hour:
        return None
    return cost_usd(
        price_of(config),
        _read(usage),
        count_of(usage.get("outputTokens")),
        cached=count_of(usage.get("cacheReadInputTokens")),
        cache_write=count_of(usage.get("cacheWriteInputTokens")),
        for_an_hour=an_hour,
    )


def _headers(body: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = mapping(mapping(mapping(body).get("ResponseMetadata")).get("HTTPHeaders"))
    return found


def _proxy_said(error: Exception) -> str:
    """Return what a proxy answered, or why it did not: botocore's own words have its address alone."""
    cause = getattr(error, "kwargs", {}).get("error") or error.__cause__ or error.__context__
    return trim(hide_text(f"{error}: {cause}" if cause else str(error)))
