"""`promptlab cloud tokens`: the tokens of a hosted Studio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from promptlab.cli.options import json_option, show_json
from promptlab.cli.stack_options import stack_options
from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.adapters.http.client import ApiClient
    from promptlab.cloud.stack import Stack

ROLES = ("viewer", "labeller", "engineer", "admin")


@click.group(short_help="The tokens of a hosted Studio: make, list, revoke.")
def tokens() -> None:
    """The tokens of a hosted Studio, each with a role, a project and an expiry.

    The Studio is the one that PROMPTLAB_ENDPOINT names, asked with PROMPTLAB_API_KEY; else that of the stack,
    asked with its admin token.
    """


@asynccontextmanager
async def studio_of(stack: Stack, endpoint: str | None, api_key: str | None) -> AsyncIterator[ApiClient]:
    """The API of a hosted Studio."""
    from promptlab.adapters.http.client import ApiClient

    url = endpoint or await stack.output("StudioUrl")
    client = ApiClient(url, api_key or await stack.token())
    try:
        yield client
    finally:
        await client.aclose()


def studio_options(command: Any) -> Any:
    """Give a command the options that name a hosted Studio."""
    command = click.option(
        "--api-key",
        envvar="PROMPTLAB_API_KEY",
        metavar="TOKEN",
        help="Its token.  [default: the admin's]",
    )(command)
    return click.option(
        "--endpoint", envvar="PROMPTLAB_ENDPOINT", metavar="URL", help="The Studio.  [default: the stack's]"
    )(command)


async def _made(
    stack: Stack, endpoint: str | None, api_key: str | None, body: dict[str, Any]
) -> dict[str, Any]:
    async with studio_of(stack, endpoint, api_key) as client:
        return await client.json("POST", "/tokens", repeatable=False, json=body)


async def _listed(stack: Stack, endpoint: str | None, api_key: str | None) -> list[dict[str, Any]]:
    async with studio_of(stack, endpoint, api_key) as client:
        found: list[dict[str, Any]] = (await client.get("/tokens"))["items"]
        return found


async def _revoked(stack: Stack, endpoint: str | None, api_key: str | None, token_id: str) -> None:
    async with studio_of(stack, endpoint, api_key) as client:
        await client.delete(f"/tokens/{quote(token_id, safe='')}")


@tokens.command("create")
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What it may do.")
@click.option(
    "--days",
    metavar="N",
    type=click.FloatRange(0, 730, min_open=True),
    default=90.0,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--forever", is_flag=True, help="Valid until it is revoked.")
@click.option("--project", metavar="NAME", help="Its project.  [default: your own]")
@studio_options
@stack_options
@json_option
def create(name: str, role: str, days: float, forever: bool, project: str | None, **where: Any) -> None:
    """Make a token and print it, this once. What it is for, NAME says.

    It is of at most the role of the token that asks.
    """
    as_json = where.pop("as_json")
    body = {"name": name, "role": role, "expires_in_days": None if forever else days, "project": project}
    made = asyncio.run(_made(where["stack"], where["endpoint"], where["api_key"], body))
    if as_json:
        show_json(made)
        return
    click.echo(made["token"])
    ends = f"until {made['expires_at']}" if made["expires_at"] else "until it is revoked"
    click.echo(f"{made['name']}: {made['role']}, {ends}. It is shown this once.", err=True)


@tokens.command("list")
@studio_options
@stack_options
@json_option
def list_(endpoint: str | None, api_key: str | None, stack: Stack, as_json: bool) -> None:
    """List tokens and links: your own, or everybody's for an admin. No token is shown."""
    found = asyncio.run(_listed(stack, endpoint, api_key))
    if as_json:
        show_json(found)
    elif found:
        click.echo("\n".join(map(_line, found)))
    else:
        click.echo(f"No tokens yet: {program()} cloud tokens create NAME", err=True)


@tokens.command("revoke")
@click.argument("token_id", metavar="ID")
@studio_options
@stack_options
def revoke(token_id: str, endpoint: str | None, api_key: str | None, stack: Stack) -> None:
    """End a token or a link at once, with every session that it opened."""
    from promptlab.errors import RemoteError

    try:
        asyncio.run(_revoked(stack, endpoint, api_key, token_id))
    except RemoteError as error:
        raise click.UsageError(f"{error} {program()} cloud tokens list") from error
    click.echo(f"The token {token_id} is revoked.", err=True)


def _line(token: dict[str, Any]) -> str:
    what = (
        f"link to {', '.join(token['only'])}" if token["only"] else f"{token['role']} of {token['project']}"
    )
    ends, used = token["expires_at"] or "never", token["last_used_at"] or "never"
    return f"{token['id']}  {token['name']}  {what}  by {token['creator']}  expires {ends}  last used {used}"
