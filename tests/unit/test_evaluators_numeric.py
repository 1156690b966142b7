"""numeric_match, on small texts and on four models' answers to GSM8K."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.numerals import brief
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
    for patterns in (GSM8K, {"reference_pattern": GSM8K["reference_pattern"]}):
        evaluator = build("numeric_match", patterns)
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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1/2", Fraction(1, 2)),
        ("-1/3", Fraction(-1, 3)),
        ("10 / 4", Fraction(5, 2)),
        ("1 1/2 cups", Fraction(3, 2)),
        ("½", Fraction(1, 2)),
        ("1½", Fraction(3, 2)),
        ("2 ¾", Fraction(11, 4)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"\dfrac12", Fraction(1, 2)),
        ("10^6", Decimal(1_000_000)),
        ("10^{-3}", Fraction(1, 1000)),
        ("10⁶", Decimal(1_000_000)),
        ("2**10", Decimal(1024)),
        (r"3 \times 10^{6}", Decimal(3_000_000)),
        ("1.5 × 10^-2", Decimal("0.015")),
        (r"\boxed{9{,}500}", Decimal(9500)),
        (r"11,\!111", Decimal(11111)),
        (r"10\,000", Decimal(10000)),
        ("10~000", Decimal(10000)),
        ("1，234", Decimal(1234)),
        ("16，减去7", Decimal(7)),
        ("答案是１８美元", Decimal(18)),
        ("It is –3", Decimal(-3)),
        ("It is －3", Decimal(-3)),
        ("It is ‒3", Decimal(-3)),
        ("pages 3–5", Decimal(5)),
        ("12 m^2", Decimal(12)),
        ("12 m²", Decimal(12)),
        ("12 m2", Decimal(12)),
        ("18 of H2O", Decimal(18)),
        ("USD50", Decimal(50)),
        ("[100,200,300]", Decimal(300)),
        ("1,2,345", Decimal(345)),
        ("100 200 300 4", Decimal(4)),
        ("1_000_000", Decimal(1_000_000)),
        (
            "-12345678901234567890123456789012345678901.5",
            Decimal("-12345678901234567890123456789012345678901.5"),
        ),
    ],
)
def test_numbers_as_people_and_models_write_them(text: str, number: Decimal | Fraction) -> None:
    """Fractions, powers, LaTeX, wide characters and units; a list is not one number."""
    assert number_in(text, "last") == number


@pytest.mark.parametrize(
    "text",
    [
        "12:30",
        "2024-01-15",
        "1/2/2024",
        "15.01.2024",
        "1.000.000",
        "18,00 €",
        "3,14",
        "1.5.2",
        "3/0",
        "9^999999",
    ],
)
def test_digits_that_are_not_one_number(text: str) -> None:
    """No part of them is taken for the number: the answer fails with its reason, the
    reference is an error."""
    wrong = score(text, "30")
    assert (wrong.passed, wrong.value) == (False, 0)
    assert "in the response is not one number" in (wrong.reason or "")
    for part in ("0", "1", "2", "5", "12", "15", "18", "30", "2024", "9"):
        assert score(text, part).passed is False
    with pytest.raises(ValueError, match="is not one number"):
        score("30", text)


@pytest.mark.parametrize(
    "reference",
    ["3 of 4", "[1, 2]", "10-5", "1,2,3", "3x4", "x^2 + 3", r"2\pi", r"\sqrt{2}", "5 to 7", "1" * 30_000],
)
def test_a_reference_that_is_not_one_number_is_an_error(reference: str) -> None:
    """The answer might else be held against a part of it."""
    with pytest.raises(ValueError, match="the dataset or reference_pattern is wrong"):
        score("4", reference)


def test_the_error_names_the_parameter_that_reads_the_reference() -> None:
    """18,00 is one number where the comma is the decimal sign."""
    with pytest.raises(ValueError, match=r"set decimal_comma: true to read '18,00'"):
        score("18", "18,00 €")
    assert score("18", "18,00 €", decimal_comma=True).passed is True
    assert score("1000000", "1.000.000", decimal_comma=True).passed is True


def test_a_decimal_comma_does_not_garble_a_json_number() -> None:
    """1.5 in a dataset is one and a half however texts write it."""
    assert score("1,5", 1.5, decimal_comma=True).passed is True
    assert score("15", 1.5, decimal_comma=True).passed is False
    assert score("1.234,5", [2, 1234.5], decimal_comma=True).passed is True
    assert score("1e-7", 1e-7, decimal_comma=True).passed is True


def test_fractions_are_compared_exactly_or_within_a_tolerance() -> None:
    """A third is not 0.333, but near."""
    assert score("2/6", "1/3").passed is True
    assert score("0.5", "1/2").passed is True
    assert score("0.333", "1/3").reason == "expected 1/3, got 0.333"
    assert score("0.333", "1/3", tolerance=0.001).passed is True
    assert score("$\\frac{1}{3}$", "0.333", relative_tolerance=0.01).passed is True


def test_a_long_answer_costs_time_in_proportion_only() -> None:
    """A million characters without a number to read, and one at the end."""
    for part in (
        "1,",
        "1.",
        "1 ",
        "1/",
        "-",
        "1 234 ",
        "^",
        "1^",
        r"\frac{",
        "{,}",
        "½",
        "$",
        "1e",
        "(",
        " ",
    ):
        assert number_in(part * (500_000 // len(part)) + " = 7", "last") == 7
        assert number_in("7; " + part * (500_000 // len(part)), "first") == 7


@pytest.mark.parametrize("far", [10, 3_000, 5_000, 20_000])
def test_a_number_is_found_behind_any_number_of_words_with_digits(far: int) -> None:
    """Those of words are none: H2O has no number."""
    words = "H2O " * far
    assert number_in(f"{words}is 42", "first") == 42
    assert number_in(f"{words}is 42", "last") == 42
    assert number_in(f"42 is {words}", "last") == 42
    assert number_in(f"42 is {words}", "first") == 42
    assert number_in(words, "first") is None
    assert number_in(words, "last") is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("1234.5"), "1234.5"),
        (Decimal("1e39"), "1" + "0" * 39),
        (Decimal("1e40"), "1E+40"),
        (Decimal("1e-19"), "0." + "0" * 18 + "1"),
        (Decimal("1e-20"), "1E-20"),
        (Decimal("1" * 40), "1" * 40),
        (Decimal("1" * 41), "1.111111e+40"),
        (Fraction(1, 3), "1/3"),
        (Fraction(10**20 - 1, 7), f"{10**20 - 1}/7"),
        (Fraction(10**20 + 1, 7), "1.428571e+19"),
        (Fraction(1, 10**20 + 1), "1.000000e-20"),
    ],
)
def test_a_number_in_a_reason_is_short(number: Decimal | Fraction, text: str) -> None:
    """In full where that is short."""
    assert brief(number) == text
