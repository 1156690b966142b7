"""edit_distance, length, latency, cost, semantic_similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.registry import build
from promptlab.evaluators.semantic import cosine
from promptlab.models.base import Model


def score(metric: str, data: dict[str, Any], **params: Any) -> Score:
    result = build(metric, params).evaluate(data)
    assert isinstance(result, Score)
    return result


@pytest.mark.parametrize(
    ("response", "reference", "params", "expected"),
    [
        ("kitten", "sitting", {}, 3),
        ("kitten", "sitting", {"normalized": True}, 1 - 3 / 7),
        ("", "", {}, 0),
        ("", "", {"normalized": True}, 1),
        ("", "abc", {}, 3),
        ("", "abc", {"normalized": True}, 0),
        ("Abc ", "abc", {}, 1),
        ("Abc ", "abc", {"case_sensitive": False}, 0),
        ("abc ", "abc", {"strip": False}, 1),
        ("caf\u00e9", "cafe\u0301", {}, 0),
        ("👍🏽", "👍", {}, 1),
        ("the cat sat", "the dog sat", {"unit": "words"}, 1),
        ("the cat sat", "the dog sat", {"unit": "words", "normalized": True}, 2 / 3),
        ("abc", ["xyz", "abd"], {}, 1),
        ("abc", ["xyz", "abd"], {"normalized": True}, 2 / 3),
        (12, 13, {}, 1),
    ],
)
def test_edit_distance(response: Any, reference: Any, params: dict[str, Any], expected: float) -> None:
    """Levenshtein's distance to the nearest reference, or its similarity."""
    assert score(
        "edit_distance", {"response": response, "reference": reference}, **params
    ).value == pytest.approx(expected)


def test_edit_distance_says_which_way_is_better() -> None:
    """Fewer edits, more similarity."""
    assert build("edit_distance").higher_is_better is False
    assert build("edit_distance", {"normalized": True}).higher_is_better is True


@pytest.mark.parametrize(
    ("unit", "text", "remedy"), [("characters", "ab", "use unit: words"), ("words", "a ", "use token_f1")]
)
def test_edit_distance_refuses_texts_that_would_stop_everything(unit: str, text: str, remedy: str) -> None:
    """The limit, the sizes and the way out are named."""
    with pytest.raises(
        ValueError, match=rf"too long to compare: .* {unit} .* is more than 1,000,000,000; {remedy}"
    ):
        score("edit_distance", {"response": text * 40_000, "reference": text * 40_000}, unit=unit)


@pytest.mark.parametrize(
    ("response", "params", "expected"),
    [
        ("héllo", {}, 5),
        ("he\u0301llo", {}, 5),
        ("", {}, 0),
        ("👩‍🚀", {}, 3),
        ("one  two\nthree", {"unit": "words"}, 3),
        (" ", {"unit": "words"}, 0),
        ("a\nb\r\nc\n", {"unit": "lines"}, 3),
        ("", {"unit": "lines"}, 0),
        (["a"], {}, 5),
        ("x" * 10_000_000, {}, 10_000_000),
    ],
)
def test_length(response: Any, params: dict[str, Any], expected: int) -> None:
    """Code points after composition, words between white space, lines; without a bound
    nothing passes or fails."""
    result = score("length", {"response": response}, **params)
    assert (result.value, result.passed, result.reason) == (expected, None, None)


@pytest.mark.parametrize(
    ("params", "passed", "reason"),
    [
        ({"max": 5}, True, None),
        ({"max": 4}, False, "5 characters, more than max 4"),
        ({"min": 5}, True, None),
        ({"min": 6}, False, "5 characters, less than min 6"),
        ({"min": 5, "max": 5}, True, None),
        ({"unit": "words", "min": 2}, False, "1 words, less than min 2"),
        ({"max": 0}, False, "5 characters, more than max 0"),
    ],
)
def test_length_within_bounds(params: dict[str, Any], passed: bool, reason: str | None) -> None:
    """Both bounds are inclusive; the value stays the length."""
    result = score("length", {"response": "hello"}, **params)
    assert (result.passed, result.reason) == (passed, reason)
    assert result.value == (1 if params.get("unit") else 5)


def test_length_is_better_longer_only_when_it_has_only_a_minimum() -> None:
    """Shorter answers are the default wish."""
    assert [
        build("length", p).higher_is_better for p in ({}, {"max": 1}, {"min": 1}, {"min": 1, "max": 2})
    ] == [False, False, True, False]


@pytest.mark.parametrize(
    ("metric", "data", "params", "expected"),
    [
        ("latency", {"latency_ms": 812.5}, {}, (812.5, None, None)),
        ("latency", {"latency_ms": 500}, {"max_ms": 500}, (500.0, True, None)),
        (
            "latency",
            {"latency_ms": "812.5"},
            {"max_ms": 500},
            (812.5, False, "812.5 ms, more than max_ms 500"),
        ),
        ("latency", {"latency_ms": 0}, {"max_ms": 0}, (0.0, True, None)),
        ("cost", {"cost_usd": 0.0}, {}, (0.0, None, None)),
        ("cost", {"cost_usd": 0.001}, {"max_usd": 0.001}, (0.001, True, None)),
        ("cost", {"cost_usd": 0.0123}, {"max_usd": 0.01}, (0.0123, False, "$0.0123, more than max_usd 0.01")),
    ],
)
def test_latency_and_cost(
    metric: str, data: dict[str, Any], params: dict[str, Any], expected: tuple[float, bool | None, str | None]
) -> None:
    """The value is the measure itself; a bound, inclusive, adds pass or fail."""
    result = score(metric, data, **params)
    assert (result.value, result.passed, result.reason) == expected


