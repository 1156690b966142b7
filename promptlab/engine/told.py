"""Calls that a metric makes, told to the limiter of their model: a judge's 429 is one of its provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from promptlab.domain.tokens import Needed
from promptlab.models.base import Model
from promptlab.ports import Clock, RateLimiter


class Told:
    """A `RateLimiter` that lets a call start as a gate does, and tells another one how it went.

    The evaluation that makes the call holds a slot of that other limiter already; it may run on another loop,
    in a thread.
    """

    def __init__(
        self, gate: RateLimiter, limiter: RateLimiter, start: Any, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Take the gate of the call, the limiter with the evaluation's start in it, and its loop."""
        self._gate, self._limiter, self._start, self._loop = gate, limiter, start, loop

    async def acquire(self, needed: Needed | None = None) -> Any:
        return await self._gate.acquire(needed)

    def release(self) -> None:
        self._gate.release()

    async def pause(self, seconds: float, clock: Clock) -> None:
        await self._gate.pause(seconds, clock)

    def spread_s(self) -> float:
        return self._gate.spread_s()

    def succeeded(self, start: Any) -> None:
        self._tell(self._limiter.succeeded, self._start)

    def throttled(self, start: Any, wait_s: float | None = None) -> None:
        self._tell(self._limiter.throttled, self._start, wait_s)

    def hear(self, start: Any, headers: Mapping[str, str]) -> None:
        self._tell(self._limiter.hear, self._start, headers)

    def settle(self, start: Any, used: float, written: float) -> None:
        """Tokens are not counted."""

    def timed_out(self, start: Any) -> None:
        self._tell(self._limiter.timed_out, self._start)

    def failed(self) -> None:
        self._tell(self._limiter.failed)

    def _tell(self, what: Callable[..., None], *about: Any) -> None:
        if asyncio.get_running_loop() is self._loop:
            what(*about)
            return
        # To wake another loop is a write to its pipe, and costs as much as to send a request.
        with suppress(RuntimeError):  # code that goes on calling after its run has ended: the loop is closed
            self._loop.call_soon_threadsafe(what, *about)


class Holder:
    """Knows which limiters an evaluation holds a slot of, by the model."""

    def __init__(self, key_of: Callable[[Model], tuple[str, ...]]) -> None:
        self._key_of, self._held = key_of, dict[tuple[str, ...], tuple[RateLimiter, Any]]()
        self._loop = asyncio.get_running_loop()

    def add(self, key: tuple[str, ...], limiter: RateLimiter, start: Any) -> None:
        """Take note of a slot."""
        self._held[key] = limiter, start

    def __call__(self, model: Model, gate: RateLimiter) -> RateLimiter:
        """Give the limiter for a call of a model: the gate, which tells the model's own where one is held."""
        found = self._held.get(self._key_of(model))
        return gate if found is None else Told(gate, *found, self._loop)
