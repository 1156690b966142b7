"""`promptlab run`, `promptlab resume` and `promptlab cancel`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, console, find_run, json_option, opened, run_argument, show, show_json, store_options

if TYPE_CHECKING:
    from signal import Signals

    from promptlab.domain.results import Progress, RunRecord
    from promptlab.domain.summary import Summary
    from promptlab.experiment_file import ExperimentFile
    from promptlab.lab import AnyLab, OnProgress, OnStart

    Begin = Callable[[AnyLab, OnStart, OnProgress], Awaitable[RunRecord]]

FAILED, CASES_FAILED = 1, 3

_quiet = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
_strict = click.option("--fail-on-error", is_flag=True, help="Exit with 3 when a case failed.")


@click.command(epilog="Exit codes: 0 completed, 1 failed, 2 wrong experiment (nothing is run or stored), 3 with --fail-on-error, 130 Ctrl-C, 143 SIGTERM.")
@click.argument("experiment", metavar="EXPERIMENT.yaml", type=click.Path(path_type=Path))
@store_options
@json_option
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A word to find the run by; may be given again.")
@_quiet
@_strict
@click.pass_context
def run(ctx: click.Context, experiment: Path, store: Store, as_json: bool, tags: tuple[str, ...], quiet: bool, fail_on_error: bool) -> None:
    """Run the experiment that a YAML file describes.

    Everything that can be checked is checked before the first call. The summary goes to standard
    output, progress to standard error. Ctrl-C keeps what was answered and says how to go on; a run
    of a hosted Studio goes on by itself.
    """
    file = _loaded(experiment)
    config = file.config.model_copy(update={"tags": tuple(dict.fromkeys((*file.config.tags, *tags)))})

    def begin(lab: AnyLab, on_start: OnStart, on_progress: OnProgress) -> Awaitable[RunRecord]:
        return lab.run(config, folder=file.folder, on_start=on_start, on_progress=on_progress)

    ctx.exit(_report(asyncio.run(_work(store, begin, quiet=quiet)), as_json=as_json, fail_on_error=fail_on_error))


@click.command(epilog="Exit codes: as of run. RUN is an id, the beginning of one, or latest.")
@run_argument
@click.option("--failed", is_flag=True, help="Do the failed cases again, too.")
@click.option(
    "--experiment",
    metavar="EXPERIMENT.yaml",
    type=click.Path(path_type=Path),
    help="The run's experiment, where something that it names (a key, an evaluator's file) has moved.",
)
@store_options
@json_option
@_quiet
@_strict
@click.pass_context
def resume(ctx: click.Context, run_id: str, failed: bool, experiment: Path | None, store: Store, as_json: bool, quiet: bool, fail_on_error: bool) -> None:
    """Do what a run is missing, and nothing twice.

    Also after Ctrl-C, a crash or kill -9. A run that is complete is left as it is; one that goes on
    at a hosted Studio is watched to its end.
    """
    from promptlab.adapters.http.lab import RemoteLab
    from promptlab.domain.results import FINAL

    file = _loaded(experiment) if experiment else None

    async def begin(lab: AnyLab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        found = await find_run(lab, run_id)
        if isinstance(lab, RemoteLab) and found.status not in FINAL:
            on_start(found)
            return await lab.watch(found, on_progress)
        config, folder = (file.config, file.folder) if file else (None, None)
        return await lab.resume(found.run_id, failed=failed, config=config, folder=folder, on_start=on_start, on_progress=on_progress)

    ended = asyncio.run(_work(store, begin, quiet=quiet, more=f" --experiment {experiment}" if experiment else ""))
    if not ended.started and ended.run and not quiet:
        click.echo(f"Run {ended.run.run_id} is complete: there is nothing to do.", err=True)
    ctx.exit(_report(ended, as_json=as_json, fail_on_error=fail_on_error))


@click.command(epilog="RUN is an id, the beginning of one, or latest.")
@run_argument
@store_options
@json_option
def cancel(run_id: str, store: Store, as_json: bool) -> None:
    """Stop a run, whoever works on it.

    What was answered is kept, and resume goes on with it. A run that has ended stays as it is.
    """
    from promptlab.report import brief

    before, run, so_far, done, where = asyncio.run(_cancel(store, run_id))
    if as_json:
        show_json(brief(run, *so_far))
    if before.status == run.status:
        click.echo(f"Run {run.run_id} has ended already: {run.status}.", err=True)
        return
    _say_kept(run, done)
    click.echo(f"Go on with: {where}", err=True)


async def _cancel(store: Store, text: str) -> tuple[RunRecord, RunRecord, tuple[Progress | None, Summary | None], Progress, str]:
    """The run before and after, what is known of it, how far it is, and the command that goes on with it."""
    from promptlab.report import resume_command

    async with opened(store) as lab:
        before = await find_run(lab, text)
        run = await lab.cancel(before.run_id)
        return before, run, await lab.so_far(run), await lab.progress(run.run_id), resume_command(run.run_id, lab.where)


def _loaded(path: Path) -> ExperimentFile:
    from promptlab.experiment_file import load_experiment

    return load_experiment(path)


@dataclass(frozen=True, slots=True)
class _Ended:
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
    remote: bool
    """Whether the run is a hosted Studio's, and does not need this process."""


