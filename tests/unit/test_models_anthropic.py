"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from promptlab.domain.messages import ToolCall
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_of, price_of
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


async def ask(server: ModelServer, *messages: tuple[str, str], **params: Any) -> ModelResponse:
    model = get_model("anthropic/claude-test", api_key="k", **{"endpoint": server.url, **params})
    try:
        return await model.achat(
            [{"role": role, "content": text} for role, text in messages or (("user", "hi"),)]
        )
    finally:
        await model.aclose()


async def test_system_text_stands_apart(server: ModelServer):
    """System and developer messages go into `system`; the rest stay in order."""
    answer = await ask(
        server,
        ("system", "Be brief."),
        ("developer", "Use English."),
        ("user", "hi"),
        ("assistant", "yes?"),
        ("user", "bye"),
    )
    assert (answer.response, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (
        "ok",
        3,
        2,
        "end_turn",
    )
    request = server.requests[0]
    assert request.json["system"] == "Be brief.\n\nUse English."
    assert [m["role"] for m in request.json["messages"]] == ["user", "assistant", "user"]
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == ("k", "2023-06-01")


async def test_max_tokens_has_a_default(server: ModelServer):
    """The API wants one."""
    await ask(server)
    await ask(server, max_tokens=5, temperature=0.5, top_k=3, seed=1)
    assert server.requests[0].json["max_tokens"] == 4096
    assert server.requests[1].json == {
        "model": "claude-test",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_k": 3,
        "messages": [{"role": "user", "content": "hi"}],
    }


async def test_system_text_alone_is_asked_as_the_user(server: ModelServer):
    """The API refuses an empty conversation."""
    await ask(server, ("system", "Say hi."))
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "Say hi."}]
    assert "system" not in server.requests[0].json


async def test_endpoint_may_end_in_v1(server: ModelServer):
    """Both ways of writing the base URL work."""
    await ask(server, endpoint=f"{server.url}/v1/")
    assert server.requests[0].path == "/v1/messages"


async def test_json_schema_is_put_in_anthropics_form(server: ModelServer):
    """OpenAI's form of a schema, and Anthropic's own."""
    schema = {"type": "object"}
    await ask(server, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    await ask(
        server, response_format={"type": "json_schema", "schema": schema}, output_config={"effort": "low"}
    )
    assert server.requests[0].json["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert server.requests[1].json["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }


async def test_only_text_blocks_are_the_answer(server: ModelServer):
    """Thinking is left out; cached tokens count as read."""
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    usage = {
        "input_tokens": 1,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": None,
        "output_tokens": 2,
    }
    server.script(
        Reply(
            body={
                "content": content,
                "stop_reason": "max_tokens",
                "usage": usage,
                "model": "claude-test-20260101",
            }
        )
    )
    answer = await ask(server)
    assert (answer.response, answer.prompt_tokens, answer.finish_reason, answer.metadata) == (
        "ab",
        11,
        "max_tokens",
        {"model": "claude-test-20260101"},
    )


async def test_tool_use_beside_a_text_is_kept(server: ModelServer):
    """The text is what is scored, and no call is lost."""
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    server.script(
        Reply(body={"content": [{"type": "text", "text": "Adding."}, use], "stop_reason": "tool_use"})
    )
    answer = await ask(server)
    assert (answer.response, answer.finish_reason) == ("Adding.", "tool_use")
    assert answer.messages[0].tool_calls == (ToolCall("add", {"a": 1}, "t1"),)


async def test_tokens_written_to_the_cache_cost_more(server: ModelServer):
    """1.25 times for five minutes, twice for an hour; all of them are tokens read."""
    usage = {"input_tokens": 1000, "cache_creation_input_tokens": 1_000_000, "output_tokens": 0}
    hour = {**usage, "cache_creation": {"ephemeral_1h_input_tokens": 1_000_000}}
    for given, cost in ((usage, 3.753), (hour, 6.003)):
        server.script(Reply(body={"content": [{"type": "text", "text": "x"}], "usage": given}))
        answer = await ask(server, input_usd_per_mtok=3, output_usd_per_mtok=15)
        price = price_of(ModelConfig(name="anthropic/x", input_usd_per_mtok=3, output_usd_per_mtok=15))
        assert answer.prompt_tokens == 1_001_000
        assert cost_of(price, answer) == pytest.approx(cost)


async def test_tool_use_without_a_text_leaves_the_text_empty(server: ModelServer):
    """The calls stand in the messages."""
    server.script(
        Reply(
            body={
                "content": [{"type": "tool_use", "name": "add", "input": {"a": 1}}],
                "stop_reason": "tool_use",
            }
        )
    )
    answer = await ask(server)
    assert (answer.response, answer.messages[0].tool_calls) == ("", (ToolCall("add", {"a": 1}),))


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (
            Reply(
                status=529,
                body={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            ),
            "server_error",
            True,
        ),
        (
            Reply(
                status=429,
                body={"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
            ),
            "rate_limit",
            True,
        ),
        (
            Reply(
                status=400,
                body={
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "credit balance is too low"},
                },
            ),
            "quota",
            False,
        ),
        (Reply(body={"content": [], "stop_reason": "refusal"}), "content_filter", False),
        (Reply(body={"type": "message"}), "invalid_response", True),
    ],
)
async def test_failures_are_typed(server: ModelServer, reply: Reply, kind: str, retryable: bool):
    """Anthropic's own statuses and shapes."""
    server.script(reply)
    with pytest.raises(ModelError) as caught:
        await ask(server)
    assert (caught.value.type, caught.value.retryable) == (kind, retryable)


async def test_embeddings_are_refused_with_a_remedy(server: ModelServer):
    """There are none."""
    with pytest.raises(ModelError, match="text-embedding-3-small"):
        await get_model("anthropic/x", endpoint=server.url).aembed(["one"])
