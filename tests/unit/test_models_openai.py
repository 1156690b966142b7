"""The OpenAI-compatible providers: what is sent, and how each form of an answer is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from promptlab.domain.messages import ToolCall
from promptlab.errors import ConfigError, ModelError
from promptlab.models.base import Model
from promptlab.models.http import Answer
from promptlab.models.openai_compatible import OpenAIModel
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply, vector

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


async def sent(server: ModelServer, name: str, **params: Any) -> dict[str, Any]:
    model = get_model(name, endpoint=server.openai_url, api_key="k", **params)
    await model.achat(MESSAGES)
    await model.aclose()
    body: dict[str, Any] = server.requests[-1].json
    return body


async def test_parameters_are_sent_as_they_are(server: ModelServer):
    """Ours by their names, any other untouched, and nothing that was not asked for."""
    body = await sent(
        server,
        "openai/gpt-4o-mini",
        temperature=0,
        max_tokens=9,
        seed=7,
        top_p=0.5,
        response_format={"type": "json_object"},
        logit_bias={"5": 1},
    )
    assert body == {
        "model": "gpt-4o-mini",
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 9,
        "seed": 7,
        "top_p": 0.5,
        "response_format": {"type": "json_object"},
        "logit_bias": {"5": 1},
    }
    assert await sent(server, "openai/x") == {"model": "x", "messages": MESSAGES}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/gpt-4o", "max_tokens"),
        ("openai/gpt-4.1", "max_tokens"),
        ("openai/o3-mini", "max_completion_tokens"),
        ("openai/o1", "max_completion_tokens"),
        ("openai/gpt-5-mini", "max_completion_tokens"),
        ("openai/gpt-5.1", "max_completion_tokens"),
        ("openai/gpt-6-luna", "max_completion_tokens"),
        ("openai/gpt-10", "max_completion_tokens"),
        ("openai/ft:o4-mini-2025:org::id", "max_completion_tokens"),
        ("openai/ft:gpt-4.1-mini-2025-04-14:org::id", "max_tokens"),
        ("openai/o1lama", "max_tokens"),
        ("azure/o3-mini", "max_completion_tokens"),
        ("openrouter/openai/o3-mini", "max_tokens"),
        ("vllm/gpt-5-clone", "max_tokens"),
    ],
)
async def test_reasoning_models_get_the_name_they_take(server: ModelServer, name: str, expected: str):
    """OpenAI's reasoning models refuse max_tokens."""
    body = await sent(server, name, max_tokens=9)
    assert [key for key in body if key.startswith("max")] == [expected]


async def test_mistral_has_its_own_word_for_seed(server: ModelServer):
    """random_seed."""
    body = await sent(server, "mistral/mistral-small", seed=7)
    assert body["random_seed"] == 7 and "seed" not in body


async def test_answer_has_text_tokens_and_reason(server: ModelServer):
    """The answer comes back with its measurements."""
    model = get_model("openai/x", endpoint=server.openai_url)
    answer = await model.ainvoke("Be brief.", "hi")
    assert (answer.response, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (
        "ok",
        2,
        2,
        "stop",
    )
    assert answer.latency_ms is not None and answer.latency_ms > 0
    assert server.requests[0].json["messages"] == MESSAGES
    await model.aclose()


def reply(message: dict[str, Any], finish: str = "stop", **more: Any) -> Reply:
    return Reply(body={"choices": [{"message": message, "finish_reason": finish}], **more})


async def ask(server: ModelServer, what: Reply, name: str = "openai/x") -> Any:
    server.script(what)
    model: Model = get_model(name, endpoint=server.openai_url, api_key="k")
    try:
        return await model.achat(MESSAGES)
    finally:
        await model.aclose()


async def test_a_model_keeps_the_body_of_its_answers_where_it_is_told_to(server: ModelServer):
    """As it was sent; of a long one the beginning, and nothing of the calls before."""
    said = reply({"content": "yes", "logprobs": [-0.5], "odd": "\ud800"}, "stop")
    model: Model = get_model("openai/x", endpoint=server.openai_url, api_key="k", keep_raw=True)
    try:
        server.script(said, reply({"content": "y" * 100_000}), Reply(body={"choices": []}), said)
        first, long = await model.achat(MESSAGES), await model.achat(MESSAGES)
        with pytest.raises(ModelError):
            await model.achat(MESSAGES)
        again = await model.achat(MESSAGES)
    finally:
        await model.aclose()
    raw = first.metadata["raw"]
    assert raw["choices"][0]["message"]["logprobs"] == [-0.5]
    assert again.metadata == first.metadata
    json.dumps(raw, ensure_ascii=False).encode()  # it can be stored
    assert len(long.metadata["raw"]) == 65_537 and long.metadata["raw"].startswith('{"choices":')
    assert "raw" not in (await ask(server, said)).metadata


async def test_parts_of_an_answer_are_joined(server: ModelServer):
    """Content may be a list of parts; what is not text is left out."""
    parts = [
        {"type": "text", "text": "one "},
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "two"},
    ]
    assert (await ask(server, reply({"content": parts}))).response == "one two"


