"""An event loop in a thread of its own, where coroutines of users run: one that computes or sleeps without
`await` holds up neither calls nor progress, and costs its own case only."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from promptlab import sync
from promptlab.threads import end_if_forked

TICK_S = 0.2
"""How often the calls are looked at. A loop that has not come round between two looks is held."""
STOP_S = 1.0
"""How long a call that is over has for its own tidying up; then nobody waits for it any more."""
STRANGE_S = 3.0
"""How long the loop may be held by what no call under way answers for: a task
that one left running, a callback."""

logger = logging.getLogger(__name__)

Outcome = tuple[Any, BaseException | None]


class OverdueError(Exception):
    """A call took longer than its time limit, which was ours and not one of the user's own code."""


class _Interrupted(BaseException):
    """Raised in the middle of code that holds the loop."""


class _Call:
    """One call of a user's coroutine function, and how long it has been under way."""

    def __init__(self, call: Callable[[], Awaitable[Any]], limit_s: float) -> None:
        self.call, self.limit_s = call, limit_s
        self.context = contextvars.copy_context()
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Outcome] | None = None
        self.side: _Side | None = None
        self.spent_s = 0.0
        self.over_s: float | None = None
        """How long ago it was told to stop."""
        self.given_up = False

    def end(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_CALL: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("promptlab_side_call", default=None)


class _Side:
    """The other loop and its thread. Calls are begun and ended by the loop that it belongs to, which also
    watches over them."""

    def __init__(self, home: asyncio.AbstractEventLoop) -> None:
        self._home, self.loop = home, asyncio.new_event_loop()
        self._calls: dict[_Call, None] = {}
        self._owners: weakref.WeakKeyDictionary[asyncio.Task[Any], _Call] = weakref.WeakKeyDictionary()
        self._pinged = self._ponged = 0
        self._strange_s = 0.0
        self._watch: asyncio.Task[None] | None = None
        self.left = False
        """Whether it is held for good, and no further calls are made in it."""
        self.loop.set_task_factory(self._make_task)  # type: ignore[arg-type]
        sync.runs_user_code(self.loop)
        self._thread = threading.Thread(target=self._run, name="promptlab-async", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Run the loop for as long as it is open, whatever a task raises."""
        pid = os.getpid()
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed() and os.getpid() == pid:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                logger.warning("a task of your code raised %s; it ends that task only", type(error).__name__)
            except _Interrupted:
                pass  # what held the loop ended in the same moment
            else:
                break  # it was stopped
        if os.getpid() == pid and not self.loop.is_closed():
            with contextlib.suppress(BaseException):
                self.loop.run_until_complete(_end_tasks(self.loop))
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def close(self) -> None:
        """End the loop, if it comes round."""
        self._stop()
        self._thread.join(STOP_S)

    def _stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        """Note for which call a task works: a call may have tasks of its own."""
        task = asyncio.Task(coro, loop=loop, **options)
        context = options.get("context")
        call = context.get(_CALL) if context is not None else _CALL.get()
        if call is not None:
            self._owners[task] = call
        return task

    def begin(self, call: _Call) -> None:
        """Begin a call."""
        self._calls[call], call.side = None, self
        self.loop.call_soon_threadsafe(self._begin, call, context=call.context)
        if self._watch is None:
            self._watch = self._home.create_task(self._look())

    def _begin(self, call: _Call) -> None:
        _CALL.set(call)
        call.task = self.loop.create_task(outcome_of(call.call), context=call.context)
        call.task.add_done_callback(lambda task: self._done(call, task))

    def _done(self, call: _Call, task: asyncio.Task[Outcome]) -> None:
        outcome: Outcome = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self._home.call_soon_threadsafe(self._ended, call, outcome)

    def _ended(self, call: _Call, outcome: Outcome) -> None:
        self._calls.pop(call, None)
        if call.over_s is not None:
            call.fail(OverdueError())
        else:
            call.end(outcome)

    def stop(self, call: _Call) -> None:
        """Have a call end, in its own time."""
        if call.over_s is None:
            call.over_s = 0.0
            self.loop.call_soon_threadsafe(_cancel, call)

    async def _look(self) -> None:
        """Watch over the calls for as long as there are any."""
        before = time.monotonic()
        while self._calls and not self.left:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            # A process that slept, or was held as a whole, has not given its calls that time.
            passed_s, before = min(now - before, 2 * TICK_S), now
            self._look_once(passed_s)
        self._watch = None

    def _look_once(self, passed_s: float) -> None:
        held = self._pinged != self._ponged
        holder = self._holder() if held else None
        strange = held and holder not in self._calls
        self._strange_s = self._strange_s + passed_s if strange else 0.0
        if self._strange_s > STRANGE_S:
            self._interrupt()
        if self._strange_s > STRANGE_S + STOP_S:
            self._leave()
            return
        if not held:
            self._pinged += 1
            self.loop.call_soon_threadsafe(self._pong, self._pinged)
        for call in list(self._calls):
            if self.left:
                return
            if call.over_s is not None:
                call.over_s += passed_s
                if call.over_s > STOP_S:
                    self._give_up(call, held=call is holder)
            elif not held or holder is call:
                # While anything else holds the loop, this one cannot do anything for itself.
                call.spent_s += passed_s
                if call.spent_s > call.limit_s:
                    self.stop(call)
                    if holder is call:
                        self._interrupt()

    def _pong(self, number: int) -> None:
        self._ponged = number

    def _holder(self) -> _Call | None:
        """The call whose code runs at this moment."""
        task = asyncio.current_task(self.loop)
        return None if task is None else self._owners.get(task)

    def _interrupt(self) -> None:
        """Raise an exception in what holds the loop. It reaches code in Python, and no sleep or computation
        in C."""
        import ctypes  # code that hangs is rare

        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(_Interrupted)
        )

    def _give_up(self, call: _Call, *, held: bool) -> None:
        if not call.given_up:
            call.given_up = True
            logger.warning("code of yours does not end when it is told to: it is left behind")
            if call.task is not None:
                _left.add(call.task)
                call.task.add_done_callback(_left.discard)
                call.task._log_destroy_pending = False  # type: ignore[attr-defined] # at the end of the program
        call.fail(OverdueError())
        if not held:
            del self._calls[call]  # it goes on beside the others, and nobody waits
            return
        del self._calls[call]
        self._leave()

    def _leave(self) -> None:
        """Leave the loop to what holds it: the other calls cannot go on here, and begin anew elsewhere."""
        self.left = True
        if _sides.get(self._home) is self:
            del _sides[self._home]
        self._stop()  # when it comes round, nothing of it goes on
        calls, self._calls = list(self._calls), {}
        for call in calls:
            if call.over_s is not None:
                call.fail(OverdueError())
            elif not call.future.done():
                call.spent_s, call.task, call.context = 0.0, None, call.context.copy()
                _side_of(self._home).begin(call)


def _cancel(call: _Call) -> None:
    if call.task is not None:
        call.task.cancel()


async def outcome_of(call: Callable[[], Awaitable[Any]]) -> Outcome:
    """Return what a user's coroutine returned or raised: nothing of it ends the loop."""
    pid = os.getpid()
    try:
        answer = await call()
    except BaseException as error:
        end_if_forked(pid, failed=True)
        # In this order: a coroutine of a loop that was left behind is collected where no loop runs.
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                raise
        return None, error
    end_if_forked(pid)
    return answer, None


async def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_S)


async def aside(call: Callable[[], Awaitable[Any]], limit_s: float) -> Outcome:
    """Await a call in the loop beside this one, for `limit_s` seconds at most, and give its outcome.

    Time in which another call holds that loop does not count. A call that holds it for longer than it may is
    interrupted; where that is not possible, it is left behind with its loop, and the others begin anew.

    Raises:
        OverdueError: it took longer.
    """
    one = _Call(call, limit_s)
    _side_of(asyncio.get_running_loop()).begin(one)
    try:
        await asyncio.wait((one.future,))
    except asyncio.CancelledError:
        assert one.side is not None
        one.side.stop(one)
        await asyncio.wait((one.future,), timeout=STOP_S)
        if one.future.done():
            one.future.exception()  # seen: else asyncio complains that nobody looked
        raise
    return one.future.result()


_left: set[asyncio.Task[Any]] = set()
"""Tasks that ignore their cancellation: held here, for a task that nobody holds is
collected in the middle."""
_sides: dict[asyncio.AbstractEventLoop, _Side] = {}


def _side_of(home: asyncio.AbstractEventLoop) -> _Side:
    side = _sides.get(home)
    if side is None:
        side = _sides[home] = _Side(home)
        sync.at_end(home, lambda: _close(home))
    return side


def is_beside() -> bool:
    """Whether code of users runs, or has run, in a loop beside the running one."""
    return asyncio.get_running_loop() in _sides


def _close(home: asyncio.AbstractEventLoop) -> None:
    if side := _sides.pop(home, None):
        side.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sides.clear)
