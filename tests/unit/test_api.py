"""The public API: what is in it, that it is documented, and that importing it does nothing."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import promptlab
from promptlab import (
    Dataset,
    Evaluator,
    ExperimentConfig,
    Model,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Results,
    Run,
    Score,
    errors,
    get_model,
)
from promptlab.sdk.assets import Assets
from promptlab.sdk.experiments import Experiments
from promptlab.sdk.studio import Studio

SDK_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sdk.md").read_text("utf-8")

EXPORTED = [
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
PAIRS = [
    (Assets, "unlabel", "unlabel_async"),
    (Experiments, "compare", "compare_async"),
    (Experiments, "sql", "sql_async"),
    (Experiments, "slices", "slices_async"),
    (Experiments, "tag", "tag_async"),
    (Experiments, "estimate", "estimate_async"),
    (Experiments, "power", "power_async"),
    (Experiments, "gate", "gate_async"),
    (Experiments, "label", "label_async"),
    (Experiments, "unlabel", "unlabel_async"),
    (Experiments, "score", "score_async"),
    (Experiments, "labelled", "labelled_async"),
    (Experiments, "archive", "archive_async"),
    (Experiments, "delete", "delete_async"),
    (Assets, "delete", "delete_async"),
    *(
        (Assets, name, f"{name}_async")
        for name in ("create", "update", "get", "list", "versions", "source", "label")
    ),
    *((Experiments, name, f"{name}_async") for name in ("run", "resume", "cancel", "get", "list")),
    *(
        (Experiments, name, f"{name}_async")
        for name in ("sweep", "resume_sweep", "sweeps", "rank", "estimate_sweep")
    ),
    *((Run, name, f"{name}_async") for name in ("results", "refresh", "resume", "export")),
    (Studio, "start", "start_async"),
    (PromptLab, "close", "aclose"),
    (Model, "invoke", "ainvoke"),
    (Model, "embed", "aembed"),
]


def test_exactly_these_names_are_exported() -> None:
    """A name that comes or goes is a decision, made here."""
    assert promptlab.__all__ == EXPORTED
    assert [name for name in dir(promptlab) if name in EXPORTED] == EXPORTED


@pytest.mark.parametrize("name", EXPORTED)
def test_every_name_is_there_and_documented(name: str) -> None:
    """With a docstring of its own, and a place in docs/sdk.md."""
    value = getattr(promptlab, name)
    assert value.__name__ == name
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert f"`{name}`" in SDK_PAGE


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="'promptlab' has no attribute 'PromptLap'"):
        promptlab.PromptLap  # noqa: B018


@pytest.mark.parametrize(
    ("owner", "sync", "asynchronous"), PAIRS, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_call_has_both_names_with_the_same_parameters(
    owner: type, sync: str, asynchronous: str
) -> None:
    """The sync call and its async twin take the same, and only the twin is a coroutine function."""
    one, other = getattr(owner, sync), getattr(owner, asynchronous)
    assert inspect.signature(one).parameters == inspect.signature(other).parameters
    assert (inspect.iscoroutinefunction(one), inspect.iscoroutinefunction(other)) == (False, True)
    assert one.__doc__ and other.__doc__


def test_every_public_method_is_documented() -> None:
    """Each has a docstring, and the pairs above leave none out."""
    paired = {(owner, name) for owner, *names in PAIRS for name in names}
    for owner in (PromptLab, Assets, Experiments, Studio, Run, Results, Model, Evaluator):
        for name, value in vars(owner).items():
            if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
                continue
            assert value.__doc__, f"{owner.__name__}.{name} has no docstring"
            if f"{name}_async" in vars(owner) or name.endswith("_async"):
                assert (owner, name) in paired or owner is PromptLab


def binds(function: Any, *arguments: Any, **named: Any) -> bool:
    """Whether a function could be called so."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


