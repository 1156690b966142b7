"""Parts that every provider shares: its key, its retries and the number of its calls in flight."""

from __future__ import annotations

import asyncio
import json
import math
import os
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple, TypeVar

import orjson

from promptlab.clock import SystemClock
from promptlab.domain.masking import hidden, remember
from promptlab.domain.messages import Part, Text, read_messages, text_message
from promptlab.domain.model_config import ModelConfig, misplaced
from promptlab.domain.prices import cost_of, cost_usd, price_of
from promptlab.domain.results import MAX_SAID, ModelResponse, described
from promptlab.domain.secrets import OWN_HOSTS, Secret, check_variable, host_given, secret_variable
from promptlab.domain.texts import storable
from promptlab.domain.tokens import Needed
from promptlab.errors import ConfigError, MissingKeyError, ModelError
from promptlab.models.allowance import asking
from promptlab.models.answers import json_beginning, said, without_tags
from promptlab.models.base import Messages, Model
from promptlab.models.failures import message_of, request_id, trim
from promptlab.models.retry import RetryPolicy, Slot, with_retries
from promptlab.models.usage import note_answer, note_call
from promptlab.outbound import Outbound
from promptlab.ports import Clock, RateLimiter

T = TypeVar("T")
NO_HEADERS: Mapping[str, str] = {}


class Key(NamedTuple):
    """A key, and where it may go."""

    value: str
    source: str
    """Where it stands, for messages."""
    hosts: tuple[str, ...] | None
    """Origins that it may be sent to; None: whoever gave it also said where calls go."""
    remedy: str = ""
    """What to do where it may not be sent to an endpoint."""
    default: bool = False
    """Nobody named it: it is the provider's variable, and is set."""


class Spent(NamedTuple):
    """The usage of one call, as its answer states it."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    """Dollars; None leaves them to the price table."""
    cached_tokens: int | None = None
    """How many of `prompt_tokens` came from the provider's cache."""
    cache_write_tokens: int | None = None
    """How many of `prompt_tokens` went into the provider's cache."""
    reasoning_tokens: int | None = None
    """How many of `completion_tokens` were thought and not said."""


class Probe(NamedTuple):
    """The answer to the cheapest call that tells whether a model can be used."""

    words: str
    """What was called."""
    headers: Mapping[str, str] = NO_HEADERS
    models: tuple[str, ...] | None = None
    """The models that the endpoint lists; None where it lists none."""


TELLS: ContextVar[Callable[[Model, RateLimiter], RateLimiter] | None] = ContextVar(
    "promptlab_tells", default=None
)
"""What gives the calls of a metric a limiter that tells its model's own how they went; None: nobody."""


class Gate:
    """A `RateLimiter` of fixed size, for calls outside of a run."""

    def __init__(self, size: int) -> None:
        self._places = asyncio.Semaphore(size)

    async def acquire(self, needed: Needed | None = None) -> None:
        await self._places.acquire()

    def release(self) -> None:
        self._places.release()

    async def pause(self, seconds: float, clock: Clock) -> None:
        """Nobody ends these calls but their caller."""
        await clock.sleep(seconds)

    def spread_s(self) -> float:
        """Without end: nothing else paces these calls."""
        return math.inf

    def succeeded(self, start: None) -> None:
        """The size is fixed."""

    def throttled(self, start: None, wait_s: float | None = None) -> None:
        """The size is fixed."""

    def hear(self, start: None, headers: Mapping[str, str]) -> None:
        """The size is fixed."""

    def settle(self, start: None, used: float, written: float) -> None:
        """Tokens are not counted."""

    def timed_out(self, start: None) -> None:
        """The size is fixed."""

    def failed(self) -> None:
        """The size is fixed."""


_BODY: ContextVar[Any] = ContextVar("promptlab_raw_body", default=None)
"""The body of the answer that is read now, of a model that keeps it."""
MOST_RAW = 64 << 10
"""Characters of JSON of a body that is kept whole; of a longer one its beginning is kept, as text."""