@pytest.mark.parametrize(
    ("metric", "data", "message"),
    [
        ("latency", {"latency_ms": None}, r"latency_ms is missing \(null\)"),
        ("latency", {"latency_ms": float("nan")}, r"latency_ms must be a finite number \(got 'nan'\)"),
        ("latency", {"latency_ms": "fast"}, r"got 'fast'"),
        ("latency", {"latency_ms": True}, r"got 'True'"),
        ("latency", {"latency_ms": [1]}, r"got '\[1\]'"),
        (
            "cost",
            {},
            r"cost_usd is missing \(null\): the model's price is unknown; give the model input_usd_per_mtok",
        ),
        ("cost", {"cost_usd": math.inf}, r"got 'inf'"),
    ],
)
def test_latency_and_cost_need_a_number(metric: str, data: dict[str, Any], message: str) -> None:
    """An unknown price is not a price of 0."""
    with pytest.raises(ValueError, match=message):
        score(metric, data)


class Embeddings(Model):
    """Embeds known texts and counts the calls."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        super().__init__()
        self.vectors, self.calls = vectors, 0

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls += 1
        return [self.vectors[text] for text in texts]


def similarity(**params: Any) -> tuple[Evaluator, Embeddings]:
    model = Embeddings(
        {"x": [1, 0], "y": [0, 2], "xy": [1, 1], "-x": [-3, 0], "zero": [0, 0], "long": [1, 0, 0]}
    )
    evaluator = build("semantic_similarity", params)
    assert evaluator.needs_embedding
    evaluator.embedding_model = model
    return evaluator, model


@pytest.mark.parametrize(
    ("response", "reference", "expected"),
    [
        ("x", "x", 1.0),
        ("x", "y", 0.0),
        ("x", "-x", -1.0),
        ("x", "xy", math.sqrt(0.5)),
        ("x", ["y", "xy", "-x"], math.sqrt(0.5)),
    ],
)
async def test_semantic_similarity(response: str, reference: Any, expected: float) -> None:
    """The cosine to the nearest reference, in one call to the model."""
    evaluator, model = similarity()
    result = await evaluator.evaluate({"response": response, "reference": reference})  # type: ignore[misc]
    assert isinstance(result, Score)
    assert result.value == pytest.approx(expected)
    assert (result.passed, model.calls) == (None, 1)


async def test_semantic_similarity_with_a_threshold() -> None:
    """Pass or fail is added to the value."""
    evaluator, _ = similarity(threshold=0.7)
    near = await evaluator.evaluate({"response": "x", "reference": "xy"})  # type: ignore[misc]
    far = await evaluator.evaluate({"response": "x", "reference": "y"})  # type: ignore[misc]
    assert isinstance(near, Score) and near.passed is True and near.reason is None
    assert (
        isinstance(far, Score)
        and far.passed is False
        and far.reason == "similarity 0, less than threshold 0.7"
    )


async def test_an_empty_response_is_similar_to_nothing() -> None:
    """Providers refuse to embed it; the case must not drop out of the mean for that."""
    evaluator, model = similarity(threshold=0.5)
    result = await evaluator.evaluate({"response": " \n", "reference": "x"})  # type: ignore[misc]
    assert isinstance(result, Score)
    assert (result.value, result.passed, result.reason, model.calls) == (
        0.0,
        False,
        "the response is empty",
        0,
    )


@pytest.mark.parametrize(
    ("response", "reference", "message"),
    [
        (None, "x", "response is missing"),
        ("x", None, "reference is missing"),
        ("x", ["x", ""], "reference is empty"),
        ("x", "zero", "no direction"),
        ("x", "long", "different lengths cannot be compared: 2 and 3"),
    ],
)
async def test_semantic_similarity_needs_two_texts_with_vectors(
    response: Any, reference: Any, message: str
) -> None:
    """Each is an error of the case."""
    evaluator, _ = similarity()
    with pytest.raises(ValueError, match=message):
        await evaluator.evaluate({"response": response, "reference": reference})  # type: ignore[misc]


async def test_semantic_similarity_without_a_model_says_what_to_set() -> None:
    """The remedy is in the message."""
    with pytest.raises(ValueError, match="set embedding_model in the experiment"):
        await build("semantic_similarity").evaluate({"response": "x", "reference": "x"})  # type: ignore[misc]


def test_cosine_stays_between_its_bounds() -> None:
    """Rounding would give 1.0000000000000002; huge numbers must not overflow to nonsense."""
    vector = [0.1, 0.2, 0.3] * 500
    assert cosine(vector, vector) <= 1.0
    with pytest.raises(ValueError, match="not finite"):
        cosine([math.nan, 1], [1, 1])
    with pytest.raises(ValueError, match="not finite"):
        cosine([1e200, 1e200], [1e200, 1e200])
