"""Runs evaluators of users in processes: on every core, and where whatever they do can be ended.

Code that holds the interpreter lock (a catastrophic regular expression, `'a' * 10**9`) holds it in its own
process. A child starts once (0.2 to 0.4 s of processor time, with the user's imports), evaluates any number
of cases, is killed when one takes longer than it may, and is replaced.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import orjson

from promptlab import awake
from promptlab.domain.results import Failure, Score, Usage
from promptlab.engine.frames import ANSWER, ENDED, LOADED, PRINTED, Frames, framed
from promptlab.evaluators.outcomes import failed, overdue
from promptlab.models.media import READER, MediaReader
from promptlab.models.retry import Postponed
from promptlab.named_files import working_folder

MOST = 8
"""Processes at most, where evaluators wait more than they compute; else one a core."""
BATCH_S = 0.2
"""How much work one message brings, by what the metric's cases took so far: between two messages a process
stands still until this one's event loop, which is busy, comes round."""
REST_S = 0.05
"""How long answers of a process may gather before they are read, where more are sure to come: each reading
wakes a thread, the event loop and the ledger's writer."""
REST_SHARE = 0.05
"""How much of a case's time limit that may be: an answer counts from when it is read."""
WORTH_S = 1.0
"""The processor time of waiting cases that is worth a process at once."""
MOST_CASES = 64
GROW_S = 0.2
"""How long a case waits for a process before another one is started."""
LOAD_S = 120.0
"""How long a process may take to start and to make an evaluator: its imports may be of a machine learning
library."""
TRIES = 3
"""How often a case is given to a process that is gone before it has begun with it."""
_START = (
    "import sys; sys.path[:] = {path!r}; sys.argv[:] = {argv!r}\n"
    "from promptlab.engine.process_child import serve; serve()"
)

logger = logging.getLogger(__name__)
_numbers = itertools.count()


class CannotLoadError(Exception):
    """A process cannot make the evaluator; the message says why."""


class MovedError(Exception):
    """The evaluator is no longer to run in processes."""


SANDBOX = "sandbox"
"""The `function` of recipes whose `argument` is a question to the sandbox."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a process makes an evaluator: `function(argument)`."""

    metric: str
    """The metric's name in results."""
    function: str
    """`module:function`."""
    argument: bytes
    key: int = field(default_factory=lambda: next(_numbers), compare=False)


