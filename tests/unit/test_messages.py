"""Messages: their JSON form, OpenAI's, and what is refused."""

from __future__ import annotations

import base64
import hashlib
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
        read_messages(value, refuse_data=True)


PICTURE = b"\x89PNG\r\n\x1a\n and so on"
CODED = base64.b64encode(PICTURE).decode()
HASH = hashlib.sha256(PICTURE).hexdigest()


@pytest.mark.parametrize(
    ("part", "modality", "mime_type"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CODED}"}},
            "image",
            "image/png",
        ),
        ({"type": "input_image", "image_url": f"DATA:image/png;x=1;base64,{CODED}"}, "image", "image/png"),
        ({"type": "input_audio", "input_audio": {"data": CODED, "format": "wav"}}, "audio", "audio/wav"),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{CODED}"}},
            "document",
            "application/pdf",
        ),
        (
            {"type": "blob", "modality": "video", "mime_type": "video/mp4", "content": CODED},
            "video",
            "video/mp4",
        ),
    ],
)
def test_of_media_as_data_the_hash_is_kept(part: dict[str, Any], modality: str, mime_type: str) -> None:
    """In what agents record and what metrics read; what is to be sent says where to put them."""
    (message,) = read_messages([{"role": "user", "content": [part]}])
    (medium,) = message.parts
    assert isinstance(medium, Media)
    assert (medium.modality, medium.mime_type) == (modality, mime_type)
    assert (medium.sha256, medium.size, medium.uri) == (HASH, len(PICTURE), None)
    with pytest.raises(MessageError, match="make the data a column of the dataset's `media`"):
        read_messages([{"role": "user", "content": [part]}], refuse_data=True)


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.png"}}, ("https://e.com/a.png", None)),
        ({"type": "input_image", "image_url": "https://e.com/a.png"}, ("https://e.com/a.png", None)),
        ({"type": "file", "file": {"file_id": "file-1"}}, (None, "file-1")),
        ({"type": "file", "modality": "image", "file_id": "file-1"}, (None, "file-1")),
    ],
)
def test_media_by_an_address_or_as_a_file_stay_what_they_are(part: Any, where: Any) -> None:
    """In OpenAI's forms and in ours."""
    (message,) = read_messages([{"role": "user", "content": [part]}], refuse_data=True)
    (medium,) = message.parts
    assert isinstance(medium, Media) and (medium.uri, medium.file_id) == where


@pytest.mark.parametrize(
    "part",
    [{"type": "image_url", "image_url": "data:image/png,x"}, {"type": "input_audio", "input_audio": {}}],
)
def test_media_that_are_none_are_refused(part: Any) -> None:
    """With their place."""
    with pytest.raises(MessageError, match="message 1, part 1"):
        read_messages([{"role": "user", "content": [part]}])
