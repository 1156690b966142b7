"""`promptlab cloud`: what one does with a deployed stack and AWS credentials, and what
a run there would cost."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.options import Store, json_option, opened, show, show_json, store_options
from promptlab.cli.people import people
from promptlab.cli.projects import projects
from promptlab.cli.stack_options import stack_options as _stack_options
from promptlab.cli.tokens import tokens
from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.cloud.estimate import Estimate
    from promptlab.cloud.stack import Stack
    from promptlab.experiments.config import ExperimentConfig

OWN = "(the own hosts of the model's provider)"
"""Where a key may be sent that was kept without hosts, under a name that names no provider."""
_NAME = re.compile(r"[A-Za-z0-9_+=.@-]{1,128}")


@click.group(short_help="A stack in an AWS account: its tokens, people, projects, provider keys, costs.")
def cloud() -> None:
    """A stack in an AWS account: its tokens, people, projects and provider keys; what a run there would cost.

    All but estimate need AWS credentials, which come the usual ways.
    """


@cloud.command()
@click.option(
    "--new", is_flag=True, help="Make another one. The one before is dead within a minute, its sessions too."
)
@_stack_options
def token(stack: Stack, new: bool) -> None:
    """Print the admin token of a stack's Studio; the first time, make it."""
    click.echo(asyncio.run(stack.token(new=new)))


@cloud.command()
@_stack_options
def url(stack: Stack) -> None:
    """Print the address of a stack's Studio."""
    click.echo(asyncio.run(stack.output("StudioUrl")))


@cloud.command()
@click.option("--endpoint", metavar="URL", help="The Studio's address.  [default: that of the stack]")
@click.option("--keep", is_flag=True, help="Leave the run where it is.")
@json_option
@_stack_options
def smoke(stack: Stack, endpoint: str | None, keep: bool, as_json: bool) -> None:
    """Try a deployed stack out: look at all of it, run ten rows on the simulated model, say what differs.

    Exit code 1 when something does. It needs credentials that may read the stack's resources; what they may
    not look at is marked with a question mark.
    """
    from promptlab.cloud.smoke import Finding, Smoke

    def tell(finding: Finding) -> None:
        if not as_json:
            mark = {True: "ok", False: "DIFFERS", None: "?"}[finding.good]
            click.echo(f"{mark:8}{finding.what}: {finding.said}")

    found = asyncio.run(Smoke(stack, tell, endpoint=endpoint, keep=keep).look())
    if as_json:
        show_json([dataclasses.asdict(finding) for finding in found])
    if any(finding.good is False for finding in found):
        sys.exit(1)


for _group in (tokens, people, projects):
    cloud.add_command(_group)


@cloud.group(short_help="The provider keys that a stack's workers use.")
def secrets() -> None:
    """The provider keys that a stack's workers use: a model names one with api_key_secret."""


_of_project = click.option(
    "--project",
    metavar="PROJECT",
    default="default",
    show_default=True,
    help="The project whose key it is; others neither see nor use it.",
)


@secrets.command("set")
@click.argument("name", metavar="NAME")
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="A host that the key may be sent to, as in gateway.example.com:8443; may be given several times.  "
    "[default: the hosts of the provider that NAME names]",
)
@_of_project
@_stack_options
def set_secret(name: str, hosts: tuple[str, ...], project: str, stack: Stack) -> None:
    """Keep a provider key under NAME, for the given hosts only.

    The key is typed unseen, or comes from standard input. Workers use it within five minutes. Whoever runs an
    experiment may name the key, and cannot have it sent anywhere else.
    """
    from promptlab.domain.secrets import OWN_HOSTS, Secret, host_given, hosts_named_by, words_for

    name = _checked(name)
    bound = tuple(dict.fromkeys(map(host_given, hosts))) or hosts_named_by(name)
    if not bound:
        raise click.UsageError(
            f"Where may the key {name} be sent? Its name has none of {', '.join(OWN_HOSTS)} in it, whose "
            f"hosts are known: promptlab cloud secrets set {name} --host api.example.com"
        )
    asyncio.run(stack.set_key(name, Secret(_value(name), bound), project=project))
    click.echo(
        f"The key {name} is set in {stack}, for {words_for(bound)} only. A model names it so: "
        f"api_key_secret: {name}",
        err=True,
    )