def test_the_calls_of_the_design_are_there() -> None:
    """Every line of the SDK as it was promised, by its parameters."""
    assert binds(PromptLab) and binds(PromptLab, {"type": "sqlite", "db_file": "x"})
    assert binds(Assets.get, "self", "qa", version=0) and binds(Assets.get, "self", "qa", label="production")
    assert all(binds(call, "self", "asset") for call in (Assets.create, Assets.update))
    assert binds(Assets.list, "self")
    calls = (Experiments.run, Experiments.run_async, PromptLab.run_experiment_async)
    assert all(binds(call, "self", {"name": "x"}) for call in calls)
    assert all(
        binds(call, "self", 8000) for call in (Studio.start, Studio.start_async, PromptLab.start_studio_async)
    )
    assert binds(get_model, "ollama/llama3.2") and binds(
        get_model, "openai/gpt-6-luna", endpoint="e", api_key="k", temperature=0
    )
    assert all(binds(call, "self", "system_prompt", "user_prompt") for call in (Model.invoke, Model.ainvoke))
    assert binds(Evaluator.evaluate, "self", {"response": "x"})
    assert PromptTemplate.model_fields.keys() >= {"name", "description", "system_prompt", "user_prompt"}
    assert Dataset.model_fields.keys() >= {"name", "description", "file_path"}
    assert {f.name for f in dataclasses.fields(ModelResponse)} >= {
        "response",
        "prompt_tokens",
        "completion_tokens",
        "latency_ms",
    }
    assert {f.name for f in dataclasses.fields(Score)} >= {"value", "label", "passed", "reason"}


def test_docs_name_every_field_of_an_experiment_and_every_error() -> None:
    """docs/sdk.md is complete in both."""
    table = SDK_PAGE[SDK_PAGE.index("## Experiments") : SDK_PAGE.index("## Runs")]
    assert [name for name in ExperimentConfig.model_fields if f"`{name}`" not in table] == []
    tree = SDK_PAGE[SDK_PAGE.index("## Errors") :]
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.PromptLabError)
    ]
    assert len(classes) > 10
    assert [name for name in classes if name not in tree] == []


def in_a_new_process(code: str, folder: Path) -> Any:
    """Run a program in an empty folder that is also its home, and return what it prints as JSON."""
    environment = {
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROMPTLAB_QUIET": "1",
        "PYTHONPATH": str(Path(promptlab.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_importing_does_nothing(tmp_path: Path) -> None:
    """No file, no log handler, no warning filter, no thread, and none of the slow packages."""
    code = """
import json, sys, threading, warnings
filters = list(warnings.filters)
import promptlab
loaded = sorted(name for name in sys.modules if "." not in name)
import logging
handlers = [logger.handlers for logger in (logging.getLogger(), logging.getLogger("promptlab"))]
print(json.dumps([loaded, handlers, warnings.filters == filters, threading.active_count()]))
"""
    loaded, handlers, same_filters, threads = in_a_new_process(code, tmp_path)
    assert "promptlab" in loaded
    assert {
        "pydantic",
        "httpx",
        "aiohttp",
        "duckdb",
        "sqlite3",
        "rich",
        "yaml",
        "jinja2",
        "fastapi",
        "promptlab_studio",
    } & set(loaded) == set()
    assert (handlers, same_filters, threads) == ([[], []], True, 1)
    assert list(tmp_path.rglob("*")) == []


def test_opening_a_lab_writes_nothing(tmp_path: Path) -> None:
    """Files come with the first write; no log handler ever."""
    code = """
import json, logging
from promptlab import PromptLab
pl = PromptLab()
found = [len(pl.asset.list()), len(pl.experiment.list())]
pl.close()
print(json.dumps([found, len(logging.getLogger().handlers), len(logging.getLogger("promptlab").handlers)]))
"""
    assert in_a_new_process(code, tmp_path) == [[0, 0], 0, 0]
    assert [path.name for path in tmp_path.rglob("*")] == []
