"""The judges of an experiment's metrics: made, recorded and made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from promptlab.domain.experiment import CodeRef, Metric
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.model_config import EXAMPLE_MODEL, ModelConfig
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.experiments.code import code_ref
from promptlab.experiments.config import EvaluationConfig
from promptlab.models.base import Model
from promptlab.models.registry import get_model, is_registered

Pairs = list[tuple[JudgeConfig, Model]]
"""The judges of a metric: how each is configured, and its model."""


def made_judges(item: EvaluationConfig, evaluator: Evaluator, model: Model | None) -> Pairs:
    """Make the judges of a metric; none of a metric that asks none.

    Args:
        item: the metric.
        evaluator: its evaluator.
        model: the model under test.

    Raises:
        ConfigError: it asks some and names none, or the other way round; one is the model under test.
    """
    name = item.result_name
    if not getattr(evaluator, "needs_judge", False):
        if item.judge is not None:
            raise ConfigError(
                f"metric {name!r}: {item.metric} asks no model, so `judge` would change nothing: leave it out"
            )
        return []
    if item.judge is None:
        raise ConfigError(
            f"metric {name!r}: {item.metric} asks a model of its own, which is not the one that is judged: "
            f"name it, as in judge: {{name: {EXAMPLE_MODEL}, temperature: 0}}"
        )
    made = [
        (JudgeConfig.of(one.config), one) if isinstance(one, Model) else (one, get_model(one.model()))
        for one in item.judge
    ]
    for config, judge in made:
        if model is not None and _is_same(judge, model) and not config.allow_self:
            raise ConfigError(
                f"metric {name!r}: {judge.name} would judge its own answers, which models like better than "
                "others do. Name another model in judge, or say allow_self: true there."
            )
    return made


def _is_same(judge: Model, model: Model) -> bool:
    if judge.runs_user_code or model.runs_user_code:
        return judge is model
    return (judge.name, _endpoint(judge)) == (model.name, _endpoint(model))


def _endpoint(model: Model) -> str | None:
    """Where calls go: as the model reads it, for an address can be written in several ways."""
    return getattr(model, "endpoint", None) or model.config.endpoint


def judges_recorded(made: Sequence[tuple[JudgeConfig, Model]]) -> dict[str, Any]:
    """The fields of a recorded metric for its judges."""
    if not made:
        return {}
    codes = tuple(None if is_registered(model) else code_ref(model) for _, model in made)
    # With the endpoint that the environment names, as the model found it.
    configs = tuple(config.model_copy(update={"endpoint": model.config.endpoint}) for config, model in made)
    return {"judge": configs, "judge_code": codes if any(codes) else None}


def remade_judges(metric: Metric, remade: Callable[[CodeRef, ModelConfig], Model]) -> Pairs:
    """Make the judges of a recorded metric again.

    Args:
        metric: the metric.
        remade: makes a model of a user's own class again.
    """
    configs = metric.judge or ()
    codes = metric.judge_code or (None,) * len(configs)
    return [
        (config, remade(code, config.model()) if code is not None else get_model(config.model()))
        for config, code in zip(configs, codes, strict=True)
    ]


async def steps_made(
    metrics: Sequence[Metric], evaluators: dict[str, Evaluator], judges: Mapping[str, Pairs]
) -> tuple[Metric, ...]:
    """Have judges make the steps of evaluations that have none yet, to be stored with the experiment: the
    only calls that are made before a run is recorded.

    Args:
        metrics: the metrics.
        evaluators: by name of the evaluator; in place of one that had no steps is one that has.
        judges: likewise.

    Raises:
        ModelError: a judge's call failed.
        ConfigError: a judge gave no steps.
    """
    if all(metric.metric != "g_eval" and not metric.judge for metric in metrics):
        return tuple(metrics)
    from promptlab.evaluators.judging.asking import Asked
    from promptlab.evaluators.judging.forms import UnreadableError
    from promptlab.evaluators.judging.g_eval import GEval

    found = []
    for metric in metrics:
        evaluator = evaluators[metric.evaluator_name]
        if not isinstance(evaluator, GEval) or evaluator.steps:
            found.append(metric)
            continue
        first = Asked(*judges[metric.evaluator_name][0])
        try:
            steps = await evaluator.make_steps(first)
        except UnreadableError as error:
            raise ConfigError(f"metric {metric.name!r}: {error}") from error
        if not steps:
            raise ConfigError(
                f"metric {metric.name!r}: the judge {first.model.name} gave no steps: write them yourself, "
                "as in params: {steps: [Check the facts., …]}"
            )
        evaluators[metric.evaluator_name] = evaluator.with_steps(steps)
        params = {**metric.params, "steps": steps}
        found.append(metric.model_copy(update={"params": params}))
    return tuple(found)
