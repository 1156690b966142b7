"""Working on a run, or watching it, until it ends or a signal stops that."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, console, opened

if TYPE_CHECKING:
    from signal import Signals

    from rich.console import Console

    from promptlab.cli.interruption import Interruption
    from promptlab.domain.results import Progress, RunRecord
    from promptlab.domain.summary import Summary
    from promptlab.lab import Lab, OnProgress, OnStart
    from promptlab.sdk.progress import ProgressView

    Begin = Callable[[Lab, OnStart, OnProgress], Awaitable[RunRecord]]


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of the work on a run."""

    run: RunRecord | None
    """None: it was stopped before the run was recorded."""
    so_far: tuple[Progress | None, Summary | None]
    done: Progress | None
    """How far it is."""
    started: bool
    """Whether this process worked on it."""
    signal: Signals | None
    hints: tuple[str, ...]
    """What to do next, with the commands for it."""
    where: str
    """The place where the run is kept, for people."""
    remote: bool
    """Whether the run is a hosted Studio's, and does not need this process."""


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """In the block, whatever prints goes to standard error: Python's own, and what libraries write to the
    descriptor itself."""
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us
        yield
        return
    sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


class _Seen:
    """The last that was heard of the run."""

    def __init__(self, view: ProgressView, err: Console) -> None:
        self._view, self._err = view, err
        self.run: RunRecord | None = None
        self.progress: Progress | None = None

    def on_start(self, run: RunRecord) -> None:
        self.run = run
        for warning in run.warnings:
            self._err.print(
                f"Warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
        self._view.started(run)

    def on_progress(self, progress: Progress) -> None:
        self.progress = progress
        self._view(progress)


async def work(store: Store, begin: Begin, *, quiet: bool, more: str = "") -> Ended:
    """Begin a run and stay with it until it ends or a signal comes; `more` is what
    `resume` has to be given, too."""
    from promptlab.cli.interruption import Interruption
    from promptlab.sdk.progress import progress_view

    err = console(stderr=True)
    view = progress_view(err, quiet=quiet)
    seen = _Seen(view, err)

    def on_signal() -> None:
        if seen.run and not lab.goes_on:
            err.print("Stopping: answers that are on their way are waited for. Once more to stop at once.")

    async with opened(store) as lab:
        # What the user's own evaluators print must not get into the summary.
        with Interruption(on_signal) as stop, stdout_to_stderr(), view:
            run = await _result(lab, begin, seen, stop, more)
        if stop.signal and lab.goes_on:
            return _left(lab, seen, stop, more)
        so_far = await lab.so_far(run) if run else (None, None)
        done = await lab.progress(run.run_id) if run else None
        return Ended(
            run,
            so_far,
            done,
            seen.run is not None,
            stop.signal,
            _hints(lab, run, more) if run else (),
            lab.where,
            lab.goes_on,
        )


async def _result(lab: Lab, begin: Begin, seen: _Seen, stop: Interruption, more: str) -> RunRecord | None:
    """The run at its end; after a signal as it is then, where that has to be asked for."""
    from promptlab.errors import PromptLabError

    try:
        return await begin(lab, seen.on_start, seen.on_progress)
    except asyncio.CancelledError:
        if stop.signal is None:
            raise
        return await lab.get_run(seen.run.run_id) if seen.run and not lab.goes_on else None
    except PromptLabError as error:
        if not seen.run:
            raise
        raise click.ClickException(f"{error}\n{_unfinished(lab, seen.run, more)}") from error
    except Exception as error:
        if seen.run:
            error.add_note(_unfinished(lab, seen.run, more))
        raise


def _left(lab: Lab, seen: _Seen, stop: Interruption, more: str) -> Ended:
    """A hosted Studio's run as it was seen last: whoever leaves does not wait for the network."""
    from promptlab.domain.results import Progress

    run = seen.run
    done = (seen.progress or Progress(total=run.cases)) if run else None
    return Ended(
        run,
        (done, None),
        done,
        run is not None,
        stop.signal,
        _hints(lab, run, more) if run else (),
        lab.where,
        True,
    )


def _unfinished(lab: Lab, run: RunRecord, more: str) -> str:
    return "\n".join(
        (
            f"Run {run.run_id} {'goes on there' if lab.goes_on else 'is not complete'}.",
            *_hints(lab, run, more),
        )
    )


def _hints(lab: Lab, run: RunRecord, more: str) -> tuple[str, ...]:
    """Say what to do next with a run that is not complete, with the commands for it."""
    from promptlab.domain.results import FINAL
    from promptlab.report import cancel_command, resume_command, show_command

    again = resume_command(run.run_id, lab.where) + more
    if not lab.goes_on or run.status in FINAL:
        return (f"Go on with: {again}",)
    return (
        f"Look at it with: {show_command(run.run_id, lab.where)}",
        f"Watch it again with: {again}",
        f"Stop it with: {cancel_command(run.run_id, lab.where)}",
    )
