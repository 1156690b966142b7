"""`promptlab sql`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, find_run, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from promptlab.queries.sql import SqlAnswer


@click.command(
    short_help="Ask a run's results in SQL.",
    epilog="RUN is an id, the beginning of one, or latest; '-' for SQL reads it from standard input.",
)
@click.argument("run_id", metavar="RUN")
@click.argument("question", metavar="SQL")
@store_options
@json_option
def sql(run_id: str, question: str, store: Store, as_json: bool) -> None:
    """Answer one SELECT over the table `cases`: a row a case, with the columns of an export.

    \b
      promptlab sql latest 'SELECT "input.kind", avg("score.f1") FROM cases GROUP BY ALL'
      promptlab sql latest 'DESCRIBE SELECT * FROM cases'

    The SQL is DuckDB's. It reads that table and nothing else, for 2 s at most, and gives 1,000 rows at most.
    """
    asked = sys.stdin.read() if question == "-" else question
    answer = asyncio.run(_answered(store, run_id, asked))
    if as_json:
        show_json(answer.to_json())
        return
    from promptlab.cli.tables import answer_table

    show(answer_table(answer))
    if answer.more:
        click.echo(f"The first {len(answer.rows):,} rows; there are more.", err=True)


async def _answered(store: Store, run_id: str, asked: str) -> SqlAnswer:
    async with opened(store) as lab:
        return await lab.sql((await find_run(lab, run_id)).run_id, asked)
