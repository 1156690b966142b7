"""`promptlab sweep`, and `promptlab run` of an experiment with a matrix."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.options import Store, console, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from signal import Signals

    from rich.console import RenderableType

    from promptlab.domain.results import RunRecord
    from promptlab.domain.sweeps import Sweep
    from promptlab.experiments.matrix import SweepConfig
    from promptlab.experiments.subset import Choice
    from promptlab.gates.conditions import Condition
    from promptlab.lab import Lab
    from promptlab.queries.ranking import Ranking
    from promptlab.sdk.sweeps import EachRun


@click.command(
    short_help="Rank the runs of a sweep: score, P(best), ranks, cost.",
    epilog="SWEEP is an id, the beginning of one, or latest; without it the sweeps are listed. "
    "`promptlab run` of an experiment with a matrix makes one.",
)
@click.argument("sweep_id", metavar="[SWEEP]", required=False)
@click.option(
    "--metric", metavar="NAME", help="What to rank by.  [default: the headline metric, or the first]"
)
@click.option(
    "--margin",
    "margins",
    metavar="[NAME=]D",
    multiple=True,
    help="A difference that does not matter, of every metric or of one; may be given again.  "
    "[default: 0.02 of pass/fail]",
)
@click.option(
    "--cancel", is_flag=True, help="Stop it: no further run begins, and those under way are cancelled."
)
@store_options
@json_option
def sweep(
    sweep_id: str | None,
    metric: str | None,
    margins: tuple[str, ...],
    cancel: bool,
    store: Store,
    as_json: bool,
) -> None:
    """Rank the runs of a sweep, the best first.

    P(best) is the share of bootstrap resamples of the rows in which a run is the best, and ranks are the 95%
    interval of its rank; each run is judged against the best one, by Holm over all pairs. A star marks runs
    that no other beats in score and cost at once.
    """
    from promptlab.queries.compared import margins_of
    from promptlab.sdk.sweeps import ranking_table

    if sweep_id is None:
        found = asyncio.run(_listed(store))
        if as_json:
            show_json([one.to_json() for one in found])
        else:
            show(_sweeps_table(found))
        return
    ranking = asyncio.run(_ranked(store, sweep_id, metric, margins_of(margins), cancel))
    if as_json:
        show_json(ranking.to_json())
    else:
        show(ranking_table(ranking))


async def _listed(store: Store) -> Sequence[Sweep]:
    async with opened(store) as lab:
        return await lab.list_sweeps(limit=100)


async def _ranked(
    store: Store, text: str, metric: str | None, margins: dict[str, float], cancel: bool
) -> Ranking:
    async with opened(store) as lab:
        found = await find_sweep(lab, text)
        if cancel:
            await lab.cancel_sweep(found.sweep_id)
        return await lab.rank(found.sweep_id, metric=metric, margins=margins)


async def find_sweep(lab: Lab, text: str) -> Sweep:
    """The sweep that a user names: by its id, by the beginning of its id, or as `latest`.

    Raises:
        SweepNotFoundError: there is none.
        RunError: the text begins the ids of several.
    """
    from promptlab.domain.sweeps import PREFIX
    from promptlab.errors import RunError, SweepNotFoundError

    try:
        return await lab.get_sweep(text)
    except SweepNotFoundError:
        known = await lab.list_sweeps(limit=100)
    if text == "latest" and known:
        return known[0]
    found = [one for one in known if text and one.sweep_id.startswith((text, f"{PREFIX}{text}"))]
    if not found:
        raise SweepNotFoundError(text)
    if len(found) > 1:
        raise RunError(f"{text!r} begins the ids of {len(found)} sweeps: give more of the id.")
    return found[0]


def _sweeps_table(found: Sequence[Sweep]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not found:
        return Text("There is no sweep: `promptlab run` of an experiment with a matrix makes one.")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column in ("sweep", "experiment", "runs", "over", "created"):
        table.add_column(column, justify="right" if column == "runs" else "left")
    for one in found:
        axes = list(dict.fromkeys(axis for cell in one.cells for axis in cell.choices))
        created = one.created_at[:16].replace("T", " ")
        table.add_row(one.sweep_id, one.name, f"{len(one.cells)}", ", ".join(axes), created)
    return table


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of the work on a sweep."""

    ranking: Ranking | None
    """None: it was stopped before it was recorded."""
    runs: Sequence[RunRecord]
    signal: Signals | None
    remote: bool


Begin = Callable[["Lab", "EachRun"], Awaitable[object]]


def begun(config: SweepConfig, folder: Path, choice: Choice | None, *, no_wait: bool) -> Begin:
    """How a sweep begins; `choice` are the rows of the dataset that it is of."""

    async def begin(lab: Lab, seen: EachRun) -> None:
        from contextlib import AsyncExitStack

        from promptlab.experiments.subset import subset

        async with AsyncExitStack() as stack:
            wanted = config
            if choice is not None:
                rows = subset(lab.assets, config.cells[0].config.dataset, choice)
                wanted = config.updated({"dataset": await stack.enter_async_context(rows)})
            await lab.sweep(wanted, folder=folder, leave=no_wait, **_heard(seen))

    return begin