@secrets.command("list")
@_of_project
@_stack_options
@json_option
def list_secrets(project: str, stack: Stack, as_json: bool) -> None:
    """List the names of the keys, and where each may be sent; no key is shown."""
    from promptlab.domain.secrets import words_for

    found = asyncio.run(stack.keys(project=project))
    if as_json:
        show_json([{"name": name, "hosts": list(hosts)} for name, hosts in found.items()])
    elif found:
        click.echo("\n".join(f"{name}  {words_for(hosts) or OWN}" for name, hosts in found.items()))
    else:
        click.echo(f"No keys in {stack} yet: {program()} cloud secrets set NAME", err=True)


@secrets.command("delete")
@click.argument("name", metavar="NAME")
@_of_project
@_stack_options
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete_secret(name: str, project: str, stack: Stack, yes: bool) -> None:
    """Remove a provider key, at once and for good."""
    name = _checked(name)
    if not yes:
        click.confirm(f"Remove the key {name} of {stack} for good?", abort=True, err=True)
    if not asyncio.run(stack.delete_key(name, project=project)):
        raise click.UsageError(f"There is no key {name!r} in {stack}: {program()} cloud secrets list")
    click.echo(f"The key {name} is gone.", err=True)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"{name!r} is not a secret's name: 1 to 128 of A-Z a-z 0-9 _ + = . @ -")
    return name


def _value(name: str) -> str:
    if sys.stdin.isatty():
        value: str = click.prompt(f"The key {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read()
    value = value.strip()
    if not value or any(c.isspace() for c in value):
        raise click.UsageError(
            f"The key {name} {'is empty' if not value else 'has spaces or line breaks in it'}: give one "
            "key, and nothing else."
        )
    return value


@cloud.command()
@click.argument("experiment", metavar="EXPERIMENT.yaml", type=click.Path(path_type=Path))
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1, 1_000_000_000),
    help="How many rows to estimate for.  [default: those of the dataset]",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Rows whose prompts are measured.",
)
@click.option(
    "--latency-s",
    metavar="S",
    type=click.FloatRange(0.001, 3600),
    default=2.0,
    show_default=True,
    help="Seconds that a call of the model takes.",
)
@click.option(
    "--answer-tokens",
    metavar="N",
    type=click.IntRange(1),
    help="Tokens of an answer.  [default: half of the model's max_tokens, else 250]",
)
@click.option(
    "--max-concurrency",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="The stack's MaxConcurrency.",
)
@click.option(
    "--worker-memory",
    metavar="MB",
    type=click.IntRange(128, 10_240),
    default=512,
    show_default=True,
    help="The stack's WorkerMemory.",
)
@click.option("--new-account", is_flag=True, help="Use the quotas of a new AWS account.")
@click.option(
    "--try",
    "tries",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=None,
    help="Run and pay for N random rows in the store to see; the run is kept.",
)
@store_options
@json_option
def estimate(experiment: Path, store: Store, as_json: bool, **options: Any) -> None:
    """Estimate what a run in the cloud would cost and how long it would take. Nothing is called and nothing
    is stored, unless --try has rows run: with --endpoint in the cloud, else on this machine.

    A dataset or a prompt that the experiment names by reference is looked up in the store.
    """
    from promptlab.cli.tables import estimate_tables
    from promptlab.experiments.file import load_experiment

    file = load_experiment(experiment)
    found = asyncio.run(
        _estimated(store, file.config, options | {"folder": file.folder, "tries": options["tries"] or 0})
    )
    if as_json:
        show_json(found.to_json())
    else:
        show(estimate_tables(found))


async def _estimated(store: Store, config: ExperimentConfig, options: dict[str, Any]) -> Estimate:
    from promptlab.cloud.estimate import estimate

    async with opened(store) as lab:
        return await estimate(lab, config, **options)