async def test_empty_text_is_an_answer(server: ModelServer):
    """It is what the model said."""
    assert (await ask(server, reply({"content": ""}))).response == ""


async def test_refusal_is_the_answer(server: ModelServer):
    """A refusal is text to score, marked as one."""
    answer = await ask(server, reply({"content": None, "refusal": "I can't help with that."}))
    assert (answer.response, answer.metadata["refusal"]) == ("I can't help with that.", True)


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


async def test_tool_calls_without_a_text_leave_the_text_empty(server: ModelServer):
    """They stand in the messages, and nowhere else."""
    answer = await ask(server, reply({"content": None, "tool_calls": [CALL]}, "tool_calls"))
    assert answer.response == ""
    assert answer.messages[0].tool_calls == (ToolCall("add", {"a": 1}, "1"),)
    assert "tool_calls" not in answer.metadata
    assert answer.finish_reason == "tool_calls"


async def test_tool_calls_beside_a_text_are_kept(server: ModelServer):
    """The text is what is scored, and no call is lost."""
    message = {"content": "Let me add.", "tool_calls": [CALL, {**CALL, "id": "2"}]}
    answer = await ask(server, reply(message, "tool_calls"))
    assert (answer.response, answer.finish_reason) == ("Let me add.", "tool_calls")
    assert [call.id for call in answer.messages[0].tool_calls] == ["1", "2"]


@pytest.mark.parametrize(
    ("message", "text", "calls"),
    [
        ({"content": ["1", "8"]}, "18", ()),
        ({"content": {"answer": 18}}, '{"answer":18}', ()),
        ({"content": None, "audio": {"id": "a", "transcript": "eighteen"}}, "eighteen", ()),
        (
            {"content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
            "",
            (ToolCall("f", {"a": 1}),),
        ),
    ],
)
async def test_other_forms_of_a_message_are_read(
    server: ModelServer, message: dict[str, Any], text: str, calls: tuple[ToolCall, ...]
):
    """A list of strings, an object, a sound's words, and OpenAI's first form of a call."""
    answer = await ask(server, reply(message))
    assert (answer.response, answer.messages[0].tool_calls) == (text, calls)


async def test_reasoning_without_an_answer_is_marked(server: ModelServer):
    """An empty answer says why it is one."""
    answer = await ask(server, reply({"content": "", "reasoning_content": "It is 18."}))
    assert (answer.response, answer.metadata) == ("", {"only_reasoning": True})


@pytest.mark.parametrize(
    ("usage", "read", "written"),
    [
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 341}, 32, 309),
        ({"prompt_tokens": 32, "completion_tokens": 309, "total_tokens": 341}, 32, 309),
        ({"prompt_tokens": 32, "completion_tokens": 309}, 32, 309),
        ({"prompt_tokens": 12.0, "completion_tokens": 3.0}, 12, 3),
        ({"prompt_tokens": -1, "completion_tokens": True}, None, None),
    ],
)
async def test_reasoning_tokens_count_once(
    server: ModelServer, usage: dict[str, Any], read: int | None, written: int | None
):
    """Within completion_tokens as OpenAI has them, or beside them as xAI does."""
    usage = {**usage, "completion_tokens_details": {"reasoning_tokens": 300}}
    answer = await ask(server, reply({"content": "x"}, usage=usage))
    assert (answer.prompt_tokens, answer.completion_tokens) == (read, written)


