"""Makes evaluators of what a run recorded, here and in processes of their own."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import orjson

from promptlab.domain.experiment import CodeRef, Experiment, Metric, RunMetricSpec, parts_of
from promptlab.engine.isolation import by_value
from promptlab.engine.processes import SANDBOX, Recipe
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.decorator import OPTIONS
from promptlab.evaluators.of_runs import RunEvaluator
from promptlab.evaluators.registry import build
from promptlab.evaluators.several import joining
from promptlab.evaluators.whole import WholeRun
from promptlab.experiments.code import load_code, made_of, with_params
from promptlab.experiments.code_answers import recipe_of, runs_answers
from promptlab.experiments.functions import FunctionEvaluator, named_inputs
from promptlab.experiments.stored import recipe_argument, stored_evaluator


def recipes_of(
    metrics: Sequence[tuple[Metric, Evaluator]], named: Collection[str], given: Collection[str]
) -> dict[str, Recipe]:
    """How processes make the evaluators that were named, or are to be isolated.

    Args:
        metrics: the metrics with their evaluators.
        named: those that the configuration names, so that they can be made again.
        given: those that it brought, by name or as objects.

    Raises:
        ConfigError: one is to be isolated and cannot be sent.
    """
    found: dict[str, Recipe] = {}
    parts = parts_of([metric for metric, _ in metrics])
    for metric, evaluator in metrics:
        own = not type(evaluator).__module__.startswith("promptlab.evaluators.")
        name = metric.evaluator_name
        if metric.code is not None and metric.code.bundle is not None:
            argument = recipe_argument(
                metric.code, name, [part for _, part in parts.get(name, ())], metric.params
            )
            found[metric.name] = Recipe(name, SANDBOX, argument)
        elif metric.code is None and metric.kept is None and runs_answers(metric.metric):
            found[metric.name] = recipe_of(metric, evaluator)
        elif name in named or name not in given:
            if own and metric.isolated is not False:
                recorded = metric.model_dump(mode="json", exclude_none=True)
                argument = orjson.dumps(
                    {"metric": recorded, "parts": [part for _, part in parts.get(name, ())]}
                )
                found[metric.name] = Recipe(name, f"{__name__}:evaluator_of", argument)
        elif metric.isolated:
            found[metric.name] = by_value(name, evaluator)
    return found


def evaluator_of(recorded: bytes) -> Evaluator:
    """Make the evaluator of a recorded metric, in a process of its own.

    Raises:
        ConfigError: it cannot be loaded or made.
    """
    found = orjson.loads(recorded)
    evaluator = remade_evaluator(Metric.model_validate(found["metric"]), script=False)
    if isinstance(evaluator, RunEvaluator):
        return WholeRun(evaluator, found["parts"])
    return joining(evaluator, found["parts"]) if found["parts"] else evaluator


def evaluator_from(name: str, code: CodeRef, thing: Any, params: Mapping[str, Any]) -> Evaluator:
    """The evaluator that a class makes with its arguments, a function is, or an object is."""
    if inspect.isclass(thing):
        thing = made_of(code, thing, params)
    elif inspect.isroutine(thing):
        if named_inputs(thing, params, getattr(thing, OPTIONS, {}).get("inputs")) is None:
            with_params(code, thing, params)
        return FunctionEvaluator(thing, params)
    elif params:
        raise ConfigError(
            f"metric {name!r}: params are for built-in metrics, classes and functions; "
            "give an object its values when you make it"
        )
    if not callable(getattr(thing, "evaluate", None)):
        raise ConfigError(
            f"metric {name!r}: a custom evaluator is an object with a method evaluate(self, data), or a "
            f"function of the inputs, got {type(thing).__name__}"
        )
    return cast("Evaluator", thing)


def bind_run_metrics(
    experiment: Experiment, given: Mapping[str, Evaluator] | None = None, named: Collection[str] = ()
) -> tuple[list[tuple[RunMetricSpec, Evaluator]], dict[str, Recipe]]:
    """The metrics of a recorded experiment's run as a whole, with their evaluators; and how processes or the
    sandbox make those of users. They call no models, so that no key is needed. `given` and `named` are as of
    `recipes_of`.

    Raises:
        ConfigError: a user's own class cannot be made again.
    """
    given = given or {}
    bound = [(spec, given.get(spec.name) or remade_evaluator(spec)) for spec in experiment.run_evaluation]
    recipes = dict[str, Recipe]()
    for spec, evaluator in bound:
        if spec.code is None:
            continue
        if spec.code.bundle is not None:
            argument = recipe_argument(spec.code, spec.name, list(spec.scores), spec.params)
            recipes[spec.name] = Recipe(spec.name, SANDBOX, argument)
        elif (spec.name in named or spec.name not in given) and spec.isolated is not False:
            recorded = spec.model_dump(mode="json", exclude_none=True)
            argument = orjson.dumps({"metric": recorded, "parts": spec.scores})
            recipes[spec.name] = Recipe(spec.name, f"{__name__}:evaluator_of", argument)
        elif spec.isolated:
            recipes[spec.name] = by_value(spec.name, WholeRun(cast("RunEvaluator", evaluator), spec.scores))
    return bound, recipes


def remade_evaluator(metric: Metric, *, script: bool = True) -> Evaluator:
    if metric.kept is not None and not isinstance(metric, RunMetricSpec):
        return Evaluator()  # its scores are there, and no more are made
    if metric.code is None:
        return build(metric.metric, metric.params)
    if metric.code.bundle is not None:
        return stored_evaluator(
            metric.code,
            {"higher_is_better": metric.higher_is_better, "whole": isinstance(metric, RunMetricSpec)},
        )
    return evaluator_from(
        metric.evaluator_name, metric.code, load_code(metric.code, script=script), metric.params
    )
