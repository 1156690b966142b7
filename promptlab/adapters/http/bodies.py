"""What an experiment and its answers are as JSON of the API."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from promptlab.domain.assets import AssetVersion, PromptTemplate
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.records import made
from promptlab.domain.results import Progress, RunRecord
from promptlab.domain.spending import NAMES
from promptlab.errors import ConfigError
from promptlab.experiments.config import EvaluationConfig, ExperimentConfig
from promptlab.models.base import Model


def check_sendable(config: ExperimentConfig) -> None:
    """Refuse what only exists in this process, and keys, before anything is sent.

    Raises:
        ConfigError: the message names the thing and what to do instead.
    """
    if config.agent_proxy is not None:
        raise ConfigError(
            "agent_proxy: a function cannot be sent to a hosted Studio. Give a prompt_template and a model, or run it here with a local store."
        )
    for item in config.evaluation:
        _check_metric(item)
    for field in ("model", "embedding_model"):
        if getattr(config, field) is not None:
            model_body(field, getattr(config, field))


def _check_metric(item: EvaluationConfig) -> None:
    if item.evaluator is None:
        return
    what = (
        item.evaluator
        if isinstance(item.evaluator, str)
        else (item.evaluator if inspect.isclass(item.evaluator) else type(item.evaluator)).__name__
    )
    raise ConfigError(
        f"metric {item.result_name!r}: the evaluator {what} is code of your own, which cannot be sent to a hosted Studio. "
        "Use a built-in metric (docs/evaluators.md), or run it here with a local store."
    )


def model_body(field: str, model: Model | ModelConfig) -> dict[str, Any]:
    """A model's configuration, without any key.

    Raises:
        ConfigError: it is a class of the user's own, or brings a key.
    """
    if isinstance(model, Model):
        if not type(model).__module__.startswith("promptlab.models."):
            raise ConfigError(
                f"{field}: {type(model).__name__} is a model of your own, which cannot be sent to a hosted Studio. "
                "Name a provider's model, as in 'openai/gpt-4o-mini', or run it here with a local store."
            )
        model = model.config
    if model.api_key is not None:
        raise ConfigError(
            f"{field}: the api_key of {model.name!r} is not sent to a hosted Studio. Put the key there with `promptlab cloud secrets set NAME`, "
            "and name it: api_key_secret=NAME in place of api_key."
        )
    return model.public()


def experiment_body(config: ExperimentConfig, dataset: str) -> dict[str, Any]:
    """An experiment as `POST /runs` takes it; its dataset is in the store, under this reference."""
    prompt = config.prompt_template
    body = {
        "name": config.name,
        "prompt_template": prompt_body(prompt) if isinstance(prompt, PromptTemplate) else prompt,
        "dataset": dataset,
        "model": model_body("model", config.model),
        "embedding_model": model_body("embedding_model", config.embedding_model)
        if config.embedding_model is not None
        else None,
        "evaluation": [
            item.model_dump(mode="json", exclude={"evaluator"}, exclude_none=True)
            for item in config.evaluation
        ],
        "trials": config.trials,
        "tags": list(config.tags),
        "strict": config.strict or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def prompt_body(prompt: PromptTemplate) -> dict[str, Any] | str:
    """A template's fields, or its reference where it has a version."""
    if prompt.version is not None:
        return f"{prompt.name}@{prompt.version}"
    return {"name": prompt.name, "description": prompt.description, **prompt.content()}


def run_from(answer: Mapping[str, Any]) -> RunRecord:
    """The run that the API tells of."""
    same = (
        "run_id",
        "name",
        "status",
        "cases",
        "created_at",
        "started_at",
        "finished_at",
        "generation",
        "wall_s",
        "error",
    )
    return made(
        RunRecord,
        {name: answer[name] for name in same if name in answer},
        experiment=answer["configuration"],
        summary=answer["summary"] if answer["summarized"] else None,
        tags=tuple(answer["tags"]),
        archived=answer.get("archived", False),
    )


def progress_from(answer: Mapping[str, Any], *, total: str = "total") -> Progress:
    """The progress that the API tells of."""
    counts = {name: answer[name] for name in ("done", "failed", *NAMES) if name in answer}
    return Progress(total=answer[total], **counts)


def asset_version_from(answer: Mapping[str, Any]) -> AssetVersion:
    """The asset version that the API tells of."""
    return made(AssetVersion, answer, labels=tuple(answer["labels"]))
