"""Usage of the calls that user code makes by itself: a judge's, an embedding model's, an agent's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_of, cost_usd, price_of
from promptlab.domain.results import ModelResponse, Usage
from promptlab.domain.spending import spent

_COUNTED: ContextVar[Usage | None] = ContextVar("promptlab_usage", default=None)


@contextmanager
def counted(usage: Usage | None = None) -> Iterator[Usage]:
    """Count the calls to built-in models that are made in the block, in whichever thread or task they end up.

    Args:
        usage: what to count in; by default a new one.
    """
    usage = Usage() if usage is None else usage
    token = _COUNTED.set(usage)
    try:
        yield usage
    finally:
        _COUNTED.reset(token)


def usage_here() -> Usage | None:
    """Give what the calls of the running code are counted in; None where nobody counts."""
    return _COUNTED.get()


def note_answer(config: ModelConfig, answer: ModelResponse) -> ModelResponse:
    """Count an answer, if anybody counts; gives it back."""
    if _COUNTED.get() is not None:
        usd = cost_of(price_of(config), answer)
        note_call(config, answer.prompt_tokens, answer.completion_tokens, usd)
    return answer


def note_usage(used: Usage) -> None:
    """Count what calls elsewhere used, if anybody counts."""
    if (usage := _COUNTED.get()) is not None:
        usage.add(used)


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
        usage.add_calls(1, spent(prompt_tokens, completion_tokens, usd))
