"""What calls use that a metric makes by itself: a judge's, an embedding model's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_usd, price_of
from promptlab.domain.results import ModelResponse, Usage

_COUNTED: ContextVar[Usage | None] = ContextVar("promptlab_usage", default=None)


@contextmanager
def counted() -> Iterator[Usage]:
    """Counts the calls to built-in models that are made in the block, in whichever thread or task they end up."""
    usage = Usage()
    token = _COUNTED.set(usage)
    try:
        yield usage
    finally:
        _COUNTED.reset(token)


def note_answer(config: ModelConfig, answer: ModelResponse) -> ModelResponse:
    """Count an answer, if anybody counts; gives it back."""
    note_call(config, answer.prompt_tokens, answer.completion_tokens, answer.cost_usd)
    return answer


def note_call(
    config: ModelConfig,
    prompt_tokens: int | None,
    completion_tokens: int | None = 0,
    usd: float | None = None,
) -> None:
    """Count a call, if anybody counts; without dollars of its own it costs what the price table says."""
    usage = _COUNTED.get()
    if usage is not None:
        usd = cost_usd(price_of(config), prompt_tokens, completion_tokens) if usd is None else usd
        usage.add(
            Usage(
                calls=1,
                prompt_tokens=prompt_tokens or 0,
                completion_tokens=completion_tokens or 0,
                cost_usd=usd,
            )
        )
