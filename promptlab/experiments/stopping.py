"""Whether a run can end early as it is asked to, before a call is paid for."""

from __future__ import annotations

import random
from collections.abc import Sequence

from promptlab.domain.comparable import not_comparable
from promptlab.domain.experiment import Experiment, Metric
from promptlab.domain.results import RunRecord
from promptlab.domain.stopping import MOST_SEED, StopConfig, StopRule
from promptlab.domain.summary import Summary
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.ports import Ledger
from promptlab.run_labels import RunLabels, run_named

FEWEST = 15
"""As `statistics.sequential.FEWEST`: with fewer rows nothing is decided."""


async def stop_rule(ledger: Ledger, stop: StopConfig, experiment: Experiment, rows: int) -> StopRule:
    """Hold what is asked for against the experiment and the run that it names.

    Args:
        ledger: where that run is.
        stop: what is asked for.
        experiment: the experiment, resolved.
        rows: the rows of its dataset.

    Raises:
        RunNotFoundError: there is no such run, and no such label.
        LabelNotFoundError: the experiment has no such label.
        UnknownNameError: it has no such metric.
        ConfigError: the two cannot be compared row by row, or the rule does not hold for them.
    """
    metric = _metric(stop, experiment)
    if experiment.model.batch or experiment.judged_ahead:
        raise ConfigError(
            "stop: a run in batch mode waits for each wave of its cases for up to a day: leave out stop, or "
            "the batch of the model and of judges"
        )
    if metric.cluster_by is not None:
        raise ConfigError(
            f"stop: its rule holds for rows that are independent, and these belong together by "
            f"{metric.cluster_by!r} (cluster_by): leave out one of the two"
        )
    if rows <= FEWEST:
        raise ConfigError(f"stop: of {rows:,} rows nothing is decided early: that takes more than {FEWEST}")
    if stop.margin is not None and metric.bounds is not None:
        span = metric.bounds[1] - metric.bounds[0]
        if stop.margin >= span:
            raise ConfigError(
                f"stop.margin {stop.margin:g}: {metric.name} is {metric.bounds[0]:g} to "
                f"{metric.bounds[1]:g}, so that any two runs are the same within it: give less than {span:g}"
            )
    run_id, label = await run_named(RunLabels(ledger), ledger, experiment.name, stop.against)
    base = await ledger.get_run(run_id)
    assert base is not None
    _check_base(base, stop.against, metric, experiment)
    seed = random.randrange(MOST_SEED) if stop.seed is None else stop.seed
    return StopRule(
        base=run_id, label=label, metric=metric.name, margin=stop.margin, looks=stop.looks, seed=seed
    )


def _metric(stop: StopConfig, experiment: Experiment) -> Metric:
    names = [metric.name for metric in experiment.evaluation if not metric.is_fact]
    if stop.metric is not None and stop.metric not in names:
        if any(metric.name == stop.metric for metric in experiment.evaluation):
            raise ConfigError(
                f"stop.metric {stop.metric!r} only measures: no run is better by it. Give it a bound, or "
                f"name another metric: {_list(names)}"
            )
        raise UnknownNameError("metric of stop", stop.metric, names)
    headline = experiment.headline
    if stop.metric is None and (headline is None or headline.is_fact):
        raise ConfigError("stop: the experiment has no metric by which a run is better: add one")
    return next(m for m in experiment.evaluation if m.name == (stop.metric or (headline and headline.name)))


def _check_base(base: RunRecord, named: str, metric: Metric, experiment: Experiment) -> None:
    said = f"stop.against {named!r}: run {base.run_id}"
    if base.status != "completed" or base.summary is None:
        raise ConfigError(
            f"{said} is {base.status.replace('_', ' ')}: compare with a run that is completed, for all of "
            "its rows are needed"
        )
    before = Experiment.model_validate(base.experiment)
    if before.dataset.hash != experiment.dataset.hash:
        raise ConfigError(
            f"{said} is over {before.dataset.name}@{before.dataset.version}, and this one is over "
            f"{experiment.dataset.name}@{experiment.dataset.version}: they are compared row by row, so they "
            "need the same rows"
        )
    old = next((one for one in before.evaluation if one.name == metric.name), None)
    if old is None:
        raise ConfigError(
            f"{said} has no metric {metric.name!r}: it has {_list([one.name for one in before.evaluation])}. "
            f"promptlab score {base.run_id} adds one"
        )
    if why := not_comparable(old, metric, base.experiment, experiment.to_json()):
        raise ConfigError(f"{said}: {metric.name} cannot be compared: {why}")
    summary = Summary.from_json(base.summary)
    found = summary.metrics.get(metric.name)
    if found is None or not found.values.n:
        raise ConfigError(
            f"{said} has no number by {metric.name!r} in any row: a run ends early by a metric with numbers "
            "or pass and fail"
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) or "none"
