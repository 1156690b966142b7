"""Media are read as they are sent, and so many bytes of them at once; models are asked what they take."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from promptlab import ChatRequest, Media, Message, Model, ModelError, Text, Tool, ToolCall
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.chat import as_request, chat_of, texts_of
from promptlab.domain.messages import Reasoning, text_message
from promptlab.domain.results import ModelResponse
from promptlab.domain.tokens import IMAGE_TOKENS, chat_tokens
from promptlab.domain.worst_case import most_read
from promptlab.models.base import refusal
from promptlab.models.media import READER, MediaReader, media_bytes, media_key, read_media

DATA = b"\x89PNG of a kind"
SHA = hashlib.sha256(DATA).hexdigest()


def picture(size: int) -> ChatRequest:
    shown = Media(modality="image", mime_type="image/png", sha256=SHA, size=size)
    return ChatRequest((Message("user", (Text("What is it?"), shown)),))


async def test_a_medium_is_read_from_its_blob(tmp_path: Path) -> None:
    """Within a run; one that is gone is an error that names it."""
    blobs = FileBlobs(tmp_path)
    shown = Media(modality="image", sha256=SHA)
    with pytest.raises(ModelError, match="nothing says in which"):
        await read_media(shown)
    READER.set(MediaReader(blobs))
    with pytest.raises(ModelError, match=f"the image {SHA[:12]}… is not in the store any more"):
        await read_media(shown)
    await blobs.put(media_key(SHA), DATA)
    assert await read_media(shown) == DATA


async def test_calls_hold_so_many_bytes_at_once(tmp_path: Path) -> None:
    """In the order in which they asked; what is larger than all of the room goes alone, and texts never
    wait."""
    reader = MediaReader(FileBlobs(tmp_path), most=10)
    held, most, order = 0, 0, list[int]()

    async def call(number: int, size: int) -> None:
        nonlocal held, most
        async with reader.room(picture(size)):
            held, most = held + size, max(most, held + size)
            order.append(number)
            for _ in range(3):
                await asyncio.sleep(0)
            held -= size

    sizes = [4, 4, 4, 30, 4, 4, 0, 10]
    waits = [asyncio.create_task(call(*one)) for one in enumerate(sizes)]
    await asyncio.sleep(0)
    waits[4].cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert most == 30 and order == [0, 1, 6, 2, 3, 5, 7]
    async with reader.room([{"role": "user", "content": "text"}]), reader.room(picture(10)):
        pass


def test_a_request_says_what_it_needs() -> None:
    """And a model what it lacks, in words."""

    class Sees(Model):
        takes = frozenset({"image"})

        async def achat(self, messages: object) -> ModelResponse:
            return ModelResponse("seen")

    called = Message("assistant", (ToolCall("f"),))
    there = Message("user", (Media(modality="image", uri="https://example.com/a.png"),))
    assert picture(3).needs == {"image"} and refusal(Sees(), picture(3)) == ""
    assert ChatRequest((called,)).needs == ChatRequest((), (Tool("f"),)).needs == {"tools"}
    assert ChatRequest((there,)).needs == {"image", "uri"}
    assert "does not take tools and their calls; it takes image." in refusal(Sees(), ChatRequest((called,)))
    assert "texts only" in refusal(type("Plain", (Model,), {"invoke": None})(), picture(3))


def test_a_request_of_texts_is_plain_messages() -> None:
    """Reasoning of before is not said again; anything else stays a request."""
    said = (text_message("user", "a"), Message("assistant", (Reasoning("hm"), Text("b"))))
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert chat_of(ChatRequest(said)) == plain
    assert as_request(plain) == ChatRequest((text_message("user", "a"), text_message("assistant", "b")))
    assert as_request(picture(1)) is chat_of(picture(1)) or chat_of(picture(1)) == picture(1)
    with_tools = ChatRequest(said, (Tool("f"),))
    assert chat_of(with_tools) is with_tools
    assert texts_of(picture(1)) == ["What is it?"] and texts_of(plain) == ["a", "b"]


def test_media_and_tools_count_as_tokens() -> None:
    """As a rule of thumb, and at most for budgets."""
    assert media_bytes(picture(7)) == 7
    assert chat_tokens(picture(7)) > IMAGE_TOKENS
    assert most_read(picture(7)) > 3 * IMAGE_TOKENS
    tool = Tool("find", "Finds.", {"type": "object", "properties": {"q": {"type": "string"}}})
    asked = (text_message("user", "a"),)
    assert chat_tokens(ChatRequest(asked, (tool,))) > chat_tokens(ChatRequest(asked)) + 15
