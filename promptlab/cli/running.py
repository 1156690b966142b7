"""`promptlab run`, `promptlab resume` and `promptlab cancel`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.commits import commit_option, found_commit
from promptlab.cli.options import (
    Store,
    creating_store_options,
    find_run,
    json_option,
    opened,
    run_argument,
    show,
    show_json,
    store_options,
)
from promptlab.cli.working import Ended, work
from promptlab.errors import ConfigError, UntrustedCodeError
from promptlab.program import program
from promptlab.sync import run_in_this_thread

if TYPE_CHECKING:
    from promptlab.domain.results import Progress, RunRecord
    from promptlab.domain.summary import Summary
    from promptlab.experiments.file import ExperimentFile
    from promptlab.experiments.subset import Choice
    from promptlab.gates.conditions import Condition
    from promptlab.lab import Lab, OnProgress, OnStart

FAILED, CASES_FAILED, GATE_FAILED = 1, 3, 4
MOST_ROWS = 10_000_000
NOT_LEFT = (
    "--no-wait: this run's calls are made by this process. Say batch: true with its model to leave it to the "
    "provider, or leave --no-wait out."
)

_quiet = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
_budget = click.option(
    "--max-cost-usd",
    metavar="USD",
    type=click.FloatRange(0, min_open=True),
    help="Dollars that the run's calls may cost: it ends as budget_reached before one that could go beyond.",
)
_no_wait = click.option(
    "--no-wait",
    is_flag=True,
    help="Do not wait: of a run in batch mode, or of a hosted Studio. Come back with resume.",
)
_strict = click.option("--fail-on-error", is_flag=True, help="Exit with 3 when a case failed.")


@click.command(
    epilog="Exit codes: 0 completed, 1 failed, 2 wrong experiment (nothing is run or stored), 3 with "
    "--fail-on-error, 4 with --fail-if, 130 Ctrl-C, 143 SIGTERM. Of a sweep: 1 if a run of it is not "
    "completed, else as of its worst run; the same command goes on with it."
)
@click.argument("experiment", metavar="EXPERIMENT.yaml", type=click.Path(path_type=Path))
@creating_store_options
@json_option
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="A word to find the run by; may be given again."
)
@click.option(
    "--set",
    "changes",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change a field, as in model.temperature=0; may be given again.",
)
@click.option("--limit", metavar="N", type=click.IntRange(1, MOST_ROWS), help="Run the first N rows only.")
@click.option("--sample", metavar="N", type=click.IntRange(1, MOST_ROWS), help="Run N random rows only.")
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**63),
    help="Which sample; the same one with the same N.  [default: 0]",
)
@click.option(
    "--fail-if",
    metavar="CONDITION",
    multiple=True,
    help="Exit with 4 if it holds, as in 'exact_match.ci_low < 0.8'; may be given again.",
)
@click.option(
    "--requirement",
    "requirements",
    metavar="NAME==VERSION",
    multiple=True,
    help="A package that code of your own needs in a hosted Studio; may be given again.",
)
@_budget
@commit_option
@_no_wait
@_quiet
@_strict
@click.pass_context
def run(
    ctx: click.Context,
    experiment: Path,
    store: Store,
    as_json: bool,
    tags: tuple[str, ...],
    changes: tuple[str, ...],
    limit: int | None,
    sample: int | None,
    seed: int | None,
    fail_if: tuple[str, ...],
    requirements: tuple[str, ...],
    max_cost_usd: float | None,
    commit: str | None,
    no_wait: bool,
    quiet: bool,
    fail_on_error: bool,
) -> None:
    """Run the experiment that a YAML file describes.

    With a matrix, or several models or prompts, each combination is a run of one sweep.

    Everything that can be checked is checked before the first call. The summary goes to standard
    output, progress to standard error. Ctrl-C keeps what was answered and says how to go on; a run
    of a hosted Studio goes on by itself.
    """
    from promptlab.domain.choice import checked_tags
    from promptlab.experiments.file import SweepFile, load
    from promptlab.gates.conditions import parse_condition

    if limit is not None and sample is not None:
        raise click.UsageError("--limit and --sample: give the one or the other.")
    if seed is not None and sample is None:
        raise click.UsageError("--seed chooses a sample: give --sample N, too.")
    choice = _choice(limit, sample, seed)
    found = load(experiment, changes)
    if isinstance(found, SweepFile):
        from promptlab.cli import sweeping

        commit = found_commit(commit, found.folder)
        cells = [
            cell.config.model_copy(update={"tags": checked_tags((*cell.config.tags, *tags))})
            .requiring(requirements)
            .within(max_cost_usd)
            .at_commit(commit)
            for cell in found.config.cells
        ]
        several = found.config.over(cells)
        conditions = [parse_condition(text, *cells[0].gated_names) for text in fail_if]
        start = sweeping.begun(several, found.folder, choice, no_wait=no_wait)
        swept = run_in_this_thread(sweeping.work(store, start, quiet=quiet))
        ctx.exit(
            sweeping.report(
                swept,
                f"run {experiment}",
                as_json=as_json,
                quiet=quiet,
                fail_on_error=fail_on_error,
                conditions=conditions,
                no_wait=no_wait,
            )
        )
    file = found
    config = file.config.model_copy(update={"tags": checked_tags((*file.config.tags, *tags))})
    config = config.requiring(requirements).within(max_cost_usd).at_commit(found_commit(commit, file.folder))
    conditions = [parse_condition(text, *config.gated_names) for text in fail_if]

    async def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        from promptlab.experiments.subset import subset

        if no_wait and not lab.goes_on and not _in_batches(config.model):
            raise ConfigError(NOT_LEFT)
        told: dict[str, Any] = {"on_start": on_start, "on_progress": on_progress, "leave": no_wait}
        if choice is None:
            return await lab.run(config, folder=file.folder, **told)
        async with subset(lab.assets, config.dataset, choice) as dataset:
            if config.stop is not None and not quiet:
                click.echo("Only some rows are run: `stop`, which is of all of them, is left out.", err=True)
            part = config.model_copy(update={"dataset": dataset, "stop": None})
            return await lab.run(part, folder=file.folder, **told)

    ctx.exit(
        report(
            run_in_this_thread(work(store, begin, quiet=quiet)),
            as_json=as_json,
            quiet=quiet,
            fail_on_error=fail_on_error,
            conditions=conditions,
            no_wait=no_wait,
        )
    )


@click.command(
    epilog="Exit codes: as of run. RUN is an id, the beginning of one, or latest; or the id of a sweep, "
    "sweep-…, whose runs are then begun or gone on with, from what was recorded of it."
)
@run_argument
@click.option("--failed", is_flag=True, help="Do the failed cases again, too.")
@click.option(
    "--only",
    "--errors",
    "errors",
    metavar="TYPE",
    multiple=True,
    help="Do only those again that failed with this type of error, as in timeout; may be given again.",
)
@click.option(
    "--experiment",
    metavar="EXPERIMENT.yaml",
    type=click.Path(path_type=Path),
    help="The run's experiment, where something that it names (a key, an evaluator's file) has moved.",
)
@click.option(
    "--trust-code",
    is_flag=True,
    help="Run the code that the run names, also where the store was made by somebody else.",
)
@_budget
@store_options
@json_option
@_no_wait
@_quiet
@_strict
@click.pass_context
def resume(
    ctx: click.Context,
    run_id: str,
    failed: bool,
    errors: tuple[str, ...],
    experiment: Path | None,
    trust_code: bool,
    max_cost_usd: float | None,
    store: Store,
    as_json: bool,
    no_wait: bool,
    quiet: bool,
    fail_on_error: bool,
) -> None:
    """Do what a run is missing, and nothing twice.

    Code that a run names, and that was not recorded in this store by you, is run only after a question. Also
    after Ctrl-C, a crash or kill -9. A run that is complete is left as it is; one that goes on at a hosted
    Studio is watched to its end.
    """
    from promptlab.domain.results import FINAL
    from promptlab.domain.sweeps import PREFIX

    if run_id.startswith(PREFIX):
        if failed or errors or experiment or trust_code:
            raise click.UsageError(
                "--failed, --only, --experiment and --trust-code are of one run: give a run of the sweep."
            )
        from promptlab.cli import sweeping

        start = sweeping.resumed(run_id, max_cost_usd, no_wait=no_wait)
        swept = run_in_this_thread(sweeping.work(store, start, quiet=quiet))
        shown: dict[str, Any] = {"as_json": as_json, "quiet": quiet, "no_wait": no_wait}
        ctx.exit(sweeping.report(swept, fail_on_error=fail_on_error, conditions=(), **shown))
    file = _loaded(experiment) if experiment else None

    async def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        found = await find_run(lab, run_id)
        if no_wait and not lab.goes_on and not _in_batches(found.experiment.get("model")):
            raise ConfigError(NOT_LEFT)
        if lab.goes_on and found.status not in FINAL:
            on_start(found)
            return found if no_wait else await lab.watch(found, on_progress)
        config, folder = (file.config, file.folder) if file else (None, None)
        once = partial(
            lab.resume,
            found.run_id,
            failed=failed,
            errors=errors,
            max_cost_usd=max_cost_usd,
            config=config,
            folder=folder,
            on_start=on_start,
            on_progress=on_progress,
            leave=no_wait,
        )
        try:
            return await once(trust_code=trust_code)
        except UntrustedCodeError as error:
            if not sys.stdin.isatty():
                raise
            click.echo(str(error), err=True)
            click.confirm("Run it?", abort=True, err=True)
            return await once(trust_code=True)

    ended = run_in_this_thread(
        work(store, begin, quiet=quiet, more=f" --experiment {experiment}" if experiment else "")
    )
    if not ended.started and ended.run and not quiet:
        click.echo(_nothing_to_do(ended.run, errors), err=True)
    ctx.exit(report(ended, as_json=as_json, quiet=quiet, fail_on_error=fail_on_error, no_wait=no_wait))


def _choice(limit: int | None, sample: int | None, seed: int | None) -> Choice | None:
    """The rows that --limit and --sample name; None for all."""
    from promptlab.experiments.subset import First, Sample

    if limit is None and sample is None:
        return None
    return First(limit) if limit is not None else Sample(sample or 0, seed or 0)


def _in_batches(model: Any) -> bool:
    """Whether a model, or what is recorded of one, is in batch mode."""
    config = getattr(model, "config", model)
    batch = config.get("batch") if isinstance(config, Mapping) else getattr(config, "batch", False)
    return batch is True


def _nothing_to_do(run: RunRecord, errors: Sequence[str]) -> str:
    """Say why a whole run was left as it is; a mistyped type of error must not look like success."""
    counts = (run.summary or {}).get("errors") or {}
    if not errors or not counts:
        return f"Run {run.run_id} is complete: there is nothing to do."
    there = ", ".join(f"{kind} ({n:,})" for kind, n in sorted(counts.items(), key=lambda item: -item[1]))
    return (
        f"Run {run.run_id} is complete and no case failed with {' or '.join(errors)}: its errors are {there}."
    )


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


async def _cancel(
    store: Store, text: str
) -> tuple[RunRecord, RunRecord, tuple[Progress | None, Summary | None], Progress, str]:
    """The run before and after, what is known of it, how far it is, and the command that goes on with it."""
    from promptlab.report import resume_command

    async with opened(store) as lab:
        before = await find_run(lab, text)
        run = await lab.cancel(before.run_id)
        return (
            before,
            run,
            await lab.so_far(run),
            await lab.progress(run.run_id),
            resume_command(run.run_id, lab.where),
        )


def _loaded(path: Path, changes: tuple[str, ...] = ()) -> ExperimentFile:
    from promptlab.experiments.file import load_experiment

    return load_experiment(path, changes)


def report(
    ended: Ended,
    *,
    as_json: bool,
    quiet: bool,
    fail_on_error: bool,
    conditions: Sequence[Condition] = (),
    no_wait: bool = False,
) -> int:
    """Print what came of a run; return the exit code."""
    from promptlab.domain.results import DONE
    from promptlab.gates.facts import facts_of
    from promptlab.report import all_failed, brief, next_steps, table

    run, done = ended.run, ended.done
    if run is None or done is None:
        there = (
            f"the Studio may have taken the run: {program()} runs lists it"
            if ended.remote
            else "nothing was stored"
        )
        click.echo(f"Interrupted before the work began: {there}.", err=True)
        return _signalled(ended)
    facts = brief(run, *ended.so_far)
    if as_json:
        show_json(facts)
    else:
        show(table(run, *ended.so_far))
    if run.status in DONE or all_failed(facts):
        if not quiet:
            click.echo("\n".join(next_steps(facts, ended.where)), err=True)
        numbers = facts_of(run) if conditions else {}
        met = [(condition, words) for condition in conditions if (words := condition.met(numbers))]
        for condition, words in met:
            click.echo(f"Failed: {words} (--fail-if {condition.text!r}).", err=True)
        if all_failed(facts):
            return FAILED
        if met:
            return GATE_FAILED
        return CASES_FAILED if fail_on_error and facts["failed"] else 0
    _say_kept(run, done)
    click.echo("\n".join(ended.hints), err=True)
    if ended.signal:
        return _signalled(ended)
    return 0 if no_wait and _is_left(run, done) else FAILED


def _is_left(run: RunRecord, done: Progress) -> bool:
    """Whether the provider, or a hosted Studio, goes on with a run."""
    return run.status == "running" or (run.status == "interrupted" and done.batched is not None)


def _say_kept(run: RunRecord, done: Progress) -> None:
    word = "The run goes on" if run.status == "running" else run.status.replace("_", " ").capitalize()
    if done.batched is not None and done.batched.since is not None:
        words = done.batched.words
        click.echo(f"{words[0].upper()}{words[1:]}. The provider goes on by itself.", err=True)
    click.echo(f"{word}: {done.done:,} of {done.total:,} cases are done and kept.", err=True)


def _signalled(ended: Ended) -> int:
    """As a shell counts: 128 and the signal's number."""
    return 128 + ended.signal if ended.signal else FAILED
