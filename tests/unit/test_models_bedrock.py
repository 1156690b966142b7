"""Amazon Bedrock through aiobotocore, against a server of our own."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.messages import ToolCall
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_of, price_of
from promptlab.domain.results import ModelResponse
from promptlab.errors import ConfigError, MissingExtraError, ModelError
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply, vector

NAME = "bedrock/us.amazon.nova-lite-v1:0"


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "5ecret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    settings |= {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


async def ask(server: ModelServer, **params: Any) -> ModelResponse:
    model = get_model(NAME, endpoint=server.url, **params)
    try:
        return await model.achat(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
        )
    finally:
        await model.aclose()


async def test_converse_gets_what_it_takes(server: ModelServer):
    """System apart, inferenceConfig by its names, Converse's own fields, and the rest for the model."""
    params = {
        "temperature": 0,
        "max_tokens": 5,
        "top_p": 0.5,
        "stop": "END",
        "top_k": 3,
        "requestMetadata": {"a": "b"},
        "region": "eu-west-1",
    }
    answer = await ask(server, **params)
    assert (answer.response, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (
        "ok",
        2,
        2,
        "end_turn",
    )
    request = server.requests[0]
    assert request.path == "/model/us.amazon.nova-lite-v1:0/converse"
    assert "/eu-west-1/bedrock/" in request.headers["authorization"]
    assert request.json == {
        "system": [{"text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"temperature": 0, "maxTokens": 5, "topP": 0.5, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 3},
        "requestMetadata": {"a": "b"},
    }


async def test_tool_use_beside_a_text_is_kept(server: ModelServer):
    """The text is what is scored, and no call is lost."""
    content = [{"text": "Adding."}, {"toolUse": {"toolUseId": "1", "name": "add", "input": {"a": 1}}}]
    server.script(Reply(body={"output": {"message": {"content": content}}, "stopReason": "tool_use"}))
    answer = await ask(server)
    assert (answer.response, answer.finish_reason) == ("Adding.", "tool_use")
    assert answer.messages[0].tool_calls == (ToolCall("add", {"a": 1}, "1"),)


async def test_tokens_from_and_for_the_cache_are_tokens_read(server: ModelServer):
    """Converse counts them apart; those written to the cache cost 1.25 times as much."""
    usage = {
        "inputTokens": 1000,
        "cacheReadInputTokens": 2000,
        "cacheWriteInputTokens": 4000,
        "outputTokens": 0,
    }
    server.script(Reply(body={"output": {"message": {"content": [{"text": "x"}]}}, "usage": usage}))
    answer = await ask(server, input_usd_per_mtok=1, output_usd_per_mtok=1)
    price = price_of(ModelConfig(name="bedrock/x", input_usd_per_mtok=1, output_usd_per_mtok=1))
    assert (answer.prompt_tokens, cost_of(price, answer)) == (7000, pytest.approx(0.008))


async def test_tool_use_without_a_text_leaves_the_text_empty(server: ModelServer):
    """The calls stand in the messages."""
    block = {"toolUse": {"toolUseId": "1", "name": "add", "input": {"a": 1}}}
    server.script(
        Reply(
            body={"output": {"message": {"role": "assistant", "content": [block]}}, "stopReason": "tool_use"}
        )
    )
    answer = await ask(server)
    assert (answer.response, answer.messages[0].tool_calls) == ("", (ToolCall("add", {"a": 1}, "1"),))


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (429, "ThrottlingException", "rate_limit", True),
        (429, "ModelNotReadyException", "server_error", True),
        (424, "ModelErrorException", "server_error", True),
        (408, "ModelTimeoutException", "timeout", True),
        (500, "InternalServerException", "server_error", True),
        (503, "ServiceUnavailableException", "server_error", True),
        (400, "ValidationException", "bad_request", False),
        (400, "ServiceQuotaExceededException", "quota", False),
        (403, "AccessDeniedException", "authentication", False),
        (403, "ExpiredTokenException", "authentication", False),
        (404, "ResourceNotFoundException", "not_found", False),
    ],
)
async def test_aws_codes_are_typed(server: ModelServer, status: int, code: str, kind: str, retryable: bool):
    """AWS's name of the error is in the message, once: its own retries are off."""
    server.script(
        Reply(
            status=status,
            body={"message": "the service's words"},
            headers={"x-amzn-errortype": code, "Retry-After": "3"},
        )
    )
    with pytest.raises(ModelError, match=f"{code}.*the service's words") as caught:
        await ask(server)
    assert (caught.value.type, caught.value.retryable, caught.value.status) == (kind, retryable, status)
    assert caught.value.retry_after_s == (3.0 if retryable else None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(drop=True), "connection"),
        (Reply(hang=True), "timeout"),
        (Reply(body=b"<html>"), "invalid_response"),
        (Reply(body={}), "invalid_response"),
        (
            Reply(
                body={
                    "output": {"message": {"role": "assistant", "content": []}},
                    "stopReason": "guardrail_intervened",
                }
            ),
            "content_filter",
        ),
    ],
)
async def test_broken_answers_are_typed(server: ModelServer, reply: Reply, kind: str):
    """As with the other providers."""
    server.script(reply)
    with pytest.raises(ModelError) as caught:
        await ask(server, timeout_s=1 if kind == "timeout" else 200)
    assert caught.value.type == kind


