"""How many tokens a text has, as a rule of thumb: every model's tokenizer is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ASCII_CHARS, OTHER_CHARS = 4.0, 1.5
"""Characters of a token: in ASCII, and in all other scripts."""
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""The tokens that a message, and the beginning of the answer, add to a prompt."""


def tokens_of(text: str) -> float:
    """Estimate the tokens of a text: four ASCII characters a token, 1.5 of any other script.

    https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them gives the first.
    """

    ascii_chars = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return ascii_chars / ASCII_CHARS + (len(text) - ascii_chars) / OTHER_CHARS


def chat_tokens(messages: Sequence[Mapping[str, str]]) -> float:
    """Estimate the tokens that a model reads for one prompt, with what the chat's form adds."""
    return REPLY_TOKENS + sum(MESSAGE_TOKENS + tokens_of(m["content"]) for m in messages)
