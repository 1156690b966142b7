"""`promptlab score`: further or other metrics for a run that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, find_run, json_option, run_argument, store_options
from promptlab.cli.running import _budget, _no_wait, _quiet, _strict, report
from promptlab.cli.working import work
from promptlab.errors import ConfigError
from promptlab.sync import run_in_this_thread

if TYPE_CHECKING:
    from promptlab.domain.results import RunRecord
    from promptlab.lab import Lab, OnProgress, OnStart


@click.command(epilog="Exit codes: as of run. RUN is an id, the beginning of one, or latest.")
@run_argument
@click.option(
    "--evaluation",
    metavar="FILE.yaml",
    type=click.Path(path_type=Path),
    help="The metrics: an experiment's file, or one with `evaluation` alone.",
)
@click.option("--metric", "only", metavar="NAME", multiple=True, help="One of them only; may be given again.")
@click.option("--failed", is_flag=True, help="Make failed scores again; no model is asked for an answer.")
@store_options
@json_option
@_budget
@_no_wait
@_quiet
@_strict
@click.pass_context
def score(
    ctx: click.Context,
    run_id: str,
    evaluation: Path | None,
    only: tuple[str, ...],
    failed: bool,
    store: Store,
    as_json: bool,
    max_cost_usd: float | None,
    no_wait: bool,
    quiet: bool,
    fail_on_error: bool,
) -> None:
    """Score a completed run by further or other metrics, without asking its model again.

    A metric that is new is added. One of a name that is there takes its place, and the scores of before stay
    under that name and the pass that made them, as in polite@0.
    """
    if failed == (evaluation is not None) or (failed and only):
        raise ConfigError("Give --evaluation FILE.yaml, or --failed alone for the scores that failed.")

    async def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        from promptlab.domain.summary import SCORE_ERRORS
        from promptlab.experiments.file import load_evaluation

        found = await find_run(lab, run_id)
        if evaluation is None:
            return await lab.resume(
                found.run_id,
                errors=SCORE_ERRORS,
                max_cost_usd=max_cost_usd,
                on_start=on_start,
                on_progress=on_progress,
                leave=no_wait,
            )
        metrics, folder = load_evaluation(evaluation)
        return await lab.score(
            found.run_id,
            metrics,
            only=only,
            max_cost_usd=max_cost_usd,
            folder=folder,
            on_start=on_start,
            on_progress=on_progress,
            leave=no_wait,
        )

    ended = run_in_this_thread(work(store, begin, quiet=quiet))
    if not ended.started and ended.run and not quiet:
        click.echo(f"Nothing to score: run {ended.run.run_id} has all of it.", err=True)
    ctx.exit(report(ended, as_json=as_json, quiet=quiet, fail_on_error=fail_on_error, no_wait=no_wait))