async def test_refused_connection_is_retryable():
    """Nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        model = get_model(NAME, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ModelError) as caught:
            await model.achat([{"role": "user", "content": "hi"}])
    assert (caught.value.type, caught.value.retryable) == ("connection", True)
    await model.aclose()


@pytest.mark.parametrize("name", ["amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"])
async def test_embeddings_go_through_invoke_model(server: ModelServer, name: str):
    """Titan takes one text a call, Cohere a batch; the order stays."""
    model = get_model(f"bedrock/{name}", endpoint=server.url)
    assert await model.aembed(["one", "two"]) == [vector("one"), vector("two")]
    assert len(server.requests) == (2 if "titan" in name else 1)
    await model.aclose()


async def test_other_embedding_models_are_refused_with_a_remedy(server: ModelServer):
    """Each family has a body of its own."""
    model = get_model(NAME, endpoint=server.url)
    with pytest.raises(ModelError, match="titan-embed"):
        await model.aembed(["one"])
    await model.aclose()


async def test_check_finds_a_missing_region_and_missing_credentials(monkeypatch: pytest.MonkeyPatch):
    """Before the first call, with the remedy."""
    await get_model(NAME).check()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        await get_model(NAME).check()
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token")
    await get_model(NAME).check()
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ConfigError, match="AWS_REGION"):
        await get_model(NAME).check()
    with pytest.raises(ConfigError, match="nobody"):
        await get_model(NAME, profile="nobody").check()


def test_what_bedrock_does_not_take_is_said_at_once(monkeypatch: pytest.MonkeyPatch):
    """Keys of other providers, response_format, and a missing package."""
    with pytest.raises(ConfigError, match="AWS credentials"):
        get_model(NAME, api_key="sk-5ecret")
    with pytest.raises(ConfigError, match="response_format"):
        get_model(NAME, response_format={"type": "json_object"})
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    with pytest.raises(MissingExtraError, match=r"promptlab-serverless\[aws\]"):
        get_model(NAME)


async def test_forgotten_model_closes_its_client(server: ModelServer, caplog: pytest.LogCaptureFixture):
    """A model that goes away without aclose leaves no warning behind; many calls at once share one client."""
    model = get_model(NAME, endpoint=server.url)
    await model.ainvoke("", "one")
    await model.ainvoke("", "two")
    assert server.connections == 1
    del model
    gc.collect()
    await get_model("simulated/x").ainvoke("", "hi")
    assert caplog.text == ""
