"""`promptlab doctor`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.adapters.local.doctor import Report

DAMAGED = 1


@click.command(
    short_help="Check a store, or save what is left of a damaged one.",
    epilog="Exit codes: 0 the store is sound, or what could be read is saved; 1 it is damaged; 2 there "
    "is no such store.",
)
@click.argument(
    "store",
    metavar="[STORE]",
    envvar="PROMPTLAB_DB",
    default="promptlab.db",
    type=click.Path(path_type=Path),
)
@click.option("--repair", "repairing", is_flag=True, help="Write what can be read into a copy.")
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --repair: the copy.  [default: STORE with .repaired before its suffix]",
)
@click.pass_context
def doctor(ctx: click.Context, store: Path, repairing: bool, to: Path | None) -> None:
    """Check every page, record and file of a store.

    With --repair, what can be read goes into a copy, and the store itself stays as it is. Runs that lost
    answers are interrupted in the copy: promptlab resume asks for the missing ones only.
    """
    from promptlab.adapters.local.doctor import examine, repair

    if to and not repairing:
        raise click.UsageError("--to goes with --repair.")
    if repairing:
        report = repair(store, to or store.with_name(f"{store.stem}.repaired{store.suffix}"))
    else:
        report = examine(store)
    _tell(report)
    ctx.exit(0 if report.sound or report.repaired else DAMAGED)


def _tell(report: Report) -> None:
    kept = ", ".join(f"{count:,} {table}" for table, count in report.rows.items() if count)
    for fault in report.faults:
        click.echo(f"- {fault}")
    if report.more:
        click.echo(f"- and {report.more:,} more faults")
    lost = ", ".join(f"{count:,} {table}" for table, count in report.lost.items() if count)
    if report.repaired:
        click.echo(f"Saved in {report.repaired}: {kept}.")
        click.echo(f"Not readable: {lost}." if lost else "Every record that was found could be read.")
        click.echo(f"Go on with: {program()} runs --db {quote(str(report.repaired))}")
    elif report.sound:
        click.echo(f"{report.path} is sound: {kept or 'it is empty'}.")
    else:
        click.echo(
            f"{report.path} is damaged. Readable: "
            f"{kept or 'nothing'}.{f' Not readable: {lost}.' if lost else ''}"
        )
        click.echo(f"Save what can be read with: {program()} doctor --repair {quote(str(report.path))}")
