"""Parts that every provider shares: its key, its retries and the number of its calls in flight."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import orjson

from promptlab.clock import SystemClock
from promptlab.domain.model_config import ModelConfig, misplaced
from promptlab.domain.prices import cost_usd, price_of
from promptlab.domain.results import ModelResponse, described
from promptlab.errors import ConfigError, MissingKeyError, ModelError
from promptlab.models.base import Model
from promptlab.models.failures import message_of, trim
from promptlab.models.retry import RetryPolicy, Slot, with_retries
from promptlab.ports import Clock

T = TypeVar("T")


class Gate:
    """A `RateLimiter` of fixed size, for calls outside of a run."""

    def __init__(self, size: int) -> None:
        self._places = asyncio.Semaphore(size)

    async def acquire(self) -> None:
        await self._places.acquire()

    def release(self) -> None:
        self._places.release()

    def succeeded(self) -> None:
        """The size is fixed."""

    def throttled(self) -> None:
        """The size is fixed."""

    def failed(self) -> None:
        """The size is fixed."""


class ProviderModel(Model):
    """A built-in model. A provider writes `achat` (one attempt) and, if it embeds, `_embed_batch`.

    `ainvoke` and `aembed` retry as `config.max_retries` says, with at most
    `config.max_concurrent_tasks` calls in flight; `achat` does neither, for the engine does both.
    """

    key_variable: ClassVar[str | None] = None
    """The environment variable that holds the key by default."""
    batch_texts: ClassVar[int] = 128
    """Texts in one embedding request at most."""
    batch_chars: ClassVar[int] = 300_000
    """Characters in one embedding request at most (one text may be longer)."""
    refused_extras: ClassVar[tuple[str, ...]] = ("stream", "stream_options")
    known_extras: ClassVar[Collection[str]] = ()
    """Parameters of the provider's own that have names like ours."""

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config)
        self._clock: Clock = clock or SystemClock()
        self._key: str | None = None
        self._gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = weakref.WeakKeyDictionary()
        self._check_extras()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _check_extras(self) -> None:
        extras = self.config.extra_params
        for name in self.refused_extras:
            if name in extras:
                raise ConfigError(
                    f"Model {self.name!r}: {name!r} is not supported, for answers are read whole: leave it "
                    "out"
                )
        for name in extras:
            if name not in self.known_extras and (remedy := misplaced(name)):
                raise ConfigError(
                    f"Model {self.name!r}: {name!r} is no parameter of a provider and is not sent to one: "
                    f"{remedy}"
                )
        try:
            orjson.dumps(extras, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            raise ConfigError(f"Model {self.name!r}: its parameters must be JSON: {error}") from None

    def use_key(self, key: str) -> None:
        """Set the key that a secret store gave; it goes before every other source."""
        self._key = self._usable(key, "the secret")

    @property
    def _key_is_required(self) -> bool:
        return self.config.endpoint is None and self.key_variable is not None

    def _find_key(self) -> str | None:
        """The key, or None where none is needed.

        Raises:
            MissingKeyError: a key is needed, or a variable was named, and there is none.
            ConfigError: the key holds a character that no HTTP header can carry.
        """
        if self._key is not None:
            return self._key
        given = self.config.api_key.get_secret_value() if self.config.api_key else ""
        if given:
            return self._usable(given, "api_key")
        variable = self.config.api_key_env or self.config.api_key_secret
        found = os.environ.get(variable or self.key_variable or "", "").strip()
        if found:
            return self._usable(found, f"the environment variable {variable or self.key_variable}")
        if variable or self._key_is_required:
            raise MissingKeyError(self.name, str(variable or self.key_variable))
        return None

    def _usable(self, key: str, source: str) -> str:
        key = key.strip()
        bad = next((i for i, char in enumerate(key, 1) if not "!" <= char <= "~"), None)
        if bad is not None or not key:
            problem = f"character {bad} of it is a space or not ASCII" if bad else "it is empty"
            raise ConfigError(
                f"Model {self.name!r}: the API key in {source} cannot be sent: {problem}. Copy it again "
                "from the provider."
            )
        return key

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer one prompt, with retries.

        Raises:
            ModelError: every attempt failed.
            MissingKeyError: a key is needed and there is none.
        """
        answer = await self._retried(lambda: super(ProviderModel, self).ainvoke(system_prompt, user_prompt))
        if answer.cost_usd is None:
            answer.cost_usd = cost_usd(price_of(self.config), answer.prompt_tokens, answer.completion_tokens)
        return answer

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts, with retries: one vector a text, in order. An empty text counts as one space:
        providers refuse it.

        Raises:
            ModelError: every attempt failed, or the provider has no embeddings.
            MissingKeyError: a key is needed and there is none.
        """
        if type(self)._embed_batch is ProviderModel._embed_batch:
            return await super().aembed(texts)
        vectors: list[list[float]] = []
        for batch in _batches([text or " " for text in texts], self.batch_texts, self.batch_chars):
            vectors += await self._retried(lambda batch=batch: self._embed_batch(batch))  # type: ignore[misc]
        return vectors

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def invalid(self, why: str, got: Any = "") -> ModelError:
        """The error for an answer 200 that holds no answer."""
        said = trim(got if isinstance(got, str) else message_of(got)[0])[:200]
        return ModelError(
            f"{self.name}: the answer is {why}" + (f": {said!r}" if said else ""),
            type="invalid_response",
            status=200,
            retryable=True,
        )

    @contextmanager
    def reading(self, body: Any) -> Iterator[None]:
        """In the block a whole answer is read; it may be of any form, with null or a text where the provider
        has an object.

        Raises:
            ModelError: it is not of the provider's form.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise self.invalid(f"not of the provider's form ({described(error)})", body) from error

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        gate = self._gates.setdefault(loop, Gate(self.config.max_concurrent_tasks))
        async with Slot(gate) as slot:
            answer, _ = await with_retries(
                attempt, RetryPolicy(self.config.max_retries), clock=self._clock, slot=slot
            )
        return answer


def _batches(texts: list[str], most_texts: int, most_chars: int) -> list[list[str]]:
    batches: list[list[str]] = []
    chars = 0
    for text in texts:
        if not batches or len(batches[-1]) >= most_texts or chars + len(text) > most_chars:
            batches.append([])
            chars = 0
        batches[-1].append(text)
        chars += len(text)
    return batches
