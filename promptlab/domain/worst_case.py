"""The most that one model call can cost: what a budget sets aside before the call."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence

import orjson

from promptlab.domain.chat import ChatRequest
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import Price, cost_usd, price_of
from promptlab.domain.tokens import MESSAGE_TOKENS, REPLY_TOKENS, media_of, media_tokens, told
from promptlab.errors import ConfigError

_OWN_LIMITS = (
    (r"anthropic/.*", 4_096),
    (r"openai/(gpt-[5-9]|gpt-\d\d).*", 128_000),
    (r"openai/(o1-mini)", 65_536),
    (r"openai/o\d.*", 100_000),
    (r"openai/(gpt-4\.1).*", 32_768),
    (r"openai/(gpt-4o|chatgpt-4o).*", 16_384),
    (r"openai/(gpt-4-turbo|gpt-4-\d{4}-preview|gpt-3\.5).*", 4_096),
    (r"openai/(gpt-4)(-0613)?", 8_192),
)
"""Tokens that a model writes at most where no max_tokens says less: the first pattern that fits its name.
Anthropic's is what we send, for its API wants a number; the others are from the pages of the models
(developers.openai.com/api/docs/models, 2026-11)."""
_WRITTEN = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens")


def most_written(config: ModelConfig) -> int | None:
    """The most tokens that an answer can have: `max_tokens`, else the model's own limit; None where neither
    is known."""
    extras = config.extra_params
    given = [config.max_tokens, *(extras.get(name) for name in _WRITTEN)]
    numbers = [n for n in given if isinstance(n, int) and not isinstance(n, bool)]
    own = next((most for name, most in _OWN_LIMITS if re.fullmatch(name, config.name)), None)
    most = max(numbers) if numbers else own
    answers = extras.get("n", 1)
    return most if most is None else most * (answers if isinstance(answers, int) and answers > 1 else 1)


def most_read(messages: Sequence[Mapping[str, str]] | ChatRequest) -> int:
    """The most tokens that a prompt can have: no tokenizer makes more tokens of a text than it has bytes of
    UTF-8 (those of today's models begin with bytes, and only join them)."""
    if isinstance(messages, ChatRequest):
        media = sum(media_tokens(one, most=True) for one in media_of(messages))
        return len(told(messages).encode()) + math.ceil(media) + REPLY_TOKENS
    texts = sum(len(m["content"].encode("utf-8", "replace")) for m in messages)
    return texts + len(messages) * MESSAGE_TOKENS + REPLY_TOKENS


class WorstCase:
    """What a call of one model can cost at most."""

    def __init__(self, config: ModelConfig, *, embeds: bool = False) -> None:
        """Work out what is the same for all calls.

        Raises:
            ConfigError: the model's price, or how much it may write, is not known.
        """
        price = price_of(config)
        self.price = self._checked(config, price, embeds)
        self._written = 0 if embeds or self.price.output_usd_per_mtok == 0 else _limit(config)
        extras = orjson.dumps(
            [config.extra_params, dict(config.response_format or {})],
            default=str,
            option=orjson.OPT_NON_STR_KEYS,
        )
        # Tools and schemas are read with every prompt.
        self._fixed = len(extras)
        # These two write to their cache where they are asked to, others (gpt-6) as they like.
        asks = config.provider in ("anthropic", "bedrock")
        self._may_write = not asks or b"cache" in extras.lower()

    @staticmethod
    def _checked(config: ModelConfig, price: Price | None, embeds: bool) -> Price:
        known = price is not None and price.input_usd_per_mtok is not None
        if price is None or not known or (price.output_usd_per_mtok is None and not embeds):
            both = "input_usd_per_mtok" if embeds else "input_usd_per_mtok and output_usd_per_mtok"
            raise ConfigError(
                f"Model {config.name!r}: its price is not known, so no budget (max_cost_usd) can be kept. "
                f"Give it {both}, 0 for a server of your own, or leave the budget out."
            )
        return price

    def usd(self, messages: Sequence[Mapping[str, str]] | ChatRequest) -> float:
        """The most dollars that the answer to chat messages can cost."""
        return self._of(most_read(messages))

    def of_texts(self, texts: Sequence[str]) -> float:
        """The most dollars that the embeddings of texts can cost."""
        return self._of(sum(len(text.encode("utf-8", "replace")) + MESSAGE_TOKENS for text in texts))

    def of_bytes(self, count: int) -> float:
        """The most dollars of a call that reads so many bytes."""
        return self._of(count)

    @property
    def answer_bytes(self) -> int:
        """About how long the longest answer is."""
        return 4 * self._written

    def _of(self, read: int) -> float:
        read += self._fixed
        written = cost_usd(self.price, read, self._written) or 0.0
        if not self._may_write:
            return written
        costs = (
            cost_usd(self.price, read, self._written, cache_write=read, for_an_hour=n) for n in (0, read)
        )
        return max(written, *(usd or 0.0 for usd in costs))


def _limit(config: ModelConfig) -> int:
    most = most_written(config)
    if most is None:
        raise ConfigError(
            f"Model {config.name!r}: how many tokens it may write is not known, so no budget (max_cost_usd) "
            "can be kept: give it max_tokens."
        )
    return most


@functools.lru_cache(maxsize=256)
def _worst(name: str, public: bytes, embeds: bool) -> WorstCase:
    return WorstCase(ModelConfig.model_validate(orjson.loads(public)), embeds=embeds)


def worst_case(config: ModelConfig, *, embeds: bool = False) -> WorstCase:
    """As `WorstCase`, made once for each configuration.

    Raises:
        ConfigError: the model's price, or how much it may write, is not known.
    """
    return _worst(config.name, orjson.dumps(config.public(), default=str), embeds)
