"""How many tokens a text has, as a rule of thumb: every model's tokenizer is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media

ASCII_CHARS, OTHER_CHARS = 4.0, 1.5
"""Characters of a token: in ASCII, and in all other scripts."""
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""The tokens that a message, and the beginning of the answer, add to a prompt."""


class Needed(NamedTuple):
    """What is known of the tokens of a call before it is made."""

    read: float
    """Those of its prompt, estimated."""
    most_written: int | None = None
    """How many the answer may have; None for no bound."""


IMAGE_TOKENS, MOST_IMAGE_TOKENS = 1_600, 6_000
"""Tokens of a picture: about what providers make of one of 1.2 megapixels
(docs.claude.com/en/docs/build-with-claude/vision), and more than any makes of one."""
BYTES_OF_TOKEN = {"document": (50, 1), "audio": (500, 10), "video": (100, 1)}
"""Bytes that give a token, as a rule and at least, of media whose length nobody tells: a page of a PDF of
100 KB is 2,000 tokens, a second of sound of 16 KB is 32."""
UNKNOWN_BYTES = 1_000_000
"""What is assumed of a medium whose size nobody tells."""


def media_tokens(media: Media, *, most: bool = False) -> float:
    """Estimate the tokens that a model reads for a medium; with `most`, how many these can be."""
    if media.modality == "image":
        return MOST_IMAGE_TOKENS if most else IMAGE_TOKENS
    usual, least = BYTES_OF_TOKEN[media.modality]
    return (UNKNOWN_BYTES if media.size is None else media.size) / (least if most else usual)


def media_of(request: ChatRequest) -> list[Media]:
    """The media of a request."""
    return [part for message in request.messages for part in message.parts if isinstance(part, Media)]


def told(request: ChatRequest) -> str:
    """All that a model reads of a request but its media: texts, calls and tools, as JSON."""
    return orjson.dumps(request.to_json(), option=orjson.OPT_NON_STR_KEYS).decode()


def tokens_of(text: str) -> float:
    """Estimate the tokens of a text: four ASCII characters a token, 1.5 of any other script.

    https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them gives the first.
    """

    ascii_chars = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return ascii_chars / ASCII_CHARS + (len(text) - ascii_chars) / OTHER_CHARS


def chat_tokens(messages: Sequence[Mapping[str, str]] | ChatRequest) -> float:
    """Estimate the tokens that a model reads for one prompt, with what the chat's form adds."""
    if isinstance(messages, ChatRequest):
        return REPLY_TOKENS + tokens_of(told(messages)) + sum(map(media_tokens, media_of(messages)))
    return REPLY_TOKENS + sum(MESSAGE_TOKENS + tokens_of(m["content"]) for m in messages)
