"""Experiments as they are recorded: with references, prices and a hash; and those made of one that ran."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from promptlab.domain.assets import Asset, Dataset, content_hash
from promptlab.domain.experiment import AssetRef, Experiment, Metric, RunMetricSpec
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import BATCH, price_of
from promptlab.errors import ConfigError
from promptlab.models.base import Model

M = TypeVar("M", bound=Metric)


def with_dataset(experiment: Experiment, dataset: Dataset) -> Experiment:
    """Make an experiment of one that ran, over another dataset and at today's prices."""
    prices = [prices_of(c) for c in (experiment.model, experiment.embedding_model) if c]
    changes = {
        "slices": (),
        "dataset": ref_of(dataset),
        "prices": experiment.prices | {k: v for each in prices for k, v in each.items()},
    }
    changed = experiment.model_copy(update={**changes, "hash": "", "warnings": ()})
    unhashed = {"warnings": experiment.warnings, "slices": experiment.slices}
    return hashed(changed).model_copy(update=unhashed)


def with_metrics(
    experiment: Experiment,
    metrics: Sequence[Metric],
    run_metrics: Sequence[RunMetricSpec],
    generation: int,
    models: Iterable[Model],
) -> Experiment:
    """Make an experiment of one that ran, with metrics that are new or take the place of others.

    What is replaced is kept under its name and the pass from which on it counted, as in `polite@0`; a metric
    that is there as it is given stays.

    Args:
        experiment: the experiment.
        metrics: the metrics.
        run_metrics: those of the run as a whole.
        generation: the pass that makes their scores.
        models: the models whose prices they need.
    """
    given: dict[str, list[Metric]] = {}
    for metric in metrics:
        given.setdefault(metric.evaluator_name, []).append(metric)
    now: dict[str, list[Metric]] = {}
    for metric in experiment.evaluation:
        now.setdefault(metric.evaluator_name, []).append(metric)
    found, kept = list[Metric](), list[Metric]()
    for name in dict.fromkeys((*now, *given)):
        old, new = now.get(name, []), given.get(name)
        if new is None or [_undated(m) for m in old] == [_undated(m) for m in new]:
            found += old
            continue
        found += [m.model_copy(update={"since": generation}) for m in new]
        kept += [_kept(m, generation) for m in old]
    prices = {name: price for one in models for name, price in prices_of(one.config).items()}
    changes = {
        "evaluation": (*found, *kept),
        "run_evaluation": _with_run_metrics(experiment.run_evaluation, run_metrics, generation),
        "prices": experiment.prices | prices,
    }
    changed = experiment.model_copy(update={**changes, "hash": "", "warnings": ()})
    return hashed(changed).model_copy(update={"warnings": experiment.warnings})


def _with_run_metrics(
    now: Sequence[RunMetricSpec], given: Sequence[RunMetricSpec], generation: int
) -> tuple[RunMetricSpec, ...]:
    new, found, kept = {m.name: m for m in given}, list[RunMetricSpec](), list[RunMetricSpec]()
    for metric in now:
        other = new.pop(metric.name, None)
        if other is None or _undated(other) == _undated(metric):
            found.append(metric)
            continue
        found.append(other.model_copy(update={"since": generation}))
        kept.append(_kept(metric, generation))
    return (*found, *(m.model_copy(update={"since": generation}) for m in new.values()), *kept)


def _undated(metric: Metric) -> dict[str, Any]:
    # What was scored by code that changed since is scored again only where its name or its fields differ.
    return metric.model_dump(mode="json", exclude={"since": True, "code": {"source_hash"}})


def _kept(metric: M, generation: int) -> M:
    at = f"@{metric.since or 0}"
    changes = {"name": f"{metric.name}{at}", "kept": metric.name, "since": generation, "headline": None}
    if metric.part is not None:
        changes["evaluator"] = f"{metric.evaluator_name}{at}"
    return metric.model_copy(update=changes)


def hashed(experiment: Experiment) -> Experiment:
    """The experiment with its hash.

    Raises:
        ConfigError: it cannot be recorded as JSON.
    """
    try:
        found = content_hash(experiment.to_json())
    except TypeError as error:
        raise ConfigError(
            f"The experiment cannot be recorded as JSON ({error}): look at the fields of its models and the "
            "params of its metrics."
        ) from None
    return experiment.model_copy(update={"hash": found})


def ref_of(asset: Asset) -> AssetRef:
    """A reference to a stored version."""
    assert asset.version is not None and asset.hash is not None
    return AssetRef(name=asset.name, version=asset.version, hash=asset.hash)


def prices_of(config: ModelConfig) -> dict[str, Any]:
    """The row of the price table that a model needs, by its name; nothing where its price is unknown."""
    price = price_of(config, tier=BATCH if config.batch else None)
    return {config.name: price.to_json()} if price else {}
