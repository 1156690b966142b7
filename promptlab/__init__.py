"""Run a prompt over every row of a dataset, score the answers, and see whether one run is
really better than another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.domain.assets import ChatMessage, Dataset, PromptTemplate
    from promptlab.domain.chat import ChatRequest, Tool
    from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
    from promptlab.domain.model_config import ModelConfig
    from promptlab.domain.results import Failure, ModelResponse, Progress, Score
    from promptlab.domain.run_metrics import RunMetric
    from promptlab.domain.summary import MetricSummary, Summary
    from promptlab.domain.trace import Trace
    from promptlab.errors import ModelError, PromptLabError
    from promptlab.evaluators.base import Evaluator
    from promptlab.evaluators.of_runs import RunCase, RunEvaluator
    from promptlab.experiments.config import EvaluationConfig, ExperimentConfig
    from promptlab.models.base import Model
    from promptlab.models.media import read_media
    from promptlab.models.recording import CaseRecorder, current_case
    from promptlab.models.registry import get_model
    from promptlab.sdk.client import PromptLab
    from promptlab.sdk.run import Results, Run

# Loaded on use: `import promptlab` costs a few milliseconds, whatever a program then needs of it.
_HOMES = {
    "CaseRecorder": "models.recording",
    "ChatMessage": "domain.assets",
    "ChatRequest": "domain.chat",
    "Dataset": "domain.assets",
    "EvaluationConfig": "experiments.config",
    "Evaluator": "evaluators.base",
    "ExperimentConfig": "experiments.config",
    "Failure": "domain.results",
    "Media": "domain.messages",
    "Message": "domain.messages",
    "MetricSummary": "domain.summary",
    "Model": "models.base",
    "ModelConfig": "domain.model_config",
    "ModelError": "errors",
    "ModelResponse": "domain.results",
    "Progress": "domain.results",
    "PromptLab": "sdk.client",
    "PromptLabError": "errors",
    "PromptTemplate": "domain.assets",
    "Reasoning": "domain.messages",
    "Results": "sdk.run",
    "Run": "sdk.run",
    "RunCase": "evaluators.of_runs",
    "RunEvaluator": "evaluators.of_runs",
    "RunMetric": "domain.run_metrics",
    "Score": "domain.results",
    "Summary": "domain.summary",
    "Text": "domain.messages",
    "Tool": "domain.chat",
    "ToolCall": "domain.messages",
    "ToolCallResponse": "domain.messages",
    "Trace": "domain.trace",
    "current_case": "models.recording",
    "get_model": "models.registry",
    "read_media": "models.media",
}

__all__ = [
    "CaseRecorder",
    "ChatMessage",
    "ChatRequest",
    "Dataset",
    "EvaluationConfig",
    "Evaluator",
    "ExperimentConfig",
    "Failure",
    "Media",
    "Message",
    "MetricSummary",
    "Model",
    "ModelConfig",
    "ModelError",
    "ModelResponse",
    "Progress",
    "PromptLab",
    "PromptLabError",
    "PromptTemplate",
    "Reasoning",
    "Results",
    "Run",
    "RunCase",
    "RunEvaluator",
    "RunMetric",
    "Score",
    "Summary",
    "Text",
    "Tool",
    "ToolCall",
    "ToolCallResponse",
    "Trace",
    "current_case",
    "get_model",
    "read_media",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'promptlab' has no attribute {name!r}")
    from promptlab.loading import loading

    with loading():
        value = getattr(import_module(f"promptlab.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
