"""The live objects of an experiment: made from what a user wrote, or again from what a run recorded."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.conversation import SimulatedUser
from promptlab.domain.experiment import CodeRef, Experiment, Metric, RunMetricSpec, parts_of
from promptlab.domain.extraction import Step
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.templates import compile_template_async
from promptlab.engine.job import Bindings
from promptlab.engine.limits import models_of
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.foreign import MAX_SEVERAL
from promptlab.evaluators.of_runs import RunEvaluator
from promptlab.evaluators.registry import build
from promptlab.evaluators.several import joining
from promptlab.experiments.code import code_ref, load_code, made_of, named_ref, with_params, with_source
from promptlab.experiments.config import CodeConfig, EvaluationConfig, ExperimentConfig
from promptlab.experiments.judges import judges_recorded, made_judges, remade_judges
from promptlab.experiments.remaking import bind_run_metrics, evaluator_from, recipes_of, remade_evaluator
from promptlab.experiments.stored import (
    Stored,
    StoredModel,
    model_of,
    named_in_words,
)
from promptlab.models.agent import AgentModel, agent_config, agent_messages, takes_case
from promptlab.models.base import Model
from promptlab.models.registry import get_model, is_registered


@dataclass(slots=True)
class Live:
    """Objects that a configuration brought along; what is missing is made from the recorded experiment."""

    model: Model | None = None
    embedding_model: Model | None = None
    simulated_user: Model | None = None
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    """By result name."""
    isolated: dict[str, bool | None] = field(default_factory=dict)
    """What the configuration says of where evaluators run; by result name."""
    named: set[str] = field(default_factory=set)
    """Metrics whose evaluators the configuration names, so that they can be made again; by result name."""
    stored: Stored = field(default_factory=Stored)
    """The code of the configuration that the lab keeps."""
    codes: dict[str, CodeRef] = field(default_factory=dict)
    """References to the models and the agent that the configuration names as code; by field."""
    judges: dict[str, list[tuple[JudgeConfig, Model]]] = field(default_factory=dict)
    """The judges of metrics, by result name."""

    def code_of(self, name: str, model: Model | None) -> CodeRef | None:
        """Refer to a user's own model class; None for the built-in ones, which their
        configuration brings back."""
        if model is None or isinstance(model, AgentModel) or "agent_proxy" in self.codes:
            return None
        return self.codes.get(name) or (None if is_registered(model) else code_ref(model))

    @property
    def called(self) -> tuple[Model | None, ...]:
        """The models that the run itself calls; its metrics' are their own."""
        return (self.model, self.embedding_model, self.simulated_user)

    @property
    def given_models(self) -> list[Model]:
        """The models that the configuration names: those that the run calls, and judges."""
        judges = [judge for pairs in self.judges.values() for _, judge in pairs]
        return [one for one in (*self.called, *judges) if one is not None]

    def models(self) -> list[Model]:
        """The models that the run is known to call: the model under test, the embedding model, judges."""
        judges = [model for evaluator in self.evaluators.values() for model in models_of(evaluator)]
        return [model for model in (*self.called, *judges) if model is not None]

    def agent_code(self, model: Model) -> CodeRef | None:
        """Refer to an agent's function; None for a model."""
        if "agent_proxy" in self.codes or not isinstance(model, AgentModel):
            return self.codes.get("agent_proxy")
        return code_ref(model.function)


def live_objects(config: ExperimentConfig, folder: Path, stored: Stored | None = None) -> Live:
    """Make the models, or the agent, of a configuration; relative paths to code count from `folder`, and
    `stored` is its code that the lab keeps.

    Raises:
        ConfigError: a class or function cannot be loaded, or is not what it is used as.
    """
    live = Live(stored=stored or Stored())
    if config.agent_proxy is not None:
        agent = config.agent_proxy
        if code := live.stored.codes.get("agent_proxy"):
            live.codes["agent_proxy"] = code
            live.model = StoredModel(
                code,
                agent_config(code.qualname or named_in_words(code), config.agent_max_concurrent_tasks),
                agent=True,
            )
            return _with_embedding(live, config, folder)
        if isinstance(agent, CodeConfig):
            agent, live.codes["agent_proxy"] = _agent(agent, folder)
        live.model = AgentModel(agent, max_concurrent_tasks=config.agent_max_concurrent_tasks)
    else:
        live.model = _model("model", config.model, live, folder)
    return _with_embedding(live, config, folder)


