"""Answers of before: an equal request is answered from the ledger, and costs nothing."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.masking import hidden
from promptlab.domain.messages import beyond_text, read_messages
from promptlab.domain.model_config import CacheConfig
from promptlab.domain.records import CACHE, CACHE_EPOCH, Swap
from promptlab.domain.results import ModelResponse, RunRecord
from promptlab.engine.keyless import with_words, words_of
from promptlab.engine.limits import models_of
from promptlab.errors import ConfigError
from promptlab.models.base import Model
from promptlab.ports import Records

MOST_ENTRIES = 1_000_000
"""Answers that are kept at most: then all of them are forgotten, and it begins anew."""
MOST_BYTES = 64 << 10
"""The longest answer that is kept, as JSON."""
COUNTED = 100
"""How many answers one write to the counter of them stands for."""
DAY_S = 86_400.0
_EPOCH = "epoch"
_TOKENS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")


def request_key(model: Model, messages: Prompt, trial: int) -> str:
    """The SHA-256 of all that an answer depends on: where it comes from, the model, its parameters, the
    messages and the trial."""
    config = model.config
    given: dict[str, Any] = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "endpoint": getattr(model, "endpoint", None) or config.endpoint,
        "name": config.name,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
        "response_format": config.response_format and dict(config.response_format),
        "api_version": config.api_version,
        "more": config.extra_params,
        "messages": messages.to_json() if isinstance(messages, ChatRequest) else list(messages),
        "trial": trial,
        **{name: value for name in ("api", "reasoning_tags") if (value := getattr(config, name)) is not None},
    }
    flags = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(given, option=flags, default=_plain)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


@dataclass(slots=True)
class AnswerCache:
    """The cache of one project, as one run uses it."""

    records: Records
    epoch: int
    days: float | None
    """For how many days the run has answers kept, where their model does not say; None: not at all."""
    _uncounted: int = 0

    def days_of(self, model: Model) -> float | None:
        """For how many days an answer of a model is kept; None: it is not."""
        own = model.config.cache
        return self.days if own is None else own.expires_days if isinstance(own, CacheConfig) else None

    async def find(self, model: Model, messages: Prompt, trial: int) -> ModelResponse | None:
        """The answer to an equal request of before, which costs nothing now; None where there is none."""
        if self.days_of(model) is None:
            return None
        found = await self.records.get_record(CACHE, self._key(model, messages, trial))
        if found is None:
            return None
        more: dict[str, Any] = {name: found.get(name) for name in _TOKENS}
        if "messages" in found:
            more["messages"] = read_messages(found["messages"])
        return ModelResponse(
            **more,
            response=str(found.get("response", "")),
            prompt_tokens=found.get("prompt_tokens"),
            completion_tokens=found.get("completion_tokens"),
            cost_usd=0.0,
            finish_reason=found.get("finish_reason"),
            metadata=found.get("metadata") or {},
        )

    async def keep(self, model: Model, messages: Prompt, trial: int, answer: ModelResponse) -> None:
        """Keep an answer, unless it is too long."""
        days = self.days_of(model)
        if days is None:
            return
        # As recorded: without any key that an endpoint or code of a user sent back.
        said = beyond_text(answer.messages)
        text, metadata, parts = hidden([answer.response, dict(answer.metadata), words_of(said)])
        more = {"messages": [m.to_json() for m in with_words(said, parts)]} if said else {}
        more |= {name: count for name in _TOKENS if (count := getattr(answer, name)) is not None}
        value = more | {
            "response": text,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "finish_reason": answer.finish_reason,
            "metadata": metadata,
        }
        if answer.trace is not None:
            return  # an agent's, whose trace says what it did at that time
        with suppress(TypeError):  # metadata of a model of a user's own that is not JSON
            if len(orjson.dumps(value)) > MOST_BYTES:
                return
            key = self._key(model, messages, trial)
            await self.records.put_record(CACHE, key, value, expires_at=time.time() + days * DAY_S)
            self._uncounted += 1
            if self._uncounted >= COUNTED:
                await self.close()

    async def close(self) -> None:
        """Count what was kept; where that is too much, have all of it forgotten."""
        kept, self._uncounted = self._uncounted, 0
        if not kept:
            return
        ends = time.time() + 400 * DAY_S
        count, _ = await self.records.count_up(CACHE, str(self.epoch), by=kept, expires_at=ends)
        if count >= MOST_ENTRIES:
            await clear(self.records, self.epoch)

    def _key(self, model: Model, messages: Prompt, trial: int) -> str:
        return f"{self.epoch}/{request_key(model, messages, trial)}"


async def open_cache(
    records: Records, run: RunRecord, model: Model, evaluators: Sequence[tuple[Any, Any]]
) -> AnswerCache | None:
    """The cache of a run; None where neither it nor one of its models has any."""
    judges = [judge for _, evaluator in evaluators for judge in models_of(evaluator)]
    if run.cache_days is None and not any(one.config.cache for one in (model, *judges)):
        return None
    return AnswerCache(records, await _epoch(records), run.cache_days)


async def _epoch(records: Records) -> int:
    return int((await records.get_record(CACHE_EPOCH, _EPOCH) or {}).get("epoch", 0))


async def clear(records: Records, epoch: int | None = None) -> None:
    """Forget all answers of a project: from now on none of them is found.

    Args:
        records: where they are.
        epoch: do nothing if somebody has cleared it since this one.
    """
    was = await records.get_record(CACHE_EPOCH, _EPOCH)
    now = int((was or {}).get("epoch", 0))
    if epoch is not None and now != epoch:
        return
    swap = Swap(kind=CACHE_EPOCH, key=_EPOCH, was=was, now={"epoch": now + 1})
    if await records.swap_records([swap]):
        await records.clear_records(CACHE)


async def size(records: Records) -> int:
    """About how many answers are kept."""
    count, _ = await records.count_up(CACHE, str(await _epoch(records)), by=0, expires_at=time.time() + DAY_S)
    return count


def check_cached(model: Model, days: float | None) -> None:
    """Refuse to keep the answers of code of a user that does not say that they may be.

    Raises:
        ConfigError: it does not.
    """
    own = model.config.cache
    asked = days is not None if own is None else bool(own)
    if asked and (model.runs_user_code or model.in_sandbox) and not model.cacheable:
        raise ConfigError(
            f"cache: {model.name} is code of your own, whose answers may depend on more than the request. If "
            "they do not, say so with `cacheable = True` in its class (for an agent: of its function); else "
            "leave cache out."
        )


class Trial:
    """The cache for what code of a user asks in one trial; from whichever loop it asks."""

    def __init__(self, cache: AnswerCache, trial: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._cache, self._trial, self._loop = cache, trial, loop or asyncio.get_running_loop()

    def of_trial(self, trial: int) -> Trial:
        """The answers of another trial."""
        return Trial(self._cache, trial, self._loop)

    async def find(self, model: Model, messages: Prompt) -> ModelResponse | None:
        """The answer to an equal request of before."""
        found: ModelResponse | None = await self._there(self._cache.find(model, messages, self._trial))
        return found

    async def keep(self, model: Model, messages: Prompt, answer: ModelResponse) -> None:
        """Keep an answer."""
        await self._there(self._cache.keep(model, messages, self._trial, answer))

    async def _there(self, work: Any) -> Any:
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
