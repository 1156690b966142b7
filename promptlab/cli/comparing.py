"""`promptlab compare`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, find_run, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from promptlab.queries.compare import ComparePage
    from promptlab.queries.compared import Compared

CHANGES = ("all", "different", "regressed", "improved", "same")


@click.command(
    short_help="Compare two to four runs, case by case.",
    epilog="RUN is an id, the beginning of one, or latest. The first run is the base.",
)
@click.argument("run_ids", metavar="RUN RUN [RUN RUN]", nargs=-1, required=True)
@click.option(
    "--change",
    type=click.Choice(CHANGES),
    default="different",
    show_default=True,
    help="Which cases to show.",
)
@click.option(
    "--margin",
    "margins",
    metavar="[NAME=]D",
    multiple=True,
    help="A difference that does not matter, of every metric or of one; may be given again.  "
    "[default: 0.02 of pass/fail]",
)
@click.option("--metric", metavar="NAME", help="The metric that --change is about.  [default: any]")
@click.option("--text", metavar="TEXT", default="", help="Only cases in which a search finds TEXT.")
@click.option("--least", metavar="D", type=float, help="Only cases whose difference is this or more.")
@click.option("--most", metavar="D", type=float, help="Only cases whose difference is this or less.")
@click.option(
    "--where",
    metavar="COLUMN=VALUE",
    multiple=True,
    help="Only rows with a value in a dataset column; may be given again.",
)
@click.option(
    "--sort",
    type=click.Choice(("case", "difference")),
    default="case",
    show_default=True,
    help="The order of cases.",
)
@click.option(
    "--descending", is_flag=True, help="The other way round; by difference: the greatest gain first."
)
@click.option("--offset", metavar="N", type=click.IntRange(0, 10**9), default=0, help="Cases to skip.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Cases to show at most.",
)
@store_options
@json_option
def compare(
    run_ids: tuple[str, ...],
    change: str,
    margins: tuple[str, ...],
    metric: str | None,
    text: str,
    least: float | None,
    most: float | None,
    where: tuple[str, ...],
    sort: str,
    descending: bool,
    offset: int,
    limit: int,
    store: Store,
    as_json: bool,
) -> None:
    """Compare a run, the base, with one to three others over the same rows.

    Each metric's difference comes with its 95% interval, over the rows that both runs have a value for,
    with the rows won, lost and tied, and with a verdict: better, worse, the same within the margin, not
    worse by more than it, or no evidence of a difference (Holm's p over all metrics and runs).
    """
    from promptlab.queries.compared import MAX_COMPARED, Compared, margins_of, where_of
    from promptlab.queries.comparison_json import comparison_json
    from promptlab.sdk.compare import comparison_table

    if not 2 <= len(run_ids) <= MAX_COMPARED:
        raise click.UsageError(f"A comparison is of 2 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
    rows = where_of(where)
    chosen = Compared(change, metric, None, text.strip(), margins_of(margins), least, most, rows)  # type: ignore[arg-type]
    ids, page = asyncio.run(_compared(store, run_ids, chosen, sort, descending, offset, limit))
    if as_json:
        show_json(comparison_json(ids, page))
    else:
        show(comparison_table(ids, page))


async def _compared(
    store: Store,
    texts: tuple[str, ...],
    chosen: Compared,
    sort: str,
    descending: bool,
    offset: int,
    limit: int,
) -> tuple[list[str], ComparePage]:
    async with opened(store) as lab:
        ids = [(await find_run(lab, text)).run_id for text in texts]
        page = await lab.compare(
            ids, chosen, sort=sort, descending=descending, offset=offset, limit=limit, text_chars=600
        )
        return ids, page
