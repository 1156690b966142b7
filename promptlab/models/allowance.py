"""What calls of models may still cost: each asks before it is made, wherever it is made from."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from promptlab.domain.chat import Prompt
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_of, price_of
from promptlab.domain.results import ModelResponse, Usage
from promptlab.domain.worst_case import worst_case
from promptlab.errors import ModelError
from promptlab.models.base import Model
from promptlab.models.usage import counted, note_answer, note_usage

T = TypeVar("T")


class Allowance(Protocol):
    """Gives out dollars, and takes back what was not spent."""

    async def reserve(self, usd: float) -> None:
        """Wait until so many dollars may be spent.

        Raises:
            Postponed: they may not, for now or for good.
        """

    def settle(self, reserved: float, spent: float) -> None:
        """Say what was spent of what was reserved."""

    def prepaid(self, usd: float) -> None:
        """Say what an answer cost that was paid for before, in a batch."""


class Answers(Protocol):
    """Gives answers of before again, and keeps new ones."""

    async def find(self, model: Model, messages: Prompt) -> ModelResponse | None:
        """The answer to an equal request of before; None where there is none."""

    async def keep(self, model: Model, messages: Prompt, answer: ModelResponse) -> None:
        """Keep an answer."""

    def of_trial(self, trial: int) -> Answers:
        """The answers of another trial."""


CACHED: ContextVar[Answers | None] = ContextVar("promptlab_cached", default=None)
"""Where the chat calls of judges, agents and other code of users look for an answer of before; None:
nowhere."""
ALLOWANCE: ContextVar[Allowance | None] = ContextVar("promptlab_allowance", default=None)
"""Where the calls of built-in models ask that judges, agents and other code of users make; None: nowhere.
The call of the model under test itself is reserved by the engine."""


@contextmanager
def remembering(answers: Answers | None) -> Iterator[None]:
    """In the block, chat calls of built-in models are answered by answers of before; None: by none."""
    token = CACHED.set(answers)
    try:
        yield
    finally:
        CACHED.reset(token)


@contextmanager
def allowed(allowance: Allowance) -> Iterator[None]:
    """In the block, calls of built-in models ask an allowance, in whichever thread or task they end up."""
    token = ALLOWANCE.set(allowance)
    try:
        yield
    finally:
        ALLOWANCE.reset(token)


async def within(
    allowance: Allowance, config: ModelConfig, usd: float, attempt: Callable[[], Awaitable[T]]
) -> T:
    """Make one call of a model, of at most `usd` dollars, once they may be spent.

    Whatever may have been charged counts in full: a call that was lost, or whose answer has no price.

    Raises:
        Postponed: they may not be spent.
        Exception: whatever the call raised.
    """
    await allowance.reserve(usd)
    spent, token, used = usd, ALLOWANCE.set(None), Usage()
    try:
        with counted(used):
            answer = await attempt()
        spent = _spent(config, answer, used, usd)
        return answer
    except ModelError as error:
        spent = usd if error.cost_usd is None else error.cost_usd
        if error.cost_usd is None and error.refused:
            spent = 0.0
        raise
    finally:
        ALLOWANCE.reset(token)
        if used.calls:
            note_usage(used)
        allowance.settle(usd, spent)


def _spent(config: ModelConfig, answer: object, used: Usage, worst: float) -> float:
    if isinstance(answer, ModelResponse):
        usd = cost_of(price_of(config), answer)
        return worst if usd is None else usd
    return worst if used.cost_usd is None or used.unknown_cost or not used.calls else used.cost_usd


def asking(call: Callable[..., Awaitable[Any]], *, embeds: bool) -> Callable[..., Awaitable[Any]]:
    """A provider's method that makes one call, which asks before it where there is somebody to ask.

    Args:
        call: `achat(self, messages)` or `_embed_batch(self, texts)`.
        embeds: which of the two it is.
    """

    @functools.wraps(call)
    def asked(self: Any, what: Any) -> Awaitable[Any]:
        allowance, answers = ALLOWANCE.get(), None if embeds else CACHED.get()
        if allowance is None and answers is None:
            return call(self, what)
        paid = _paid(call, self, what, allowance, embeds)
        return paid() if answers is None else _remembered(answers, self, what, paid)

    return asked


def _paid(
    call: Callable[..., Awaitable[Any]], model: Model, what: Any, allowance: Allowance | None, embeds: bool
) -> Callable[[], Awaitable[Any]]:
    """The call, within the allowance if there is one."""
    if allowance is None:
        return lambda: call(model, what)

    def paid() -> Awaitable[Any]:
        worst = worst_case(model.config, embeds=embeds)
        usd = worst.of_texts(what) if embeds else worst.usd(what)
        return within(allowance, model.config, usd, lambda: call(model, what))

    return paid


async def _remembered(
    answers: Answers, model: Model, messages: Prompt, call: Callable[[], Awaitable[Any]]
) -> Any:
    """An answer of before, or a new one, which is kept."""
    found = await answers.find(model, messages)
    if found is not None:
        return note_answer(model.config, found)
    answer = await call()
    await answers.keep(model, messages, answer)
    return answer
