"""`promptlab run` and `promptlab resume`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import console, db_option, find_run, json_option, opened, run_argument, show, show_json

if TYPE_CHECKING:
    from signal import Signals

    from promptlab.domain.results import Progress, RunRecord
    from promptlab.domain.summary import Summary
    from promptlab.experiment_file import ExperimentFile
    from promptlab.lab import Lab, OnProgress, OnStart

    Begin = Callable[[Lab, OnStart, OnProgress], Awaitable[RunRecord]]

FAILED, CASES_FAILED = 1, 3

_quiet = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
_strict = click.option("--fail-on-error", is_flag=True, help="Exit with 3 when a case failed.")


@click.command(epilog="Exit codes: 0 completed, 1 failed, 2 wrong experiment (nothing is run or stored), 3 with --fail-on-error, 130 Ctrl-C, 143 SIGTERM.")
@click.argument("experiment", metavar="EXPERIMENT.yaml", type=click.Path(path_type=Path))
@db_option
@json_option
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A word to find the run by; may be given again.")
@_quiet
@_strict
@click.pass_context
def run(ctx: click.Context, experiment: Path, db: str, as_json: bool, tags: tuple[str, ...], quiet: bool, fail_on_error: bool) -> None:
    """Run the experiment that a YAML file describes.

    Everything that can be checked is checked before the first call. The summary goes to standard
    output, progress to standard error. Ctrl-C keeps what was answered and says how to go on.
    """
    file = _loaded(experiment)
    config = file.config.model_copy(update={"tags": tuple(dict.fromkeys((*file.config.tags, *tags)))})

    def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> Awaitable[RunRecord]:
        return lab.run(config, folder=file.folder, on_start=on_start, on_progress=on_progress)

    ctx.exit(_report(asyncio.run(_work(db, begin, quiet=quiet)), as_json=as_json, fail_on_error=fail_on_error))


@click.command(epilog="Exit codes: as of run. RUN is an id, the beginning of one, or latest.")
@run_argument
@click.option("--failed", is_flag=True, help="Do the failed cases again, too.")
@click.option(
    "--experiment",
    metavar="EXPERIMENT.yaml",
    type=click.Path(path_type=Path),
    help="The run's experiment, where something that it names (a key, an evaluator's file) has moved.",
)
@db_option
@json_option
@_quiet
@_strict
@click.pass_context
def resume(ctx: click.Context, run_id: str, failed: bool, experiment: Path | None, db: str, as_json: bool, quiet: bool, fail_on_error: bool) -> None:
    """Do what a run is missing, and nothing twice.

    Also after Ctrl-C, a crash or kill -9. A run that is complete is left as it is.
    """
    file = _loaded(experiment) if experiment else None

    async def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        found = await find_run(lab, run_id)
        config, folder = (file.config, file.folder) if file else (None, None)
        return await lab.resume(found.run_id, failed=failed, config=config, folder=folder, on_start=on_start, on_progress=on_progress)

    ended = asyncio.run(_work(db, begin, quiet=quiet, more=f" --experiment {experiment}" if experiment else ""))
    if not ended.started and ended.run and not quiet:
        click.echo(f"Run {ended.run.run_id} is complete: there is nothing to do.", err=True)
    ctx.exit(_report(ended, as_json=as_json, fail_on_error=fail_on_error))


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
    go_on: str
    """The command that goes on with it."""


async def _work(db: str, begin: Begin, *, quiet: bool, more: str = "") -> _Ended:
    """Work on a run until it ends or a signal stops it."""
    from promptlab.cli.interruption import Interruption
    from promptlab.cli.progress import progress_view
    from promptlab.errors import PromptLabError
    from promptlab.report import resume_command

    started: list[RunRecord] = []
    err = console(stderr=True)
    view = progress_view(err, quiet=quiet)

    def on_start(run: RunRecord) -> None:
        started.append(run)
        view.started(run)

    def on_signal() -> None:
        if started:
            err.print("Stopping: answers that are on their way are waited for. Once more to stop at once.")

    def go_on(run: RunRecord) -> str:
        return resume_command(run.run_id, lab.where) + more

    async with opened(db) as lab:
        run: RunRecord | None = None
        # What the user's own evaluators print must not get into the summary.
        with Interruption(on_signal) as stop, redirect_stdout(sys.stderr), view:
            try:
                run = await begin(lab, on_start, view)
            except asyncio.CancelledError:
                if stop.signal is None:
                    raise
                run = await lab.get_run(started[0].run_id) if started else None
            except PromptLabError as error:
                if not started:
                    raise
                raise click.ClickException(f"{error}\nRun {started[0].run_id} is not complete. Go on with: {go_on(started[0])}") from error
            except Exception as error:
                if started:
                    error.add_note(f"Run {started[0].run_id} is not complete. Go on with: {go_on(started[0])}")
                raise
        so_far = await lab.so_far(run) if run else (None, None)
        done = await lab.progress(run.run_id) if run else None
        return _Ended(run, so_far, done, bool(started), stop.signal, go_on(run) if run else "")


def _report(ended: _Ended, *, as_json: bool, fail_on_error: bool) -> int:
    """Print what came of a run; the exit code."""
    from promptlab.report import brief, table

    run, done = ended.run, ended.done
    if run is None or done is None:
        click.echo("Interrupted before the work began: nothing was stored.", err=True)
        return _signalled(ended)
    facts = brief(run, *ended.so_far)
    if as_json:
        show_json(facts)
    else:
        show(table(run, *ended.so_far))
    if run.status == "completed":
        return CASES_FAILED if fail_on_error and facts["failed"] else 0
    click.echo(f"{run.status.capitalize()}: {done.done:,} of {done.total:,} cases are done and kept.", err=True)
    click.echo(f"Go on with: {ended.go_on}", err=True)
    return _signalled(ended) if run.status == "interrupted" else FAILED


def _signalled(ended: _Ended) -> int:
    """As a shell counts: 128 and the signal's number."""
    return 128 + ended.signal if ended.signal else FAILED
