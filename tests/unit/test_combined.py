"""Metrics that are made of others: logic with missing parts, weights, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate, Score
from promptlab.domain.results import Failure
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.evaluators.combined import Combined
from promptlab.evaluators.registry import build

YES, NO, LOST = Score(passed=True), Score(passed=False), Score(error=Failure("evaluator_error", "broke"))


def made(params: dict[str, Any], **scores: Score | None) -> Score:
    """What a combined metric makes of scores; None: that metric does not apply."""
    metric = build("combined", params)
    assert isinstance(metric, Combined)
    there = {name: score for name, score in scores.items() if score is not None}
    return metric.combine(there, {name: score is not None for name, score in scores.items()})


@pytest.mark.parametrize(
    ("params", "scores", "passed"),
    [
        ({"all": ["a", "b"]}, {"a": YES, "b": YES}, True),
        ({"all": ["a", "b"]}, {"a": YES, "b": NO}, False),
        ({"all": ["a", "b"]}, {"a": NO, "b": LOST}, False),
        ({"all": ["a", "b"]}, {"a": YES, "b": LOST}, None),
        ({"all": ["a", "b"]}, {"a": YES, "b": None}, True),
        ({"any": ["a", "b"]}, {"a": NO, "b": YES}, True),
        ({"any": ["a", "b"]}, {"a": YES, "b": LOST}, True),
        ({"any": ["a", "b"]}, {"a": NO, "b": LOST}, None),
        ({"not": "a"}, {"a": NO}, True),
        ({"not": "a"}, {"a": LOST}, None),
        ({"all": [{"not": {"any": ["a", "b"]}}, "c"]}, {"a": NO, "b": NO, "c": YES}, True),
        ({"all": [{"metric": "a", "at_least": 0.5}]}, {"a": Score(value=0.5)}, True),
        ({"all": [{"metric": "a", "at_most": 0.4}]}, {"a": Score(value=0.5)}, False),
        ({"all": [{"metric": "a", "is": "formal"}]}, {"a": Score(label="formal")}, True),
        ({"all": ["a"]}, {"a": Score(value=0.5)}, None),
    ],
)
def test_conditions_are_the_logic_of_three_values(
    params: dict[str, Any], scores: dict[str, Score | None], passed: bool | None
) -> None:
    score = made(params, **scores)
    assert score.passed is passed
    assert (score.error is not None) == (passed is None)


def test_the_reason_has_every_part() -> None:
    score = made({"all": ["a", {"metric": "b", "at_least": 0.5}, "c"]}, a=YES, b=Score(value=0.25), c=None)
    assert score.reason == "✕ all (✓ a, ✕ b (0.25, at least 0.5), – c (does not apply))"


def test_where_no_part_applies_the_score_says_so() -> None:
    assert made({"all": ["a"]}, a=None).error == Failure(
        "nothing_to_combine", "no part applies to this case: all (– a (does not apply))"
    )


def test_a_weighted_mean_is_over_what_applies_and_needs_all_of_it() -> None:
    weights = {"weights": {"a": 3, "b": 1, "c": 5}, "threshold": 0.8}
    score = made(weights, a=YES, b=Score(value=0.5), c=None)
    assert (score.value, score.passed) == (0.875, True)
    assert made(weights, a=YES, b=LOST, c=NO).error is not None


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "exactly one of all, any, not and weights"),
        ({"all": ["a"], "any": ["b"]}, "exactly one of"),
        ({"all": []}, "a list of conditions, at least one"),
        ({"all": [{"metric": "a"}]}, "with one of at_least, at_most, is"),
        ({"all": [{"some": ["a"]}]}, "not some"),
        ({"weights": {"a": 0}}, "above 0, not 0"),
        ({"all": ["a"], "threshold": 0.5}, "threshold is for weights"),
    ],
)
def test_what_is_no_condition_is_named(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("combined", params)


def test_conditions_are_bounded() -> None:
    deep: Any = "a"
    for _ in range(12):
        deep = {"not": deep}
    with pytest.raises(ConfigError, match="10 deep"):
        build("combined", {"all": [deep]})


def experiment(folder: Path, *evaluation: dict[str, Any]) -> dict[str, Any]:
    file = folder / "rows.jsonl"
    file.write_text('{"text": "yes"}\n{"text": "no no"}\n{"text": "sorry, no"}\n')
    return {
        "name": "made",
        "prompt_template": PromptTemplate(name="p", user_prompt="<text>"),
        "dataset": Dataset(name="rows", file_path=str(file)),
        "model": "simulated/echo",
        "evaluation": list(evaluation),
    }


SORRY = {"metric": "contains", "name": "sorry", "params": {"values": ["sorry"]}}
SHORT = {"metric": "length", "params": {"max": 5}}


def combined(name: str, **params: Any) -> dict[str, Any]:
    return {"metric": "combined", "name": name, "params": params}


def test_a_run_scores_what_is_made_of_others_in_any_order(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    made_of_made = combined("fine", weights={"good": 1, "short": 1})
    good = combined("good", all=[{"not": "sorry"}, "short"])
    short = combined("short", all=[{"metric": "length", "at_most": 4}])
    run = lab.experiment.run(experiment(tmp_path, made_of_made, good, short, SORRY, SHORT), quiet=True)
    rows = list(run.results())
    assert [row["score.fine"] for row in rows] == [1.0, 0.0, 0.0]
    assert rows[2]["reason.good"] == "✕ all (✕ not (✓ sorry), ✕ short)"


def test_a_part_that_is_replaced_makes_its_whole_again(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    run = lab.experiment.run(experiment(tmp_path, SORRY, combined("fine", **{"not": "sorry"})), quiet=True)
    assert run.summary is not None and run.summary.metrics["fine"].mean == pytest.approx(2 / 3)
    other = {**SORRY, "params": {"values": ["no"]}}
    again = lab.experiment.score(run.run_id, [other], quiet=True)
    assert again.summary is not None and again.summary.metrics["fine"].mean == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("evaluation", "kind", "words"),
    [
        ([SORRY, combined("fine", all=["sory"])], UnknownNameError, "sorry"),
        ([combined("a", all=["b"]), combined("b", any=["a"])], ConfigError, "made of each other: "),
        ([SHORT, combined("w", weights={"length": 1})], ConfigError, "cannot be weighed"),
    ],
)
def test_cycles_and_unknown_names_are_refused_before_the_first_call(
    tmp_path: Path, evaluation: list[dict[str, Any]], kind: type[Exception], words: str
) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    with pytest.raises(kind, match=words):
        lab.experiment.run(experiment(tmp_path, *evaluation), quiet=True)
