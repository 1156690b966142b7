"""The part of an experiment that can be taken to another machine: names and values, but no
objects, functions or keys."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from promptlab.domain.code import StoredCode
from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError
from promptlab.experiments.code_answers import runs_answers
from promptlab.experiments.config import CodeConfig, EvaluationConfig, ExperimentConfig
from promptlab.models.base import Model
from promptlab.models.registry import is_registered
from promptlab.program import program

HERE = "or run it here with a local store"


def check_portable(
    config: ExperimentConfig, *, where: str = "the cloud", variables: bool = False, code: bool = False
) -> None:
    """Refuse what cannot be sent to another machine.

    Args:
        config: the experiment.
        where: where it is to run, for messages.
        variables: whether environment variables with keys may be named: those of the other machine.
        code: whether code of the user's own is sent along (`bundles.gather` says of it what cannot be).

    Raises:
        ConfigError: the experiment has an object, a function or a key of its own; with what to do instead.
    """
    if config.agent_proxy is not None and not code and not _is_kept(config.agent_proxy):
        raise ConfigError(
            f"agent_proxy: a function cannot be sent to {where}. Give a prompt_template and a model, {HERE}."
        )
    check_portable_metrics(config.evaluation, where=where, variables=variables, code=code)
    for field in ("model", "embedding_model"):
        given = getattr(config, field)
        if code and field == "model" and _is_own(given):
            _check_no_key(field, given, where)
        elif given is not None and not _is_kept(given):
            model = portable_model(field, given, where)
            if not variables and model.api_key_env is not None:
                raise ConfigError(f"{field}: api_key_env names a variable of this machine. {_key_remedy()}")
    check_simulated(config, where, variables=variables)


def check_simulated(config: ExperimentConfig, where: str, *, variables: bool) -> None:
    """Refuse a simulated user whose key stays on this machine.

    Raises:
        ConfigError: it has one.
    """
    played = config.conversation and config.conversation.simulated_user
    if played:
        model = portable_model("simulated_user", played.model, where)
        if not variables and model.api_key_env is not None:
            raise ConfigError(
                f"simulated_user: api_key_env names a variable of this machine. {_key_remedy()}"
            )


def check_portable_metrics(
    evaluation: Sequence[EvaluationConfig],
    *,
    where: str = "the cloud",
    variables: bool = False,
    code: bool = False,
) -> None:
    """Refuse metrics that cannot be sent to another machine; as `check_portable`.

    Raises:
        ConfigError: an evaluator is code of the user's own, or a judge an object, or it brings a key.
    """
    for item in () if code else evaluation:
        _check_metric(item, where)
    for name, judge in ((item.result_name, one) for item in evaluation for one in item.judge or ()):
        given = portable_model(f"judge of {name!r}", judge, where)
        if not variables and given.api_key_env is not None:
            raise ConfigError(
                f"judge of {name!r}: api_key_env names a variable of this machine. {_key_remedy()}"
            )


def _is_kept(thing: Any) -> bool:
    """Whether something names code that the lab keeps."""
    text = thing.code if isinstance(thing, CodeConfig) else thing
    return isinstance(text, str) and StoredCode.parse(text) is not None


def check_runs_answers(evaluation: Sequence[EvaluationConfig], refusal: str | None) -> None:
    """Refuse metrics that run what models wrote, where there is no sandbox for it.

    Args:
        evaluation: the metrics.
        refusal: why a hosted lab runs no code; None where it does.

    Raises:
        ConfigError: there is such a metric.
    """
    for item in evaluation:
        if refusal is not None and item.evaluator is None and runs_answers(item.metric):
            raise ConfigError(f"metric {item.result_name!r} runs the code of answers. {refusal}")


def _check_metric(item: EvaluationConfig, where: str) -> None:
    thing = item.evaluator
    if thing is None or _is_kept(thing):
        return
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    what = thing if isinstance(thing, str) else named.__name__
    raise ConfigError(
        f"metric {item.result_name!r}: the evaluator {what} is code of your own, which cannot be sent to "
        f"{where}. Use a built-in metric (docs/evaluators.md), {HERE}."
    )


def portable_model(field: str, model: Any, where: str = "the cloud") -> ModelConfig:
    """A model's configuration.

    Raises:
        ConfigError: it is a class of the user's own, or brings a key.
    """
    if _is_own(model):
        what = model.code if isinstance(model, CodeConfig) else type(model).__name__
        raise ConfigError(
            f"{field}: {what} is a model of your own, which cannot be sent to {where}. "
            f"Name a provider's model, as in 'ollama/llama3.2', {HERE}."
        )
    config = model.config if isinstance(model, Model) else model
    assert isinstance(config, ModelConfig)
    _check_no_key(field, config, where)
    return config


def _is_own(model: Any) -> bool:
    """Whether a model is code of the user's own."""
    return (isinstance(model, Model) and not is_registered(model)) or isinstance(model, CodeConfig)


def _check_no_key(field: str, model: Any, where: str) -> None:
    config = model.config if isinstance(model, Model) else model
    if isinstance(config, ModelConfig) and config.api_key is not None:
        raise ConfigError(f"{field}: the api_key of {config.name!r} is not sent to {where}. {_key_remedy()}")


def _key_remedy() -> str:
    return f"Put the key there with `{program()} cloud secrets set NAME`, and name it: api_key_secret: NAME."