async def test_litellm_says_what_a_call_cost(server: ModelServer):
    """In a header; a word in it is no cost."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    for said, cost in (("0.00123", 0.00123), ("None", None), ("nan", None)):
        answer = await ask(server, Reply(body=body, headers={"x-litellm-response-cost": said}))
        assert answer.cost_usd == cost


async def test_filtered_answer_is_a_failure_unless_some_text_is_left(server: ModelServer):
    """content_filter without text is an error of its own; with text it is the finish_reason."""
    with pytest.raises(ModelError) as caught:
        await ask(server, reply({"content": None}, "content_filter"))
    assert (caught.value.type, caught.value.retryable) == ("content_filter", False)
    assert (await ask(server, reply({"content": "some"}, "content_filter"))).finish_reason == "content_filter"


async def test_answer_that_was_thought_away_is_empty(server: ModelServer):
    """A reasoning model that used up its tokens says nothing, and says why."""
    answer = await ask(server, reply({"content": None}, "length"))
    assert (answer.response, answer.finish_reason) == ("", "length")


async def test_missing_usage_is_unknown_and_not_zero(server: ModelServer):
    """Tokens are None where the provider does not say."""
    answer = await ask(server, reply({"content": "x"}, usage=None))
    assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)


async def test_model_that_answered_is_kept(server: ModelServer):
    """An alias is resolved by the provider; which version it was is worth knowing."""
    assert (await ask(server, reply({"content": "x"}, model="x-2026-01-01"))).metadata == {
        "model": "x-2026-01-01"
    }
    assert (await ask(server, reply({"content": "x"}, model="x"))).metadata == {}


NOTHING = {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 429, "message": "busy"}}, "rate_limit"),
        ({"error": {"code": "429", "message": "busy"}}, "rate_limit"),
        (
            {"error": {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "busy"}},
            "rate_limit",
        ),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, "server_error"),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, "authentication"),
        ({"code": 429, "message": "busy"}, "rate_limit"),
        ({**NOTHING, "error": {"code": 429, "message": "busy"}}, "rate_limit"),
        ({"choices": [{"message": {}, "error": {"code": 502, "message": "busy"}}]}, "server_error"),
        ({"error": {"code": True, "message": "no"}}, "invalid_response"),
    ],
)
async def test_error_inside_an_answer_200_is_what_its_code_says(
    server: ModelServer, body: dict[str, Any], kind: str
):
    """In each form that providers send: a number, a text or a name, in `error`, beside
    it, or beside a choice."""
    with pytest.raises(ModelError) as caught:
        await ask(server, Reply(body=body), "openrouter/a/b")
    assert caught.value.type == kind


async def test_rate_limit_in_answers_200_ends(server: ModelServer):
    """One that stays is a rate limit in the end, after as many tries as any other."""
    busy = Reply(body={"error": {"code": 429, "message": "busy"}}, headers={"Retry-After": "301"})
    server.script(*[busy] * 99)
    model = get_model("openai/x", endpoint=server.openai_url)
    with pytest.raises(ModelError, match="300 s at most") as caught:
        await model.ainvoke("", "hi")
    assert (caught.value.type, caught.value.attempts) == ("rate_limit", 1)
    await model.aclose()


async def test_openrouter_says_what_a_call_cost(server: ModelServer):
    """Its own number goes before any table; another provider's field is not believed."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0025}
    assert (await ask(server, reply({"content": "x"}, usage=usage), "openrouter/a/b")).cost_usd == 0.0025
    assert (await ask(server, reply({"content": "x"}, usage=usage))).cost_usd is None


# Azure


async def test_azure_has_deployments_versions_and_its_own_header(server: ModelServer):
    """The path, the query and the key header of Azure OpenAI."""
    for endpoint in (server.url, f"{server.url}/openai/"):
        model = get_model(
            "azure/my deployment", endpoint=endpoint, api_key="k", api_version="2025-01-01-preview"
        )
        await model.achat(MESSAGES)
        await model.aclose()
        request = server.requests[-1]
        assert (request.path, request.query) == (
            "/openai/deployments/my deployment/chat/completions",
            "api-version=2025-01-01-preview",
        )
        assert request.headers["api-key"] == "k" and "authorization" not in request.headers


async def test_azure_v1_endpoint_is_plain(server: ModelServer):
    """Azure's newer API has no version and no deployment in the path."""
    model = get_model("azure/dep", endpoint=f"{server.url}/openai/v1", api_key="k")
    await model.achat(MESSAGES)
    await model.aclose()
    assert (server.requests[0].path, server.requests[0].query, server.requests[0].json["model"]) == (
        "/openai/v1/chat/completions",
        "",
        "dep",
    )


def test_azure_needs_an_endpoint():
    """There is no default one."""
    with pytest.raises(ConfigError, match=r"openai\.azure\.com"):
        get_model("azure/dep")


# Embeddings


async def test_embeddings_keep_their_order(server: ModelServer):
    """By index, whatever order they come in; an empty text is sent as a space."""
    model = get_model(
        "openai/text-embedding-3-small", endpoint=server.openai_url, dimensions=8, temperature=0
    )
    assert await model.aembed(["one", "two", ""]) == [vector("one"), vector("two"), vector(" ")]
    assert server.requests[0].json == {
        "model": "text-embedding-3-small",
        "input": ["one", "two", " "],
        "dimensions": 8,
    }
    assert await model.aembed([]) == []
    await model.aclose()


