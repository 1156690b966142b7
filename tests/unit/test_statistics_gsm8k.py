"""Differences of bounded numbers on GSM8K's solutions, to the last digit of the specification."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.overlap import Rouge, TokenF1
from promptlab.statistics import bp_t, judge, paired_data, paired_t

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BASE, OTHER = "6b_verification", "175b_finetuning"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the data of GSM8K are not on this machine")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("metric", "ends", "students"),
    [
        (TokenF1(), (0.027169, 0.044363), (0.027316, 0.044270)),
        (Rouge(), (0.011280, 0.028508), (0.011415, 0.028403)),
    ],
    ids=["token_f1", "rouge"],
)
def test_bp_t_of_texts(metric: Evaluator, ends: tuple[float, float], students: tuple[float, float]) -> None:
    """Of 1,319 solutions 1.4% wider than t, and the interval that a comparison ships."""
    references = [row["answer"] for row in lines("gsm8k_test.jsonl")]
    sides: list[list[float | None]] = []
    for model in (BASE, OTHER):
        said = [row[model]["solution"] for row in lines("gsm8k_solutions.jsonl")]
        scores = [
            metric.evaluate({"response": response, "reference": reference})
            for response, reference in zip(said, references, strict=True)
        ]
        sides.append([float(score.value) for score in scores])
    d = [b - a for a, b in zip(*sides, strict=True)]
    found = bp_t(fmean(d), stdev(d), len(d), 1.0)
    assert (found.low, found.high) == pytest.approx(ends, abs=5e-7)
    plain = paired_t(fmean(d), stdev(d) / len(d) ** 0.5, len(d))
    assert (plain.low, plain.high) == pytest.approx(students, abs=5e-7)
    (judged,) = judge([paired_data(*sides)])
    assert (judged.ci_low, judged.ci_high) == pytest.approx(ends, abs=5e-7)
    assert (judged.method, judged.verdict) == ("bp_t", "better")
