"""Evaluators that are functions: of named inputs or of a dict, decorated, named in text."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate, Run
from promptlab.errors import ConfigError
from promptlab.evaluators import evaluator
from promptlab.experiments.functions import FunctionEvaluator


class Says(Model):
    """Says the user's text."""

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=user_prompt)


def run(folder: Path, *evaluation: dict[str, Any], rows: int = 2) -> Run:
    given = [{"q": f"{n} words", "reference": f"{n}", "limit": n} for n in range(rows)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, given)), "utf-8")
    pl = PromptLab({"type": "sqlite", "db_file": str(folder / "promptlab.db")})
    return pl.experiment.run(
        {
            "name": "functions",
            "model": Says({"name": "custom/says"}),
            "prompt_template": PromptTemplate(name="p", system_prompt="", user_prompt="<q>"),
            "dataset": Dataset(name="d", file_path=str(folder / "rows.jsonl")),
            "evaluation": list(evaluation),
        }
    )


def concise(response: str, reference: str) -> bool:
    return response.startswith(reference)


def long_enough(response: str, *, least: int = 1, limit: int = 0) -> int:
    return len(response) - least - limit


@evaluator(higher_is_better=False, inputs=["response"], value_range=(0.0, 100.0))
def words(response: str) -> int:
    return len(response.split())


@evaluator(scores=("precision", "recall"), inputs={"answer": "$inference", "gold": "reference"})
def overlap(answer: str, gold: str) -> dict[str, float]:
    both = len(set(answer.split()) & set(gold.split()))
    return {"precision": both / len(answer.split()), "recall": both / len(gold.split())}


def of_a_dict(data: dict[str, Any]) -> dict[str, Any]:
    return {"score": len(data["response"]), "comment": "counted"}


async def later(response: str, reference: str) -> bool:
    return reference in response


def test_a_function_of_named_inputs_is_an_evaluator(tmp_path: Path) -> None:
    """Its parameters are its inputs; response is the answer, and the others are columns of the same name."""
    done = run(
        tmp_path,
        {"metric": "concise", "evaluator": concise},
        {"metric": "long", "evaluator": long_enough, "params": {"least": 2}},
        {"metric": "long_by_row", "evaluator": long_enough, "column_mapping": {"limit": "limit"}},
        {"metric": "later", "evaluator": later},
        {"metric": "words", "evaluator": words},
        {"metric": "overlap", "evaluator": overlap},
        {"metric": "dict", "evaluator": of_a_dict, "column_mapping": {"response": "$inference"}},
    )
    found = list(done.results())
    assert [row["passed.concise"] for row in found] == [True, True]
    assert [row["score.long"] for row in found] == [5.0, 5.0]
    assert [row["score.long_by_row"] for row in found] == [6.0, 5.0]
    assert [row["passed.later"] for row in found] == [True, True]
    assert [row["score.words"] for row in found] == [2.0, 2.0]
    assert [row["score.overlap.recall"] for row in found] == [1.0, 1.0]
    assert [row["score.overlap.precision"] for row in found] == [0.5, 0.5]
    assert [row["reason.dict"] for row in found] == ["counted", "counted"]
    assert done.summary.metrics["words"].higher_is_better is False
    assert words("still a function") == 3


def test_an_input_that_no_column_has_is_an_error_before_the_first_call(tmp_path: Path) -> None:
    """It names the input."""

    def other(response: str, gold: str) -> bool:
        return response == gold

    with pytest.raises(ConfigError, match="metric 'other' needs 'gold': map it to a column"):
        run(tmp_path, {"metric": "other", "evaluator": other})


def test_a_decorator_takes_a_function_alone_and_inputs_as_a_list() -> None:
    """One name would be read letter by letter."""
    assert evaluator(concise) is concise
    with pytest.raises(TypeError, match=r'inputs=\["response"\]'):
        evaluator(inputs="response")


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (concise, {"response": "$inference", "reference": None}),
        (long_enough, {"response": "$inference"}),
        (words, {"response": "$inference"}),
        (overlap, {"answer": "$inference", "gold": "reference"}),
        (of_a_dict, {}),
        (len, {}),
        (lambda row: 1, {}),
        (lambda **data: len(data), {}),
    ],
)
def test_a_functions_parameters_say_its_inputs(function: Any, inputs: dict[str, Any]) -> None:
    """One parameter of another name is the dict of all inputs, as it was."""
    assert dict(FunctionEvaluator(function, {}).inputs) == inputs


def test_a_function_of_a_file_runs_in_processes_with_its_names(tmp_path: Path) -> None:
    """As an evaluator that is named in YAML."""
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
            from promptlab.evaluators import evaluator

            @evaluator(higher_is_better=False)
            def shorter(response, reference):
                return len(response) - len(reference)
        """),
        "utf-8",
    )
    done = run(tmp_path, {"metric": "shorter", "evaluator": f"{tmp_path / 'mine.py'}:shorter"})
    assert [row["score.shorter"] for row in done.results()] == [6.0, 6.0]
    assert done.summary.metrics["shorter"].higher_is_better is False
