"""numeric_match, on small texts and on four models' answers to GSM8K."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.numeric import number_in
from promptlab.evaluators.registry import build

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GSM8K = {"response_pattern": r"A: *(-?[\d.,]+)", "reference_pattern": r"#### *(-?[\d.,]+)"}


@pytest.mark.skipif(not DATA.is_dir(), reason="the GSM8K answers are not beside this repository")
@pytest.mark.parametrize(
    ("model", "correct"),
    [("6b_finetuning", 286), ("6b_verification", 515), ("175b_finetuning", 458), ("175b_verification", 742)],
)
def test_agrees_with_gsm8k_case_by_case(model: str, correct: int) -> None:
    """The published verdict on each of 1,319 answers of each model is ours too."""
    rows = [json.loads(line) for line in (DATA / "gsm8k_test.jsonl").read_text("utf-8").splitlines()]
    answers = [json.loads(line) for line in (DATA / "gsm8k_solutions.jsonl").read_text("utf-8").splitlines()]
    assert [row["question"] for row in rows] == [answer["question"] for answer in answers]
    evaluator = build("numeric_match", GSM8K)
    ours = [
        evaluator.evaluate({"response": a[model]["solution"], "reference": row["answer"]}).passed
        for row, a in zip(rows, answers, strict=True)
    ]  # type: ignore[union-attr]
    assert ours == [answer[model]["is_correct"] for answer in answers]
    assert (sum(map(bool, ours)), len(ours)) == (correct, 1319)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"),
        ("18.", "18"),
        ("18,", "18"),
        ("it is 18.0.", "18.0"),
        ("3 of 4", "4"),
        ("1,234.5", "1234.5"),
        ("1 234", "1234"),
        ("12\u202f345\u202f678", "12345678"),
        ("1'234'567.89", "1234567.89"),
        ("12,34,567", "1234567"),
        ("1,2,3", "3"),
        ("in 2019 100", "100"),
        ("-7", "-7"),
        ("−7", "-7"),
        ("+7", "7"),
        ("10-5", "5"),
        ("x = -5", "-5"),
        ("- 5 apples", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("€ 1,000", "1000"),
        ("50%", "50"),
        ("**42**", "42"),
        (".5", "0.5"),
        ("wait...5", "5"),
        ("1.5e-7", "0.00000015"),
        ("2E3", "2000"),
        ("٤٢", "42"),
        ("007", "7"),
        ("12345678901234567890123456789.1", "12345678901234567890123456789.1"),
        ("12," * 100_000 + " 7", "7"),
        ("", None),
        ("none", None),
        ("🙂 …", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    """Signs, currencies, separators and exponents are read; sentence ends are not."""
    assert number_in(text, "last") == (None if number is None else Decimal(number))


def test_the_first_number_of_a_text() -> None:
    """The other choice."""
    assert number_in("3 of 4", "first") == 3


@pytest.mark.parametrize(
    ("text", "number"), [("1.234,5", "1234.5"), ("3,14", "3.14"), ("1 234,50 €", "1234.5"), ("5,", "5")]
)
def test_decimal_comma(text: str, number: str) -> None:
    """The continental way to write numbers."""
    assert number_in(text, "last", decimal_comma=True) == Decimal(number)


def test_a_space_need_not_join_numbers() -> None:
    """Lists of three-digit numbers are told apart on request."""
    assert number_in("100 200 300", "last") == 100_200_300
    assert number_in("100 200 300", "last", thousands_space=False) == 300


def score(response: Any, reference: Any, **params: Any) -> Score:
    result = build("numeric_match", params).evaluate({"response": response, "reference": reference})
    assert isinstance(result, Score)
    return result


@pytest.mark.parametrize(
    ("response", "reference", "params", "passed"),
    [
        ("18.", "18", {}, True),
        ("18.0", 18, {}, True),
        (18, "18", {}, True),
        ("0.3", 0.3, {}, True),
        ("0.30000000000000004", "0.3", {}, False),
        ("-0", "0", {}, True),
        ("99", [98, 99], {}, True),
        ("0.4", "0.3", {"tolerance": 0.1}, True),
        ("0.41", "0.3", {"tolerance": 0.1}, False),
        ("101", "100", {"relative_tolerance": 0.01}, True),
        ("-101", "-100", {"relative_tolerance": 0.01}, True),
        ("102", "100", {"relative_tolerance": 0.01}, False),
        ("102", "100", {"relative_tolerance": 0.01, "tolerance": 2}, True),
        ("1.234,50", "1234,5", {"decimal_comma": True}, True),
        ("1e9999", "1", {"tolerance": 1}, False),
        ("A: 3, no, A: 4", "4", {"response_pattern": r"A: (\d)"}, True),
        ("A: 3, no, A: 4", "3", {"response_pattern": r"A: (\d)", "take": "first"}, True),
        ("total = 5", "5", {"response_pattern": r"\d"}, True),
        ("B: 7", "7", {"response_pattern": r"A: (\d)|B: (\d)"}, True),
        ("A: $1,000.", "1000", {"response_pattern": r"A: (.*)"}, True),
    ],
)
def test_numeric_match(response: Any, reference: Any, params: dict[str, Any], passed: bool) -> None:
    """Numbers are compared exactly, as decimals, or within the larger of two tolerances."""
    assert score(response, reference, **params).passed is passed


def test_reasons_say_what_was_expected_and_found() -> None:
    """A wrong number and no number read differently."""
    assert score("A: 26", "#### 18", **GSM8K).reason == "expected 18, got 26"
    assert score("26", [18, 19]).reason == "expected 18 or 19, got 26"
    assert score("no idea", "18").reason == "expected 18, but there is no number in the response 'no idea'"
    assert (
        score("B: 26", "#### 18", **GSM8K).reason
        == r"expected 18, but response_pattern 'A: *(-?[\\d.,]+)' is not in the response 'B: 26'"
    )
    assert score("A: ,", "#### 18", **GSM8K).passed is False
    assert len(score("9" * 100_000, "1").reason or "") < 60


@pytest.mark.parametrize(
    ("reference", "params"), [("eighteen", {}), (True, {}), (float("nan"), {}), ("18", GSM8K), ("", {})]
)
def test_a_reference_without_a_number_is_an_error(reference: Any, params: dict[str, Any]) -> None:
    """The dataset is wrong, not the model."""
    with pytest.raises(ValueError, match="the dataset or reference_pattern is wrong"):
        score("A: 18", reference, **params)


def test_an_extraction_pattern_that_backtracks_is_a_failed_score() -> None:
    """The parameter is named."""
    with pytest.raises(TimeoutError, match="response_pattern"):
        score("x" * 5000, "1", response_pattern="(x+x+)+y", timeout_s=0.05)
