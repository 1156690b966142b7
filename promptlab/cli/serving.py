"""`promptlab studio`, `schema` and `version`."""

from __future__ import annotations

import click

from promptlab.cli.options import check_store, db_option, show_json


@click.command(short_help="Serve the Studio until Ctrl-C.")
@click.option(
    "--port",
    "-p",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    default=8000,
    show_default=True,
    help="Where to listen.",
)
@click.option(
    "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@db_option
def studio(port: int, host: str, db: str) -> None:
    """Serve the Studio, the web pages of a store, until Ctrl-C."""
    from promptlab.sdk.client import PromptLab

    check_store({"type": "sqlite", "db_file": db})
    with PromptLab({"type": "sqlite", "db_file": db}, quiet=False) as lab:
        lab.studio.start(port, host=host)


@click.command(short_help="Print the JSON Schema of an experiment's YAML.")
def schema() -> None:
    """Print the JSON Schema of an experiment's YAML, so that editors complete it.

    Save it, and begin the YAML with: # yaml-language-server: $schema=./experiment.schema.json
    """
    from promptlab.evaluators.registry import describe, known
    from promptlab.experiments.file import experiment_schema

    metrics = {name: describe(name) for name in known()}
    show_json(
        experiment_schema(
            {
                name: {"description": m.description, "params": m.params, "required": m.required}
                for name, m in metrics.items()
            }
        )
    )


@click.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    click.echo(version_of("promptlab-serverless"))
