"""What the turns of a conversation make of an estimate: each reads all that was said before it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from promptlab.cloud.sampled import LikelyRange, times_by_limit
from promptlab.domain.chat import Prompt, ends_with_user
from promptlab.domain.conversation import Conversation
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_usd, price_of
from promptlab.domain.tokens import chat_tokens
from promptlab.domain.worst_case import most_read, worst_case
from promptlab.errors import ConfigError, TemplateError

SAID_TOKENS = 40
"""Tokens of a message of a simulated user: one short message."""
INSTRUCTION_TOKENS = 250
"""Tokens of what a simulated user is told, besides the conversation."""
SAID_BYTES = 4_000
"""The longest message of a simulated user that the worst case counts with, where its model says no less."""


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of a case, with the tokens of all of them."""

    count: LikelyRange
    """Answers of the model."""
    prompt_tokens: LikelyRange
    answer_tokens: LikelyRange
    user_usd: LikelyRange | None
    """What the simulated user costs a case; None where there is none, or its price is not known."""

    def times_by_limit(
        self, model: ModelConfig, cases: int, latency_s: LikelyRange, tokens: LikelyRange
    ) -> dict[str, LikelyRange]:
        """Seconds that each limit of a model makes a run take on one machine, at least; latency and tokens
        are those of a case. The calls of a case are one after the other: it holds one place."""
        calls, places = self.count.expected, model.max_concurrent_tasks
        of_call = times_by_limit(model, round(cases * calls), latency_s, tokens.times(1 / calls))
        return of_call | {"max_concurrent_tasks": latency_s.times(cases / min(cases, places))}


def turns_of(
    conversation: Conversation,
    rows: Sequence[Mapping[str, Any]],
    prompts: Sequence[Prompt],
    read: LikelyRange,
    written: LikelyRange,
) -> Turns:
    """Estimate the turns of a case.

    A user whose messages are given has as many turns as these, and one more where the prompt ends with what
    the user says first; fewer where a condition ends the conversation. A simulated one has one at least and
    `max_turns` at most: half of that is expected.

    Args:
        conversation: whose turns.
        rows: some rows of the dataset.
        prompts: what the model is asked first for them.
        read: tokens of the prompt.
        written: tokens of an answer.
    """
    texts = [said for row in rows if (said := _said(conversation, row))]
    most, asked = conversation.max_turns, all(map(ends_with_user, prompts))
    if conversation.user_turns is not None and texts:
        mean = statistics.fmean(min(most, len(said) + asked) for said in texts)
        count = LikelyRange(1.0 if conversation.stopping_condition else mean, mean, mean)
    else:
        count = LikelyRange(1.0, (1 + most) / 2, float(most))
    each = [chat_tokens([{"role": "user", "content": text}]) for said in texts for text in said]
    said_tokens = statistics.fmean(each) if each else float(SAID_TOKENS)
    reads, writes, costs = list[float](), list[float](), list[float | None]()
    user = conversation.simulated_user
    for name in ("low", "expected", "high"):
        n, prompt, answer = getattr(count, name), getattr(read, name), getattr(written, name)
        before = said_tokens * n * (n + 1 - 2 * asked) / 2 + answer * n * (n - 1) / 2
        reads.append(n * prompt + before)
        writes.append(n * answer)
        if user is not None:
            price = price_of(user.model)
            costs.append(cost_usd(price, round(n * INSTRUCTION_TOKENS + before), round(n * SAID_TOKENS)))
    known = [usd for usd in costs if usd is not None]
    return Turns(
        count,
        LikelyRange(*reads),
        LikelyRange(*writes),
        LikelyRange(*known) if len(known) == len(reads) else None,
    )


def _said(conversation: Conversation, row: Mapping[str, Any]) -> Sequence[str]:
    """The user's messages for a row; none where they are not texts, which the run says."""
    with suppress(TemplateError):
        return conversation.texts(row)
    return ()


def worst_turns_usd(
    conversation: Conversation, model: ModelConfig, prompts: Sequence[Prompt], cases: int
) -> float | None:
    """The most that all calls of conversations can cost, of `max_turns` each; None where a price, or how much
    a model may write, is not known."""
    user = conversation.simulated_user
    try:
        worst = worst_case(model)
        other = worst_case(user.model) if user is not None else None
    except ConfigError:
        return None
    first = max(most_read(messages) for messages in prompts)
    said = other.answer_bytes if other is not None else SAID_BYTES
    total = 0.0
    for turn in range(conversation.max_turns):
        before = first + turn * worst.answer_bytes + (turn + 1) * said
        total += worst.of_bytes(before) + (other.of_bytes(before) if other is not None else 0.0)
    return total * cases