@dataclass(slots=True, eq=False)
class _Item:
    """One case to evaluate."""

    recipe: Recipe
    data: dict[str, Any]
    media: Mapping[str, bytes | str]
    """The bytes of the media that `data` refers to, or what is wrong with one, by their SHA-256."""
    limit_s: float
    future: asyncio.Future[Score]
    since: float
    tries: int = 0

    def give(self, score: Score) -> None:
        if not self.future.done():
            self.future.set_result(score)

    def refuse(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _GoneError(Exception):
    """A process ended by itself; the message says how."""


class _Child:
    """One process, and the thread that writes to it and reads from it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loaded: set[int] = set()
        self.wake = asyncio.Event()
        self.works = False
        """Whether it has begun with a case."""
        self._loop = loop
        self._frames: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self._requests: SimpleQueue[tuple[tuple[Any, ...], float, float] | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self.dead = False
        """Whether it has ended, or is being ended."""
        threading.Thread(target=self._work, name="promptlab-process", daemon=True).start()

    def send(self, *frame: Any, each_s: float = 0.0, rest_s: float = 0.0) -> None:
        """Send a request; what comes of it is asked for by `next`.

        Args:
            frame: the request.
            each_s: how long each of its cases is going to take, as far as that is known.
            rest_s: how long answers may wait to be read.
        """
        self._requests.put((frame, each_s, rest_s))

    async def next(self, limit_s: float) -> tuple[bytes, Any]:
        """The next frame.

        Raises:
            TimeoutError: there is none within `limit_s` seconds.
            _GoneError: the process ended.
        """
        if self._frames.empty():
            async with awake.timeout(limit_s):
                kind, value = await self._frames.get()
        else:
            kind, value = self._frames.get_nowait()
        if kind == b"":
            self.dead = True
            raise _GoneError(value)
        return kind, value

    def kill(self) -> None:
        """End the process, with those that it has started."""
        self.dead = True
        self._requests.put(None)
        if self._process is not None:
            _kill(self._process)

    def _work(self) -> None:
        try:
            self._process = process = _started()
        except OSError as error:
            self._post([(b"", f"its process cannot be started: {error}")])
            return
        if self.dead:
            _kill(process)
        assert process.stdin and process.stdout
        descriptor, frames = process.stdout.fileno(), Frames()
        try:
            while (request := self._requests.get()) is not None:
                frame, each_s, rest_s = request
                process.stdin.write(framed(pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)))
                process.stdin.flush()
                left = len(frame[3]) if frame[0] == "cases" else 0
                while True:
                    whole, answers = self._read(descriptor, frames)
                    if whole:
                        break
                    left -= answers
                    if (rest := min(rest_s, 0.8 * each_s * (left - 1))) > 0:  # before the last is there
                        time.sleep(rest)
        except (OSError, EOFError, ValueError):  # the last: what it wrote is no answer
            pass
        if not self.dead:
            # It has closed its pipe, and may still be busy with ending.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        _kill(process)
        code = process.wait()
        self._post([(b"", f"its process ended ({_ending(code)})")])
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self, descriptor: int, frames: Frames) -> tuple[bool, int]:
        """Read what is there, and tell it; give whether a request has been answered, and of how many cases
        an answer was there."""
        data = os.read(descriptor, 1 << 16)
        if not data:
            raise EOFError
        told, whole, answers = [], False, 0
        for kind, payload in frames.feed(data):
            value: Any = orjson.loads(payload) if payload else None
            if kind == PRINTED:
                _print(value[0], value[1])
            else:
                told.append((kind, value))
                whole = whole or kind in (ENDED, LOADED)
                answers += kind == ANSWER
        self._post(told)
        return whole, answers

    def _post(self, frames: list[tuple[bytes, Any]]) -> None:
        if frames:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self._loop.call_soon_threadsafe(self._came, frames)

    def _came(self, frames: list[tuple[bytes, Any]]) -> None:
        for frame in frames:
            self._frames.put_nowait(frame)


def _started() -> subprocess.Popen[bytes]:
    here = working_folder()
    path = [entry or str(here) for entry in sys.path if entry or here]
    return subprocess.Popen(
        [
            sys.executable,
            *(f"-W{option}" for option in sys.warnoptions),
            *(("-B",) if sys.dont_write_bytecode else ()),
            "-c",
            _START.format(path=path, argv=sys.argv),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the parent's
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and its own children where they are in its group."""
    if process.returncode is not None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _print(stream: str, text: str) -> None:
    with contextlib.suppress(Exception):  # a program may have closed it, or put anything there
        target = sys.stdout if stream == "stdout" else sys.stderr
        target.write(text)
        target.flush()


def cores() -> int:
    """How many processors this process may use."""
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes:
    """A pool of processes that evaluate, for one run."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._cores = max(most, cores()), cores()
        self.load_s = LOAD_S
        self._queue: deque[_Item] = deque()
        self._children: dict[_Child, asyncio.Task[None]] = {}
        self._idle: list[_Child] = []
        self._timer: asyncio.TimerHandle | None = None
        self._mean_s: dict[int, float] = {}
        self._cpu_of: dict[int, float] = {}
        self._unloadable: dict[int, str] = {}
        self._cpu_s, self._wall_s, self._heard = 0.0, 0.0, 0.0
        self._began = 0.0
        """When the newest process began with its first case."""
        self._stopped = False
        _pools.add(self)

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._children)

    async def call(self, recipe: Recipe, data: dict[str, Any], limit_s: float) -> Score:
        """Evaluate one case for `limit_s` seconds at most; the wait for a process does not count.
        Whatever the evaluator does is its score.

        Raises:
            CannotLoadError: a process cannot make the evaluator.
            MovedError: the evaluator was withdrawn before the case was begun.
            Postponed: the pool was stopped before the case was begun.
        """
        if self._stopped:
            raise Postponed(0.0)
        if (why := self._unloadable.get(recipe.key)) is not None:
            raise CannotLoadError(why)
        reader = READER.get()
        if not isinstance(reader, MediaReader):
            return await self._asked(recipe, data, {}, limit_s)
        async with reader.given(data) as media:
            return await self._asked(recipe, data, media, limit_s)

    async def _asked(
        self, recipe: Recipe, data: dict[str, Any], media: Mapping[str, bytes | str], limit_s: float
    ) -> Score:
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        self._queue.append(_Item(recipe, data, media, limit_s, future, time.monotonic()))
        self._look()
        return await future

    def expect(self, recipe: Recipe, cpu_s: float) -> None:
        """Take note of how much processor time each case of an evaluator takes, by what was measured
        elsewhere."""
        self._mean_s[recipe.key] = self._cpu_of[recipe.key] = cpu_s

    def withdraw(self, recipe: Recipe) -> None:
        """Give back the cases of an evaluator that are not begun."""
        for item in [item for item in self._queue if item.recipe is recipe]:
            self._queue.remove(item)
            item.refuse(MovedError())

    def stop(self) -> None:
        """Begin with no further case; those under way go on."""
        self._stopped = True
        while self._queue:
            self._queue.popleft().refuse(Postponed(0.0))

    async def close(self) -> None:
        """End all processes, whatever they do."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._children.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        """See that somebody takes what waits."""
        if not self._queue or self._stopped:
            return
        if self._idle:
            self._idle.pop().wake.set()
        elif not self._children or self._is_worth_another():
            self._add()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GROW_S, self._grow)

    def _is_worth_another(self) -> bool:
        """Whether what waits is known to compute for so long that a further processor is worth a process."""
        cpu_s = self._cpu_of.get(self._queue[0].recipe.key, 0.0)
        many = len(self._children) + 1
        return many <= self._cores and len(self._queue) * cpu_s >= many * WORTH_S

    def _grow(self) -> None:
        """Start a further process, if cases wait and one is of use: what computes has no use for more than
        there are processors."""
        self._timer = None
        if not self._queue or self._stopped:
            return
        now = time.monotonic()
        waits = self._wall_s > 2 * self._cpu_s if now - self._heard < 1 else True
        room = (self._most if waits else self._cores) - len(self._children)
        # One that starts may be enough by itself: with each that works, one more may start.
        working = sum(child.works for child in self._children)
        starting = len(self._children) - working
        if now - max(self._queue[0].since, self._began) >= GROW_S:
            for _ in range(min(room, working - starting)):
                self._add()
        self._look()

    def _add(self) -> None:
        child = _Child(asyncio.get_running_loop())
        self._children[child] = asyncio.get_running_loop().create_task(self._serve(child))
        self._heard = time.monotonic()

    async def _serve(self, child: _Child) -> None:
        """Give a process its cases until it has to be ended."""
        try:
            while True:
                items = self._take()
                if not items:
                    self._idle.append(child)
                    child.wake.clear()
                    await child.wake.wait()
                    continue
                if not await self._batch(child, items):
                    return
        finally:
            child.kill()
            del self._children[child]
            if child in self._idle:
                self._idle.remove(child)
            self._look()

    def _take(self) -> list[_Item]:
        """Take as many cases of one evaluator as are worth a message."""
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
        if not self._queue:
            return []
        recipe, limit_s = self._queue[0].recipe, self._queue[0].limit_s
        mean_s = self._mean_s.get(recipe.key, BATCH_S)
        many = min(MOST_CASES, int(BATCH_S / max(mean_s, 1e-6)), -(-len(self._queue) // len(self._children)))
        items: list[_Item] = []
        while self._queue and len(items) < max(1, many):
            item = self._queue[0]
            if item.recipe is not recipe or item.limit_s != limit_s:
                break
            self._queue.popleft()
            if not item.future.done():
                items.append(item)
        return items

    async def _batch(self, child: _Child, items: list[_Item]) -> bool:
        """Have cases evaluated; give whether the process can go on."""
        recipe, left = items[0].recipe, deque(items)
        begun = False
        try:
            if recipe.key not in child.loaded:
                await self._load(child, recipe)
            limit_s, data = left[0].limit_s, [item.data for item in items]
            each_s, rest_s = self._mean_s.get(recipe.key, 0.0), min(REST_S, REST_SHARE * limit_s)
            media = {sha256: found for item in items for sha256, found in item.media.items()}
            child.send("cases", recipe.key, limit_s, data, media, each_s=each_s, rest_s=rest_s)
            await child.next(self.load_s)
            begun = True
            if not child.works:
                child.works, self._began = True, time.monotonic()
            while True:
                kind, value = await child.next(left[0].limit_s if left else self.load_s)
                if kind == ANSWER:
                    self._heard = time.monotonic()
                    left.popleft().give(_read_score(value[1]))
                elif kind == ENDED:
                    self._measure(recipe, len(items), *value)
                    return True
        except CannotLoadError as error:
            self._unloadable[recipe.key] = str(error)
            for item in left:
                item.refuse(error)
            return not child.dead
        except TimeoutError:
            if begun and left:
                left.popleft().give(overdue(recipe.metric, items[0].limit_s))
        except _GoneError as error:
            self._lost(left, begun=begun, why=str(error))
        self._queue.extendleft(reversed(left))
        return False

    def _lost(self, left: deque[_Item], *, begun: bool, why: str) -> None:
        """A process ended by itself: by its first case, if it had begun with one."""
        if begun:
            if left:
                item = left.popleft()
                item.give(failed(item.recipe.metric, why))
            return
        for item in left:
            item.tries += 1
            if item.tries >= TRIES:
                item.give(failed(item.recipe.metric, why))

    async def _load(self, child: _Child, recipe: Recipe) -> None:
        """Have a process make an evaluator.

        Raises:
            CannotLoadError: it cannot.
        """
        child.send("load", recipe.key, recipe.metric, recipe.function, recipe.argument)
        try:
            kind, why = await child.next(self.load_s)
        except TimeoutError:
            child.kill()
            raise CannotLoadError(f"it is not loaded after {self.load_s:g} s") from None
        except _GoneError as error:
            raise CannotLoadError(str(error)) from None
        assert kind == LOADED, kind
        if why:
            raise CannotLoadError(why)
        child.loaded.add(recipe.key)

    def _measure(self, recipe: Recipe, cases: int, cpu_s: float, wall_s: float) -> None:
        before = self._mean_s.get(recipe.key)
        mean_s = wall_s / cases
        self._mean_s[recipe.key] = mean_s if before is None else (before + mean_s) / 2
        self._cpu_s, self._wall_s = self._cpu_s / 2 + cpu_s, self._wall_s / 2 + wall_s

    def kill(self) -> None:
        """End all processes, at the end of the program."""
        for child in list(self._children):
            child.kill()


def _read_score(value: dict[str, Any]) -> Score:
    error, usage = value.pop("error"), value.pop("usage")
    return Score(
        **value,
        error=None if error is None else Failure(**error),
        usage=None if usage is None else Usage(**usage),
    )


_pools: weakref.WeakSet[Processes] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for pool in list(_pools):
        pool.kill()
