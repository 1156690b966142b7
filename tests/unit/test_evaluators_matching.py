"""exact_match, contains, starts_with, regex_match."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.registry import build


def score(metric: str, response: Any, reference: Any = "unused", **params: Any) -> Score:
    result = build(metric, params).evaluate({"response": response, "reference": reference})
    assert isinstance(result, Score)
    assert result.value == float(bool(result.passed))
    assert (result.reason is None) is bool(result.passed)
    return result


@pytest.mark.parametrize(
    ("response", "reference", "params", "passed"),
    [
        ("Paris", "Paris", {}, True),
        ("Paris", "paris", {}, False),
        ("Paris", "paris", {"case_sensitive": False}, True),
        ("STRASSE", "straße", {"case_sensitive": False}, True),
        (" Paris\n", "Paris", {}, True),
        (" Paris\n", "Paris", {"strip": False}, False),
        ("a b", "ab", {}, False),
        ("a\u00a0 b\n", "ab", {"ignore_whitespace": True}, True),
        ("Paris.", "Paris", {}, False),
        ("«Paris»!", "Paris", {"ignore_punctuation": True}, True),
        ("$5", "5", {"ignore_punctuation": True}, True),
        ("", "", {}, True),
        ("", "a", {}, False),
        ("  ", "", {}, True),
        ("caf\u00e9", "cafe\u0301", {}, True),
        ("caf\u00e9", "cafe\u0301", {"normalize_unicode": False}, False),
        ("CAFE\u0301", "caf\u00e9", {"case_sensitive": False}, True),
        ("👩‍🚀", "👩‍🚀", {}, True),
        ("👩‍🚀", "👩", {}, False),
        ("18", 18, {}, True),
        ("18", 18.0, {}, False),
        ("true", True, {}, True),
        ("1.5", 1.5, {}, True),
        ("NaN", float("nan"), {}, True),
        ('{"a": "é"}', {"a": "é"}, {}, True),
        ("b", ["a", "b"], {}, True),
        ("2", [1, 2], {}, True),
        ("c", ["a", "b"], {}, False),
    ],
)
def test_exact_match(response: str, reference: Any, params: dict[str, Any], passed: bool) -> None:
    """Equal means equal after what the parameters leave out; one of several references is enough."""
    assert score("exact_match", response, reference, **params).passed is passed


def test_exact_match_says_what_it_expected_and_got() -> None:
    """The reason is short, whatever the texts."""
    assert score("exact_match", "26", "18").reason == "expected '18', got '26'"
    assert score("exact_match", "26", ["18", 19]).reason == "expected '18' or '19', got '26'"
    reason = score("exact_match", "x" * 1_000_000, ["y" * 1_000_000] * 5).reason
    assert reason is not None and len(reason) == 200 and reason.endswith("…")


@pytest.mark.parametrize(
    ("response", "reference", "params", "passed"),
    [
        ("The capital is Paris.", "Paris", {}, True),
        ("The capital is Paris.", "paris", {}, False),
        ("The capital is Paris.", " PARIS ", {"case_sensitive": False}, True),
        ("a b c", ["x", "b"], {}, True),
        ("a b c", ["x", "b"], {"mode": "all"}, False),
        ("a b c", ["c", "b"], {"mode": "all"}, True),
        ("a b c", None, {"values": "b"}, True),
        ("it is 42", None, {"values": [42, "x"]}, True),
        ("it is 42", None, {"values": 43}, False),
        ("As an AI, I", None, {"values": ["as an ai"], "case_sensitive": False, "negate": True}, False),
        ("Sure", None, {"values": ["as an ai", "sorry"], "negate": True}, True),
        ("", "a", {}, False),
        ("x" * 10_000_000 + "needle", "needle", {}, True),
        ("une\u0301", "é", {}, True),
    ],
)
def test_contains(response: str, reference: Any, params: dict[str, Any], passed: bool) -> None:
    """Fixed values stand in place of the reference; any or all must be there."""
    assert score("contains", response, reference, **params).passed is passed


def test_contains_names_what_is_missing_or_there() -> None:
    """With `all` only what is missing is named; with `negate` what was found."""
    assert score("contains", "a b", ["a", "q", "z"], mode="all").reason == "does not contain 'q' or 'z'"
    assert score("contains", "a b", None, values=["q", "b"], negate=True).reason == "contains 'b'"


@pytest.mark.parametrize("metric", ["contains", "starts_with"])
def test_an_empty_reference_cannot_be_looked_for(metric: str) -> None:
    """Every text has the empty text in it: that would pass always."""
    with pytest.raises(ValueError, match="reference must not be empty"):
        build(metric).evaluate({"response": "a", "reference": ["a", " "]})


@pytest.mark.parametrize("metric", ["contains", "starts_with"])
def test_fixed_values_need_no_reference(metric: str) -> None:
    """The inputs of the object, not of the class, say what must be mapped."""
    assert set(build(metric, {"values": "a"}).inputs) == {"response"}
    assert build(metric).inputs["reference"] is None


@pytest.mark.parametrize(
    ("response", "reference", "params", "passed"),
    [
        ("Yes, because", "Yes", {}, True),
        ("\n Yes", "Yes", {}, True),
        ("\n Yes", "Yes", {"strip": False}, False),
        ("No", ["Yes", "No"], {}, True),
        ("Maybe", None, {"values": ["Yes", "No"]}, False),
        ("Sorry, I", None, {"values": "sorry", "case_sensitive": False, "negate": True}, False),
        ("", "Yes", {}, False),
    ],
)
def test_starts_with(response: str, reference: Any, params: dict[str, Any], passed: bool) -> None:
    """One of several beginnings is enough."""
    assert score("starts_with", response, reference, **params).passed is passed


def test_starts_with_says_how_the_response_starts() -> None:
    """The reason quotes both."""
    assert score("starts_with", "Maybe", "Yes").reason == "does not start with 'Yes': 'Maybe'"


@pytest.mark.parametrize(
    ("response", "params", "passed"),
    [
        ("order 66!", {"pattern": r"\d{2}"}, True),
        ("order 66!", {"pattern": r"\d{2}", "match": "start"}, False),
        ("order 66!", {"pattern": r"ORDER", "match": "start", "case_sensitive": False}, True),
        ("66", {"pattern": r"\d+", "match": "full"}, True),
        ("66!", {"pattern": r"\d+", "match": "full"}, False),
        ("66!", {"pattern": r"\d+", "negate": True}, False),
        ("", {"pattern": r"^$"}, True),
        ("a\nb", {"pattern": r"(?m)^b$"}, True),
        ("Ж", {"pattern": r"\p{Cyrillic}"}, True),
        ("👍", {"pattern": "^.$"}, True),
    ],
)
def test_regex_match(response: str, params: dict[str, Any], passed: bool) -> None:
    """Inline flags and the regex package's classes work."""
    assert score("regex_match", response, **params).passed is passed


@pytest.mark.parametrize("how", ["search", "start", "full", "first", "last"])
def test_other_threads_run_while_a_pattern_backtracks(how: Any) -> None:
    """The event loop among them: with the interpreter's lock held, not one step of theirs is done."""
    pattern = SafePattern("(x+x+)+y", name="pattern", timeout_s=0.3)
    ask = pattern.extract if how in ("first", "last") else pattern.matches
    with ThreadPoolExecutor(1) as pool:
        overdue = pool.submit(ask, "x" * 5000, how)
        steps = 0
        while not overdue.done():
            steps += 1
            time.sleep(0.001)
        with pytest.raises(TimeoutError):
            overdue.result()
    assert steps > 3


def test_a_pattern_that_backtracks_is_a_failed_score() -> None:
    """It would run for longer than the universe; it is stopped and named."""
    evaluator = build("regex_match", {"pattern": "(x+x+)+y", "timeout_s": 0.05})
    with pytest.raises(
        TimeoutError,
        match=r"pattern '\(x\+x\+\)\+y' took more than timeout_s 0\.05 on a text of 5,000 characters",
    ):
        evaluator.evaluate({"response": "x" * 5000})