def _with_embedding(live: Live, config: ExperimentConfig, folder: Path) -> Live:
    live.embedding_model = _model("embedding_model", config.embedding_model, live, folder)
    if config.conversation is not None and config.conversation.simulated_user is not None:
        live.simulated_user = get_model(config.conversation.simulated_user.model)
    return live


def _agent(given: CodeConfig, folder: Path) -> tuple[Any, CodeRef]:
    code = named_ref(given.code, folder).model_copy(update={"params": dict(given.params) or None})
    return agent_function(code, load_code(code, script=False)), code


def agent_function(code: CodeRef, thing: Any) -> Any:
    """A function as it is, with its further arguments; a class as an object of it, which is called."""
    made = made_of(code, thing, code.params) if inspect.isclass(thing) else thing
    if not callable(made):
        raise ConfigError(f"agent_proxy: {code.qualname} cannot be called: name a function of the row")
    if inspect.isclass(thing):
        return made
    return with_params(code, made, code.params, case=takes_case(made))


def _model(name: str, given: Any, live: Live, folder: Path) -> Model | None:
    if isinstance(given, ModelConfig):
        return get_model(given)
    if not isinstance(given, CodeConfig):
        return cast("Model | None", given)
    if kept := live.stored.codes.get(name):
        live.codes[name] = kept
        return model_of(kept, live.stored.said[name], given.config)
    code = named_ref(given.code, folder).model_copy(update={"params": dict(given.params) or None})
    live.codes[name] = code
    return model_object(code, load_code(code, script=False))


def model_object(code: CodeRef, thing: Any) -> Model:
    """An object of a user's class, or what a user's function makes; an object as it is."""
    if isinstance(thing, Model) and not code.params:
        return thing
    made = made_of(code, thing, code.params)
    if not isinstance(made, Model):
        raise ConfigError(
            f"{code.file or code.module}:{code.qualname} gives no Model but a {type(made).__name__}: "
            "name a subclass of promptlab.Model, or a function that returns one"
        )
    return made


def live_metrics(item: EvaluationConfig, live: Live, folder: Path) -> tuple[Metric, ...]:
    """Make the evaluator, and record how to make it again: as one metric, or one for each of its scores.

    Raises:
        ConfigError: it cannot be loaded or made, or is no evaluator.
    """
    thing, code = item.evaluator, None
    kept = live.stored.evaluator(item.result_name)
    if kept is not None:
        thing, code = kept, kept.code.model_copy(update={"params": None})  # they are the metric's
    elif isinstance(thing, str):
        # A class that was loaded from a file does not know its file.
        code = named_ref(thing, folder)
        thing = load_code(code, script=False)
    if thing is None:
        evaluator = build(item.metric, item.params)
    else:
        code = code or code_ref(thing)
        evaluator = kept or evaluator_from(item.result_name, code, thing, item.params)
        code = code if kept is not None else with_source(code, thing)
    pairs = made_judges(item, evaluator, live.model)
    if pairs:
        live.judges[item.result_name] = pairs
        evaluator = evaluator.with_models({"judges": pairs})
    live.evaluators[item.result_name] = evaluator
    live.isolated[item.result_name] = item.isolated
    if item.evaluator is None or isinstance(item.evaluator, str):
        live.named.add(item.result_name)
    _check_isolated(item, evaluator)
    higher = getattr(evaluator, "higher_is_better", True)
    better = higher if isinstance(higher, Mapping) else {}
    metric = Metric(
        name=item.result_name,
        metric=item.metric,
        column_mapping=dict(item.column_mapping),
        params=dict(item.params),
        code=code,
        higher_is_better=True if isinstance(higher, Mapping) else higher,
        needs_embedding=getattr(evaluator, "needs_embedding", False),
        when=item.when,
        timeout_s=item.timeout_s,
        isolated=item.isolated,
        headline=item.headline or None,
        missing=item.missing,
        value_range=_range_of(evaluator),
        extract=_ready(item, "extract", item.extract),
        extract_reference=_ready(item, "extract_reference", item.extract_reference),
        **judges_recorded(pairs),
    )
    if isinstance(evaluator, RunEvaluator):
        return (_of_run(metric, item, evaluator, better),)
    return tuple(
        metric.model_copy(
            update={
                "name": f"{item.result_name}.{part}",
                "evaluator": item.result_name,
                "part": part,
                "higher_is_better": better.get(part, metric.higher_is_better),
                "headline": metric.headline if number == 0 else None,
            }
        )
        for number, part in enumerate(_scores_of(item, evaluator))
    ) or (metric,)


