"""Streams of Anthropic's events and of Ollama's lines, gathered to one answer."""

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