async def test_embeddings_come_in_batches(server: ModelServer):
    """No request holds more than 128 texts or 300,000 characters."""
    model = get_model("openai/e", endpoint=server.openai_url)
    texts = [f"text {i}" for i in range(300)] + ["x" * 200_000, "y" * 200_000, "z" * 400_000]
    assert await model.aembed(texts) == [vector(text) for text in texts]
    assert [len(r.json["input"]) for r in server.requests] == [128, 128, 45, 1, 1]
    await model.aclose()


async def test_embeddings_are_retried(server: ModelServer):
    """As answers are."""
    server.script(Reply(status=429, headers={"Retry-After": "0"}))
    model = get_model("openai/e", endpoint=server.openai_url)
    assert await model.aembed(["one"]) == [vector("one")]
    assert len(server.requests) == 2
    await model.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": None},
    ],
)
async def test_wrong_embeddings_are_an_invalid_answer(server: ModelServer, body: dict[str, Any]):
    """Too few, none, or not numbers."""
    server.script(Reply(body=body), Reply(body=body))
    model = get_model("openai/e", endpoint=server.openai_url)
    with pytest.raises(ModelError) as caught:
        await model.aembed(["one"])
    assert caught.value.type == "invalid_response"
    await model.aclose()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"choices": [{"message": {"content": "a"}}], "usage": "12"}', "a"),
        (b'\xef\xbb\xbf{"choices": [{"message": {"content": "b"}}]}', "b"),
        (b'{"choices": [{"message": {"content": "c"}}], "usage": {"prompt_tokens": NaN}}', "c"),
        (b'{"choices": [{"message": {"content": "half \\ud83d of it"}}]}', "half \ud83d of it"),
        (b'{"choices": [{"message": {"content": null, "tool_calls": [null]}}]}', ""),
    ],
)
async def test_an_answer_is_had_whatever_stands_beside_it(body: bytes, text: str) -> None:
    """It was paid for: usage that is none, a byte order mark, NaN and half a character cost nothing of it."""
    with ModelServer(lambda request: Reply(body=body)) as server:
        model = get_model("openai/gpt-test", endpoint=server.openai_url)
        assert (await model.achat([{"role": "user", "content": "hi"}])).response == text
        await model.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": null, "tool_calls": 5}}]}',
        b'{"choices": [{"message": {"content": [{"refusal": 5}]}}]}',
        b'{"choices": [{"message": {"content": null}}], "said": "half \\ud83d of it"}',
    ],
)
async def test_an_answer_of_another_form_is_an_invalid_one(body: bytes) -> None:
    """Inside of a run and outside, and asked for once more."""
    with ModelServer(lambda request: Reply(body=body)) as server:
        model = get_model("openai/gpt-test", endpoint=server.openai_url)
        with pytest.raises(ModelError) as caught:
            await model.ainvoke("", "hi")
        assert (caught.value.type, caught.value.attempts, len(server.requests)) == ("invalid_response", 2, 2)
        await model.aclose()


async def test_a_key_that_an_answer_repeats_is_not_in_it() -> None:
    """Answers are stored; a stand-in for a key is left alone, as it may be a word."""
    key = "sk-0123456789abcdef"
    with ModelServer(lambda request: f"you sent {request.headers['authorization']}, none else") as server:
        for given, said in (
            (key, "you sent Bearer ***, none else"),
            ("none", "you sent Bearer none, none else"),
        ):
            model = get_model("openai/gpt-test", endpoint=server.openai_url, api_key=given)
            assert (await model.achat([{"role": "user", "content": "hi"}])).response == said
            await model.aclose()


@pytest.mark.parametrize(
    ("asked", "billed", "usd"),
    [
        ("flex", "flex", None),  # the price table's, which the engine looks up
        ("flex", "default", 11.25),
        (None, "flex", 5.625),
        (None, "default", None),
        ("default", None, None),
    ],
)
def test_an_answer_costs_what_its_service_tier_was_billed_at(
    asked: str | None, billed: str | None, usd: float | None
):
    """Also where another tier was asked for; the metadata tells of that one."""
    tier = {} if asked is None else {"service_tier": asked}
    model = OpenAIModel({"name": "openai/gpt-5", "api_key": "k", **tier})
    body = {
        "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000},
        "service_tier": billed,
    }
    answer = model.read_answer(Answer(body, 1.0, httpx.Headers()))
    assert answer.cost_usd == usd
    assert answer.metadata == ({"service_tier": billed} if usd else {})
