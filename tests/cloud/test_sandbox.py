"""Code of users on a deployed stack: sent as source, run in the sandbox's own function, case by case as on a
laptop; and what it may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import PromptLab
from tests.cloud.conftest import Stack
from tests.cloud.own_code import Lengths, Reaches, Shout, Words, ending

pytestmark = pytest.mark.cloud
ROWS = [{"question": f"What is {n}?", "product": "lamp"} for n in range(60)]


def experiment(model: Any, *evaluators: Any, **more: Any) -> dict[str, Any]:
    mapping = {"text": "$inference", "question": "question"}
    return {
        "name": "own-code",
        "dataset": {"name": "own-questions", "rows": ROWS},
        "prompt_template": {"name": "own-ask", "user_prompt": "<question>"},
        "model": model,
        "evaluation": [
            {"metric": f"m{n}", "evaluator": evaluator, "column_mapping": mapping}
            for n, evaluator in enumerate(evaluators)
        ],
        **more,
    }


def rows_of(run: Any) -> list[dict[str, Any]]:
    found = ({k: v for k, v in row.items() if k != "latency_ms"} for row in run.results())
    return sorted(found, key=lambda row: row["case"])


def test_the_same_experiment_runs_here_and_there(pl: PromptLab, tmp_path: Path) -> None:
    """An object with arguments, a function and a model of one's own; only the line of the lab differs."""
    config = experiment(Shout(), Words(3), ending)
    there = pl.experiment.run(config)
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as here:
        laptop = here.experiment.run(config)
        assert (there.status, laptop.status) == ("completed", "completed")
        mine, theirs = rows_of(laptop), rows_of(there)
    plain = [{k: v for k, v in row.items() if not k.startswith("score_error.")} for row in theirs]
    assert plain == [{k: v for k, v in row.items() if not k.startswith("score_error.")} for row in mine]
    (failed,) = [row for row in theirs if row["score_error.m0"]]
    assert failed["input.question"] == "What is 5?"
    assert 'raise ValueError("five is right out")' in failed["score_error.m0"]


def test_metrics_of_the_run_are_the_same_here_and_there(pl: PromptLab, tmp_path: Path) -> None:
    """One of one's own, which the sandbox is given all cases of, and a built-in one, which a gate reads by
    slice."""
    table = {
        "metric": "classification",
        "extract": {"regex": "WHAT IS [0-9]*([0-9])"},
        "extract_reference": {"regex": "([0-9])[?]"},
        "column_mapping": {"reference": "question"},
    }
    own = {"metric": "lengths", "evaluator": Lengths()}
    config = experiment(Shout(), name="of-the-run", evaluation=[table, own])
    gates = [{"metric": "classification.accuracy", "min": 0.9, "slices": ["product"]}]
    there = pl.experiment.run(config)
    judged = pl.experiment.gate(there, gates=gates)
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as here:
        laptop = here.experiment.run(config)
        found = []
        for run in (laptop, there):
            assert run.summary is not None
            found.append({name: one.brief() for name, one in run.summary.run_metrics.items()})
    assert found[0] == found[1]
    assert found[1]["lengths"]["values"]["lengths.different"]["value"] == 60
    assert found[1]["lengths"]["values"]["lengths.different"]["ci_low"] is not None
    assert found[1]["classification"]["values"]["classification.accuracy"]["value"] == 1
    assert [(check.slice, check.outcome) for check in judged.checks] == [("product=lamp", "passed")]


def test_code_on_the_stack_reaches_nothing(pl: PromptLab) -> None:
    run = pl.experiment.run(experiment(Shout(), Reaches()))
    assert {row["label.m0"] for row in run.results()} == {"contained"}


def test_the_function_is_the_only_one_without_the_names_of_the_stack(stack: Stack) -> None:
    client = stack.aws("lambda")
    variables = client.get_function_configuration(FunctionName=stack.function("Sandbox"))["Environment"]
    assert stack.outputs["TableName"] not in str(variables)
    assert stack.outputs["BucketName"] not in str(variables)
