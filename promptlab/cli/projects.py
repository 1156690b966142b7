"""`promptlab cloud projects`: the parts of a hosted lab that do not see each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from promptlab.cli.options import json_option, show_json
from promptlab.cli.stack_options import stack_options
from promptlab.cli.tokens import studio_of, studio_options
from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.cloud.stack import Stack

Found = dict[str, Any]
_DAYS = click.IntRange(1, 3_650)


@click.group(short_help="The projects of a hosted lab: create, list, change, delete.")
def projects() -> None:
    """The projects of a hosted lab: each has runs, prompts, datasets, keys and people of its own.

    The Studio is the one that PROMPTLAB_ENDPOINT names, asked with PROMPTLAB_API_KEY; else that of the stack,
    asked with its admin token. PROMPTLAB_PROJECT says which project other commands are about.
    """


@projects.command("list")
@studio_options
@stack_options
@json_option
def list_(endpoint: str | None, api_key: str | None, stack: Stack, as_json: bool) -> None:
    """List the projects that you may see, the default one first."""
    found: list[Found] = asyncio.run(_asked(stack, endpoint, api_key))["items"]
    if as_json:
        show_json(found)
    else:
        click.echo("\n".join(map(_line, found)))


def _line(project: Found) -> str:
    days = project["retention_days"]
    keeps = f"keeps runs for {days} days" if days else "keeps runs for ever"
    parts = (project["name"], keeps, "archived" if project["archived"] else "", project["description"])
    return "  ".join(part for part in parts if part)


@projects.command("create")
@click.argument("name", metavar="NAME")
@click.option("--description", metavar="TEXT", default="", help="What it is for.")
@click.option("--keep-days", metavar="N", type=_DAYS, help="Delete runs so long after their end.")
@studio_options
@stack_options
@json_option
def create(name: str, description: str, keep_days: int | None, **where: Any) -> None:
    """Make a project. NAME has 2 to 32 of a-z, 0-9 and -."""
    as_json = where.pop("as_json")
    body = {"name": name, "description": description, "retention_days": keep_days}
    made = asyncio.run(_asked(**where, method="POST", repeatable=False, json=body))
    if as_json:
        show_json(made)
        return
    click.echo(
        f"There is a project {name} now: PROMPTLAB_PROJECT={name} for an admin; "
        f"{program()} cloud tokens create NAME --project {name} for others.",
        err=True,
    )


@projects.command("edit")
@click.argument("name", metavar="NAME")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--keep-days", metavar="N", type=_DAYS, help="Delete runs so long after their end.")
@click.option("--keep-for-ever", is_flag=True, help="Delete no runs by themselves.")
@click.option("--archive/--open", "archived", default=None, help="Let it be read only, or be used again.")
@studio_options
@stack_options
@json_option
def edit(
    name: str,
    description: str | None,
    keep_days: int | None,
    keep_for_ever: bool,
    archived: bool | None,
    **where: Any,
) -> None:
    """Change a project: its description, for how long it keeps runs, whether it is archived."""
    as_json = where.pop("as_json")
    if keep_days and keep_for_ever:
        raise click.UsageError("--keep-days and --keep-for-ever: give the one or the other.")
    given = {"description": description, "retention_days": keep_days, "archived": archived}
    body: Found = {key: value for key, value in given.items() if value is not None}
    if keep_for_ever:
        body["retention_days"] = None
    if not body:
        raise click.UsageError("What shall change? --description, --keep-days, --archive, …")
    changed = asyncio.run(_asked(**where, path=_path(name), method="PATCH", json=body))
    if as_json:
        show_json(changed)
    else:
        click.echo(_line(changed))


@projects.command("delete")
@click.argument("name", metavar="NAME")
@click.option("--keep-keys", is_flag=True, help="Leave its keys of providers where they are.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@studio_options
@stack_options
def delete(name: str, keep_keys: bool, yes: bool, **where: Any) -> None:
    """Delete a project for good, with its runs, prompts, datasets, tokens, people and keys of providers.

    A project with a run under way is kept: cancel the run first. The keys are those of the stack; where
    --endpoint names the Studio they stay, and it is said how to remove them.
    """
    if not yes:
        click.confirm(f"Delete the project {name} with all that it has, for good?", abort=True, err=True)
    keys = asyncio.run(_deleted(**where, name=name, keep_keys=keep_keys))
    gone = "What it had is removed within minutes."
    click.echo(f"The project {name} is gone. {gone}", err=True)
    if keys is None:
        how = f"{program()} cloud secrets list --project {name}"
        click.echo(f"Its keys of providers, if it has any, stay: {how}", err=True)
    elif keys:
        click.echo(f"Keys that went with it: {', '.join(keys)}.", err=True)


async def _deleted(
    stack: Stack, endpoint: str | None, api_key: str | None, name: str, keep_keys: bool
) -> list[str] | None:
    """Delete a project; return the names of its keys that are gone, or None where keys stay."""
    from promptlab.errors import ProjectNotFoundError

    leaves_keys = keep_keys or endpoint is not None
    async with studio_of(stack, endpoint, api_key) as client:
        try:
            await client.delete(_path(name))
        except ProjectNotFoundError:
            # Interrupted after the project: what is left are its keys.
            if leaves_keys or not await stack.keys(project=name):
                raise
    if leaves_keys:
        return None
    names = list(await stack.keys(project=name))
    for key in names:
        await stack.delete_key(key, project=name)
    return names


def _path(name: str) -> str:
    return f"/projects/{quote(name, safe='')}"


async def _asked(
    stack: Stack,
    endpoint: str | None,
    api_key: str | None,
    path: str = "/projects",
    method: str = "GET",
    **request: Any,
) -> Found:
    async with studio_of(stack, endpoint, api_key) as client:
        return await client.json(method, path, **request)
