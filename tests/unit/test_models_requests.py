"""What each provider is sent: tools, their calls and responses, media, and thoughts that go back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.chat import ChatRequest, Tool
from promptlab.domain.messages import (
    Media,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    read_messages,
    text_message,
)
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.base import refusal
from promptlab.models.media import READER, MediaReader, media_key
from promptlab.models.registry import get_model
from promptlab.models.wire.events import gathered
from tests.servers import ModelServer, Reply, Request

PNG, PDF, WAV = b"\x89PNG.", b"%PDF-", b"RIFF."
DATA = {"p": PNG, "d": PDF, "w": WAV}
PHOTO = Media(modality="image", mime_type="image/png", sha256="p", size=5)
FAR = Media(modality="image", uri="https://example.com/a.jpg")
PAPER = Media(modality="document", mime_type="application/pdf", sha256="d", size=5)
SOUND = Media(modality="audio", mime_type="audio/mpeg", sha256="w", size=5)
FILM = Media(modality="video", mime_type="video/mp4", sha256="w", size=5)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "The weather of a city.", SCHEMA)
CODED = {name: base64.b64encode(data).decode() for name, data in DATA.items()}


def talk(signature: str | None = None, *media: Media, choice: str | None = "auto") -> ChatRequest:
    """Two calls at once, of which one fails, and a further question."""
    return ChatRequest(
        (
            text_message("system", "Be brief."),
            Message("user", (Text("Weather in both?"), *media)),
            Message(
                "assistant",
                (
                    Reasoning("Two cities.", signature),
                    Text("Let me look."),
                    ToolCall("weather", {"city": "Rome"}, "c1"),
                    ToolCall("weather", {"city": "Oslo"}, "c2"),
                ),
            ),
            Message("tool", (ToolCallResponse({"celsius": 20}, "c1"),)),
            Message("tool", (ToolCallResponse("no such city", "c2", is_error=True),)),
            text_message("user", "And now?"),
        ),
        (WEATHER,),
        choice,
    )


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


def payload(name: str, request: ChatRequest, **params: Any) -> dict[str, Any]:
    model: Any = get_model(name, api_key="k", **params)
    body: dict[str, Any] = model.payload(request, DATA)
    return body


def test_openai_is_sent_calls_responses_and_media() -> None:
    """Each response of a tool is a message of its own; pictures, sounds and documents are parts."""
    body = payload("openai/gpt-x", talk(None, PHOTO, FAR, SOUND, PAPER), temperature=0)
    assert body["temperature"] == 0
    assert body["tools"] == [{"type": "function", "function": WEATHER.to_json()}]
    assert body["tool_choice"] == "auto"
    system, user, assistant, first, second, last = body["messages"]
    assert (system, last) == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And now?"},
    )
    assert user["content"] == [
        {"type": "text", "text": "Weather in both?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CODED['p']}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
        {"type": "input_audio", "input_audio": {"data": CODED["w"], "format": "mp3"}},
        {
            "type": "file",
            "file": {
                "filename": "document.pdf",
                "file_data": f"data:application/pdf;base64,{CODED['d']}",
            },
        },
    ]
    assert assistant["content"] == "Let me look."
    assert [call["function"]["arguments"] for call in assistant["tool_calls"]] == [
        '{"city":"Rome"}',
        '{"city":"Oslo"}',
    ]
    assert first == {"role": "tool", "tool_call_id": "c1", "content": '{"celsius":20}'}
    assert second == {"role": "tool", "tool_call_id": "c2", "content": "no such city"}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("openai/x", None),
        ("deepseek/x", "reasoning_content"),
        ("openrouter/a/x", "reasoning"),
    ],
)
def test_thoughts_go_back_where_the_provider_wants_them(name: str, field: str | None) -> None:
    """With the calls that came of them."""
    assistant = next(m for m in payload(name, talk())["messages"] if m["role"] == "assistant")
    found = {key: value for key, value in assistant.items() if key.startswith("reasoning")}
    assert found == ({} if field is None else {field: "Two cities."})


def test_a_certain_tool_can_be_asked_for() -> None:
    """In each provider's words."""
    request = talk(choice="weather")
    named = {"type": "function", "function": {"name": "weather"}}
    assert payload("openai/x", request)["tool_choice"] == named
    assert payload("anthropic/x", request)["tool_choice"] == {"type": "tool", "name": "weather"}
    responses = payload("openai/x", request, api="responses")
    assert responses["tool_choice"] == {"type": "function", "name": "weather"}
    assert payload("anthropic/x", talk(choice="required"))["tool_choice"] == {"type": "any"}


