"""`promptlab label RUN --case`, `promptlab labels`, `promptlab judge`: what people say of cases, and of
judges."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.options import (
    Store,
    find_run,
    json_option,
    opened,
    run_argument,
    show,
    show_json,
    store_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from promptlab.domain.labels import CaseLabel
    from promptlab.domain.results import CaseKey
    from promptlab.labelling import CaseToLabel, Drift, JudgeCheck

_RUN = "RUN is an id, the beginning of one, or latest."
rater_option = click.option("--rater", metavar="NAME", default="", help="Who says so; by default you.")
metric_option = click.option(
    "--metric", metavar="NAME", default="", help="The metric that it is about; by default the whole answer."
)


def label_case(store: Store, text: str, key: CaseKey, said: dict[str, Any], *, remove: bool) -> str:
    """Label one case, or take a label away, and say what was done."""
    return asyncio.run(_label_case(store, text, key, said, remove))


async def _label_case(store: Store, text: str, key: CaseKey, said: dict[str, Any], remove: bool) -> str:
    from promptlab.domain.labels import CaseLabel

    async with opened(store) as lab:
        run = await find_run(lab, text)
        place = f"Case {key.case}.{key.trial} of run {run.run_id}"
        rater = said["rater"] or lab.labels.me
        if remove:
            gone = await lab.labels.remove(run.run_id, key, rater=rater, metric=said["metric"])
            return f"{place} has this label no more." if gone else f"{place} has no such label."
        label = CaseLabel(case=key.case, trial=key.trial, **said)
        changed = await lab.labels.put(run.run_id, [label], rater=rater)
        return f"{place} is labelled." if changed else f"{place} is labelled so already."


@click.group(short_help="List, import, draw and remove labels of people on cases.")
def labels() -> None:
    """List, import, draw and remove labels of people on cases: docs/judges.md."""


@labels.command("list", short_help="List a run's labels.", epilog=_RUN)
@run_argument
@json_option
@store_options
def list_labels(run_id: str, store: Store, as_json: bool) -> None:
    """List what people say of a run's cases, by case."""
    found = asyncio.run(_listed(store, run_id))
    if as_json:
        show_json([label.to_json() for label in found])
    elif found:
        show(_labels_table(found))
    else:
        click.echo("No case is labelled: promptlab label RUN --case 12 --pass", err=True)


async def _listed(store: Store, text: str) -> list[CaseLabel]:
    async with opened(store) as lab:
        run = await find_run(lab, text)
        return [label async for label in lab.labels.of(run.run_id)]


def _labels_table(found: Sequence[CaseLabel]) -> RenderableType:
    from rich.text import Text

    from promptlab.cli.tables import _table

    table = _table("Case", "Says", "Score", "Tag", "Note", "About", "Rater", "When", right=("Case", "Score"))
    for label in found:
        says = "" if label.passed is None else "pass" if label.passed else "fail"
        table.add_row(
            f"{label.case}.{label.trial}" if label.trial else str(label.case),
            says,
            "" if label.score is None else f"{label.score:g}",
            Text(label.tag or ""),
            Text((label.note or "")[:60]),
            Text(label.metric or "the answer"),
            Text(label.called),
            label.at[:16].replace("T", " "),
        )
    return table


@labels.command("import", short_help="Read labels from a CSV file.", epilog=_RUN)
@run_argument
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path))
@rater_option
@metric_option
@click.option("--random", is_flag=True, help="The cases are a random sample of all cases of the run.")
@click.option("--blind", is_flag=True, help="The raters did not see the scores.")
@store_options
def import_labels(
    run_id: str, file: Path, rater: str, metric: str, random: bool, blind: bool, store: Store
) -> None:
    """Read labels from a CSV file: a line each, with the columns `case` (12, or 12.1 for a trial) or `id`,
    and some of trial, passed, score, tag, note, metric and rater.

    A wrong line is an error that names it, and nothing of the file is kept then.
    """
    changed, total = asyncio.run(_imported(store, run_id, file, rater, metric, random, blind))
    click.echo(f"{total:,} labels read, {changed:,} of them new or changed.", err=True)


async def _imported(
    store: Store, text: str, file: Path, rater: str, metric: str, random: bool, blind: bool
) -> tuple[int, int]:
    from promptlab.sdk.labels import labels_of

    found = [
        replace(
            label,
            rater=label.rater or rater,
            metric=label.metric or metric,
            random=label.random or random,
            blind=label.blind or blind,
        )
        for label in await asyncio.to_thread(labels_of, file)
    ]
    async with opened(store) as lab:
        run = await find_run(lab, text)
        return await lab.labels.put(run.run_id, found, rater=rater or lab.labels.me), len(found)


