"""A pool that has code of users run in the sandbox: cases gather to batches, by the time that they took so
far and by their bytes, and each batch is one invocation.

`Processes` does the same with processes of this machine; both are asked with `call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from promptlab.domain.media_in import blobs_in
from promptlab.domain.results import ModelResponse, Score
from promptlab.engine.limits import Deadline
from promptlab.engine.processes import CannotLoadError, MovedError, Recipe
from promptlab.engine.sandbox.answers import AnswerError, call_failed, response_of, score_of, usage_of
from promptlab.engine.sandbox.request import CODE
from promptlab.errors import ModelError, PromptLabError, SandboxBusyError, SandboxLostError
from promptlab.evaluators.outcomes import failed
from promptlab.evaluators.several import rejoined, with_printed
from promptlab.models.retry import Postponed
from promptlab.models.usage import note_usage
from promptlab.ports import Clock, Sandbox

GATHER_S = 0.01
"""How long the first case of a batch waits for others."""
AT_ONCE = 4
"""Invocations of one worker at once."""
AT_ONCE_WAITING = 16
"""Invocations at once where cases take long: agents, which mostly wait."""
PROBE_S = 1.0
"""How long an invocation goes on whose cases nobody has measured."""
BATCH_S = 20.0
"""How much work one invocation brings, by what the cases took so far."""
SLOW_S = 0.5
MOST_CASES = 2_000
MOST_BYTES = 1_400_000
"""Bytes of cases in one invocation: it takes 6 MB, of which a bundle may have 4."""
ADDRESS_BYTES = 2_500
"""Bytes of a presigned address, of which the sandbox is given one for each medium: S3's have 1,500 with the
token of a role."""
MARGIN_S = 5.0
"""With a deadline: what a worker needs to record what comes back."""
LEFT_S = 8.0
"""With a deadline: with less than this left, no invocation begins."""
TRIES = 3
"""How often a case is sent that came back without an answer."""
LONGEST_PAUSE_S = 20.0

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Item:
    """One case."""

    recipe: Recipe
    data: bytes
    media: Mapping[str, int]
    """The sizes of the media that it refers to, by their SHA-256."""
    limit_s: float
    future: asyncio.Future[Mapping[str, Any]]
    tries: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes of an invocation."""
        return len(self.data) + ADDRESS_BYTES * len(self.media)

    def give(self, answer: Mapping[str, Any]) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def refuse(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class SandboxPool:
    """The sandbox, for one run in one process.

    Args:
        sandbox: where cases are sent.
        clock: what pauses are waited by.
        deadline: when this process ends.
        tenant: whose run it is: no process of a sandbox works for two.
    """

    def __init__(self, sandbox: Sandbox, clock: Clock, deadline: Deadline, *, tenant: str = "") -> None:
        self._sandbox, self._clock, self._deadline, self._tenant = sandbox, clock, deadline, tenant
        self._queue: deque[_Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._mean_s: dict[int, float] = {}
        self._unloadable: dict[int, str] = {}
        self._paused: asyncio.Task[None] | None = None
        self._throttles = 0
        self._stopped = False

    async def call(self, recipe: Recipe, data: dict[str, Any], limit_s: float) -> Score:
        """Evaluate one case for `limit_s` seconds at most, without its waits. Whatever comes back is its
        score.

        Raises:
            CannotLoadError: the evaluator cannot be made of its code.
            MovedError: the evaluator was withdrawn before the case was sent.
            Postponed: the time of this process is over before that.
        """
        asked = orjson.loads(recipe.argument)
        answer = await self._asked(recipe, data, asked.get("limit_s", limit_s))
        parts = asked.get("parts") or ()
        try:
            score = rejoined(score_of(answer.get("score")), parts, score_of)
        except AnswerError as error:
            score = failed(recipe.metric, f"the sandbox answered with no score: {error}")
        if asked["role"] == CODE:
            from promptlab.evaluators.code_tests import believed  # runs of other metrics have no use for it

            return believed(score, data)
        if printed := str(answer.get("printed") or ""):
            score = with_printed(score, printed, parts)
        return score

    async def answer(
        self, recipe: Recipe, data: dict[str, Any], limit_s: float, media: Mapping[str, int] | None = None
    ) -> ModelResponse:
        """Have a model or an agent answer one case, as `call`; with media that are not to be found in `data`.

        Raises:
            ModelError: it failed.
            Postponed: the time of this process is over before that.
        """
        try:
            answer = await self._asked(recipe, data, limit_s, media)
        except CannotLoadError as error:
            raise ModelError(str(error), type="cannot_load") from error
        try:
            if (used := usage_of(answer.get("usage"))) is not None:
                note_usage(used)
            if "error" in answer:
                told = call_failed(answer["error"])
                failed_call = ModelError(
                    told.message,
                    type=told.type,
                    retryable=told.retryable,
                    sent=told.sent,
                    retry_after_s=told.retry_after_s,
                )
                failed_call.messages, failed_call.trace = told.messages, told.trace
                raise failed_call
            response = response_of(answer.get("response"))
        except AnswerError as error:
            raise ModelError(
                f"the sandbox answered with no answer: {error}", type="invalid_response"
            ) from error
        if printed := str(answer.get("printed") or ""):
            response.metadata = {**response.metadata, "printed": printed}
        return response

    async def _asked(
        self, recipe: Recipe, data: dict[str, Any], limit_s: float, media: Mapping[str, int] | None = None
    ) -> Mapping[str, Any]:
        if self._stopped or self._is_late():
            raise Postponed(0.0)
        if (why := self._unloadable.get(recipe.key)) is not None:
            raise CannotLoadError(why)
        plain = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        found = {**(media or {}), **(blobs_in(data) if b'"sha256"' in plain else {})}
        item = _Item(recipe, plain, found, limit_s, asyncio.get_running_loop().create_future())
        self._queue.append(item)
        self._look()
        return await item.future

    def withdraw(self, recipe: Recipe) -> None:
        """Give back the cases of an evaluator that are not sent."""
        for item in [item for item in self._queue if item.recipe is recipe]:
            self._queue.remove(item)
            item.refuse(MovedError())

    def stop(self) -> None:
        """Send no further case; what is under way goes on."""
        self._stopped = True
        while self._queue:
            self._queue.popleft().refuse(Postponed(0.0))

    async def close(self) -> None:
        """Wait for nothing any more."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_late(self) -> bool:
        left = self._deadline.left_s()
        return left is not None and left < LEFT_S

    def _look(self, after_s: float = GATHER_S) -> None:
        """See, in a moment, that what waits is sent."""
        if self._queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._send)

    def _send(self) -> None:
        self._timer = None
        if self._is_late():
            while self._queue:
                self._queue.popleft().refuse(Postponed(0.0))
        while self._queue and len(self._tasks) < self._room():
            if not (items := self._take()):
                break
            task = asyncio.get_running_loop().create_task(self._invoke(items))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _room(self) -> int:
        """How many invocations may be under way; one where the last was throttled, or nothing is measured."""
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
        mean_s = self._mean_s.get(self._queue[0].recipe.key) if self._queue else None
        if self._throttles or mean_s is None:
            return 1
        return AT_ONCE_WAITING if mean_s > SLOW_S else AT_ONCE

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an invocation of the sandbox could not be worked on: %r", error)
        self._look(0.0)

    def _take(self) -> list[_Item]:
        """Take as many cases of one recipe as are worth an invocation."""
        first = self._queue[0]
        mean_s = self._mean_s.get(first.recipe.key)
        many = MOST_CASES
        if first.tries:
            many = 1  # it may be the case that breaks the sandbox
        elif mean_s is not None:
            shares = AT_ONCE_WAITING if mean_s > SLOW_S else 1
            many = min(many, max(1, int(BATCH_S / max(mean_s, 1e-6))), -(-len(self._queue) // shares))
        items: list[_Item] = []
        size = 0
        while self._queue and len(items) < many:
            item = self._queue[0]
            if item.recipe is not first.recipe or item.limit_s != first.limit_s:
                break
            if items and (size + item.size > MOST_BYTES or item.tries):
                break
            self._queue.popleft()
            if not item.future.done():
                items.append(item)
                size += item.size
        return items

    async def _invoke(self, items: list[_Item]) -> None:
        """Have cases done in one invocation; those that come back without an answer wait again."""
        recipe = items[0].recipe
        asked = orjson.loads(recipe.argument)
        left = self._deadline.left_s()
        event = {
            **{name: asked.get(name) for name in ("role", "ref", "parts", "metric", "config")},
            "tenant": self._tenant,
            "limit_s": items[0].limit_s,
            "budget_s": PROBE_S if recipe.key not in self._mean_s else BATCH_S,
            "cases": [
                {"n": n, "data": orjson.Fragment(item.data), **({"media": item.media} if item.media else {})}
                for n, item in enumerate(items)
            ],
        }
        if left is not None:
            event["left_s"] = max(1.0, left - MARGIN_S)
        try:
            answer = await self._sandbox.ask(asked["hash"], event)
        except SandboxBusyError as error:
            self._again(items)
            await self._pause(error)
        except SandboxLostError as error:
            self._count_tries(items, str(error))
        except asyncio.CancelledError:
            for item in items:
                item.refuse(Postponed(0.0))
            raise
        except PromptLabError as error:
            self._refuse(recipe, items, str(error))
        except BaseException as error:
            for item in items:
                item.refuse(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            raise
        else:
            self._throttles = 0
            self._give(recipe, items, answer)

    def _give(self, recipe: Recipe, items: list[_Item], answer: Mapping[str, Any]) -> None:
        if error := answer.get("error"):
            self._refuse(recipe, items, str(error.get("message")))
            return
        found: dict[int, Mapping[str, Any]] = {}
        doubled: set[int] = set()
        for one in answer.get("answers") or ():
            n = one.get("n") if isinstance(one, Mapping) else None
            if type(n) is int and 0 <= n < len(items):
                (doubled.add if n in found else found.setdefault)(*((n,) if n in found else (n, one)))
            else:
                logger.warning("the sandbox answered for a case that it was not asked: %r", n)
        for n in doubled:
            found[n] = {}  # it is believed of none that is answered twice
        for n, one in found.items():
            items[n].give(one)
        if found:
            self._measure(recipe, len(found), answer)
        missing = [item for n, item in enumerate(items) if n not in found]
        if found or self._is_late():
            self._again(missing)
        else:
            self._count_tries(missing, "the sandbox came back without an answer")

    def _measure(self, recipe: Recipe, cases: int, answer: Mapping[str, Any]) -> None:
        with contextlib.suppress(TypeError, ValueError):
            mean_s = max(0.0, float(answer.get("wall_s") or 0.0)) / cases
            before = self._mean_s.get(recipe.key, mean_s)
            self._mean_s[recipe.key] = (before + mean_s) / 2

    def _refuse(self, recipe: Recipe, items: list[_Item], why: str) -> None:
        """Nothing of a recipe can be done."""
        self._unloadable[recipe.key] = why
        for item in [*items, *(item for item in self._queue if item.recipe is recipe)]:
            item.refuse(CannotLoadError(why))

    def _count_tries(self, items: list[_Item], why: str) -> None:
        for item in items:
            item.tries += 1
            if item.tries >= TRIES:
                infer = orjson.loads(item.recipe.argument).get("role") == "infer"
                error = {"type": "sandbox", "message": why}
                plain = (
                    {"error": error} if infer else {"score": {"error": {**error, "type": "evaluator_error"}}}
                )
                item.give(plain)
        self._again([item for item in items if not item.future.done()])

    def _again(self, items: list[_Item]) -> None:
        if self._stopped:
            for item in items:
                item.refuse(Postponed(0.0))
        else:
            self._queue.extendleft(reversed(items))

    async def _pause(self, error: Exception) -> None:
        """Wait a little, with further invocations too: there is no room for them."""
        self._throttles += 1
        pause_s = random.random() * min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(self._throttles, 10))
        left = self._deadline.left_s()
        logger.info("%s; again in %.1f s", error, pause_s)
        await self._clock.sleep(pause_s if left is None else min(pause_s, max(0.0, left - LEFT_S)))