async def _work(store: Store, begin: Begin, *, quiet: bool, more: str = "") -> _Ended:
    """Work on a run until it ends or a signal stops it."""
    from promptlab.cli.interruption import Interruption
    from promptlab.cli.progress import progress_view
    from promptlab.domain.results import Progress
    from promptlab.errors import PromptLabError

    started: list[RunRecord] = []
    seen: list[Progress] = []
    err = console(stderr=True)
    view = progress_view(err, quiet=quiet)

    def on_start(run: RunRecord) -> None:
        started.append(run)
        view.started(run)

    def on_progress(progress: Progress) -> None:
        seen[:] = [progress]
        view(progress)

    def on_signal() -> None:
        if started and not lab.goes_on:
            err.print("Stopping: answers that are on their way are waited for. Once more to stop at once.")

    def left(run: RunRecord) -> str:
        return "\n".join((f"Run {run.run_id} {'goes on there' if lab.goes_on else 'is not complete'}.", *_hints(lab, run, more)))

    async with opened(store) as lab:
        run: RunRecord | None = None
        # What the user's own evaluators print must not get into the summary.
        with Interruption(on_signal) as stop, redirect_stdout(sys.stderr), view:
            try:
                run = await begin(lab, on_start, on_progress)
            except asyncio.CancelledError:
                if stop.signal is None:
                    raise
                if lab.goes_on and started:
                    # As it was seen last: whoever leaves does not wait for the network.
                    latest = seen[0] if seen else Progress(total=started[0].cases)
                    return _Ended(started[0], (latest, None), latest, True, stop.signal, _hints(lab, started[0]), True)
                run = await lab.get_run(started[0].run_id) if started else None
            except PromptLabError as error:
                if not started:
                    raise
                raise click.ClickException(f"{error}\n{left(started[0])}") from error
            except Exception as error:
                if started:
                    error.add_note(left(started[0]))
                raise
        so_far = await lab.so_far(run) if run else (None, None)
        done = await lab.progress(run.run_id) if run else None
        return _Ended(run, so_far, done, bool(started), stop.signal, _hints(lab, run, more) if run else (), lab.goes_on)


def _hints(lab: AnyLab, run: RunRecord, more: str = "") -> tuple[str, ...]:
    """What to do next with a run that is not complete, with the commands for it."""
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


def _report(ended: _Ended, *, as_json: bool, fail_on_error: bool) -> int:
    """Print what came of a run; the exit code."""
    from promptlab.report import brief, table

    run, done = ended.run, ended.done
    if run is None or done is None:
        there = "the Studio may have taken the run: promptlab runs lists it" if ended.remote else "nothing was stored"
        click.echo(f"Interrupted before the work began: {there}.", err=True)
        return _signalled(ended)
    facts = brief(run, *ended.so_far)
    if as_json:
        show_json(facts)
    else:
        show(table(run, *ended.so_far))
    if run.status == "completed":
        return CASES_FAILED if fail_on_error and facts["failed"] else 0
    _say_kept(run, done)
    click.echo("\n".join(ended.hints), err=True)
    return _signalled(ended) if ended.signal else FAILED


def _say_kept(run: RunRecord, done: Progress) -> None:
    word = "The run goes on" if run.status in ("running", "pending") else run.status.capitalize()
    click.echo(f"{word}: {done.done:,} of {done.total:,} cases are done and kept.", err=True)


def _signalled(ended: _Ended) -> int:
    """As a shell counts: 128 and the signal's number."""
    return 128 + ended.signal if ended.signal else FAILED
