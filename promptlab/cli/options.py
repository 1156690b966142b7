"""Parts that several commands share: their options, the store, the names of runs, and
where words and tables go."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from promptlab.program import program

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from promptlab.domain.results import RunRecord
    from promptlab.lab import Lab

_SHOWN = 5
PIPE_WIDTH = 20_000
"""Columns of what is no terminal: programs read lines."""

Store = dict[str, Any]
"""A store configuration, as `promptlab.lab.open_lab` takes it."""

_DB_HELP = "The store: a file, and FILE.blobs beside it.  [env var: PROMPTLAB_DB; default: promptlab.db]"
db_option = click.option("--db", metavar="FILE", envvar="PROMPTLAB_DB", default="promptlab.db", help=_DB_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
run_argument = click.argument("run_id", metavar="RUN")


def creating_store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as `store_options`, for a command that may begin a new store."""
    return store_options(command, creates=True)


def store_options(command: Callable[..., Any], *, creates: bool = False) -> Callable[..., Any]:
    """Give a command --db, --endpoint, --api-key and --project, and call it with the `store` that they mean.

    Unless it `creates` stores, a file that is named and not there is asked about.

    The environment is read by `wiring.store_from`, and not by click: what is given goes before what is set.
    """

    @click.option("--db", metavar="FILE", help=_DB_HELP)
    @click.option(
        "--endpoint",
        metavar="URL",
        help="A hosted Studio, in place of a store here.  [env var: PROMPTLAB_ENDPOINT]",
    )
    @click.option(
        "--api-key",
        metavar="TOKEN",
        help="The hosted Studio's token; others on this machine may see options.  [env var: "
        "PROMPTLAB_API_KEY]",
    )
    @click.option(
        "--project",
        metavar="PROJECT",
        help="The hosted lab's project, for an admin of all of it.  [env var: PROMPTLAB_PROJECT; default: "
        "the token's]",
    )
    @functools.wraps(command)
    def with_store(
        *args: Any,
        db: str | None,
        endpoint: str | None,
        api_key: str | None,
        project: str | None,
        **options: Any,
    ) -> Any:
        from promptlab.wiring import store_from

        store = store_from(db, endpoint, api_key, project)
        if not creates:
            check_store(store)
        return command(*args, store=store, **options)

    return with_store


def check_store(store: Store) -> None:
    """Ask before a file that is not there becomes an empty store; in a pipe refuse it. The default file may
    be made.

    Raises:
        click.UsageError: there is no such store.
    """
    from promptlab.wiring import DEFAULT_DB

    path = Path(store.get("db_file", DEFAULT_DB)).expanduser()
    if store["type"] != "sqlite" or path == Path(DEFAULT_DB) or path.exists():
        return
    there = sorted(found.name for found in path.absolute().parent.glob("*.db"))[:_SHOWN]
    beside = f" Beside it there are: {', '.join(there)}." if there else ""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            f"There is no store {path}: check --db and PROMPTLAB_DB.{beside} "
            f"`{program()} run EXPERIMENT.yaml --db {quote(str(path))}` begins one."
        )
    click.confirm(f"There is no store {path}.{beside} Make an empty one?", abort=True, err=True)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Lab]:
    """The lab of a store, closed at the end of the block."""
    from promptlab.lab import open_lab

    lab = open_lab(store)
    if store.get("type") == "remote":
        from promptlab.sdk.jobs import JobLine

        lab.tell(JobLine())
    try:
        yield lab
    finally:
        await lab.close()


async def find_run(lab: Lab, text: str) -> RunRecord:
    """The run that a user names: by its id, by the beginning of its id, as `latest`, or by a label, as
    in `qa@production`.

    Raises:
        RunNotFoundError: there is none.
        RunError: the text begins the ids of several runs.
    """
    from promptlab.errors import RunError, RunNotFoundError

    if text == "latest":
        cursor: str | None = None
        while True:
            newest, cursor = await lab.list_runs(limit=1, cursor=cursor)
            if newest:
                return newest[0]
            if cursor is None:
                raise RunError(f"There is no latest run: {lab.where} has none yet.")
    try:
        return await lab.get_run(text)
    except RunNotFoundError:
        if (found_label := await labelled_run(lab, text)) is not None:
            return found_label
        found = [run_id async for run_id in lab.run_ids() if text and run_id.startswith(text)]
    if not found:
        raise RunNotFoundError(text, await _label_hint(lab, text))
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise RunError(
            f"{text!r} begins the ids of {len(found):,} runs: {', '.join(found[:_SHOWN])}{more}. Give "
            "more of the id."
        )
    return await lab.get_run(found[0])


async def _label_hint(lab: Lab, text: str) -> str:
    """Say how a label is written, where the text is one of an experiment that was run lately, or names one
    that the experiment does not have."""
    name, at, label = text.rpartition("@")
    if at and name and label:
        labels = await lab.run_labels(name)
        return f"The labels of {name!r} are {', '.join(sorted(labels))}. " if labels else ""
    runs, _ = await lab.list_runs(limit=100)
    for name in list(dict.fromkeys(run.name for run in runs))[:_SHOWN]:
        if text in await lab.run_labels(name):
            return f"{text!r} is a label of {name!r}: say {f'{name}@{text}'!r}. "
    return ""


async def labelled_run(lab: Lab, text: str) -> RunRecord | None:
    """The run that EXPERIMENT@LABEL names; None where there is none."""
    name, at, label = text.rpartition("@")
    run_id = (await lab.run_labels(name)).get(label) if at and name and label else None
    return None if run_id is None else await lab.get_run(run_id)


def console(*, stderr: bool = False) -> Console:
    """Make a console for standard output or standard error.

    Texts of users are shown as they are: `[x]` and `:x:` mean nothing. In a pipe no line is folded.
    """
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def show(*parts: RenderableType) -> None:
    """Print on standard output, for people."""
    from rich.console import Group

    console().print(Group(*parts))


def show_json(value: Any) -> None:
    """Print one JSON value on standard output, in ASCII, so that any terminal and any pipe takes it."""
    click.echo(json.dumps(value, indent=2))
