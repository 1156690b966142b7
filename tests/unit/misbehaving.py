"""Code of users that misbehaves, each in its own way, in the case of row 3; evaluators and
models alike call `misbehave`.

A module of its own, so that a run can be resumed from its names.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from promptlab import Evaluator, Model, ModelResponse, Score

TIMEOUT_S = 0.5


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class Endless(Exception):
    def __str__(self) -> str:
        threading.Event().wait(30)
        return "at last"


class OddText(str):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def hang() -> None:
    """Hang, where nothing can stop it."""
    threading.Event().wait(280)


def spin() -> None:
    """Compute for longer than its time."""
    end = time.monotonic() + 4 * TIMEOUT_S
    while time.monotonic() < end:
        pass


def recurse() -> None:
    """Call itself without end."""
    recurse()


def raises(error: BaseException) -> Callable[[], None]:
    """Make a function that raises."""

    def function() -> None:
        raise error

    return function


def fork_and_leave() -> None:
    """Leave a forked child to itself."""
    if not os.fork():
        sys.exit(0)


def fork_and_return() -> None:
    """Come back in both processes."""
    os.fork()


def itself() -> dict[str, Any]:
    """Make a value that holds itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def forever() -> Iterator[int]:
    """Never end."""
    while True:
        yield 1


WAYS: dict[str, Callable[[], Any]] = {
    "hangs": hang,
    "computes too long": spin,
    "recurses": recurse,
    "raises ValueError": raises(ValueError("no")),
    "raises SystemExit": raises(SystemExit(3)),
    "raises KeyboardInterrupt": raises(KeyboardInterrupt()),
    "raises GeneratorExit": raises(GeneratorExit()),
    "raises StopIteration": raises(StopIteration()),
    "raises CancelledError": raises(asyncio.CancelledError()),
    "raises MemoryError": raises(MemoryError()),
    "raises what has no words": raises(Mute()),
    "raises what talks for ever": raises(Endless()),
    "raises with megabytes": raises(ValueError("x" * 50_000_000)),
    "forks and leaves": fork_and_leave,
    "forks and returns": fork_and_return,
    "returns nothing": lambda: None,
    "returns an object": object,
    "returns a generator": forever,
    "returns what holds itself": itself,
    "returns megabytes": lambda: Score(label="x" * 20_000_000, reason="y" * 20_000_000),
    "returns huge metadata": lambda: Score(value=1, metadata={str(n): "z" * 1000 for n in range(20_000)}),
    "returns odd text": lambda: Score(label=OddText("odd")),
    "returns infinity": lambda: float("inf"),
}
"""Name → what is done in place of an answer or a score."""

HARD: dict[str, Callable[[], Any]] = {
    "holds the interpreter lock": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
    "ends the process": lambda: os._exit(3),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": lambda: ctypes.string_at(0),
}
"""What only a process of its own bears."""

KEPT = {
    "forks and leaves",
    "forks and returns",
    "returns megabytes",
    "returns huge metadata",
}
"""Ways whose evaluation has a score all the same."""


def is_row_3(text: str) -> bool:
    """Whether it is the case of row 3."""
    return text == "3"


class Sync(Evaluator):
    """Misbehaves in a thread."""

    inputs = {"response": "$inference"}

    def __init__(self, way: str = "hangs") -> None:
        self.way = way

    def evaluate(self, data: dict[str, Any]) -> Any:
        if is_row_3(data["response"]):
            found = (WAYS | HARD)[self.way]()
            return True if found is None and self.way in KEPT else found
        return True


class Async(Sync):
    """Misbehaves on the event loop."""

    async def evaluate(self, data: dict[str, Any]) -> Any:
        if is_row_3(data["response"]) and self.way == "hangs":
            while True:  # as code that retries whatever happens
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    if self.way == "over":
                        raise
        return super().evaluate(data)


class Blocking(Sync):
    """Sleeps without await."""

    async def evaluate(self, data: dict[str, Any]) -> Any:
        if is_row_3(data["response"]):
            time.sleep(60)
        return True


class SyncModel(Model):
    """Misbehaves in a thread."""

    def __init__(self, way: str = "hangs") -> None:
        super().__init__({"name": "custom/Odd", "timeout_s": TIMEOUT_S, "max_retries": 0})
        self.way = way

    def invoke(self, system_prompt: str, user_prompt: str) -> Any:
        if is_row_3(user_prompt):
            found = WAYS[self.way]()
            if self.way not in KEPT:
                return found
        return ModelResponse(response=user_prompt)


class AsyncModel(SyncModel):
    """Misbehaves on the event loop."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> Any:
        if self.way == "hangs" and is_row_3(user_prompt):
            await asyncio.sleep(60)
        return self.invoke(system_prompt, user_prompt)
