"""`promptlab slices`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, find_run, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from promptlab.sdk.slices import RunSlices


@click.command(
    short_help="Show a run by the values of a column.",
    epilog="RUN is an id, the beginning of one, or latest. COLUMN is one of its dataset.",
)
@click.argument("run_id", metavar="RUN")
@click.argument("column", metavar="COLUMN")
@click.argument("others", metavar="[OTHER …]", nargs=-1)
@click.option(
    "--margin",
    "margins",
    metavar="[NAME=]D",
    multiple=True,
    help="A difference that does not matter, of every metric or of one; may be given again.  "
    "[default: 0.02 of pass/fail]",
)
@store_options
@json_option
def slices(
    run_id: str, column: str, others: tuple[str, ...], margins: tuple[str, ...], store: Store, as_json: bool
) -> None:
    """Show each metric of a run by the values of a dataset column, and up to three other runs against it.

    Each value has n, the mean and its 95% interval; with other runs the difference, its interval and the
    verdict, adjusted over all values, metrics and runs (Holm). The 50 most frequent values have a slice;
    a column of many numbers is cut into five bins with as many rows each.
    """
    from promptlab.queries.compared import margins_of
    from promptlab.sdk.slices import slices_table

    found = asyncio.run(_sliced(store, (run_id, *others), column, margins_of(margins)))
    if as_json:
        show_json(found.to_json())
    else:
        show(slices_table(found.run_ids, found.found))


async def _sliced(store: Store, texts: tuple[str, ...], column: str, margins: dict[str, float]) -> RunSlices:
    from promptlab.sdk.slices import sliced

    async with opened(store) as lab:
        ids = [(await find_run(lab, text)).run_id for text in texts]
        return await sliced(lab, ids, column, margins)
