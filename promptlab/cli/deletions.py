"""`promptlab deletions`: what was deleted for good, when, and by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from promptlab.deleting.journal import Deletion


@click.command(short_help="List what was deleted in the last year.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="How many at most.",
)
@store_options
@json_option
def deletions(limit: int, store: Store, as_json: bool) -> None:
    """List what was deleted in the last year, newest first: runs, versions, projects, people.

    What was deleted is not kept, only that it was. Those that are under way come first.
    """
    where, found = asyncio.run(_deletions(store, limit))
    if as_json:
        show_json([asdict(one) for one in found])
    elif found:
        from promptlab.cli.tables import deletions_table

        show(deletions_table(found))
    else:
        click.echo(f"Nothing was deleted in {where} in the last year.", err=True)


async def _deletions(store: Store, limit: int) -> tuple[str, Sequence[Deletion]]:
    found: list[Deletion] = []
    cursor: str | None = None
    async with opened(store) as lab:
        while len(found) < limit:
            page, cursor = await lab.deletions(limit=min(limit - len(found), 500), cursor=cursor)
            found += page
            if cursor is None:
                break
        return lab.where, found[:limit]
