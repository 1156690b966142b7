"""`promptlab gate`: whether a run keeps to what it must, for pipelines."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.commits import commit_option, found_commit
from promptlab.cli.options import Store, creating_store_options, find_run, json_option, opened, show_json
from promptlab.cli.working import work
from promptlab.sync import run_in_this_thread

if TYPE_CHECKING:
    from promptlab.domain.results import RunRecord
    from promptlab.gates import Gates
    from promptlab.gates.outcome import GateOutcome
    from promptlab.lab import Lab, OnProgress, OnStart

ANNOTATIONS = ("auto", "github", "none")


@click.command(
    short_help="Judge whether a run keeps to its gates, for pipelines.",
    epilog="Exit codes: 0 passed, 1 the run did not come to its end, 2 wrong usage or experiment, 4 a check "
    "failed, 5 the gate cannot decide, 130 Ctrl-C, 143 SIGTERM.",
)
@click.argument("target", metavar="EXPERIMENT.yaml|RUN")
@click.option(
    "--baseline",
    metavar="RUN|LABEL",
    help="The run to hold it against: a label such as production, an id, the beginning of one, or latest.",
)
@click.option(
    "--gates",
    "gates_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Gates in a YAML file of their own, in place of the experiment's or the run's.",
)
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit's XML.")
@click.option(
    "--markdown", metavar="FILE", type=click.Path(path_type=Path), help="Write a summary for a pull request."
)
@click.option(
    "--annotations",
    type=click.Choice(ANNOTATIONS),
    default="auto",
    show_default=True,
    help="Print GitHub's annotations; auto: where GITHUB_ACTIONS is true.",
)
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="A word to find the run by; may be given again."
)
@click.option(
    "--set",
    "changes",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change a field, as in model.temperature=0; may be given again.",
)
@click.option(
    "--max-cost-usd",
    metavar="USD",
    type=click.FloatRange(0, min_open=True),
    help="Dollars that the run's calls may cost.",
)
@commit_option
@creating_store_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_context
def gate(
    ctx: click.Context,
    target: str,
    baseline: str | None,
    gates_file: Path | None,
    junit: Path | None,
    markdown: Path | None,
    annotations: str,
    tags: tuple[str, ...],
    changes: tuple[str, ...],
    max_cost_usd: float | None,
    commit: str | None,
    store: Store,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run an experiment and judge it, or judge a run that is stored.

    A comparison passes on better, the same and not worse only: too few cases, missing scores that matter and
    no evidence of a difference leave the gate undecided. Gates stand in the experiment (docs/gates.md);
    without any, no metric may be worse than the baseline's. The outcome is kept with the run.
    """
    gates = _read(gates_file) if gates_file else None
    experiment = _file_of(target)
    if experiment is None:
        if tags or changes or max_cost_usd is not None or commit is not None:
            raise click.UsageError("--tag, --set, --max-cost-usd and --commit go with an EXPERIMENT.yaml.")
        found = asyncio.run(_judged(store, target, baseline, gates))
    else:
        options: dict[str, Any] = {"tags": tags, "changes": changes, "usd": max_cost_usd, "commit": commit}
        found = _run_and_judged(ctx, store, experiment, baseline, gates, quiet, **options)
    from promptlab.gates import reports

    for path, text in ((junit, reports.junit), (markdown, reports.markdown)):
        if path is not None:
            path.write_text(text(found), encoding="utf-8")
    if as_json:
        show_json(found.to_json())
    else:
        click.echo("\n".join(reports.lines(found)))
    if annotations == "github" or (annotations == "auto" and os.environ.get("GITHUB_ACTIONS") == "true"):
        file = experiment.as_posix() if experiment and not experiment.is_absolute() else None
        # GitHub reads them on either stream; standard output is JSON's where that is asked for.
        click.echo("\n".join(reports.github_annotations(found, file)), err=as_json)
    ctx.exit(found.exit_code)


def _file_of(target: str) -> Path | None:
    """The experiment's file, where it is one and no run."""
    path = Path(target)
    return path if path.suffix in (".yaml", ".yml", ".json") or path.is_file() else None


def _read(path: Path) -> Gates:
    from promptlab.errors import ConfigError
    from promptlab.experiments.yaml_reading import read_yaml
    from promptlab.gates import gates_of

    found = read_yaml(path)
    if isinstance(found, dict) and "gates" in found:
        found = found["gates"]
    if not isinstance(found, dict | list):
        raise ConfigError(f"{path}: gates are a list of checks, or a mapping with checks.")
    return gates_of(found)


async def _judged(store: Store, target: str, baseline: str | None, gates: Gates | None) -> GateOutcome:
    async with opened(store) as lab:
        run = await find_run(lab, target)
        return await lab.gate(run.run_id, baseline=await _named(lab, run.name, baseline), gates=gates)


async def _named(lab: Lab, name: str, baseline: str | None) -> str | None:
    """The baseline as the lab takes it: a label, or a run's whole id.

    Raises:
        PromptLabError: there is none.
    """
    if baseline is None or baseline in await lab.run_labels(name):
        return baseline
    from promptlab.errors import RunNotFoundError
    from promptlab.run_labels import no_such_label

    try:
        return (await find_run(lab, baseline)).run_id
    except RunNotFoundError:
        label = baseline.rpartition("@")[2]
        raise no_such_label(name, label, await lab.run_labels(name)) from None


def _run_and_judged(
    ctx: click.Context,
    store: Store,
    path: Path,
    baseline: str | None,
    gates: Gates | None,
    quiet: bool,
    *,
    tags: tuple[str, ...],
    changes: tuple[str, ...],
    usd: float | None,
    commit: str | None,
) -> GateOutcome:
    """Run an experiment, then judge it; ends the command where the run did not come to its end."""
    from promptlab.cli.running import FAILED, report
    from promptlab.domain.choice import checked_tags
    from promptlab.errors import ConfigError
    from promptlab.experiments.file import load_experiment

    file = load_experiment(path, changes)
    config = file.config.model_copy(update={"tags": checked_tags((*file.config.tags, *tags))})
    config = config.within(usd).at_commit(found_commit(commit, file.folder))
    if gates is not None:
        gates.check_names(*config.gated_names)
        config = config.model_copy(update={"gates": gates})
    checks, judged = config.gates, list["GateOutcome"]()
    wanted = baseline or (checks.baseline if checks else None)
    if wanted is None and (checks is None or checks.compares):
        raise ConfigError(
            f"{path}: name the baseline (--baseline RUN|LABEL, or baseline: in its gates); `promptlab label "
            "RUN production` labels a run."
        )

    async def begin(lab: Lab, on_start: OnStart, on_progress: OnProgress) -> RunRecord:
        # Before a call is paid for.
        against = await _named(lab, config.name, wanted)
        run = await lab.run(config, folder=file.folder, on_start=on_start, on_progress=on_progress)
        if run.results is not None or lab.goes_on:
            judged.append(await lab.gate(run.run_id, baseline=against))
        return run

    ended = run_in_this_thread(work(store, begin, quiet=quiet))
    if not judged or ended.signal:
        ctx.exit(report(ended, as_json=False, quiet=quiet, fail_on_error=False) or FAILED)
    return judged[0]
