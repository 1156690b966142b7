"""What each provider says beside a text: thoughts, calls of tools, and usage in full."""

from __future__ import annotations

from typing import Any

import pytest

from promptlab.domain.messages import Reasoning, Text, ToolCall
from promptlab.domain.results import ModelResponse
from promptlab.models.answers import without_tags
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply

ASKED = [{"role": "user", "content": "weather in Rome and Oslo?"}]
ROME, OSLO = ToolCall("weather", {"city": "Rome"}, "c1"), ToolCall("weather", {"city": "Oslo"}, "c2")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


async def answered(name: str, body: dict[str, Any], **params: Any) -> ModelResponse:
    with ModelServer(lambda request: Reply(body=body)) as server:
        endpoint = server.openai_url if name.startswith("openai/") else server.url
        keyless = name.startswith("bedrock/")
        model = get_model(name, endpoint=endpoint, **({} if keyless else {"api_key": "k"}), **params)
        try:
            return await model.achat(ASKED)
        finally:
            await model.aclose()


def openai(message: dict[str, Any], finish: str = "tool_calls", **usage: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


CALLS = [
    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
    {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
]
OPENAI = openai(
    {"content": None, "reasoning_content": "Two cities.", "tool_calls": CALLS},
    prompt_tokens=100,
    completion_tokens=20,
    prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 10},
    completion_tokens_details={"reasoning_tokens": 5},
)
ANTHROPIC = {
    "content": [
        {"type": "thinking", "thinking": "Two cities.", "signature": "sig"},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "c2", "name": "weather", "input": {"city": "Oslo"}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 30,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 10,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    },
}
BEDROCK = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Two cities.", "signature": "sig"}}},
                {"toolUse": {"toolUseId": "c1", "name": "weather", "input": {"city": "Rome"}}},
                {"toolUse": {"toolUseId": "c2", "name": "weather", "input": {"city": "Oslo"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {
        "inputTokens": 30,
        "cacheReadInputTokens": 60,
        "cacheWriteInputTokens": 10,
        "outputTokens": 20,
        "totalTokens": 120,
    },
}
OLLAMA = {
    "message": {
        "role": "assistant",
        "content": "",
        "thinking": "Two cities.",
        "tool_calls": [
            {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
            {"id": "c2", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
        ],
    },
    "done_reason": "stop",
    "prompt_eval_count": 100,
    "eval_count": 20,
}


@pytest.mark.parametrize(
    ("name", "body", "signature", "finish", "details"),
    [
        ("openai/x", OPENAI, None, "tool_calls", (60, 10, 5)),
        ("anthropic/claude-x", ANTHROPIC, "sig", "tool_use", (60, 10, 5)),
        ("bedrock/us.anthropic.claude-x", BEDROCK, "sig", "tool_use", (60, 10, None)),
        ("ollama/x", OLLAMA, None, "stop", (None, None, None)),
    ],
)
async def test_thoughts_and_parallel_calls_are_the_message(
    name: str, body: dict[str, Any], signature: str | None, finish: str, details: tuple[int | None, ...]
) -> None:
    """In the order in which they came; the text stays empty, and what is not told is unknown."""
    answer = await answered(name, body)
    (message,) = answer.messages
    assert message.parts == (Reasoning("Two cities.", signature), ROME, OSLO)
    assert (answer.response, message.role, message.finish_reason) == ("", "assistant", finish)
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)
    assert (answer.cached_tokens, answer.cache_write_tokens, answer.reasoning_tokens) == details


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Sunny.", "reasoning": "Hm."},
        {"content": "Sunny.", "reasoning_content": "Hm."},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                {"type": "text", "text": "Sunny."},
            ]
        },
    ],
)
async def test_thoughts_are_no_part_of_the_answer(message: dict[str, Any]) -> None:
    """Whichever name a server of OpenAI's protocol has for them."""
    answer = await answered("openai/x", openai(message, "stop"))
    assert answer.response == "Sunny."
    assert answer.messages[0].parts == (Reasoning("Hm."), Text("Sunny."))


async def test_a_plain_answer_is_one_text_with_its_reason() -> None:
    """Nothing more is kept of one than its text."""
    answer = await answered("openai/x", openai({"content": "Sunny."}, "length"))
    (message,) = answer.messages
    assert (message.is_plain, message.text, message.finish_reason) == (True, "Sunny.", "length")
    assert (answer.cached_tokens, answer.reasoning_tokens, answer.metadata) == (None, None, {})


async def test_thoughts_that_only_the_provider_reads_are_kept_for_it() -> None:
    """Anthropic wants redacted thinking back as it came."""
    blocks = [{"type": "redacted_thinking", "data": "AAA"}, {"type": "text", "text": "Sunny."}]
    answer = await answered("anthropic/claude-x", {"content": blocks})
    assert answer.messages[0].parts == (Reasoning("", "redacted:AAA"), Text("Sunny."))
    assert answer.messages[0].reasoning == ""


async def test_deepseek_counts_what_its_cache_gave() -> None:
    """Under a name of its own."""
    body = openai({"content": "x"}, prompt_tokens=9, prompt_cache_hit_tokens=4, completion_tokens=1)
    assert (await answered("openai/x", body)).cached_tokens == 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>\n\nb", [Reasoning("a"), Text("b")]),
        ("a</think>b", [Reasoning("a"), Text("b")]),
        ("<think>a", [Reasoning("a")]),
        ("<think></think>b", [Text("b")]),
        ("x <think>a</think> y <think>b</think> z", None),
        ("plain <b>", [Text("plain <b>")]),
        ("", []),
    ],
)
def test_thoughts_in_tags_are_parted_from_the_answer(text: str, parts: list[Any] | None) -> None:
    """Also where a template opened the tag, or the tokens ended before it closed."""
    if parts is None:
        parts = [Text("x "), Reasoning("a"), Text(" y "), Reasoning("b"), Text("z")]
    assert without_tags(text, "think") == parts


@pytest.mark.parametrize(
    ("given", "response"), [(True, "b"), ("thought", "<think>a</think>b"), (False, None)]
)
async def test_tags_are_read_where_the_model_says_so(given: bool | str, response: str | None) -> None:
    """By default an answer stays as it came."""
    body = openai({"content": "<think>a</think>b"}, "stop")
    answer = await answered("openai/x", body, reasoning_tags=given)
    assert answer.response == (response or "<think>a</think>b")


async def test_a_simulated_model_thinks_and_calls_tools() -> None:
    """As its parameters say: for trying out what reads such answers."""
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Rome", "Oslo")]
    model = get_model("simulated/demo", tool_calls=calls, reasoning="Two cities.")
    answer = await model.achat(ASKED)
    weather = [ToolCall("weather", {"city": city}, f"call_{n}") for n, city in enumerate(("Rome", "Oslo"), 1)]
    assert answer.messages[0].parts == (Reasoning("Two cities."), *weather)
    assert (answer.response, answer.finish_reason, answer.reasoning_tokens) == ("", "tool_calls", 3)


async def test_a_key_is_in_no_message() -> None:
    """Whichever part repeats it."""
    key = "sk-0123456789abcdefgh"
    body = openai({"content": "ok", "reasoning": f"my key is {key}"}, "stop")
    with ModelServer(lambda request: Reply(body=body)) as server:
        model = get_model("openai/x", endpoint=server.openai_url, api_key=key)
        answer = await model.ainvoke("", "hi")
        await model.aclose()
    assert answer.messages[0].reasoning == "my key is ***"
