"""`promptlab doctor`: a store, or a set-up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from promptlab.cli.options import Store, json_option, show_json
from promptlab.program import program

if TYPE_CHECKING:
    from promptlab.adapters.local.doctor import Report
    from promptlab.domain.findings import Finding

DAMAGED = 1


@click.command(
    short_help="Check a store, a hosted lab, or whether an experiment could run; save a damaged store.",
    epilog="Exit codes: 0 all is well, or what could be read is saved; 1 the store is damaged, the lab is "
    "not in order, or something keeps the experiment from running; 2 there is no such store or experiment.",
)
@click.argument("store", metavar="[STORE | EXPERIMENT.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--repair", "repairing", is_flag=True, help="Write what can be read into a copy.")
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --repair: the copy.  [default: STORE with .repaired before its suffix]",
)
@click.option(
    "--db",
    metavar="FILE",
    help="With an experiment: the store that its run would be in.  [env var: PROMPTLAB_DB; default: "
    "promptlab.db]",
)
@click.option(
    "--endpoint", metavar="URL", help="A hosted lab, and not a store here.  [env var: PROMPTLAB_ENDPOINT]"
)
@click.option("--api-key", metavar="TOKEN", help="The hosted lab's token.  [env var: PROMPTLAB_API_KEY]")
@click.option("--project", metavar="PROJECT", help="The hosted lab's project.  [env var: PROMPTLAB_PROJECT]")
@click.option("--no-calls", is_flag=True, help="With an experiment: call no model, run nothing.")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    store: Path | None,
    repairing: bool,
    to: Path | None,
    db: str | None,
    endpoint: str | None,
    api_key: str | None,
    project: str | None,
    no_calls: bool,
    as_json: bool,
) -> None:
    """Check every page, record and file of a store; a hosted lab; or whether an experiment could run.

    Of an experiment: the store's place and room, open files, and of its models the address, the proxy, the
    key (by one call: a list of models where the provider has one, else a call with max_tokens 1), the name,
    whether it is shut down, and the clock.

    Of a hosted lab (--endpoint or PROMPTLAB_ENDPOINT, and no STORE): its version beside this one, the token,
    whether its store can be written, whether its sandbox holds code of users, and the account's quotas. With
    an experiment also the secrets that its models name, and its first row is run there.

    With --repair, what can be read goes into a copy, and the store itself stays as it is. Runs that lost
    answers are interrupted in the copy: promptlab resume asks for the missing ones only.
    """
    from promptlab.adapters.local.doctor import examine, repair
    from promptlab.wiring import store_from

    is_experiment = store is not None and store.suffix.lower() in (".yaml", ".yml")
    if (repairing or to) and is_experiment:
        raise click.UsageError("--repair and --to are for a store.")
    if is_experiment or (store is None and not repairing and not to):
        place = store_from(db, endpoint, api_key, project)
        if place["type"] == "remote":
            ctx.exit(_hosted(place, store, calls=not no_calls, as_json=as_json))
        if is_experiment:
            assert store is not None
            ctx.exit(_set_up(store, Path(place["db_file"]), calls=not no_calls, as_json=as_json))
        store = Path(place["db_file"])
    elif endpoint or project:
        raise click.UsageError("--endpoint and --project are of a hosted lab, and not with a store here.")
    if as_json or no_calls:
        raise click.UsageError("--json and --no-calls are for an experiment or a hosted lab.")
    if to and not repairing:
        raise click.UsageError("--to goes with --repair.")
    store = store or Path(store_from(db)["db_file"])
    if repairing:
        report = repair(store, to or store.with_name(f"{store.stem}.repaired{store.suffix}"))
    else:
        report = examine(store)
    _tell(report)
    ctx.exit(0 if report.sound or report.repaired else DAMAGED)


def _hosted(place: Store, experiment: Path | None, *, calls: bool, as_json: bool) -> int:
    """Check a hosted lab, and an experiment there; say it, and return the exit code."""
    from promptlab.cli.set_up_hosted import look_hosted
    from promptlab.experiments.file import load_experiment

    file = load_experiment(experiment) if experiment else None
    findings = asyncio.run(
        look_hosted(place, file, calls=calls, tell=lambda said: click.echo(said, err=True))
    )
    right = "Nothing keeps the experiment from running." if file else "The lab is in order."
    return _say(findings, right, "Something is wrong there.", as_json=as_json)


def _set_up(experiment: Path, db: Path, *, calls: bool, as_json: bool) -> int:
    """Check the set-up of an experiment; say it, and return the exit code."""
    from promptlab.cli.set_up import look
    from promptlab.domain.judges import JudgeConfig
    from promptlab.domain.model_config import ModelConfig
    from promptlab.experiments.file import load_experiment
    from promptlab.models.base import Model
    from promptlab.models.provider import ProviderModel
    from promptlab.models.registry import get_model

    config = load_experiment(experiment).config
    judges = (one for item in config.evaluation for one in item.judge or ())
    played = config.conversation and config.conversation.simulated_user
    named = (config.model, config.embedding_model, played and played.model, *judges)
    given = [one for one in named if one is not None]
    models = [
        one if isinstance(one, Model) else get_model(one.model() if isinstance(one, JudgeConfig) else one)
        for one in given
        if isinstance(one, Model | ModelConfig)
    ]
    if calls and not as_json:
        for model in models:
            if isinstance(model, ProviderModel):
                click.echo(
                    f"To see whether its key is accepted, {model.name} gets {model.probe_words}.", err=True
                )
    findings = asyncio.run(look(models, db, calls=calls))
    right, wrong = "Nothing keeps the experiment from running.", "A run cannot begin, or would fail."
    return _say(findings, right, wrong, as_json=as_json)


def _say(findings: Sequence[Finding], right: str, wrong: str, *, as_json: bool) -> int:
    bad = any(finding.outcome == "error" for finding in findings)
    if as_json:
        show_json({"ok": not bad, "findings": [finding.to_json() for finding in findings]})
    else:
        for finding in findings:
            click.echo(str(finding))
        click.echo(wrong if bad else right)
    return DAMAGED if bad else 0


def _tell(report: Report) -> None:
    kept = ", ".join(f"{count:,} {table}" for table, count in report.rows.items() if count)
    for fault in report.faults:
        click.echo(f"- {fault}")
    if report.more:
        click.echo(f"- and {report.more:,} more faults")
    lost = ", ".join(f"{count:,} {table}" for table, count in report.lost.items() if count)
    if report.repaired:
        click.echo(f"Saved in {report.repaired}: {kept}.")
        click.echo(f"Not readable: {lost}." if lost else "Every record that was found could be read.")
        click.echo(f"Go on with: {program()} runs --db {quote(str(report.repaired))}")
    elif report.sound:
        click.echo(f"{report.path} is sound: {kept or 'it is empty'}.")
    else:
        click.echo(
            f"{report.path} is damaged. Readable: "
            f"{kept or 'nothing'}.{f' Not readable: {lost}.' if lost else ''}"
        )
        click.echo(f"Save what can be read with: {program()} doctor --repair {quote(str(report.path))}")
