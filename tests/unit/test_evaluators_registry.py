"""The built-in metrics by name: finding, building, describing, loading them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from promptlab.errors import ConfigError, MissingExtraError, UnknownNameError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.registry import build, canonical, describe, known

NAMES = [
    "answer_relevance",
    "bertscore",
    "bleu",
    "calibration",
    "cer",
    "choice",
    "chrf",
    "classification",
    "closed_qa",
    "code_tests",
    "coherence",
    "combined",
    "contains",
    "context_precision",
    "context_recall",
    "corpus_bleu",
    "corpus_chrf",
    "cost",
    "edit_distance",
    "exact_match",
    "factual_correctness",
    "factuality",
    "faithfulness",
    "fluency",
    "g_eval",
    "goal_reached",
    "harmful_content",
    "instruction_following",
    "is_json",
    "json_fields",
    "json_schema",
    "latency",
    "length",
    "math_equal",
    "meteor",
    "no_error_calls",
    "numeric_match",
    "pairwise",
    "refusal",
    "regex_match",
    "retrieval",
    "rouge",
    "rubric",
    "semantic_similarity",
    "sql_result",
    "starts_with",
    "summarization",
    "ter",
    "token_f1",
    "tool_calls",
    "tool_choice",
    "trajectory",
    "turn_count",
    "wer",
]
REQUIRED: dict[str, dict[str, Any]] = {
    "regex_match": {"pattern": "a"},
    "json_schema": {"schema": {}},
    "rubric": {"criterion": "It is polite."},
    "g_eval": {"criterion": "It is polite."},
    "combined": {"all": ["another"]},
}


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_known_lists_every_metric_sorted() -> None:
    """Names are part of the interface: one that goes away breaks experiments."""
    assert known() == NAMES


def test_what_measures_has_no_upper_end_and_is_better_when_it_is_lower() -> None:
    """All else lies between 0 and 1, but for a similarity; only that needs an embedding model."""
    measures = {"length", "latency", "cost", "edit_distance", "turn_count", "wer", "cer", "ter"}
    for name in NAMES:
        info = describe(name)
        ends = (0.0, None) if name in measures else (0.0, 1.0)
        both = ("semantic_similarity", "classification", "bertscore")  # cosines; kappa and MCC
        assert info.value_range == ((-1.0, 1.0) if name in both else ends)
        assert info.higher_is_better == (name not in {*measures, "harmful_content", "calibration"})
        assert info.needs_embedding == (name == "semantic_similarity")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bertscore"])  # PyTorch takes gigabytes
def test_every_metric_builds_and_agrees_with_its_description(name: str) -> None:
    """describe() of a metric with default parameters says what build() gives."""
    info, evaluator = describe(name), build(name, REQUIRED.get(name, {}))
    assert isinstance(evaluator, Evaluator)
    assert info.name == name and info.description.endswith(".")
    assert dict(evaluator.inputs) == dict(info.inputs)
    better = evaluator.higher_is_better
    assert (next(iter(better.values())) if isinstance(better, dict) else better) is info.higher_is_better
    assert evaluator.needs_embedding is info.needs_embedding
    assert set(info.required) == (set(REQUIRED.get(name, {})) if name != "combined" else set())
    for parameter, schema in info.params.items():
        assert schema["description"], parameter
        assert ("default" in schema) is (parameter not in info.required)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ExactMatch", "exact_match"),
        ("exact-match", "exact_match"),
        ("EXACT MATCH", "exact_match"),
        ("regex", "regex_match"),
        ("JsonValid", "is_json"),
        ("json_schema", "json_schema"),
        ("f1", "token_f1"),
        ("F1Score", "token_f1"),
        ("BLEU", "bleu"),
        ("RougeScore", "rouge"),
        ("SemanticSimilarity", "semantic_similarity"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    """Case, hyphens, underscores and spaces do not count, and aliases are known."""
    assert canonical(written) == name
    assert describe(written).name == name


def test_unknown_metric_names_the_nearest_and_how_to_give_a_custom_one() -> None:
    """The message holds both remedies."""
    with pytest.raises(
        UnknownNameError,
        match=r"Unknown metric 'exactmach'\. Did you mean 'exact_match'.*\"evaluator\": MyEvaluator\(\)",
    ):
        build("exactmach", {})


@pytest.mark.parametrize(
    ("metric", "params", "message"),
    [
        (
            "exact_match",
            {"case_sensitiv": True},
            r"'exact_match' has no parameter 'case_sensitiv'\. Did you mean 'case_sensitive'\? Its "
            r"parameters: case_sensitive, ",
        ),
        ("exact_match", {"self": 1}, "has no parameter 'self'"),
        ("exact_match", {1: 1}, "has no parameter '1'"),
        ("latency", {"zzz": 1}, r"has no parameter 'zzz'\. Its parameters: max_ms\."),
        (
            "exact_match",
            {"strip": "no"},
            r"'exact_match': strip must be a valid boolean \(got 'no'\)\. Its parameters: ",
        ),
        ("length", {"max": -1}, r"'length': max must be greater than or equal to 0 \(got -1\)"),
        ("length", {"min": 5, "max": 4}, r"min must be at most max \(got min 5, max 4\)"),
        ("length", {"max": 1.5}, r"max must be a valid integer \(got 1\.5\)"),
        ("numeric_match", {"tolerance": float("nan")}, r"tolerance must be a finite number \(got nan\)"),
        ("numeric_match", {"tolerance": True}, r"tolerance must be a valid number \(got True\)"),
        ("regex_match", {}, r"'regex_match': pattern is required\."),
        (
            "regex_match",
            {"pattern": "a(b"},
            r"pattern 'a\(b' is not a valid regular expression: missing \) at position 3",
        ),
        ("regex_match", {"pattern": "a", "timeout_s": 0}, r"timeout_s must be greater than 0 \(got 0\)"),
        (
            "numeric_match",
            {"reference_pattern": "[a"},
            r"reference_pattern '\[a' is not a valid regular expression: .* at position",
        ),
        (
            "rouge",
            {"variant": "rouge9"},
            r"variant must be 'rouge1', 'rouge2', 'rougeL' or 'rougeLsum' \(got 'rouge9'\)",
        ),
        ("semantic_similarity", {"threshold": 2}, r"threshold must be less than or equal to 1 \(got 2\)"),
        ("contains", {"values": []}, r"values must have at least one text"),
        ("contains", {"values": ["a", "  "]}, r"values must not be empty"),
        ("contains", {"mode": "some"}, r"mode must be 'any' or 'all' \(got 'some'\)"),
    ],
)
def test_wrong_parameters_name_the_metric_the_parameter_the_bound_and_the_value(
    metric: str, params: dict[Any, Any], message: str
) -> None:
    """A parameter is checked when the evaluator is built, before any call is paid for."""
    with pytest.raises(ConfigError, match=message):
        build(metric, params)


def test_every_wrong_parameter_is_named_at_once() -> None:
    """One attempt shows all that is to be put right."""
    with pytest.raises(ConfigError, match=r"min must be a valid integer \(got 'x'\); max must be greater"):
        build("length", {"min": "x", "max": -1})


def test_importing_the_registry_loads_no_metric_package() -> None:
    """A run pays only for the metrics that it uses."""
    code = (
        "import sys, promptlab.evaluators.registry\n"
        "heavy = {'sacrebleu', 'rouge_score', 'rapidfuzz', 'jsonschema', 'regex', 'nltk', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize(("metric", "package"), [("bleu", "sacrebleu"), ("rouge", "rouge_score")])
def test_a_missing_optional_package_is_named_with_its_command(metric: str, package: str) -> None:
    """The error comes at build time; describe() works without the package."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from promptlab.evaluators.registry import build, describe\n"
        "from promptlab.errors import MissingExtraError\n"
        f"print(describe({metric!r}).extra)\n"
        "try:\n"
        f"    build({metric!r}, {{}})\n"
        "except MissingExtraError as error:\n"
        "    print(error)"
    )
    assert run_python(code).splitlines() == [
        "metrics",
        f"Metric '{metric}' needs an optional package: pip install 'promptlab-serverless[metrics]'",
    ]
    hosted = run_python("import os; os.environ['AWS_LAMBDA_FUNCTION_NAME'] = 'studio'\n" + code)
    assert "pip install" not in hosted and "this hosted lab does not have" in hosted
    assert issubclass(MissingExtraError, ConfigError)