def test_anthropic_is_sent_blocks() -> None:
    """Responses to calls that were made at once are one message, before what is said beside; thoughts go back
    with their signature."""
    body = payload("anthropic/claude-x", talk("sig", PHOTO, FAR, PAPER))
    assert body["system"] == "Be brief."
    assert body["tools"] == [
        {"name": "weather", "description": "The weather of a city.", "input_schema": SCHEMA}
    ]
    user, assistant, results = body["messages"]
    assert user["content"][1:] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": CODED["p"]}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": CODED["d"]},
        },
    ]
    assert [block["type"] for block in assistant["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert assistant["content"][0] == {"type": "thinking", "thinking": "Two cities.", "signature": "sig"}
    assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
    assert results["content"][1] == {
        "type": "tool_result",
        "tool_use_id": "c2",
        "content": "no such city",
        "is_error": True,
    }


def test_thoughts_of_another_model_do_not_go_to_anthropic() -> None:
    """It takes none without its own signature."""
    kinds = [block["type"] for block in payload("anthropic/claude-x", talk())["messages"][1]["content"]]
    assert kinds == ["text", "tool_use", "tool_use"]


def test_the_responses_api_is_sent_items() -> None:
    """Thoughts with their item's id before the calls that came of them."""
    back = json.dumps({"id": "rs_1", "encrypted_content": "xyz"})
    given = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    request = talk(back, PHOTO, FAR, PAPER)
    body = payload("openai/gpt-x", request, api="responses", max_tokens=9, response_format=given)
    assert body["text"] == {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}
    assert (body["max_output_tokens"], "messages" in body, "seed" in body) == (9, False, False)
    kinds = [item.get("type", item.get("role")) for item in body["input"]]
    assert kinds == [
        *("system", "user", "reasoning", "assistant", "function_call", "function_call"),
        *("function_call_output", "function_call_output", "user"),
    ]
    assert body["input"][2] == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Two cities."}],
        "id": "rs_1",
        "encrypted_content": "xyz",
    }
    assert [part["type"] for part in body["input"][1]["content"]] == [
        *("input_text", "input_image", "input_image", "input_file"),
    ]
    assert body["tools"] == [{"type": "function", **WEATHER.to_json(), "strict": False}]


@pytest.mark.parametrize("name", ["ollama/x", "bedrock/us.amazon.nova-lite-v1:0"])
async def test_ollama_and_bedrock_are_sent_calls_and_responses(name: str) -> None:
    """botocore itself checks the form of what goes to Bedrock."""
    with ModelServer() as server:
        keyless = name.startswith("bedrock")
        model = get_model(name, endpoint=server.url, **({} if keyless else {"api_key": "k"}))
        answer = await model.achat(talk("sig"))
        await model.aclose()
    sent = server.requests[0].json
    assert answer.response == "ok"
    if keyless:
        assert sent["toolConfig"]["toolChoice"] == {"auto": {}}
        assert sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"] == {"json": SCHEMA}
        assistant, results = sent["messages"][1:3]
        assert list(assistant["content"][0]) == ["reasoningContent"]
        assert results["content"][1]["toolResult"]["status"] == "error"
        assert results["content"][0]["toolResult"]["content"] == [{"json": {"celsius": 20}}]
    else:
        assert sent["tools"][0]["function"]["name"] == "weather"
        assistant, first = sent["messages"][2:4]
        assert assistant["tool_calls"][0] == {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
        assert first == {"role": "tool", "tool_name": "weather", "content": '{"celsius":20}'}


def test_bedrock_is_sent_bytes() -> None:
    """Documents have a name there."""
    model: Any = get_model("bedrock/us.amazon.nova-lite-v1:0")
    content = model.payload(talk(None, PHOTO, PAPER, FILM), DATA)["messages"][0]["content"]
    assert content[1:] == [
        {"image": {"format": "png", "source": {"bytes": PNG}}},
        {"document": {"format": "pdf", "source": {"bytes": PDF}, "name": "document-3"}},
        {"video": {"format": "mp4", "source": {"bytes": WAV}}},
    ]


@pytest.mark.parametrize("name", ["openai/x", "anthropic/x", "ollama/x", "bedrock/us.amazon.nova-lite-v1:0"])
async def test_a_picture_of_the_store_is_sent(name: str, tmp_path: Path) -> None:
    """Its bytes are read from the blob as the call is made, once, however often it is shown."""
    blobs = FileBlobs(tmp_path)
    await blobs.put(media_key("p"), PNG)
    token = READER.set(MediaReader(blobs))
    try:
        with ModelServer() as server:
            keyless = name.startswith("bedrock")
            endpoint = server.openai_url if name.startswith("openai") else server.url
            model = get_model(name, endpoint=endpoint, **({} if keyless else {"api_key": "k"}))
            await model.achat(ChatRequest((Message("user", (Text("Alike?"), PHOTO, PHOTO)),)))
            await model.aclose()
    finally:
        READER.reset(token)
    assert json.dumps(server.requests[0].json).count(CODED["p"]) == 2


def test_calls_without_ids_are_given_some() -> None:
    """A transcript may have none; a response is that of the first call without one."""
    request = ChatRequest(
        (
            Message("user", (Text("hi"),)),
            Message("assistant", (ToolCall("a"), ToolCall("b"))),
            Message("tool", (ToolCallResponse("1"),)),
            Message("tool", (ToolCallResponse("2"),)),
        )
    )
    messages = payload("openai/x", request)["messages"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    assert [message["tool_call_id"] for message in messages[2:]] == ["call_1", "call_2"]
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_functions_of_older_transcripts_are_calls_of_tools() -> None:
    """They name the function only; and a message without content is an empty text."""
    called = {"name": "weather", "arguments": '{"city": "Rome"}'}
    given = [
        {"role": "user", "content": None},
        {"role": "assistant", "content": None, "function_call": called},
        {"role": "function", "name": "weather", "content": "[20, null]"},
    ]
    request = ChatRequest(read_messages(given))
    sent = payload("openai/x", ChatRequest(read_messages([{**given[1], "content": ""}])), api="responses")
    assert [item["type"] for item in sent["input"]] == ["function_call"]
    user, assistant, response = payload("openai/x", request)["messages"]
    assert user == {"role": "user", "content": ""}
    assert assistant["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    ]
    assert response == {"role": "tool", "tool_call_id": "call_1", "content": "[20, null]"}


def test_bedrock_is_given_lists_of_tools_as_json() -> None:
    """Only objects are JSON there; all else is a text, of JSON."""
    asked = Message("assistant", (ToolCall("a", {}, "1"), ToolCall("b", {}, "2")))
    back = Message("tool", (ToolCallResponse([1, None, {"a": True}], "1"), ToolCallResponse(None, "2")))
    model: Any = get_model("bedrock/us.amazon.nova-lite-v1:0")
    results = model.payload(ChatRequest((asked, back)), {})["messages"][1]["content"]
    assert [one["toolResult"]["content"] for one in results] == [
        [{"text": '[1,null,{"a":true}]'}],
        [{"text": "null"}],
    ]


@pytest.mark.parametrize(
    ("name", "media", "words"),
    [
        ("deepseek/x", PHOTO, "does not take pictures"),
        ("anthropic/x", SOUND, "does not take sounds"),
        ("ollama/x", FAR, "does not take media by their address"),
        (
            "openai/x",
            Media(modality="document", uri="https://example.com/a.pdf"),
            "documents by their address",
        ),
        ("bedrock/us.amazon.nova-lite-v1:0", FAR, "media by their address"),
        ("mistral/x", Media(modality="document", uri="https://example.com/a.pdf"), ""),
        ("openai/x", FAR, ""),
        ("simulated/x", FILM, ""),
    ],
)
def test_what_a_provider_cannot_take_is_known_before_a_call(name: str, media: Media, words: str) -> None:
    """By its kind, and by whether only its address is given."""
    keyless = name.startswith(("bedrock", "simulated"))
    model = get_model(name, **({} if keyless else {"api_key": "k"}))
    found = refusal(model, ChatRequest((Message("user", (Text("hi"), media)),)))
    assert words in found and bool(found) == bool(words)


async def test_a_server_that_refuses_pictures_says_so() -> None:
    """Its words are the error's."""

    def answer(request: Request) -> Reply | str:
        parts = request.json["messages"][-1]["content"]
        if isinstance(parts, list) and any(part["type"] == "image_url" for part in parts):
            return Reply(status=400, text="this model does not support image input")
        return "ok"

    with ModelServer(answer) as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        with pytest.raises(ModelError, match="does not support image input") as caught:
            await model.achat(ChatRequest((Message("user", (Text("hi"), FAR)),)))
        await model.aclose()
    assert (caught.value.type, caught.value.retryable) == ("bad_request", False)


RESPONSE = {
    "id": "resp_1",
    "model": "gpt-x-2026",
    "status": "completed",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two cities."}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "Oslo"}'},
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 20,
        "input_tokens_details": {"cached_tokens": 60},
        "output_tokens_details": {"reasoning_tokens": 5},
    },
}


async def responses(reply: Reply | dict[str, Any]) -> tuple[ModelResponse, Request]:
    given = reply if isinstance(reply, Reply) else Reply(body=reply)
    with ModelServer(lambda request: given) as server:
        model = get_model("openai/gpt-x", endpoint=server.openai_url, api="responses")
        try:
            return await model.achat([{"role": "user", "content": "hi"}]), server.requests[0]
        finally:
            await model.aclose()


async def test_the_responses_api_answers_in_items() -> None:
    """Thoughts with what it wants back, text, calls, and usage in full."""
    answer, request = await responses(RESPONSE)
    assert request.path == "/v1/responses"
    assert request.json == {
        "model": "gpt-x",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    }
    assert answer.messages[0].parts == (
        Reasoning("Two cities.", '{"id": "rs_1"}'),
        Text("Let me look."),
        ToolCall("weather", {"city": "Rome"}, "c1"),
        ToolCall("weather", {"city": "Oslo"}, "c2"),
    )
    assert (answer.response, answer.finish_reason) == ("Let me look.", "completed")
    tokens = (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, answer.reasoning_tokens)
    assert tokens == (100, 20, 60, 5)


async def test_a_response_that_was_cut_says_so() -> None:
    """With the reason that the provider gives."""
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    answer, _ = await responses({**cut, "output": RESPONSE["output"][:2]})  # type: ignore[index]
    assert answer.finish_reason == "max_output_tokens"


async def test_a_response_that_failed_is_an_error() -> None:
    """Of the kind that its code has."""
    failed = {"status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "Slow"}}
    with pytest.raises(ModelError) as caught:
        await responses(failed)
    assert caught.value.type == "rate_limit"


def events(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def called(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    return delta(
        tool_calls=[{"index": index, "function": {"arguments": arguments, **more}, "id": f"c{index}"}]
    )


STREAM = (
    b": keep-alive\n\n"
    + events(
        delta(role="assistant", reasoning_content="Two "),
        delta(reasoning_content="cities."),
        delta(content="Let me "),
        delta(content="look."),
        called(0, '{"city": ', name="weather"),
        called(1, '{"city": "Oslo"}', name="weather"),
        called(0, '"Rome"}'),
        delta("tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}},
    )
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize(
    "refused", ["This model only support stream mode, please enable the stream parameter.", None]
)
async def test_a_server_that_only_streams_is_asked_for_a_stream(refused: str | None) -> None:
    """Once it has said so, all further calls ask for one; what comes is gathered to one answer."""

    def answer(request: Request) -> Reply:
        if request.json.get("stream") is not True:
            return Reply(status=400, text=refused or "stream must be set to true")
        assert request.json["stream_options"] == {"include_usage": True}
        return Reply(body=STREAM, headers={"Content-Type": "text/event-stream"})

    with ModelServer(answer) as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        for _ in range(2):
            found = await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert len(server.requests) == 3
    assert (found.response, found.finish_reason) == ("Let me look.", "tool_calls")
    assert (found.prompt_tokens, found.completion_tokens) == (9, 5)
    assert found.messages[0].reasoning == "Two cities."
    assert [call.arguments for call in found.messages[0].tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]


@pytest.mark.parametrize(
    ("stream", "given", "calls"), [(True, STREAM, 1), (None, STREAM, 1), (False, None, 1), (None, None, 1)]
)
async def test_streams_are_read_as_they_come_and_asked_for_as_told(
    stream: bool | None, given: bytes | None, calls: int
) -> None:
    """Another 400 is what it is; with `stream: false` none is asked for."""
    words = "stream must be set to true" if stream is False else "temperature must be set to 1"
    reply = Reply(body=given) if given else Reply(status=400, text=words)
    with ModelServer(lambda request: reply) as server:
        model = get_model("openai/x", endpoint=server.openai_url, stream=stream)
        if given is None:
            with pytest.raises(ModelError, match=words):
                await model.achat([{"role": "user", "content": "hi"}])
        else:
            assert (await model.achat([{"role": "user", "content": "hi"}])).response == "Let me look."
        await model.aclose()
    assert len(server.requests) == calls
    assert ("stream" in server.requests[0].json) == bool(stream)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (events(delta(content="Let me")), "invalid_response"),
        (b"data: {\n\n", "invalid_response"),
        (events(delta(content="x"), {"error": {"code": 429, "message": "Slow down"}}), "rate_limit"),
    ],
)
async def test_a_stream_that_breaks_off_is_no_answer(stream: bytes, kind: str) -> None:
    """Nor is an error in the middle of it."""
    with ModelServer(lambda request: Reply(body=stream)) as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        with pytest.raises(ModelError) as caught:
            await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert caught.value.type == kind


def test_a_stream_of_the_responses_api_ends_with_the_whole_answer() -> None:
    """What comes before are its pieces."""
    stream = events(
        {"type": "response.created", "response": {"status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "Let me "},
        {"type": "response.completed", "response": RESPONSE},
    )
    assert gathered(stream) == RESPONSE


async def test_a_simulated_model_calls_the_tools_that_it_must_and_answers_when_they_have_responded() -> None:
    """With arguments of the tool's own schema."""
    model = get_model("simulated/echo")
    asked = ChatRequest((text_message("user", "Weather?"),), (WEATHER,), "required")
    called = await model.achat(asked)
    assert called.messages[0].tool_calls == (ToolCall("weather", {"city": "text"}, "call_1"),)
    response = Message("tool", (ToolCallResponse("20 °C", "call_1"),))
    told = await model.achat(ChatRequest((*asked.messages, *called.messages, response), (WEATHER,)))
    assert (told.response, told.finish_reason) == ("Weather?", "stop")
