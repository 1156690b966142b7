"""`promptlab cache`: the answers that are kept for equal requests."""

from __future__ import annotations

import asyncio

import click

from promptlab.cli.options import Store, opened, store_options


@click.command(
    short_help="Count or forget the answers that are kept.",
    epilog="Answers are kept where an experiment or a model says cache: true; in the store itself.",
)
@click.option("--clear", is_flag=True, help="Forget all of them.")
@store_options
def cache(clear: bool, store: Store) -> None:
    """Say how many answers a store keeps for equal requests, or forget them."""
    click.echo(asyncio.run(_cache(store, clear)))


async def _cache(store: Store, clear: bool) -> str:
    async with opened(store) as lab:
        if clear:
            await lab.clear_cache()
            return f"No answer is kept any more in {lab.where}."
        count = await lab.cached_answers()
        return f"About {count:,} answers are kept in {lab.where}."
