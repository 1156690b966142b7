"""Ollama's own API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from promptlab.domain.messages import ToolCall
from promptlab.domain.results import ModelResponse
from promptlab.errors import ConfigError, ModelError
from promptlab.models.ollama import OllamaModel
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply, vector


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


async def ask(server: ModelServer, **params: Any) -> ModelResponse:
    model = get_model("ollama/llama3.2:1b", **{"endpoint": server.url, **params})
    try:
        return await model.ainvoke("Be brief.", "hi")
    finally:
        await model.aclose()


async def test_parameters_become_options(server: ModelServer):
    """The model's options apart from the request's own fields; the answer in one piece."""
    answer = await ask(
        server,
        temperature=0,
        max_tokens=5,
        seed=1,
        num_ctx=8192,
        keep_alive="1h",
        think=False,
        options={"top_k": 3},
    )
    assert (answer.response, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (
        "ok",
        2,
        2,
        "stop",
    )
    assert server.requests[0].json == {
        "model": "llama3.2:1b",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": False,
        "keep_alive": "1h",
        "think": False,
        "options": {"temperature": 0, "num_predict": 5, "seed": 1, "num_ctx": 8192, "top_k": 3},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}, {"type": "array"}),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}}),
    ],
)
async def test_response_format_becomes_format(server: ModelServer, given: dict[str, Any], expected: Any):
    """OpenAI's two forms, and a bare schema."""
    await ask(server, response_format=given)
    assert server.requests[0].json["format"] == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, "http://localhost:11434"),
        ("192.0.2.1", "http://192.0.2.1:11434"),
        ("box:1234", "http://box:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("[::]:9000", "http://[::1]:9000"),
    ],
)
def test_ollama_host_says_where_it_is(monkeypatch: pytest.MonkeyPatch, host: str | None, expected: str):
    """By the rules of Ollama's own client."""
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    model = get_model("ollama/x")
    assert isinstance(model, OllamaModel) and model.endpoint == expected


async def test_endpoint_goes_before_the_variable(server: ModelServer, monkeypatch: pytest.MonkeyPatch):
    """And may end in /v1 or /api."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    for endpoint in (server.url, f"{server.url}/v1", f"{server.url}/api/"):
        assert (await ask(server, endpoint=endpoint)).response == "ok"


async def test_model_that_is_not_there_says_how_to_get_it(server: ModelServer):
    """Ollama's 404 comes with the command."""
    server.script(Reply(status=404, body={"error": "model 'llama3.2:1b' not found"}))
    with pytest.raises(ModelError, match=r"model 'llama3.2:1b' not found.*ollama pull llama3.2:1b") as caught:
        await ask(server)
    assert caught.value.type == "not_found"


async def test_tool_calls_without_a_text_leave_the_text_empty(server: ModelServer):
    """They stand in the messages."""
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
    }
    server.script(Reply(body={"message": message, "done": True}))
    answer = await ask(server)
    assert (answer.response, answer.messages[0].tool_calls) == ("", (ToolCall("add", {"a": 1}),))


async def test_tool_calls_beside_a_text_are_kept(server: ModelServer):
    """The text is what is scored, and no call is lost."""
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}]
    server.script(Reply(body={"message": {"role": "assistant", "content": "Adding.", "tool_calls": calls}}))
    answer = await ask(server)
    assert answer.response == "Adding."
    assert answer.messages[0].tool_calls == (ToolCall("add", {"a": 1}),)
    assert "tool_calls" not in answer.metadata


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ('"127.0.0.1:11434"', "http://127.0.0.1:11434"),
        ("'https://ollama.example'", "https://ollama.example:443"),
    ],
)
def test_quotes_around_the_host_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch, host: str, url: str):
    """As they come from a .env file."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert get_model("ollama/x").endpoint == url  # type: ignore[attr-defined]


def test_host_whose_port_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch):
    """By name."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:port")
    with pytest.raises(ConfigError, match=r"OLLAMA_HOST=.*:port"):
        get_model("ollama/x")


async def test_answer_without_a_message_is_invalid(server: ModelServer):
    """An OpenAI-shaped answer, for one."""
    server.script(Reply(body={"choices": []}), Reply(body={"choices": []}))
    with pytest.raises(ModelError) as caught:
        await ask(server)
    assert caught.value.type == "invalid_response"


async def test_embeddings_keep_their_order(server: ModelServer):
    """/api/embed."""
    model = get_model("ollama/nomic-embed-text", endpoint=server.url)
    assert await model.aembed(["one", "two"]) == [vector("one"), vector("two")]
    server.script(Reply(body={"embeddings": [[1.0]]}), Reply(body={"embeddings": [[1.0]]}), prompt="three")
    with pytest.raises(ModelError, match="2 embeddings"):
        await model.aembed(["three", "four"])
    await model.aclose()
