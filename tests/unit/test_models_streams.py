"""Streams gathered to one answer: Anthropic's events, Ollama's lines, chunks as odd servers send them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from promptlab import get_model
from promptlab.errors import ModelError
from tests.servers import ModelServer, Reply, Request


def events(*given: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in given)


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """One block of a message: its beginning, what is added, its end."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


START = {
    "type": "message_start",
    "message": {"role": "assistant", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}},
}
OVERLOADED = {"type": "overloaded_error", "message": "busy"}
END = (
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)
STREAM = events(
    START,
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Two "},
        {"type": "thinking_delta", "thinking": "cities."},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Let me "},
        {"type": "text_delta", "text": "look."},
    ),
    *block(
        2,
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Rome"}'},
    ),
    *block(3, {"type": "tool_use", "id": "t2", "name": "now", "input": {}}),
    *END,
)


async def test_an_anthropic_server_that_only_streams_is_asked_for_a_stream() -> None:
    """Once it has said so, all further calls ask for one; thoughts keep their signature."""

    def answer(request: Request) -> Reply:
        if request.json.get("stream") is not True:
            return Reply(status=400, text="streaming is required for operations of this length")
        assert "stream_options" not in request.json
        return Reply(body=STREAM, headers={"Content-Type": "text/event-stream"})

    with ModelServer(answer) as server:
        model = get_model("anthropic/x", endpoint=server.url, api_key="k")
        for _ in range(2):
            found = await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert len(server.requests) == 3
    assert (found.response, found.finish_reason) == ("Let me look.", "tool_use")
    assert (found.prompt_tokens, found.completion_tokens) == (9, 5)
    thought, _, *calls = found.messages[0].parts
    assert (found.messages[0].reasoning, getattr(thought, "signature", "")) == ("Two cities.", "c2ln")
    assert [(call.name, call.arguments) for call in found.messages[0].tool_calls] == [
        ("weather", {"city": "Rome"}),
        ("now", {}),
    ]
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (events(START, *block(0, {"type": "text", "text": "Let"})), "invalid_response"),
        (
            events(START, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
            "server",
        ),
    ],
)
async def test_an_anthropic_stream_that_breaks_off_is_no_answer(stream: bytes, kind: str) -> None:
    """Nor is an error in the middle of it; both may be tried again."""
    with ModelServer(lambda request: Reply(body=stream)) as server:
        model = get_model("anthropic/x", endpoint=server.url, api_key="k", stream=True)
        with pytest.raises(ModelError) as caught:
            await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert server.requests[0].json["stream"] is True
    assert caught.value.retryable and kind in caught.value.type


async def test_lines_of_ollama_are_gathered() -> None:
    """What stands before Ollama may stream whatever it is asked for; the last line has the counts."""
    lines = [
        {"message": {"role": "assistant", "content": "", "thinking": "Hm."}},
        {"message": {"content": "It is "}},
        {"message": {"content": "sunny.", "tool_calls": [{"function": {"name": "now", "arguments": {}}}]}},
        {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3},
    ]
    body = b"\n".join(orjson.dumps(line) for line in lines)
    replies = iter([body, body.rpartition(b"\n")[0]])
    with ModelServer(lambda request: Reply(body=next(replies))) as server:
        model = get_model("ollama/x", endpoint=server.url)
        found = await model.achat([{"role": "user", "content": "hi"}])
        with pytest.raises(ModelError, match="ends before the answer does"):
            await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert (found.response, found.prompt_tokens, found.completion_tokens) == ("It is sunny.", 7, 3)
    assert found.messages[0].reasoning == "Hm." and found.messages[0].tool_calls[0].name == "now"


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"choices": [{"delta": delta, "finish_reason": finish}]})


def piece(arguments: Any, name: str | None = None, **more: Any) -> bytes:
    """A chunk with a piece of a call of a tool."""
    return chunk(tool_calls=[{**more, "function": {"name": name, "arguments": arguments}}])


