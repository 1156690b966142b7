"""`promptlab tag`, `describe`, `archive`, `delete`, `label`: changes of runs and assets afterwards."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.case import case_key
from promptlab.cli.labels import label_case, metric_option, rater_option
from promptlab.cli.options import Store, find_run, opened, run_argument, store_options
from promptlab.errors import RunNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from promptlab.domain.assets import AssetKind
    from promptlab.domain.results import CaseKey, RunRecord
    from promptlab.lab import Lab

_RUN = "RUN is an id, the beginning of one, or latest."


@click.command(short_help="Set or remove a run's tags.", epilog=_RUN)
@run_argument
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--remove", "-r", metavar="TAG", multiple=True, help="Remove this tag; may be given again.")
@store_options
def tag(run_id: str, tags: tuple[str, ...], remove: tuple[str, ...], store: Store) -> None:
    """Give a run tags, or take some away, and print those that it has then, one a line."""
    run = asyncio.run(_tagged(store, run_id, tags, remove))
    if run.tags:
        click.echo("\n".join(run.tags))
    else:
        click.echo(f"Run {run.run_id} has no tags.", err=True)


async def _tagged(store: Store, text: str, tags: Sequence[str], remove: Sequence[str]) -> RunRecord:
    async with opened(store) as lab:
        run = await find_run(lab, text)
        for name in remove:
            if name not in run.tags:
                raise click.UsageError(f"Run {run.run_id} has no tag {name!r}.")
        if not tags and not remove:
            return run
        kept = [name for name in (*run.tags, *tags) if name not in remove]
        return await lab.edit_run(run.run_id, tags=tuple(dict.fromkeys(kept)))


@click.command(short_help="Give a run a title or a description.", epilog=_RUN)
@run_argument
@click.option("--title", metavar="TEXT", help="What lists call it; empty: as its experiment.")
@click.option(
    "--description", metavar="TEXT", help="What is said of it, up to 2,000 characters; empty: nothing."
)
@store_options
def describe(run_id: str, title: str | None, description: str | None, store: Store) -> None:
    """Give a run a title, a description or both, and print them."""
    run = asyncio.run(_described(store, run_id, title, description))
    click.echo(run.called)
    if run.description:
        click.echo(run.description)


async def _described(store: Store, text: str, title: str | None, description: str | None) -> RunRecord:
    async with opened(store) as lab:
        run = await find_run(lab, text)
        if title is None and description is None:
            return run
        return await lab.edit_run(run.run_id, title=title, description=description)


@click.command(short_help="Leave runs out of lists.", epilog=_RUN)
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="Put them back into the lists.")
@store_options
def archive(run_ids: tuple[str, ...], undo: bool, store: Store) -> None:
    """Leave runs out of lists. They stay as they are, and `promptlab runs --archived` lists them."""
    for run in asyncio.run(_archived(store, run_ids, not undo)):
        click.echo(f"Run {run.run_id} is {'archived' if run.archived else 'in the lists'}.", err=True)


async def _archived(store: Store, texts: Sequence[str], archived: bool) -> list[RunRecord]:
    async with opened(store) as lab:
        runs = [await find_run(lab, text) for text in texts]
        return [await lab.edit_run(run.run_id, archived=archived) for run in runs]


@click.command(
    short_help="Remove runs, or versions of prompts and datasets, for good.",
    epilog=f"{_RUN} A version is NAME@NUMBER, as in qa@3.",
)
@click.argument("things", metavar="RUN|VERSION...", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dataset", is_flag=True, help="Versions are of datasets, where a prompt has the same name.")
@click.option("--prompt", is_flag=True, help="Versions are of prompts, where a dataset has the same name.")
@store_options
def delete(things: tuple[str, ...], yes: bool, dataset: bool, prompt: bool, store: Store) -> None:
    """Remove runs for good, with their answers, scores and results; or versions of prompts and datasets.

    A version that a run uses is kept, and its number is not given again. What was interrupted in the middle
    is finished by giving the id once more.
    """
    versions = [_version(text) for text in things if "@" in text]
    runs = [text for text in things if "@" not in text]
    for run_id, gone in asyncio.run(_deleted(store, runs, yes)) if runs else ():
        rest = "" if gone else " What it had is removed within minutes."
        click.echo(f"Run {run_id} is gone.{rest}", err=True)
    if versions:
        asyncio.run(_deleted_versions(store, versions, yes, _kind(dataset, prompt)))


def _version(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("@")
    if not name or not number.isdecimal() or len(number) > 10:
        raise click.UsageError(f"{text!r} names no version to delete: give its number, as in qa@3.")
    return name, int(number)


async def _deleted_versions(
    store: Store, versions: Sequence[tuple[str, int]], yes: bool, kind: AssetKind | None
) -> None:
    if not yes:
        listed = ", ".join(f"{name}@{number}" for name, number in versions[:10])
        what = "1 version" if len(versions) == 1 else f"{len(versions):,} versions"
        click.confirm(f"Remove {what} ({listed}) for good?", abort=True, err=True)
    async with opened(store) as lab:
        for name, number in versions:
            await lab.assets.delete(name, version=number, kind=kind)
            click.echo(f"{name}@{number} is gone.", err=True)


def _kind(dataset: bool, prompt: bool) -> AssetKind | None:
    if dataset and prompt:
        raise click.UsageError("--dataset and --prompt: give the one or the other.")
    return "dataset" if dataset else "prompt_template" if prompt else None


async def _deleted(store: Store, texts: Sequence[str], yes: bool) -> list[tuple[str, bool]]:
    async with opened(store) as lab:
        begun = [(text, True) for text in texts if await _finished(lab, text)]
        done = {text for text, _ in begun}
        runs = [await find_run(lab, text) for text in texts if text not in done]
        runs = list({run.run_id: run for run in runs}.values())
        if runs and not yes:
            cases = sum(run.cases for run in runs)
            listed = ", ".join(run.run_id for run in runs[:10]) + (" …" if len(runs) > 10 else "")
            what = "1 run" if len(runs) == 1 else f"{len(runs):,} runs"
            click.confirm(f"Remove {what} ({listed}) with {cases:,} cases for good?", abort=True, err=True)
        return [*begun, *[(run.run_id, await lab.delete_run(run.run_id)) for run in runs]]


async def _finished(lab: Lab, run_id: str) -> bool:
    """Remove what an interrupted deletion left of a run, which no list has any more."""
    try:
        await lab.get_run(run_id)
    except RunNotFoundError:
        with suppress(RunNotFoundError):
            return await lab.delete_run(run_id)
    return False


@click.command(
    short_help="Point a label at a run or version, or label a case of a run.",
    epilog="THING is a run's id, the beginning of one, or latest; or a version, as in qa@3; or the name of a "
    "prompt or dataset, for its latest version. With --case it is a run.",
)
@click.argument("thing", metavar="THING")
@click.argument("label_", metavar="[LABEL]", required=False)
@click.option("--remove", "-r", is_flag=True, help="Remove the label; the run, version or case stays.")
@click.option("--run", "of_run", is_flag=True, help="THING is a run, however it reads.")
@click.option("--dataset", is_flag=True, help="THING is a dataset, where a prompt has the same name.")
@click.option("--prompt", is_flag=True, help="THING is a prompt template, where a dataset has the same name.")
@click.option(
    "--instead-of",
    metavar="RUN",
    help="Move a run's label only if it points at this run until now, or at none with `none`.",
)
@click.option(
    "--case", "key", metavar="ROW[.TRIAL]", callback=case_key, help="Say something of this case of the run."
)
@click.option("--pass/--fail", "passed", default=None, help="With --case: whether the answer is good enough.")
@click.option("--score", type=float, metavar="NUMBER", help="With --case: a number.")
@click.option("--tag", metavar="TAG", help="With --case: a category, as in `wrong unit`.")
@click.option("--note", metavar="TEXT", help="With --case: any text.")
@rater_option
@metric_option
@store_options
def label(
    thing: str,
    label_: str | None,
    remove: bool,
    of_run: bool,
    dataset: bool,
    prompt: bool,
    instead_of: str | None,
    key: CaseKey | None,
    store: Store,
    **said: Any,
) -> None:
    """Point a label such as production at a run or at a version, or remove it; with --case say what you think
    of an answer.

    A label of runs is its experiment's: compare and gate take it as a baseline, as in qa@production. It
    leaves the run that it pointed at before, at once. A run with a label is not deleted.

    \b
      promptlab label latest production
      promptlab label latest --case 17 --fail --tag "wrong unit"
    """
    if key is not None:
        if label_ is not None or dataset or prompt or instead_of is not None:
            raise click.UsageError("--case goes with --pass, --fail, --score, --tag, --note and --remove.")
        click.echo(label_case(store, thing, key, said, remove=remove), err=True)
        return
    if label_ is None or any(value not in (None, "") for value in said.values()):
        raise click.UsageError("Name the label, as in production; or the case that you label, by --case.")
    kind = _kind(dataset, prompt)
    if of_run and kind:
        raise click.UsageError("--run, --dataset and --prompt: give one of them.")
    is_run = of_run or (kind is None and _reads_as_run(thing))
    if instead_of is not None and (remove or not is_run):
        raise click.UsageError("--instead-of goes with moving a run's label.")
    if is_run:
        click.echo(asyncio.run(_labelled_run(store, thing, label_, remove, instead_of)), err=True)
    else:
        click.echo(asyncio.run(_labelled(store, thing, label_, remove, kind)), err=True)


def _reads_as_run(text: str) -> bool:
    """Whether a text reads as a run: `latest`, or an id from its day on."""
    return text == "latest" or re.match(r"\d{8}-", text) is not None


async def _labelled_run(store: Store, text: str, label: str, remove: bool, instead_of: str | None) -> str:
    async with opened(store) as lab:
        run = await find_run(lab, text)
        if remove:
            await lab.unlabel_run(run.run_id, label)
            return f"{run.name} has no label {label} any more."
        if instead_of is None:
            await lab.label_run(run.run_id, label)
        else:
            was = None if instead_of == "none" else (await find_run(lab, instead_of)).run_id
            await lab.label_run(run.run_id, label, was=was)
        return f"{run.name}@{label} is run {run.run_id}."


async def _labelled(store: Store, text: str, label: str, remove: bool, kind: AssetKind | None) -> str:
    from promptlab.domain.assets import which_version

    name, _, which = text.partition("@")
    async with opened(store) as lab:
        if remove:
            await lab.assets.unlabel(name, label, kind=kind)
            return f"{name} has no label {label} any more."
        found = await lab.assets.get(name, **which_version(which), kind=kind)
        await lab.assets.label(name, label, version=found.version, kind=kind)
        return f"{name}@{label} is {name}@{found.version}."
