"""Run a prompt over every row of a dataset, score the answers, and see whether one run is
really better than another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.domain.assets import ChatMessage, Dataset, PromptTemplate
    from promptlab.domain.model_config import ModelConfig
    from promptlab.domain.results import Failure, ModelResponse, Progress, Score
    from promptlab.domain.summary import MetricSummary, Summary
    from promptlab.errors import ModelError, PromptLabError
    from promptlab.evaluators.base import Evaluator
    from promptlab.experiments.config import EvaluationConfig, ExperimentConfig
    from promptlab.models.base import Model
    from promptlab.models.registry import get_model
    from promptlab.sdk.client import PromptLab
    from promptlab.sdk.run import Results, Run

# Loaded on use: `import promptlab` costs a few milliseconds, whatever a program then needs of it.
_HOMES = {
    "ChatMessage": "domain.assets",
    "Dataset": "domain.assets",
    "EvaluationConfig": "experiments.config",
    "Evaluator": "evaluators.base",
    "ExperimentConfig": "experiments.config",
    "Failure": "domain.results",
    "MetricSummary": "domain.summary",
    "Model": "models.base",
    "ModelConfig": "domain.model_config",
    "ModelError": "errors",
    "ModelResponse": "domain.results",
    "Progress": "domain.results",
    "PromptLab": "sdk.client",
    "PromptLabError": "errors",
    "PromptTemplate": "domain.assets",
    "Results": "sdk.run",
    "Run": "sdk.run",
    "Score": "domain.results",
    "Summary": "domain.summary",
    "get_model": "models.registry",
}

__all__ = [
    "ChatMessage",
    "Dataset",
    "EvaluationConfig",
    "Evaluator",
    "ExperimentConfig",
    "Failure",
    "MetricSummary",
    "Model",
    "ModelConfig",
    "ModelError",
    "ModelResponse",
    "Progress",
    "PromptLab",
    "PromptLabError",
    "PromptTemplate",
    "Results",
    "Run",
    "Score",
    "Summary",
    "get_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'promptlab' has no attribute {name!r}")
    value = getattr(import_module(f"promptlab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