DONE = b"data: [DONE]\n\n"
HI, END_OF_IT = chunk(content="Grüß ") + chunk(content="Gott"), chunk("stop")


@pytest.mark.parametrize(
    ("stream", "finish"),
    [
        (b":keepalive\n\n" + HI + b": ping\n\n" + END_OF_IT + DONE, "stop"),
        (b"retry: 3000\n\n" + HI + END_OF_IT, "stop"),
        (b"\xef\xbb\xbf" + HI + END_OF_IT + DONE, "stop"),
        ((HI + END_OF_IT + DONE).replace(b"\n", b"\r\n"), "stop"),
        (HI.replace(b"data: ", b"data:") + END_OF_IT, "stop"),
        (HI + DONE, None),
        (
            b'data: {"choices": [{"index": null,\ndata: "delta": {"content": "Gr\\u00fc\xc3\x9f Gott"}}]}\n\n'
            + DONE,
            None,
        ),
    ],
    ids=["comments", "retry", "mark", "crlf", "no space", "no reason", "two lines"],
)
async def test_streams_of_any_writing_are_read(stream: bytes, finish: str | None) -> None:
    """With comments before and between, without an end or without a reason for it."""
    with ModelServer(lambda request: Reply(body=stream)) as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        found = await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert (found.response, found.finish_reason) == ("Grüß Gott", finish)


@pytest.mark.parametrize(
    "pieces",
    [
        piece('{"x": ', "f", index=0, id="a") + piece("1}", index=0) + piece("{}", "g", index=1, id="b"),
        piece("{}", "g", index=1, id="b") + piece('{"x": 1}', "f", index=0, id="a"),
        piece('{"x": 1}', "f", index=0, id="a") + piece("{}", "g", index=0, id="b"),
        piece('{"x": ', "f", id="a") + piece("1}") + piece("{}", "g", id="b"),
        piece('{"x": ', "f") + piece("1}") + piece("{}", "g"),
        piece({"x": 1}, "f", index=0, id="a") + piece(None, "g", index=1, id="b"),
    ],
    ids=["as OpenAI", "out of order", "all with index 0", "without index", "without names", "objects"],
)
async def test_parallel_calls_stay_apart_however_they_are_numbered(pieces: bytes) -> None:
    """By their index, their ids, or where each begins."""
    with ModelServer(lambda request: Reply(body=pieces + chunk("tool_calls") + DONE)) as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        found = await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    calls = [(call.name, call.arguments) for call in found.messages[0].tool_calls]
    assert calls == [("f", {"x": 1}), ("g", {})]


async def test_a_thinking_mistral_streams_parts() -> None:
    """Its content is a list while it thinks, and what it thought is no part of the answer."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    stream = (
        chunk(content=[thinking])
        + chunk(content=[{"type": "text", "text": "Hi"}])
        + chunk("stop", content="!")
    )
    with ModelServer(lambda request: Reply(body=stream)) as server:
        model = get_model("mistral/x", endpoint=server.openai_url, api_key="k")
        found = await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert (found.response, found.messages[0].reasoning) == ("Hi!", "Hm")


@pytest.mark.parametrize(
    ("api", "event"),
    [
        ("chat", b'event: error\ndata: {"message": "Slow down", "code": 429}\n\n'),
        ("responses", b'data: {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down"}\n\n'),
    ],
)
async def test_an_event_that_is_an_error_says_its_own_words(api: str, event: bytes) -> None:
    """Also where it has no member `error`."""
    with ModelServer(lambda request: Reply(body=chunk(content="x") + event)) as server:
        model = get_model("openai/x", endpoint=server.openai_url, api=api)
        with pytest.raises(ModelError, match="Slow down") as caught:
            await model.achat([{"role": "user", "content": "hi"}])
        await model.aclose()
    assert caught.value.type == "rate_limit" and caught.value.retryable
