"""How a run's progress is shown on standard error: one live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from promptlab.domain.results import Progress, RunRecord
from promptlab.report import dollars, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WINDOW_S = 15.0
"""Over how long the rate is taken."""
LINES_S = 2.0
FRAMES_PER_S = 8
_CONTROL = dict.fromkeys(map(ord, "\a\b\v\f\r"))
"""Characters that would move a terminal's cursor, if somebody looks at the lines in one."""


class ProgressView(Protocol):
    """Shows how far a run is, from when it is entered to when it is left."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def started(self, run: RunRecord) -> None:
        """The run is recorded; its calls begin."""

    def __call__(self, progress: Progress) -> None:
        """A case is done. Called for each: it only keeps the value."""


class Printer(Protocol):
    """Prints lines: rich's console, or `Plain`."""

    def print(self, text: str, /, *, soft_wrap: bool) -> None:
        """Print a line, as long as it is."""


class Plain:
    """Prints lines as rich does where there is no terminal: without rich, which takes 30 ms to load."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def print(self, text: str, /, *, soft_wrap: bool) -> None:
        print(text.translate(_CONTROL), file=self._stream, flush=True)


def progress_view(console: Console, *, quiet: bool) -> ProgressView:
    """The view that fits where standard error goes."""
    if quiet:
        return Silence()
    return LiveBar(console) if console.is_terminal else Lines(console)


class Pace:
    """Cases a second over the last seconds, and what follows from it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begin: tuple[float, int] | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, done: int) -> None:
        """Take a sample."""
        at = self._now()
        self._begin = self._begin or (at, done)
        self._seen.append((at, done))
        while self._seen[0][0] < at - WINDOW_S:
            self._seen.popleft()

    @property
    def elapsed_s(self) -> float:
        """Seconds from the first sample to the last."""
        return self._seen[-1][0] - self._begin[0] if self._begin else 0.0

    @property
    def rate(self) -> float | None:
        """Cases a second; since the beginning, where the last seconds brought none;
        None before there are any."""
        if not self._begin:
            return None
        at, done = self._seen[-1]
        for first_at, first_done in (self._seen[0], self._begin):
            if done > first_done and at > first_at:
                return (done - first_done) / (at - first_at)
        return None

    def words(self, now: Progress) -> str:
        """`312 of 1,319 done, 2 failed, 148/s, $0.0123, 2.1 s, 7 s left`."""
        if now.batched is not None and now.done < now.total:
            return f"{now.done:,} of {now.total:,} done, {now.batched.words}"
        rate = self.rate
        parts = [f"{now.done:,} of {now.total:,} done", f"{now.failed:,} failed"]
        if now.scored is not None:
            parts.append(f"{now.scored:,} scored")
        if rate is not None:
            parts.append(
                f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"
            )
        if now.cost_usd is not None:
            parts.append(dollars(now.cost_usd))
        parts.append(duration(self.elapsed_s))
        if now.waiting:
            return ", ".join([*parts, now.waiting])
        if now.done >= now.total:
            return ", ".join(parts)
        return ", ".join([*parts, *([f"{duration((now.total - now.done) / rate)} left"] if rate else [])])


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def started(self, run: RunRecord) -> None:
        """Nothing."""

    def __call__(self, progress: Progress) -> None:
        """Nothing."""


class Lines:
    """Plain lines for logs: the first, one every two seconds while there is something new, and the last."""

    def __init__(self, console: Console | Printer, *, every_s: float = LINES_S) -> None:
        self._console, self._every_s = console, every_s
        self._pace = Pace()
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="promptlab-progress", daemon=True)

    def __enter__(self) -> Self:
        return self

    def started(self, run: RunRecord) -> None:
        self._console.print(headline(run), soft_wrap=True)
        self._thread.start()

    def __call__(self, progress: Progress) -> None:
        if self._latest is None:
            self._pace.see(progress.done)
        self._latest = progress

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self._line()

    def _tick(self) -> None:
        while not self._end.wait(self._every_s):
            self._line()

    def _line(self) -> None:
        latest = self._latest
        if latest is not None and latest is not self._shown:
            self._shown = latest
            self._pace.see(latest.done)
            self._console.print(self._pace.words(latest), soft_wrap=True)


class LiveBar:
    """A bar and a line of facts that stay in place on a terminal. Rich draws them
    from a thread of its own."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console, self._pace = console, Pace()
        self._latest: Progress | None = None
        self._before = "Checking the experiment …"
        self._ended = False
        self._live = Live(get_renderable=self._frame, console=console, refresh_per_second=FRAMES_PER_S)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def started(self, run: RunRecord) -> None:
        self._before = "Reading what is done …"
        self._console.print(headline(run))

    def __call__(self, progress: Progress) -> None:
        self._latest = progress

    def __exit__(self, *exc: object) -> None:
        self._ended = True
        self._live.transient = self._latest is None  # nothing began: leave no trace beside the error
        self._live.stop()

    def _frame(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        latest = self._latest
        if latest is None:
            return Text(self._before, style="dim")
        self._pace.see(latest.done)
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(
            ProgressBar(total=max(latest.total, 1), completed=latest.done),
            f"{latest.done / max(latest.total, 1):4.0%}",
        )
        summing_up = latest.done >= latest.total and not self._ended
        return Group(
            bar, Text(self._pace.words(latest) + (", scoring the last ones …" if summing_up else ""))
        )


def headline(run: RunRecord) -> str:
    """Return the line that says what runs."""
    again = f", pass {run.generation + 1}" if run.generation else ""
    return f"{run.name}: run {run.run_id}{again}, {run.cases:,} cases of {run.experiment['model']['name']}"