def _of_run(
    metric: Metric, item: EvaluationConfig, evaluator: RunEvaluator, better: Mapping[str, bool]
) -> RunMetricSpec:
    """The metric as one of the run as a whole.

    Raises:
        ConfigError: it is the headline, or says how cases without a score count.
    """
    for name, why in (
        ("headline", "runs are judged by a metric of their cases first"),
        ("missing", "what the model failed is among the cases that it is given"),
    ):
        if getattr(item, name):
            raise ConfigError(
                f"metric {item.result_name!r} is of the run as a whole; leave {name} out: {why}"
            )
    scores = tuple(_scores_of(item, evaluator))
    known = metric.model_dump()
    # Of a metric of cases 0 to 1 is the default; of a run it is known only where it is said.
    if metric.code is not None and tuple(getattr(evaluator, "value_range", None) or ()) == (0.0, 1.0):
        known["value_range"] = (0.0, 1.0)
    return RunMetricSpec(**known, scores=scores, better={s: better[s] for s in scores if s in better})


def _ready(item: EvaluationConfig, name: str, steps: tuple[Step, ...]) -> tuple[Step, ...] | None:
    """The steps of an extraction, of which it is known that they can be carried out; None without any.

    Raises:
        ConfigError: a pattern or a path is none.
    """
    if not steps:
        return None
    from promptlab.evaluators.extraction import extraction  # few metrics have steps

    try:
        extraction(steps)
    except ValueError as error:
        raise ConfigError(f"metric {item.result_name!r}: {name}: {error}") from None
    return steps


def _range_of(evaluator: Evaluator) -> tuple[float, float] | None:
    """The finite range that an evaluator's class gives, where it is not 0 to 1, which is the default.

    Raises:
        ConfigError: it is no range.
    """
    given = getattr(evaluator, "value_range", None)
    if given is None or tuple(given) == (0.0, 1.0) or None in tuple(given):
        return None
    try:
        low, high = map(float, given)
    except (TypeError, ValueError) as error:
        name = type(evaluator).__name__
        raise ConfigError(f"value_range of {name} must be two numbers, not {given!r}") from error
    if not (math.isfinite(high - low) and low < high):
        raise ConfigError(
            f"value_range of {type(evaluator).__name__} must be finite, the lower end first, not {given!r}"
        )
    return low, high


async def checked_metrics(item: EvaluationConfig, live: Live, folder: Path) -> tuple[Metric, ...]:
    """Do as `live_metrics`, off the event loop where a pattern or a schema takes time to be checked.

    Raises:
        ConfigError: as of `live_metrics`.
    """
    # What is a user's own is made where the user runs it: it may belong to its thread.
    if item.evaluator is None and _is_large(item.params):
        return await asyncio.to_thread(live_metrics, item, live, folder)
    return live_metrics(item, live, folder)


def _is_large(params: Mapping[str, Any]) -> bool:
    """Whether a built-in metric of these parameters may take more than a millisecond to make: a pattern of
    10,000 characters takes 50 ms, a schema of 20,000 values 1.7 s."""
    try:
        return len(orjson.dumps(dict(params))) > 1_000
    except TypeError:
        return True


def _scores_of(item: EvaluationConfig, evaluator: Evaluator) -> Sequence[str]:
    """The names of an evaluator's scores, as the experiment or its class says; none where it gives one.

    Raises:
        ConfigError: they cannot be names, or the metric has one score only.
    """
    parts, name = item.scores or getattr(evaluator, "scores", ()), item.result_name
    if type(parts) not in (tuple, list) or not all(isinstance(part, str) for part in parts):
        raise ConfigError(
            f"metric {name!r}: scores of the evaluator are the names of its scores, as in "
            f'("precision", "recall"), not {type(parts).__name__}'
        )
    if item.scores and type(evaluator).__module__.startswith("promptlab.evaluators."):
        raise ConfigError(f"metric {name!r}: {item.metric} gives one score: leave `scores` out")
    if len(set(parts)) < len(parts) or len(parts) > MAX_SEVERAL or not all(parts):
        raise ConfigError(
            f"metric {name!r}: {len(parts):,} names of scores: at most {MAX_SEVERAL}, each once, none empty"
        )
    return parts


def _check_isolated(item: EvaluationConfig, evaluator: Evaluator) -> None:
    if item.isolated is None:
        return
    if type(evaluator).__module__.startswith("promptlab.evaluators."):
        raise ConfigError(
            f"metric {item.result_name!r}: isolated is for evaluators of your own; built-in metrics have "
            "time limits of their own"
        )
    if item.isolated and getattr(evaluator, "needs_embedding", False):
        raise ConfigError(
            f"metric {item.result_name!r}: an evaluator that needs_embedding cannot be isolated: the "
            "model is in this process"
        )