def resumed(text: str, max_cost_usd: float | None, *, no_wait: bool) -> Begin:
    """How a sweep goes on that a user names."""

    async def begin(lab: Lab, seen: EachRun) -> None:
        found = await find_sweep(lab, text)
        await lab.resume_sweep(found.sweep_id, max_cost_usd=max_cost_usd, leave=no_wait, **_heard(seen))

    return begin


def _heard(seen: EachRun) -> dict[str, Any]:
    return {"on_sweep": seen.on_sweep, "on_start": seen.on_start, "on_progress": seen.on_progress}


async def work(store: Store, begin: Begin, *, quiet: bool) -> Swept:
    """Work on a sweep until it ends or a signal comes."""
    from promptlab.cli.interruption import Interruption
    from promptlab.cli.working import stdout_to_stderr
    from promptlab.sdk.progress import progress_view
    from promptlab.sdk.sweeps import EachRun

    err = console(stderr=True)

    def say(text: str) -> None:
        if not quiet:
            err.print(text, soft_wrap=True)

    def on_signal() -> None:
        if seen.run and not lab.goes_on:
            err.print("Stopping: answers that are on their way are waited for. Once more to stop at once.")

    seen = EachRun(lambda: progress_view(err, quiet=quiet), say)
    async with opened(store) as lab:
        with Interruption(on_signal) as stop, stdout_to_stderr(), seen:
            try:
                await begin(lab, seen)
            except asyncio.CancelledError:
                if stop.signal is None:
                    raise
        if seen.sweep is None:
            return Swept(None, (), stop.signal, lab.goes_on)
        ranking = await lab.rank(seen.sweep.sweep_id)
        runs = [await lab.get_run(cell.run_id) for cell in ranking.cells if cell.status != "waiting"]
        return Swept(ranking, runs, stop.signal, lab.goes_on)


def report(
    ended: Swept,
    again: str | None = None,
    *,
    as_json: bool,
    quiet: bool,
    fail_on_error: bool,
    conditions: Sequence[Condition],
    no_wait: bool,
) -> int:
    """Print what came of a sweep; return the exit code: that of the worst of its runs.

    Args:
        ended: what came of it.
        again: the command that goes on with it; by default `resume` with its id.
        as_json, quiet, fail_on_error, conditions, no_wait: as of a run.
    """
    from promptlab.cli.running import CASES_FAILED, FAILED, GATE_FAILED
    from promptlab.sdk.sweeps import ranking_table

    if ended.ranking is None:
        click.echo("Interrupted before the work began: nothing was run.", err=True)
        return 128 + ended.signal if ended.signal else FAILED
    if as_json:
        show_json(ended.ranking.to_json())
    else:
        show(ranking_table(ended.ranking))
    codes = {code for run in ended.runs for code in _codes(run, conditions, fail_on_error)}
    left = [cell for cell in ended.ranking.cells if cell.status != "completed"]
    for cell in left:
        if cell.error:
            click.echo(f"Run {cell.run_id}: {cell.error}", err=True)
    if any(cell.error or not no_wait for cell in left):
        codes.add(FAILED)
    if not quiet:
        sweep_id = ended.ranking.sweep.sweep_id
        _say_next(ended.ranking, again or f"resume {sweep_id}", ended.remote)
    if ended.signal:
        return 128 + ended.signal
    return next((one for one in (FAILED, GATE_FAILED, CASES_FAILED) if one in codes), 0)


def _codes(run: RunRecord, conditions: Sequence[Condition], fail_on_error: bool) -> Iterator[int]:
    """The exit codes that a run of its own would have, but for 0; says which conditions hold."""
    from promptlab.cli.running import CASES_FAILED, FAILED, GATE_FAILED
    from promptlab.gates.facts import facts_of
    from promptlab.report import all_failed, brief

    facts = brief(run)
    numbers = facts_of(run) if conditions else {}
    for condition in conditions if run.status == "completed" else ():
        if words := condition.met(numbers):
            click.echo(f"Failed: run {run.run_id}: {words} (--fail-if {condition.text!r}).", err=True)
            yield GATE_FAILED
    if all_failed(facts):
        yield FAILED
    elif fail_on_error and facts["failed"]:
        yield CASES_FAILED


def _say_next(ranking: Ranking, again: str, remote: bool) -> None:
    from promptlab.program import program

    left = [cell for cell in ranking.cells if cell.status != "completed"]
    if left:
        goes_on = remote and any(cell.status == "running" for cell in left)
        click.echo(f"{'Watch it again' if goes_on else 'Go on'} with: {program()} {again}", err=True)
    click.echo(f"Look at it with: {program()} sweep {ranking.sweep.sweep_id}", err=True)
