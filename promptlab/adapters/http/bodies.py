"""An experiment and its answers as JSON of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.domain.assets import AssetVersion, PromptTemplate
from promptlab.domain.decided import fields_of
from promptlab.domain.records import made
from promptlab.domain.results import Batched, Progress, RunRecord
from promptlab.domain.spending import NAMES
from promptlab.experiments.config import CodeConfig, EvaluationConfig, ExperimentConfig
from promptlab.experiments.portable import portable_model


def evaluation_body(item: EvaluationConfig) -> dict[str, Any]:
    """A metric as the API takes it."""
    found: dict[str, Any] = item.model_dump(
        mode="json",
        # Code runs in the sandbox there, and is isolated however it says to be.
        exclude={"isolated", *(() if item.scores else ("scores",))},
        exclude_none=True,
    )
    return found


def experiment_body(config: ExperimentConfig, dataset: str) -> dict[str, Any]:
    """An experiment as `POST /runs` takes it; its dataset is in the store, under this reference."""
    prompt, agent = config.prompt_template, config.agent_proxy
    body = {
        "name": config.name,
        "prompt_template": prompt_body(prompt) if isinstance(prompt, PromptTemplate) else prompt,
        "dataset": dataset,
        "model": _model(config.model) if config.model is not None else None,
        "agent_proxy": _model(agent) if agent is not None else None,
        "agent_max_concurrent_tasks": config.agent_max_concurrent_tasks if agent is not None else None,
        "embedding_model": portable_model("embedding_model", config.embedding_model).public()
        if config.embedding_model is not None
        else None,
        "conversation": _conversation(config),
        "evaluation": [evaluation_body(item) for item in config.evaluation],
        "trials": config.trials,
        "max_failures": config.max_failures,
        "case_deadline_s": config.case_deadline_s,
        "run_deadline_s": config.run_deadline_s,
        "tags": list(config.tags),
        "cluster_by": config.cluster_by,
        "slices": list(config.slices) or None,
        "max_cost_usd": config.max_cost_usd,
        "commit": config.commit,
        "stop": config.stop.model_dump(exclude_none=True) if config.stop else None,
        "gates": config.gates.to_json() if config.gates else None,
        "cache": {"expires_days": config.cache_days} if config.cache_days is not None else None,
        "strict": config.strict or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _conversation(config: ExperimentConfig) -> dict[str, Any] | None:
    talk = config.conversation
    if talk is None:
        return None
    if talk.simulated_user is not None:
        portable_model("simulated_user", talk.simulated_user.model)
    return talk.model_dump(mode="json", exclude_none=True)


def _model(given: Any) -> dict[str, Any]:
    if isinstance(given, CodeConfig):
        return given.model_dump(mode="json", exclude_none=True)
    return portable_model("model", given).public()


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
        "unreadable",
        "max_cost_usd",
        "commit",
        "sweep",
        "title",
        "description",
        "started_by",
    )
    return made(
        RunRecord,
        {name: answer[name] for name in same if name in answer},
        experiment=answer["configuration"],
        summary=answer["summary"] if answer["summarized"] else None,
        tags=tuple(answer["tags"]),
        labels=tuple(answer.get("labels") or ()),
        archived=answer.get("archived", False),
        **fields_of(answer),
    )


def progress_from(answer: Mapping[str, Any], *, total: str = "total") -> Progress:
    """The progress that the API tells of."""
    counts = {name: answer[name] for name in ("done", "failed", *NAMES) if name in answer}
    batched = answer.get("batched")
    return Progress(
        total=answer[total],
        **counts,
        waiting=answer.get("waiting"),
        batched=Batched.from_json(batched) if batched else None,
    )


def asset_version_from(answer: Mapping[str, Any]) -> AssetVersion:
    """The asset version that the API tells of."""
    return made(AssetVersion, answer, labels=tuple(answer["labels"]))
