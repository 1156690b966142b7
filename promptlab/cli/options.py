"""What several commands share: their options, the store, how a run is named, and where words and tables go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from promptlab.domain.results import RunRecord
    from promptlab.lab import Lab

_SHOWN = 5
_PAGE = 500

db_option = click.option(
    "--db",
    metavar="FILE",
    envvar="PROMPTLAB_DB",
    default="promptlab.db",
    show_default=True,
    show_envvar=True,
    help="The store: a file, and FILE.blobs beside it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
run_argument = click.argument("run_id", metavar="RUN")


@asynccontextmanager
async def opened(db: str) -> AsyncIterator[Lab]:
    """The lab of a store, closed at the end of the block."""
    from promptlab.lab import Lab

    lab = Lab.open({"type": "sqlite", "db_file": db})
    try:
        yield lab
    finally:
        await lab.close()


async def find_run(lab: Lab, text: str) -> RunRecord:
    """The run that a user names: by its id, by the beginning of its id, or as `latest`.

    Raises:
        RunNotFoundError: there is none.
        RunError: the text begins the ids of several runs.
    """
    from promptlab.errors import RunError, RunNotFoundError

    if text == "latest":
        newest, _ = await lab.list_runs(limit=1)
        if not newest:
            raise RunError(f"There is no latest run: {lab.where} has none yet.")
        return newest[0]
    try:
        return await lab.get_run(text)
    except RunNotFoundError:
        found = [run_id async for run_id in _ids(lab) if text and run_id.startswith(text)]
    if not found:
        raise RunNotFoundError(text)
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise RunError(f"{text!r} begins the ids of {len(found):,} runs: {', '.join(found[:_SHOWN])}{more}. Give more of the id.")
    return await lab.get_run(found[0])


async def _ids(lab: Lab) -> AsyncIterator[str]:
    cursor = None
    while True:
        # From the ledger itself: the lab would look at the lock of every run.
        runs, cursor = await lab.ledger.list_runs(limit=_PAGE, cursor=cursor)
        for run in runs:
            yield run.run_id
        if cursor is None:
            return


def console(*, stderr: bool = False) -> Console:
    """A console for standard output or standard error. Texts of users are shown as they are: `[x]` and `:x:` mean nothing."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def show(*parts: RenderableType) -> None:
    """Print on standard output, for people."""
    from rich.console import Group

    console().print(Group(*parts))


def show_json(value: Any) -> None:
    """Print one JSON value on standard output, in ASCII, so that any terminal and any pipe takes it."""
    click.echo(json.dumps(value, indent=2))
