"""Values that evaluators return: scores of other libraries, dicts, several scores, assertions; and
rows without a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, PromptLab, Run
from promptlab.domain.results import Failure, Score, Usage
from promptlab.evaluators.base import plain_verdict, to_score
from promptlab.statistics import wilson


@dataclass
class AutoevalsScore:
    name: str
    score: float | None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None


@dataclass
class DeepevalMetric:
    score: float
    reason: str
    success: bool
    error: str | None = None

    def measure(self) -> float:
        return self.score


@dataclass
class InspectScore:
    value: Any
    answer: str | None = None
    explanation: str | None = None
    metadata: dict[str, Any] | None = None


@dataclass
class EvaluationReason:
    value: bool | int | float | str
    reason: str | None = None


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        (AutoevalsScore("Factuality", 0.6, {"choice": "B"}), Score(value=0.6, metadata={"choice": "B"})),
        (
            AutoevalsScore("x", None, error=ValueError("no answer")),
            Score(error=Failure("evaluator_error", "no answer")),
        ),
        (DeepevalMetric(0.4, "off topic", False), Score(value=0.4, passed=False, reason="off topic")),
        (InspectScore("C", "4", "matched"), Score(value=1.0, reason="matched")),
        (InspectScore("I"), Score(value=0.0)),
        (InspectScore("P"), Score(value=0.5)),
        (InspectScore(0.25, explanation="near"), Score(value=0.25, reason="near")),
        (EvaluationReason(True, "said so"), Score(passed=True, reason="said so")),
        (EvaluationReason("formal"), Score(label="formal")),
        ({"key": "correctness", "score": True, "comment": "right"}, Score(passed=True, reason="right")),
        ({"score": 0.5, "comment": "half"}, Score(value=0.5, reason="half")),
        ({"score": "0.5"}, Score(value=0.5)),
        (
            {"value": 3, "reason": "three", "metadata": {"a": 1}},
            Score(value=3.0, reason="three", metadata={"a": 1}),
        ),
        ({"passed": False, "reason": "rude"}, Score(passed=False, reason="rude")),
        ({"label": "formal"}, Score(label="formal")),
        (Decimal("0.5"), Score(value=0.5)),
        (Fraction(1, 4), Score(value=0.25)),
    ],
)
def test_scores_of_other_libraries_and_dicts_are_taken(verdict: Any, score: Score) -> None:
    """By their attributes or keys, without a dependency on any of them."""
    assert to_score(verdict) == score


def test_of_several_scores_the_first_counts_and_all_are_kept() -> None:
    """A list of scores, or a dict of them by name."""
    found = to_score({"precision": 0.5, "recall": {"score": 0.75, "comment": "3 of 4"}, "kind": "short"})
    assert (found.value, found.reason) == (0.5, "precision 0.5; recall 0.75 (3 of 4); kind short")
    assert found.metadata["scores"] == {
        "precision": {"value": 0.5},
        "recall": {"value": 0.75, "reason": "3 of 4"},
        "kind": {"label": "short"},
    }
    listed = to_score([AutoevalsScore("a", 1.0), {"key": "b", "score": 0.0}])
    assert (listed.value, listed.reason) == (1.0, "a 1; b 0")


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (None, TypeError),
        ({}, TypeError),
        ([], TypeError),
        (object(), TypeError),
        ({"score": None}, ValueError),
        ({"score": float("nan")}, ValueError),
        ({"score": 1e200}, ValueError),
        ({"words": object()}, TypeError),
        ([0.5, 0.7], TypeError),
        ([{"key": "a", "score": 1}] * 51, ValueError),
        ({str(i): 1 for i in range(51)}, ValueError),
    ],
)
def test_what_is_no_score_is_an_error(verdict: Any, error: type[Exception]) -> None:
    """It becomes a failed score of its case."""
    with pytest.raises(error):
        to_score(verdict)


class Asserts(Evaluator):
    """Passes unless an assertion does not hold."""

    inputs = {"response": "$inference"}

    def evaluate(self, data: dict[str, Any]) -> bool:
        assert data["response"] != "b", "b is not allowed"
        assert data["response"] != "c"
        if data["response"] == "d":
            raise ValueError("no score")
        return True


class AssertsLater(Asserts):
    """The same on the event loop."""

    async def evaluate(self, data: dict[str, Any]) -> bool:  # type: ignore[override]
        return super().evaluate(data)


class Returns(Evaluator):
    """Gives 1 for the rows that say a, else 0, in the form that it is made with."""

    inputs = {"response": "$inference"}

    def __init__(self, form: Any) -> None:
        self.form = form

    def evaluate(self, data: dict[str, Any]) -> Any:
        return self.form(data["response"] == "a")


def run(lab: PromptLab, rows: list[dict[str, Any]], *metrics: dict[str, Any], **fields: Any) -> Run:
    return lab.experiment.run(
        {
            "dataset": Dataset(name="d", rows=rows),
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "model": "simulated/echo",
            "evaluation": metrics,
            **fields,
        }
    )


@pytest.mark.parametrize("evaluator", [Asserts(), AssertsLater()])
def test_an_assertion_that_does_not_hold_is_a_case_that_does_not_pass(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    """Its words are the reason; another error stays a failed score."""
    with PromptLab(tmp_path / "lab.db") as lab:
        done = run(lab, [{"q": q} for q in "abcd"], {"metric": "mine", "evaluator": evaluator})
        rows = list(done.results())
        assert [row.get("passed.mine") for row in rows] == [True, False, False, None]
        assert rows[1]["reason.mine"].startswith("b is not allowed")
        assert rows[2]["reason.mine"]
        assert "no score" in rows[3]["score_error.mine"]
        assert (done.summary.metrics["mine"].failed, done.summary.metrics["mine"].mean) == (
            1,
            pytest.approx(1 / 3),
        )


def test_zeros_and_ones_have_the_interval_of_pass_and_fail(tmp_path: Path) -> None:
    """1.0, "1" and 1 are as good as True; a number of words that happens to be 1 is not."""
    forms: dict[str, Any] = {
        "b": bool,
        "f": float,
        "s": lambda ok: str(int(ok)),
        "d": lambda ok: {"score": int(ok)},
    }
    metrics = [{"metric": name, "evaluator": Returns(form)} for name, form in forms.items()]
    with PromptLab(tmp_path / "lab.db") as lab:
        measures = [{"metric": "length", "params": {"unit": "words"}}, {"metric": "token_f1"}]
        rows = [{"q": q, "reference": "a"} for q in "aaab"]
        summary = run(lab, rows, *metrics, *measures).summary
        for name in (*forms, "token_f1"):
            assert summary.metrics[name].interval == wilson(3, 4), name
        assert summary.metrics["length"].interval == (1.0, 1.0)


UNLABELLED = [
    {"q": "a", "reference": "a"},
    {"q": "b", "reference": ""},
    {"q": "c", "reference": None},
    {"q": "d", "reference": "  "},
    {"q": "e"},
    {"q": "f", "reference": "x"},
]
REFERENCED = ("exact_match", "contains", "starts_with", "token_f1", "edit_distance", "bleu", "rouge")


def test_an_empty_reference_is_not_labelled_for_every_metric_alike(tmp_path: Path) -> None:
    """Neither wrong nor an error: not scored, counted and said; metrics without a
    reference score all rows."""
    own = {
        "metric": "own",
        "evaluator": Returns(float),
        "column_mapping": {"response": "$inference", "reference": "reference"},
    }
    with PromptLab(tmp_path / "lab.db") as lab:
        done = run(
            lab, UNLABELLED, *({"metric": name} for name in REFERENCED), {"metric": "length"}, own, trials=2
        )
        for name in (*REFERENCED, "own"):
            metric = done.summary.metrics[name]
            assert (metric.n, metric.scored, metric.failed, metric.unlabelled) == (2, 4, 0, 8), name
            assert metric.brief()["unlabelled"] == 8
        assert (done.summary.metrics["length"].n, done.summary.metrics["length"].unlabelled) == (6, 0)
        assert done.summary.metrics["exact_match"].mean == 0.5
        assert done.summary.failed == 0
        rows = [row for row in done.results() if row["trial"] == 0]
        assert [row.get("score.exact_match") for row in rows] == [1.0, None, None, None, None, 0.0]


def test_an_empty_reference_of_numbers_is_not_labelled_either(tmp_path: Path) -> None:
    """numeric_match has no error for it; a list without references is none."""
    rows = [{"q": "1", "reference": [1, 2]}, {"q": "2", "reference": []}, {"q": "3", "reference": None}]
    with PromptLab(tmp_path / "lab.db") as lab:
        metric = run(lab, rows, {"metric": "numeric_match"}).summary.metrics["numeric_match"]
        assert (metric.n, metric.mean, metric.failed, metric.unlabelled) == (1, 1.0, 0, 2)


def test_what_may_run_code_of_users_is_not_read_on_the_loop() -> None:
    """A part of a class of one's own may do anything when it is read."""

    class Word(str):
        pass

    assert plain_verdict(Score(0.5, reason="why", metadata={"a": 1}, usage=Usage(calls=1)))
    assert plain_verdict(Score(passed=True)) and plain_verdict(0.5) and plain_verdict("good")
    for verdict in (
        Word("good"),
        Score(0.5, reason=Word("why")),
        Score(0.5, metadata=AutoevalsScore("x", 1.0)),  # type: ignore[arg-type]
        Score(0.5, usage=AutoevalsScore("x", 1.0)),  # type: ignore[arg-type]
        Score(0.5, error=AutoevalsScore("x", 1.0)),  # type: ignore[arg-type]
    ):
        assert not plain_verdict(verdict)