@pytest.mark.parametrize(
    "metric", ["exact_match", "numeric_match", "token_f1", "bleu", "rouge", "edit_distance"]
)
def test_one_evaluator_serves_many_threads(metric: str) -> None:
    """Concurrent cases get the scores that they get alone."""
    cases = [
        {"response": f"the answer is {i} {'x ' * (i % 7)}", "reference": f"the answer is {i % 3}"}
        for i in range(200)
    ]
    alone = [build(metric).evaluate(case) for case in cases]
    shared = build(metric)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.evaluate, cases)) == alone


@pytest.mark.parametrize(
    "metric",
    [
        name
        for name in NAMES
        if "response" in describe(name).inputs
        and name not in ("semantic_similarity", "bertscore")
        and not (describe(name).needs_judge or describe(name).of_run)
    ],
)
def test_a_missing_response_is_an_error_of_the_case(metric: str) -> None:
    """No metric takes null for a text."""
    with pytest.raises(ValueError, match="response is missing"):
        build(metric, REQUIRED.get(metric, {})).evaluate({"response": None, "reference": "a"})


@pytest.mark.parametrize(
    "metric",
    [
        name
        for name in NAMES
        if {"response", "reference"} <= set(describe(name).inputs)
        and name not in ("semantic_similarity", "bertscore")
        and not (describe(name).needs_judge or describe(name).of_run)
    ],
)
@pytest.mark.parametrize(
    ("reference", "message"),
    [(None, "reference is missing"), ([], "empty list"), (["1", None], r"reference\[1\] is missing")],
)
def test_a_missing_reference_is_an_error_of_the_case(metric: str, reference: Any, message: str) -> None:
    """A dataset without the answer cannot say that the model was wrong."""
    with pytest.raises(ValueError, match=message):
        build(metric).evaluate({"response": "1", "reference": reference, "database": ""})
