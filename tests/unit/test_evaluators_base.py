"""How what an evaluator returns becomes a score."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator, to_score


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        (0.5, Score(value=0.5)),
        (3, Score(value=3.0)),
        (True, Score(passed=True)),
        (False, Score(passed=False)),
        ("12", Score(value=12.0)),
        (" 1e-3 ", Score(value=0.001)),
        ("formal", Score(label="formal")),
        ("", Score(label="")),
        ("nan", Score(label="nan")),
        ("inf", Score(label="inf")),
        (np.float32(0.5), Score(value=0.5)),
        (np.int64(2), Score(value=2.0)),
        (np.bool_(True), Score(passed=True)),
        (np.array(0.25), Score(value=0.25)),
        (Fraction(1, 2), Score(value=0.5)),
        (Score(value=0.3, label="so-so"), Score(value=0.3, label="so-so")),
    ],
)
def test_a_verdict_becomes_a_score(verdict: Any, score: Score) -> None:
    """Numbers measure, bools decide, strings sort."""
    assert to_score(verdict) == score


@pytest.mark.parametrize("verdict", [math.nan, math.inf, np.float64("nan"), Score(value=math.nan)])
def test_a_score_is_finite(verdict: Any) -> None:
    """NaN would make the whole mean NaN."""
    with pytest.raises(ValueError, match="must be a finite number"):
        to_score(verdict)


@pytest.mark.parametrize("verdict", [None, [1.0], {}, (1,), b"1", np.array([1.0]), 1j])
def test_anything_else_is_an_error_that_names_its_type(verdict: Any) -> None:
    """A forgotten return is None."""
    with pytest.raises(TypeError, match=f"not {type(verdict).__name__}"):
        to_score(verdict)


def test_pass_and_fail_have_values() -> None:
    """So that they have a mean; a measure keeps its own."""
    assert (Score(passed=True).value, Score(passed=False).value, Score(value=7.0, passed=False).value) == (
        1.0,
        0.0,
        7.0,
    )


def test_an_evaluator_without_evaluate_says_so() -> None:
    """The class is named."""

    class Empty(Evaluator):
        pass

    with pytest.raises(TypeError, match="Empty has no evaluate"):
        Empty().evaluate({})