@labels.command("queue", short_help="Draw a sample of cases to label.", epilog=_RUN)
@run_argument
@click.option("-n", "n", type=click.IntRange(1, 5_000), default=100, show_default=True, help="Cases.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which sample.")
@click.option("--search", default="", metavar="TEXT", help="Only cases in which this is found.")
@click.option("--status", type=click.Choice(["ok", "failed"]), help="Only answered, or only failed cases.")
@click.option("--second", is_flag=True, help="Only cases that somebody else labelled.")
@rater_option
@metric_option
@json_option
@store_options
def queue(
    run_id: str,
    n: int,
    seed: int,
    search: str,
    status: Any,
    second: bool,
    rater: str,
    metric: str,
    store: Store,
    as_json: bool,
) -> None:
    """Draw cases to label, one a line, those that you labelled already marked. The same seed draws the same
    rows of every run over a dataset; a sample of some cases (--search, --status) is none of all of them."""

    async def drawn() -> Sequence[CaseToLabel]:
        from promptlab.queries.filters import Filter

        async with opened(store) as lab:
            run = await find_run(lab, run_id)
            return await lab.labels.queue(
                run.run_id,
                n=n,
                seed=seed,
                filter=Filter(text=search, status=status),
                rater=rater or lab.labels.me,
                metric=metric,
                second=second,
            )

    found = asyncio.run(drawn())
    if as_json:
        show_json([{name: getattr(one, name) for name in one.__slots__} for one in found])
        return
    for one in found:
        click.echo(f"{one.case}.{one.trial}\t{one.id}\t{'labelled' if one.labelled else ''}".rstrip())


@labels.command("delete", short_help="Remove all labels of a rater for good.")
@click.argument("rater", metavar="RATER")
@click.option("--run", "run_id", metavar="RUN", help="Of this run only.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_options
def delete_labels(rater: str, run_id: str | None, yes: bool, store: Store) -> None:
    """Remove all that a rater said, with its history, of one run or of all."""
    if not yes:
        click.confirm(f"Remove all labels of {rater} for good?", abort=True, err=True)

    async def gone() -> int:
        async with opened(store) as lab:
            run = await find_run(lab, run_id) if run_id else None
            return await lab.labels.forget_rater(rater, run.run_id if run else None)

    click.echo(f"{asyncio.run(gone()):,} labels of {rater} are gone.", err=True)


@click.group(short_help="Check judges against labels of people.")
def judge() -> None:
    """Check judges against labels of people: docs/judges.md."""


@judge.command(short_help="Hold a judge's scores against people's labels.", epilog=_RUN)
@click.argument("metric", metavar="METRIC")
@run_argument
@click.option("--threshold", type=float, metavar="SCORE", help="From where on a score is a pass.")
@click.option("--no-record", is_flag=True, help="Look only: gates do not take the outcome for the judge's.")
@json_option
@store_options
def check(
    metric: str, run_id: str, threshold: float | None, no_record: bool, store: Store, as_json: bool
) -> None:
    """Say how far a judge agrees with people, over the cases of a run that they labelled, and whether that is
    enough: it is certified where the lower bounds of TPR and TNR reach .80. Gates refuse judges that are not.
    """

    async def checked() -> JudgeCheck:
        async with opened(store) as lab:
            run = await find_run(lab, run_id)
            return await lab.labels.check(run.run_id, metric, threshold=threshold, record=not no_record)

    found = asyncio.run(checked())
    if as_json:
        show_json(found.to_json())
    else:
        from promptlab.labelling.words import judge_lines

        click.echo("\n".join(judge_lines(found)))


@judge.command(short_help="Measure whether a judge changed between two runs.", epilog=_RUN)
@click.argument("metric", metavar="METRIC")
@click.argument("base", metavar="BASE")
@click.argument("run_id", metavar="RUN")
@json_option
@store_options
def drift(metric: str, base: str, run_id: str, store: Store, as_json: bool) -> None:
    """Measure what a judge makes of the answers that are the same, byte for byte, in two runs."""

    async def measured() -> Drift:
        async with opened(store) as lab:
            one, two = await find_run(lab, base), await find_run(lab, run_id)
            return await lab.labels.drift(one.run_id, two.run_id, metric)

    found = asyncio.run(measured())
    if as_json:
        show_json(found.to_json())
    else:
        click.echo(f"{metric}: {found.words}.")
