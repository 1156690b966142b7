"""`promptlab runs`, `show` and `export`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from promptlab.cli.case import case_key, case_text, read_case
from promptlab.cli.options import (
    Store,
    find_run,
    json_option,
    opened,
    run_argument,
    show_json,
    store_options,
)
from promptlab.cli.options import show as show_text
from promptlab.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from promptlab.domain.choice import Chosen
    from promptlab.domain.corrected import CorrectedMean
    from promptlab.domain.results import CaseKey, Progress, RunRecord
    from promptlab.domain.summary import Summary
    from promptlab.lab import Lab
    from promptlab.results.formats import CsvStyle, ExportFormat

MOST_RUNS = 100_000
STATUSES = (
    "running",
    "completed",
    "decided",
    "failed",
    "stopped",
    "budget_reached",
    "interrupted",
    "cancelled",
)
FORMATS = ("csv", "jsonl", "parquet", "otel")
FAILURES_SHOWN, FAILED_SHOWN = 5, 50
"""Failed cases that `show` and `show --failed` list by default."""
MOST_FAILURES = 100_000


@click.command()
@click.option("--name", metavar="NAME", help="Only runs of the experiment of this name.")
@click.option("--tag", metavar="TAG", help="Only runs with this tag.")
@click.option("--model", metavar="MODEL", help="Only runs of this model, with or without its provider.")
@click.option("--prompt", metavar="PROMPT", help="Only runs of this prompt template: qa, or qa@3.")
@click.option("--dataset", metavar="DATASET", help="Only runs over this dataset: questions, or questions@3.")
@click.option("--since", metavar="DAY", help="Only runs started on this day (2026-11-23, UTC) or later.")
@click.option("--until", metavar="DAY", help="Only runs started on this day or before.")
@click.option("--by", metavar="WHO", help="Only runs that this one started: ada, or person:ada@example.com.")
@click.option("--status", metavar="STATUS", type=click.Choice(STATUSES), help="Only runs with this status.")
@click.option("--archived", is_flag=True, help="Archived runs, which are left out else.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MOST_RUNS),
    default=20,
    show_default=True,
    help="How many at most.",
)
@store_options
@json_option
def runs(name: str | None, limit: int, store: Store, as_json: bool, **asked: Any) -> None:
    """List runs, newest first."""
    from promptlab.cli.tables import runs_table
    from promptlab.domain.choice import Chosen
    from promptlab.report import brief

    where, found = asyncio.run(_runs(store, name, Chosen(**asked), limit))
    if as_json:
        show_json(
            [
                {
                    **brief(run, progress),
                    "name": run.name,
                    "created_at": run.created_at,
                    "tags": list(run.tags),
                    "title": run.title,
                    "started_by": run.started_by,
                }
                for run, progress in found
            ]
        )
    elif found:
        show_text(runs_table(found))
    else:
        asks = name or any(asked.values())
        click.echo(f"No such runs in {where}." if asks else f"No runs in {where} yet.", err=True)


async def _runs(
    store: Store, name: str | None, chosen: Chosen, limit: int
) -> tuple[str, list[tuple[RunRecord, Progress | None]]]:
    found: list[RunRecord] = []
    cursor: str | None = None
    async with opened(store) as lab:
        while len(found) < limit:
            page, cursor = await lab.list_runs(
                name=name, chosen=chosen, limit=limit - len(found), cursor=cursor
            )
            found += page
            if cursor is None:
                break
        return lab.where, [(run, await _progress(lab, run)) for run in found]


async def _progress(lab: Lab, run: RunRecord) -> Progress | None:
    return None if run.summary else await lab.progress(run.run_id)


@click.command(
    short_help="Show a run, its exact configuration and some of its failed cases.",
    epilog="RUN is an id, the beginning of one, or latest.",
)
@run_argument
@click.option(
    "--failed", is_flag=True, help="List the failed cases and failed scores, and leave out the rest."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MOST_FAILURES),
    help=f"How many failed cases at most.  [default: {FAILURES_SHOWN}; with --failed {FAILED_SHOWN}]",
)
@click.option(
    "--case",
    "key",
    metavar="CASE",
    callback=case_key,
    help="Show one case whole, with its attempts: its row, from 0, and after a dot the trial (12, 12.1).",
)
@store_options
@json_option
def show(
    run_id: str, failed: bool, limit: int | None, key: CaseKey | None, store: Store, as_json: bool
) -> None:
    """Show a run: its summary, its exact configuration with hashes, and some of its failed cases."""
    if key is not None:
        if failed or limit:
            raise click.UsageError("--case shows one case: leave out --failed and --limit.")
        row = asyncio.run(read_case(store, run_id, key))
        if as_json:
            show_json(row)
        else:
            show_text(*case_text(row))
        return
    from promptlab.cli.tables import configuration, failures_table
    from promptlab.report import brief, table

    most = limit or (FAILED_SHOWN if failed else FAILURES_SHOWN)
    run, so_far, failures, corrected = asyncio.run(_details(store, run_id, most))
    if as_json:
        more = ("name", "created_at", "started_at", "finished_at", "generation", "error", "experiment")
        show_json(
            {
                **brief(run, *so_far),
                **{field: getattr(run, field) for field in more},
                "tags": list(run.tags),
                "corrected": {name: one.to_json() for name, one in corrected.items()},
                "failures": failures,
            }
        )
        return
    if not failed:
        show_text(table(run, *so_far, corrected), "", configuration(run))
    if failures:
        show_text(*([] if failed else [""]), failures_table(failures, more=len(failures) == most))
    elif failed:
        click.echo(f"No case of run {run.run_id} failed.", err=True)


async def _details(
    store: Store, run_id: str, most: int
) -> tuple[
    RunRecord,
    tuple[Progress | None, Summary | None],
    list[dict[str, Any]],
    Mapping[str, CorrectedMean],
]:
    from promptlab.report import brief

    async with opened(store) as lab:
        run = await find_run(lab, run_id)
        so_far = await lab.so_far(run)
        summary = await lab.summary(run.run_id)
        any_failed = brief(run, *so_far)["failed"] or any(m.failed for m in summary.metrics.values())
        failures = await _failures(lab, run, most) if any_failed else []
        return run, so_far, failures, await corrected_means(lab, run)


async def corrected_means(lab: Lab, run: RunRecord) -> Mapping[str, CorrectedMean]:
    """Read the means that labels correct; of a Studio of an older version none."""
    from promptlab.errors import RemoteError

    try:
        return await lab.labels.corrected(run.run_id)
    except RemoteError as error:
        if error.status not in (404, 405):
            raise
        return {}


async def _failures(lab: Lab, run: RunRecord, most: int) -> list[dict[str, Any]]:
    """Read the first failed cases and failed scores, with what went wrong."""
    found: list[dict[str, Any]] = []
    async with aclosing(cast("Any", lab.results(run.run_id))) as rows:
        async for row in rows:
            scores = [
                (name.removeprefix("score_error."), text)
                for name, text in row.items()
                if name.startswith("score_error.") and text
            ]
            if row["error_type"]:
                found.append(
                    {
                        **_case(row),
                        "metric": None,
                        "type": row["error_type"],
                        "message": row["error_message"],
                        "attempts": row["attempts"],
                        "tries": row["tries"] or [],
                    }
                )
            elif scores:
                found.append(
                    {
                        **_case(row),
                        "metric": scores[0][0],
                        "type": "evaluator",
                        "message": scores[0][1],
                        "attempts": row["attempts"],
                        "tries": row["tries"] or [],
                    }
                )
            if len(found) == most:
                break
    return found


def _case(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("case", "trial", "id")}


@click.command(
    short_help="Write a run's results to a file.",
    epilog="RUN is an id, the beginning of one, or latest. The columns are in docs/concepts.md.",
)
@run_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="The file's format; otel is OTLP JSON, a trace a line.  [default: that of --output, else csv]",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Where to write; - is standard output (not parquet).  [default: RUN.FORMAT in the working folder]",
)
@click.option(
    "--delimiter",
    metavar="SIGN",
    default=",",
    help=r"What stands between the values of a CSV file: ; or tab, say.  [default: ,]",
)
@click.option("--bom", is_flag=True, help="Begin a CSV file so that Excel knows its text for UTF-8.")
@store_options
def export(
    run_id: str, format_: ExportFormat | None, output: str | None, delimiter: str, bom: bool, store: Store
) -> None:
    """Write a run's results to a file, one row a case; of a run that is not complete, what there is."""
    chosen = format_ or _format_of(output)
    if output == "-" and chosen == "parquet":
        raise click.UsageError(
            "Parquet is not text: give --output a file, or take csv or jsonl for standard output."
        )
    from promptlab.results.formats import CsvStyle

    style = CsvStyle("\t" if delimiter in ("tab", r"\t") else delimiter, bom)
    style.check(chosen)
    asyncio.run(_export(store, run_id, chosen, output, style))


def _format_of(output: str | None) -> ExportFormat:
    from promptlab.results.formats import export_format

    return export_format(Path(output)) if output and output != "-" else "csv"


async def _export(
    store: Store, run_id: str, format_: ExportFormat, output: str | None, style: CsvStyle
) -> None:
    from promptlab.domain.results import DONE
    from promptlab.results.formats import export_name

    async with opened(store) as lab:
        run = await find_run(lab, run_id)
        if output == "-":
            with ScratchFolder() as folder:
                path = folder / f"results.{format_}"
                await lab.export(run.run_id, path, format_, style)
                _copy(path)
            return
        path = Path(output) if output else Path(export_name(run.run_id, format_))
        await lab.export(run.run_id, path, format_, style)
        so_far = "" if run.status in DONE else f" (the run is {run.status}: what there is so far)"
        click.echo(f"Wrote {path}{so_far}.", err=True)


def _copy(path: Path) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
