"""`promptlab prompts`, `promptlab datasets` and `promptlab code`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.options import Store, json_option, opened, show, show_json, store_options

if TYPE_CHECKING:
    from promptlab.domain.assets import AssetKind, AssetVersion

_name = click.argument("name", metavar="[NAME]", required=False)


@click.command(
    short_help="List prompt templates, or the versions of one.",
    epilog="NAME may name a version too: qa@3, qa@production.",
)
@_name
@store_options
@json_option
def prompts(name: str | None, store: Store, as_json: bool) -> None:
    """List prompt templates; with NAME, its versions, their labels and the text."""
    _show("prompt_template", name, store, as_json)


@click.command(
    short_help="List datasets, or the versions of one.",
    epilog="NAME may name a version too: questions@0, questions@production.",
)
@_name
@store_options
@json_option
def datasets(name: str | None, store: Store, as_json: bool) -> None:
    """List datasets; with NAME, its versions, their labels and the columns."""
    _show("dataset", name, store, as_json)


@click.command(
    short_help="List code that a hosted Studio keeps, or the versions of one.",
    epilog="NAME may name a version too: scoring@0, scoring@production.",
)
@_name
@store_options
@json_option
@click.option("--source", is_flag=True, help="Print the text of all its files.")
def code(name: str | None, store: Store, as_json: bool, source: bool) -> None:
    """List code of one's own; with NAME, its versions, their labels, files and packages."""
    if not source:
        _show("code", name, store, as_json)
        return
    if name is None:
        raise click.UsageError("--source is of one: give its NAME.")
    files = asyncio.run(_source(name, store))
    if as_json:
        show_json(files)
        return
    for path, text in files.items():
        click.echo(f"# {path}\n{text}")


async def _source(reference: str, store: Store) -> dict[str, str]:
    from promptlab.domain.assets import which_version
    from promptlab.domain.code import CodeBundle

    async with opened(store) as lab:
        name, _, which = reference.partition("@")
        bundle = await lab.assets.get(name, **which_version(which), kind="code")
        assert isinstance(bundle, CodeBundle)
        return dict((await lab.assets.source(bundle)).files)


def _show(kind: AssetKind, reference: str | None, store: Store, as_json: bool) -> None:
    where, found, chosen = asyncio.run(_find(kind, reference, store))
    if as_json:
        show_json([_json(asset) for asset in found])
        return
    from promptlab.cli.tables import assets_table, code_shape, dataset_shape, prompt_text

    if not found:
        what = {"prompt_template": "prompt templates", "dataset": "datasets", "code": "code of one's own"}
        click.echo(f"No {what[kind]} in {where} yet.", err=True)
        return
    show(assets_table(found))
    if chosen is not None:
        whole = {"prompt_template": prompt_text, "dataset": dataset_shape, "code": code_shape}
        show("", whole[kind](chosen))


async def _find(
    kind: AssetKind, reference: str | None, store: Store
) -> tuple[str, list[AssetVersion], AssetVersion | None]:
    """Return where we looked, the latest version of each asset or all versions of one, and the one
    version to show whole."""
    from promptlab.domain.assets import which_version

    async with opened(store) as lab:
        if reference is None:
            return lab.where, list(await lab.assets.latest(kind)), None
        name, _, which = reference.partition("@")
        asset = await lab.assets.get(name, **which_version(which), kind=kind)
        versions = list(await lab.assets.versions(name, kind=kind))
        return lab.where, versions, next(version for version in versions if version.version == asset.version)


def _json(asset: AssetVersion) -> dict[str, Any]:
    fields = ("name", "version", "description", "hash", "created_at")
    return {
        **{field: getattr(asset, field) for field in fields},
        "labels": list(asset.labels),
        "content": dict(asset.content),
    }
