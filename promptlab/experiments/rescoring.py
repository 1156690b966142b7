"""Metrics for a run that is there already: checked as those of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.experiments.config import EvaluationConfig, ExperimentConfig

Metrics = Sequence[EvaluationConfig | Mapping[str, Any]]
"""Metrics as an experiment's `evaluation` has them."""


def scoring_config(experiment: Experiment, evaluation: Metrics, only: Sequence[str]) -> ExperimentConfig:
    """The configuration of an experiment that ran, with other metrics.

    Args:
        experiment: the experiment.
        evaluation: the metrics.
        only: the names of those of them that are wanted; all where none is named.

    Raises:
        ConfigError: a metric is wrong, or none has a name that is wanted.
    """
    dataset, prompt = experiment.dataset, experiment.prompt_template
    fields: dict[str, Any] = {"name": experiment.name, "dataset": f"{dataset.name}@{dataset.version}"}
    if prompt is None or experiment.model_code is not None:
        fields["agent_proxy"] = _answered  # nobody is asked: which code answered does not matter
    else:
        fields |= {"prompt_template": f"{prompt.name}@{prompt.version}", "model": experiment.model}
    config = ExperimentConfig.parse({**fields, "evaluation": list(evaluation)})
    names = [item.result_name for item in config.evaluation]
    if missing := [name for name in only if name not in names]:
        raise ConfigError(
            f"There is no metric {missing[0]!r} in the evaluation: {', '.join(names) or 'none'}."
        )
    chosen = tuple(item for item in config.evaluation if not only or item.result_name in only)
    if not chosen:
        raise ConfigError("There is no metric to score by: give an `evaluation` with at least one.")
    return config.model_copy(update={"evaluation": chosen})


def _answered(row: Mapping[str, Any]) -> str:
    raise AssertionError("every case is answered")


def check_scorable(run: RunRecord) -> None:
    """Refuse to score a run of which cases are open: they would be asked. Those of a run that was decided
    are left out for good, unless it is resumed.

    Raises:
        ConfigError: some are, or it is worked on.
    """
    if run.status not in ("completed", "decided") or run.results is None:
        raise ConfigError(
            f"Run {run.run_id} is {run.status}: only a completed run is scored again. Resume it first: "
            f"promptlab resume {run.run_id}"
        )