async def bind(
    experiment: Experiment, prompt: PromptTemplate | None, dataset: Dataset, live: Live
) -> Bindings:
    """The live objects of a recorded experiment; `live` brings those that its configuration had as objects.

    Raises:
        ConfigError: a user's own class cannot be made again.
        MissingKeyError: a key that the run had is not in the environment.
    """
    model = live.model or _remade_model(experiment)
    embedding = live.embedding_model
    if embedding is None and experiment.embedding_model is not None:
        ref = experiment.embedding_model_code
        embedding = _remade(ref, experiment.embedding_model) if ref else get_model(experiment.embedding_model)
    simulator, persona = await _simulated(experiment, live)
    models = {"embedding": embedding}
    metrics = [
        metric.model_copy(update={"isolated": _where(metric, live)}) for metric in experiment.evaluation
    ]
    made: dict[str, Evaluator] = {}
    judges = list[Model]()
    parts = parts_of(metrics)
    for metric in metrics:
        name = metric.evaluator_name
        if name not in made:
            found = live.evaluators.get(name)
            if found is None and metric.code is None and _is_large(metric.params):
                found = await asyncio.to_thread(remade_evaluator, metric)
            given = _with_models(metric, found or remade_evaluator(metric), models)
            if metric.judge and metric.kept is None:
                pairs = live.judges.get(name) or remade_judges(metric, _remade)
                judges += [judge for _, judge in pairs]
                given = given.with_models({"judges": pairs})
            made[name] = joining(given, [part for _, part in parts[name]]) if name in parts else given
    evaluators = [(metric, made[metric.evaluator_name]) for metric in metrics]
    of_run, run_recipes = bind_run_metrics(experiment, live.evaluators, live.named)
    assert dataset.content is not None
    messages = (await compile_template_async(prompt)).render_async if prompt else agent_messages
    return Bindings(
        model=model,
        messages=messages,
        content=dataset.content,
        evaluators=evaluators,
        embedding_model=embedding,
        judges=judges,
        simulated_user=simulator,
        persona=persona,
        parts=parts,
        recipes=recipes_of(evaluators, live.named, live.evaluators),
        of_run=of_run,
        run_recipes=run_recipes,
    )


async def _simulated(experiment: Experiment, live: Live) -> tuple[Model | None, Any]:
    """The model that plays the user of an experiment's conversations, and what fills its system message."""
    played = experiment.conversation and experiment.conversation.simulated_user
    if not played:
        return None, None
    compiled = await compile_template_async(persona_template(played))
    return live.simulated_user or get_model(played.model), compiled.render_async


def persona_template(played: SimulatedUser) -> PromptTemplate:
    """The prompt of a simulated user, as a template."""
    return PromptTemplate(name="simulated_user", system_prompt=played.prompt)


def _where(metric: Metric, live: Live) -> bool | None:
    """Where the evaluator runs: what the lab keeps never in this process, whatever the experiment says."""
    if metric.code is not None and metric.code.bundle is not None:
        return True
    return live.isolated.get(metric.evaluator_name, metric.isolated)


def _with_models(metric: Metric, evaluator: Evaluator, models: Mapping[str, Any]) -> Evaluator:
    """The evaluator with its models by role; a user's own object stays as it is."""
    if not metric.needs_embedding:
        return evaluator
    if isinstance(evaluator, Evaluator):
        return evaluator.with_models(models)
    bound = copy.copy(evaluator)
    bound.embedding_model = models["embedding"]
    return bound


def _remade_model(experiment: Experiment) -> Model:
    kept = experiment.agent or experiment.model_code
    if kept is not None and kept.bundle is not None:
        return StoredModel(kept, experiment.model, agent=experiment.agent is not None)
    if experiment.agent is not None:
        function = agent_function(experiment.agent, load_code(experiment.agent))
        return AgentModel(function, max_concurrent_tasks=experiment.model.max_concurrent_tasks)
    if experiment.model_code is not None:
        return _remade(experiment.model_code, experiment.model)
    return get_model(experiment.model)


def _remade(code: CodeRef, config: ModelConfig) -> Model:
    """A user's own model, with the configuration that the run recorded."""
    made = model_object(code, load_code(code))
    made.config = config
    return made
