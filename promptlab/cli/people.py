"""`promptlab cloud people`: who may sign in to a hosted Studio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from promptlab.cli.options import json_option, show_json
from promptlab.cli.stack_options import stack_options
from promptlab.cli.tokens import ROLES, studio_of, studio_options
from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.cloud.stack import Stack

Found = dict[str, Any]
MOST_CALLS = 1_000
"""Calls that take one name out of an audit: each works for 15 seconds."""


@click.group(short_help="The people of a hosted Studio: invite, list, delete.")
def people() -> None:
    """The people who may sign in to a hosted Studio, each with a role and a project.

    The Studio is the one that PROMPTLAB_ENDPOINT names, asked with PROMPTLAB_API_KEY; else that of the stack,
    asked with its admin token.
    """


@people.command("list")
@studio_options
@stack_options
@json_option
def list_(endpoint: str | None, api_key: str | None, stack: Stack, as_json: bool) -> None:
    """List everybody, by address."""
    found = asyncio.run(_asked(stack, endpoint, api_key, "/people"))
    if as_json:
        show_json(found["items"])
    elif found["items"]:
        click.echo("\n".join(map(_line, found["items"])))
    else:
        click.echo(f"Nobody yet: {program()} cloud people invite ADDRESS", err=True)
    if found.get("leaving"):
        said = f"Deleted people whose name is not out of the audit yet: {found['leaving']}."
        click.echo(f"{said} Delete them once more, or go on at the Studio's page.", err=True)


def _line(person: Found) -> str:
    seen = person["last_seen_at"] or "never"
    return (
        f"{person['email']}  {person['name']}  {person['role']} of {person['project']}  invited "
        f"{person['invited_at']} by {person['invited_by']}  last sign-in {seen}"
    )


@people.command("invite")
@click.argument("email", metavar="ADDRESS")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="Their role.")
@click.option("--name", metavar="NAME", default="", help="What they are called.  [default: from the account]")
@click.option("--project", metavar="PROJECT", help="Their project.  [default: your own]")
@studio_options
@stack_options
@json_option
def invite(email: str, role: str, name: str, project: str | None, **where: Any) -> None:
    """Let somebody in, or change what they may do: in sessions that are open, too."""
    as_json = where.pop("as_json")
    body = {"role": role, "name": name, "project": project}
    person = asyncio.run(_asked(**where, path=_path(email), method="PUT", json=body))
    if as_json:
        show_json(person)
        return
    click.echo(f"{person['email']} is {person['role']} of the project {person['project']} now.", err=True)


@people.command("delete")
@click.argument("email", metavar="ADDRESS")
@click.option(
    "--hand-over-to",
    "heir",
    metavar="ADDRESS",
    help="Who has their tokens from now on; me: you.  [default: the tokens end]",
)
@click.option("--keep-names", is_flag=True, help="Leave their name in the audit and in records of deletions.")
@click.option("--delete-labels", is_flag=True, help="Delete their labels on cases, in all projects.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@studio_options
@stack_options
def delete(
    email: str, heir: str | None, keep_names: bool, delete_labels: bool, yes: bool, **where: Any
) -> None:
    """Shut somebody out at once and for good.

    Their sessions and shared links end, and so do their tokens, unless they are handed over. Runs, prompts
    and datasets stay; they say of nobody who made them. In the audit, and on their labels, a name without
    meaning takes the place of theirs.
    """
    if not yes:
        click.confirm(f"Delete {email} for good?", abort=True, err=True)
    params = {
        "tokens": "hand_over" if heir else "revoke",
        "to": "" if heir in (None, "me") else heir,
        "names": "keep" if keep_names else "anonymise",
        "labels": "delete" if delete_labels else "keep",
    }
    asyncio.run(_deleted(**where, path=_path(email), params=params))
    click.echo(f"{email} is deleted.", err=True)


def _path(email: str) -> str:
    return f"/people/{quote(email.strip(), safe='@')}"


async def _asked(
    stack: Stack, endpoint: str | None, api_key: str | None, path: str, method: str = "GET", **request: Any
) -> Found:
    async with studio_of(stack, endpoint, api_key) as client:
        return await client.json(method, path, **request)


async def _deleted(stack: Stack, endpoint: str | None, api_key: str | None, path: str, params: Found) -> None:
    async with studio_of(stack, endpoint, api_key) as client:
        for _ in range(MOST_CALLS):
            if await client.delete(path, **params) != 202:
                return
            click.echo("Their name is being taken out of the audit …", err=True)
