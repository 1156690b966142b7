"""Messages: their JSON form, OpenAI's, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from promptlab.domain.messages import (
    Media,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    answer_text,
    read_messages,
    tool_calls_of,
)
from promptlab.domain.results import ModelResponse
from promptlab.errors import MessageError

TALK = (
    Message("user", (Text("How warm is it?"), Media(modality="image", uri="https://example.org/a.png"))),
    Message(
        "assistant",
        (Reasoning("I have to ask."), ToolCall("weather", {"city": "Bonn"}, "call-1")),
        "tool_calls",
    ),
    Message("tool", (ToolCallResponse({"degrees": 21}, "call-1"),)),
    Message("assistant", (Text("It has 21 "), Text("degrees.")), "stop"),
)


def test_messages_are_read_as_they_were_written() -> None:
    assert read_messages(json.loads(json.dumps([message.to_json() for message in TALK]))) == TALK


def test_openai_s_form_is_read() -> None:
    called = {"name": "weather", "arguments": '{"city": "Bonn"}'}
    talk = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "How warm is it?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I have to ask.",
            "tool_calls": [{"id": "call-1", "type": "function", "function": called}],
            "finish_reason": "tool_calls",
        },
        {"role": "tool", "tool_call_id": "call-1", "content": '{"degrees": 21}'},
        {"role": "assistant", "content": "It has 21 degrees."},
    ]
    read = read_messages(json.dumps(talk))
    assert read[:2] == TALK[:2]
    assert read[2] == Message("tool", (ToolCallResponse('{"degrees": 21}', "call-1"),))
    assert read[3].text == "It has 21 degrees."


def test_what_was_said_thought_and_called_is_kept_apart() -> None:
    assert answer_text(TALK) == "It has 21 degrees."
    assert TALK[1].text == ""
    assert TALK[1].reasoning == "I have to ask."
    assert [call.name for call in tool_calls_of(TALK)] == ["weather"]


def test_an_answer_has_messages_and_a_text_whichever_was_given() -> None:
    assert ModelResponse("yes").messages == (Message("assistant", (Text("yes"),)),)
    assert ModelResponse(messages=TALK).response == "It has 21 degrees."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "no JSON list"),
        ({"role": "user"}, "must be a list"),
        (["hello"], "message 1 must be an object"),
        ([{"role": "robot", "content": "x"}], "role 'robot' is none of"),
        ([{"role": "user", "content": 3}], "content must be a text or a list"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "part 1: type 'smell'"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,AA"}]}],
            "it holds media as data",
        ),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "has no name of a tool"),
        ([{"role": "user", "content": "x"}] * 2_001, "at most 2,000"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        read_messages(value)
