"""`promptlab power` and `promptlab estimate`: what a run needs and costs, before one pays for it."""

from __future__ import annotations

import asyncio
import pathlib
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, find_run, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from pathlib import Path

    from promptlab.cloud.estimate import Estimate
    from promptlab.cloud.sweeps import SweepEstimate
    from promptlab.experiments.file import ExperimentFile, SweepFile
    from promptlab.planning import Power


@click.command(
    short_help="Say how many cases a difference needs, and what they cost.",
    epilog="RUN is an id, the beginning of one, latest, or qa@production, say. The first is the base.",
)
@click.argument("run_ids", metavar="[RUN RUN]", nargs=-1)
@click.option(
    "--difference",
    "-d",
    metavar="D",
    type=float,
    required=True,
    help="The difference to be seen, in the metric's units: 0.05 of pass/fail is 5 in 100 rows.",
)
@click.option("--metric", metavar="NAME", help="The metric of the two runs.  [default: the first]")
@click.option(
    "--discordance",
    metavar="SHARE",
    type=float,
    help="Without runs: the share of rows in which two runs differ.  [default: 0.2]",
)
@click.option(
    "--deviation", metavar="S", type=float, help="Without runs, of numbers: the deviation of differences."
)
@store_options
@json_option
def power(
    run_ids: tuple[str, ...],
    difference: float,
    metric: str | None,
    discordance: float | None,
    deviation: float | None,
    store: Store,
    as_json: bool,
) -> None:
    """Say how many rows show a difference with 80% power, by what two runs showed, or by a guess.

    With two runs: how often they differ, and what a case of the second cost.
    """
    from promptlab.planning import power_lines

    if len(run_ids) not in (0, 2):
        raise click.UsageError("A plan is by two runs, the base first, or by none.")
    found = asyncio.run(_planned(store, run_ids, difference, metric, discordance, deviation))
    if as_json:
        show_json(found.to_json())
    else:
        click.echo("\n".join(power_lines(found)))


async def _planned(
    store: Store,
    texts: tuple[str, ...],
    difference: float,
    metric: str | None,
    discordance: float | None,
    deviation: float | None,
) -> Power:
    from promptlab.planning import planned

    async with opened(store) as lab:
        ids = [(await find_run(lab, text)).run_id for text in texts]
        return await planned(
            lab, ids, difference, metric=metric, discordance=discordance, deviation=deviation
        )


@click.command(
    short_help="Say what a run would cost on this machine, and how long it would take.",
    epilog="In the cloud: promptlab cloud estimate.",
)
@click.argument("experiment", metavar="EXPERIMENT.yaml", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--try",
    "tries",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=None,
    help="Run and pay for N random rows to see; the run is kept.",
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1, 1_000_000_000),
    help="How many rows to estimate for.  [default: those of the dataset]",
)
@store_options
@json_option
def estimate(experiment: Path, tries: int | None, rows: int | None, store: Store, as_json: bool) -> None:
    """Say what a run would cost and how long it would take at the model's limits, compared with batches and
    the flex tier, and in the worst case.

    Of a sweep, each of its runs and all together. Nothing is called and nothing is stored, unless --try has
    rows run.
    """
    from promptlab.cli.tables import laptop_tables, sweep_tables
    from promptlab.cloud.sweeps import SweepEstimate
    from promptlab.experiments.file import load

    found = asyncio.run(_estimated(store, load(experiment), tries, rows))
    if as_json:
        show_json(found.to_json())
    else:
        show(sweep_tables(found) if isinstance(found, SweepEstimate) else laptop_tables(found))


async def _estimated(
    store: Store, file: ExperimentFile | SweepFile, tries: int | None, rows: int | None
) -> Estimate | SweepEstimate:
    from promptlab.cloud.estimate import estimate
    from promptlab.cloud.sweeps import estimate_sweep
    from promptlab.experiments.file import SweepFile

    async with opened(store) as lab:
        if isinstance(file, SweepFile):
            return await estimate_sweep(lab, file.config, tries=tries or 0, rows=rows, folder=file.folder)
        return await estimate(lab, file.config, tries=tries or 0, rows=rows, folder=file.folder)