def _raw() -> dict[str, Any]:
    """Give what a model with `keep_raw` keeps of the body that is read."""
    if (body := _BODY.get()) is None:
        return {}
    text = json_beginning(body, MOST_RAW + 1)
    if len(text) > MOST_RAW:
        return {"raw": storable(text[:MOST_RAW] + "…")}
    return {"raw": json.loads(storable(text))}


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
    refused_extras: ClassVar[tuple[str, ...]] = ("stream_options",)
    speaks: ClassVar[tuple[str, ...]] = ()
    """The protocols among which `api` chooses."""
    reads_streams: ClassVar[bool] = False
    """Whether an answer may come as a stream of events."""
    known_extras: ClassVar[Collection[str]] = ()
    """Parameters of the provider's own that have names like ours."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Also a package's own provider, whose calls a budget counts as it counts ours.
        for name in ("achat", "_embed_batch"):
            if name in cls.__dict__:
                setattr(cls, name, asking(cls.__dict__[name], embeds=name == "_embed_batch"))

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config)
        self._clock: Clock = clock or SystemClock()
        self._secret: Secret | None = None
        self.outbound = Outbound.from_environment(os.environ)
        self._gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = weakref.WeakKeyDictionary()
        self._check_extras()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _check_extras(self) -> None:
        extras = self.config.extra_params
        if self.config.api is not None and self.config.api not in self.speaks:
            raise ConfigError(
                f"Model {self.name!r}: api {self.config.api!r} is for providers that speak OpenAI's protocol"
            )
        if self.config.stream and not self.reads_streams:
            raise ConfigError(
                f"Model {self.name!r}: stream is for providers that speak OpenAI's protocol or Anthropic's: "
                "leave it out"
            )
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

    def guard(self, outbound: Outbound) -> None:
        """Set which addresses calls may reach; without, those of a machine of one's own.

        Raises:
            ConfigError: the configuration cannot be had under these rules.
        """
        self.outbound = outbound

    def use_secret(self, secret: Secret) -> None:
        """Set the key that a secret store gave; it goes before every other source."""
        self._secret = Secret(self._usable(secret.value, "the secret"), secret.hosts)
        remember(self._secret.value)

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """Origins that belong to the provider itself, to which its keys may go by default."""
        return tuple(map(host_given, OWN_HOSTS.get(self.config.provider, ())))

    @property
    def _environment_hosts(self) -> tuple[str, ...]:
        """Origins that this machine's environment names for the provider, beside its key."""
        return ()

    @property
    def _key_is_required(self) -> bool:
        return self.config.endpoint is None and self.key_variable is not None

    def _find_key(self) -> Key | None:
        """The key, or None where none is needed.

        Raises:
            MissingKeyError: a key is needed, or a variable was named, and there is none.
            ConfigError: the key holds a character that no HTTP header can carry, or its variable may not be
                named.
        """
        config = self.config
        if self._secret is not None:
            name = config.api_key_secret or "NAME"
            remedy = f"promptlab cloud secrets set {name} --host HOST binds it to another."
            hosts = self._secret.hosts
            # A secret without hosts of its own is its provider's, whatever it is called.
            return Key(self._secret.value, "the secret", self.own_hosts if hosts == () else hosts, remedy)
        given = config.api_key.get_secret_value() if config.api_key else ""
        if given:
            return Key(self._usable(given, "api_key"), "api_key", None)
        named = config.api_key_env
        if named is None and config.api_key_secret:
            named = secret_variable(config.api_key_secret, os.environ)
        if self.outbound.hosted:
            # The environment of a deployed lab's functions holds AWS credentials, and no provider's key.
            if named or self._key_is_required:
                raise MissingKeyError(self.name, str(named or self.key_variable))
            return None
        if named:
            check_variable(named, os.environ)
        variable = str(named or self.key_variable or "")
        if found := os.environ.get(variable, "").strip():
            hosts = None if named else (*self.own_hosts, *self._environment_hosts)
            remedy = f"If it is meant to go there, say so: api_key_env: {variable}."
            source = f"the environment variable {variable}"
            return Key(self._usable(found, source), source, hosts, remedy, default=not named)
        if named or self._key_is_required:
            raise MissingKeyError(self.name, variable)
        return None

    def _counted_by(self) -> tuple[str, ...]:
        try:
            key = self._find_key()
        except ConfigError:
            key = None  # the call itself says so
        return (*super()._counted_by(), key.value if key else "")

    def _usable(self, key: str, source: str) -> str:
        key = key.strip()
        bad = next((i for i, char in enumerate(key, 1) if not "!" <= char <= "~"), None)
        if bad is not None or not key:
            problem = f"character {bad} of it is a space or not ASCII" if bad else "it is empty"
            raise ConfigError(
                f"Model {self.name!r}: the API key in {source} cannot be sent: {problem}. Copy it again "
                "from the provider."
            )
        remember(key)
        return key

    @property
    def probe_words(self) -> str:
        """What `probe` calls."""
        return "a call with max_tokens 1"

    async def probe(self) -> Probe:
        """Make the cheapest call that tells whether the key is accepted: one that lists models where the
        provider has such a one, else one that is asked for a token.

        Raises:
            ModelError: it failed.
            MissingKeyError: a key is needed and there is none.
        """
        config = self.config.model_copy(update={"max_tokens": 1})
        model = type(self)(config, clock=self._clock)
        if self._secret is not None:
            model.use_secret(self._secret)
        model.guard(self.outbound)
        try:
            await model.achat([{"role": "user", "content": "Hi"}])
        finally:
            await model.aclose()
        return Probe("a call with max_tokens 1")

    def ways(self) -> list[str]:
        """Say where calls go."""
        return []

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer one prompt, with retries.

        Raises:
            ModelError: every attempt failed.
            MissingKeyError: a key is needed and there is none.
        """
        return await self._asked(lambda: super(ProviderModel, self).ainvoke(system_prompt, user_prompt))

    async def ask(self, messages: Messages) -> ModelResponse:
        """Answer a list of chat messages, with retries.

        Raises:
            ModelError: every attempt failed.
            MissingKeyError: a key is needed and there is none.
        """
        return await self._asked(lambda: self.achat(messages))

    def formed(self, response_format: Mapping[str, Any]) -> ProviderModel:
        """Make a model whose answers have a form, with this one's key and over its connections.

        Raises:
            ConfigError: the provider has no such form.
        """
        config = self.config.model_copy(update={"response_format": response_format})
        made = type(self)(config, clock=self._clock)
        made.guard(self.outbound)
        made._secret, made._gates = self._secret, self._gates
        return made

    async def _asked(self, attempt: Callable[[], Awaitable[ModelResponse]]) -> ModelResponse:
        answer = await self._retried(attempt)
        messages = [message.to_json() for message in answer.messages if not message.is_plain]
        found = [answer.response, dict(answer.metadata), messages]
        if (clean := hidden(found)) is not found:
            answer.response, answer.metadata, messages = clean
            answer.messages = read_messages(messages) or (text_message("assistant", answer.response),)
        if answer.cost_usd is None:
            answer.cost_usd = cost_of(price_of(self.config), answer)
        return answer

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts, with retries: one vector a text, in order. An empty text counts as one space:
        providers refuse it.

        Raises:
            ModelError: every attempt failed, or the provider has no embeddings.
            MissingKeyError: a key is needed and there is none.
        """
        vectors: list[list[float]] = []
        for batch in _batches([text or " " for text in texts], self.batch_texts, self.batch_chars):
            vectors += await self._retried(lambda batch=batch: self._embed_batch(batch))  # type: ignore[misc]
        return vectors

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        """Embed texts with one request; a provider without embeddings says so.

        Raises:
            ModelError: the call failed, or the provider has no embeddings.
        """
        return await super().aembed(texts)

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
    def reading(self, body: Any, headers: Mapping[str, str] = NO_HEADERS) -> Iterator[None]:
        """In the block a whole answer is read; it may be of any form, with null or a text where the provider
        has an object.

        Raises:
            ModelError: it is not of the provider's form.
        """
        token = _BODY.set(body) if self.config.keep_raw else None
        try:
            yield
        except ModelError as error:
            self._note_failed(error, body, headers)
            raise
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            broken = self.invalid(f"not of the provider's form ({described(error)})", body)
            self._note_failed(broken, body, headers)
            raise broken from error
        finally:
            if token is not None:
                _BODY.reset(token)

    def _note_failed(self, error: ModelError, body: Any, headers: Mapping[str, str]) -> None:
        """Write down what came back in place of an answer, and what it was billed."""
        error.said = error.said or json_beginning(body, MAX_SAID)
        error.request_id = error.request_id or request_id(headers)
        with suppress(AttributeError, TypeError):  # a body of any form
            spent = self._usage(body, headers)
            read, written, usd = spent.prompt_tokens, spent.completion_tokens, spent.cost_usd
            if read is None and written is None and usd is None:
                return
            error.prompt_tokens, error.completion_tokens = read, written
            error.cost_usd = self._dollars(spent) if usd is None else usd
            note_call(self.config, read, written, error.cost_usd)

    def _usage(self, body: Any, headers: Mapping[str, str]) -> Spent:
        """Read the usage that an answer states."""
        return Spent(None, None, None)

    def _dollars(self, spent: Spent, tier: str | None = None) -> float | None:
        """Return what a call's tokens cost by the price table."""
        price, cached, written = (
            price_of(self.config, tier=tier),
            spent.cached_tokens,
            spent.cache_write_tokens,
        )
        return cost_usd(price, *spent[:2], cached=cached, cache_write=written)

    def answered(
        self,
        parts: Sequence[Part],
        spent: Spent,
        *,
        finish: Any = None,
        latency_ms: float | None = None,
        metadata: Mapping[str, Any] = NO_HEADERS,
    ) -> ModelResponse:
        """Make the answer of what a model said, and count it where somebody counts.

        Args:
            parts: its parts, in their order.
            spent: its usage.
            finish: the reason why the model stopped.
            latency_ms: milliseconds that the call took.
            metadata: what else is worth keeping.
        """
        if (tag := self.config.reasoning_tags) is not None:
            parts = [
                new
                for part in parts
                for new in (without_tags(part.content, tag) if isinstance(part, Text) else (part,))
            ]
        text = "".join(part.content for part in parts if isinstance(part, Text))
        found = said(text, parts, finish if isinstance(finish, str) else None)
        return note_answer(
            self.config,
            ModelResponse(
                response=found.text,
                messages=found.messages,
                prompt_tokens=spent.prompt_tokens,
                completion_tokens=spent.completion_tokens,
                cached_tokens=spent.cached_tokens,
                cache_write_tokens=spent.cache_write_tokens,
                reasoning_tokens=spent.reasoning_tokens,
                latency_ms=latency_ms,
                cost_usd=spent.cost_usd,
                finish_reason=finish,
                metadata={**found.metadata, **metadata, **_raw()},
            ),
        )

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        gate = self._gates.setdefault(loop, Gate(self.config.max_concurrent_tasks))
        tells = TELLS.get()
        async with Slot(gate if tells is None else tells(self, gate)) as slot:
            answer, _ = await with_retries(
                attempt, RetryPolicy.of(self.config.max_retries), clock=self._clock, slot=slot
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
