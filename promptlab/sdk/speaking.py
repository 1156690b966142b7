"""Output of a run in a script or a notebook: progress, and what to do next."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from promptlab.domain.decided import decided_words
from promptlab.domain.results import DONE, HALTED, RunRecord
from promptlab.report import all_failed, brief, next_steps, resume_command
from promptlab.sdk.progress import Lines, Plain, ProgressView, Silence, progress_view

if TYPE_CHECKING:
    from rich.console import Console

VARIABLE = "PROMPTLAB_QUIET"
"""The environment variable that keeps the SDK silent."""
_bar = threading.Lock()
"""Held by the one bar that is on the terminal: of runs at the same time the others write lines."""


def is_quiet(quiet: bool | None) -> bool:
    """Decide whether to say nothing: as is given, else as PROMPTLAB_QUIET says (1, true, yes or on)."""
    if quiet is not None:
        return quiet
    return os.environ.get(VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def say(text: str) -> None:
    """Write a line for people."""
    stream = _stream()
    if stream is not None:
        print(text, file=stream, flush=True)


def say_next(run: RunRecord, where: str) -> None:
    """Say what to do with a run that is complete, or why it is not."""
    facts = brief(run)
    if run.error:
        say(f"{run.status.replace('_', ' ').capitalize()}: {run.error}")
    for said in decided_words(facts.get("decided")):
        say(said)
    if run.status in DONE or all_failed(facts):
        say("\n".join(next_steps(facts, where)))
    elif run.status in HALTED:
        say(f"Go on with: {resume_command(run.run_id, where)}")


@contextmanager
def shown(*, quiet: bool) -> Iterator[ProgressView]:
    """Show a run's progress in the block: a bar on a terminal, lines elsewhere."""
    stream = _stream()
    if quiet or stream is None:
        yield Silence()
        return
    if _is_plain(stream):
        with Lines(Plain(stream)) as lines:
            yield lines
        return
    console = _console(stream)
    mine = console.is_terminal and _bar.acquire(blocking=False)
    try:
        view = progress_view(console, quiet=False) if mine else Lines(console)
        with view:
            yield view
    finally:
        if mine:
            _bar.release()


def _stream() -> TextIO | None:
    """Standard error; in a notebook standard output, for there the other is red. None
    where there is neither."""
    return sys.stdout if _in_notebook() else sys.stderr


def _in_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel")


def _is_plain(stream: TextIO) -> bool:
    """Whether output goes into a file or a pipe, and nobody asked for a terminal's look, as rich knows it."""
    if _in_notebook() or any(map(os.environ.get, ("FORCE_COLOR", "TTY_COMPATIBLE"))):
        return False
    try:
        return not stream.isatty()
    except (AttributeError, ValueError):  # a stand-in for a stream, or one that is closed
        return True


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # A notebook's stream says that it is a terminal, and cannot move its cursor.
    terminal = False if _in_notebook() else None
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
        force_terminal=terminal,
        no_color=terminal is False or None,
    )
