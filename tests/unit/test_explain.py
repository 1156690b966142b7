"""Words about a configuration that is wrong are short, however wrong it is."""

from __future__ import annotations

import pytest

from promptlab import ExperimentConfig
from promptlab.errors import ConfigError

FINE = {"dataset": "d", "prompt_template": "p", "model": "simulated/echo"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({f"field{n}": n for n in range(30_000)}, "and 29,980 more"),
        ({"evaluation": [{f"field{n}": n for n in range(30_000)}]}, "more"),
        ({"x" * 1_000_000: 1}, "unknown field"),
        ({"trials": "x" * 1_000_000}, "trials"),
        ({"model": {"name": "openai/x", **{f"field{n}": n for n in range(30_000)}}}, "at most 100"),
    ],
)
def test_thousands_of_problems_are_a_short_message(wrong: dict[str, object], said: str) -> None:
    """The first are told, the others counted; looking for near names takes no time beyond that."""
    with pytest.raises(ConfigError, match=said) as caught:
        ExperimentConfig.parse({**FINE, **wrong})
    assert len(str(caught.value)) < 10_000


def metric(**fields: object) -> dict[str, object]:
    return {"evaluation": [{"metric": "length", **fields}]}


def retries(**kinds: int) -> dict[str, object]:
    return {"model": {"name": "openai/x", "max_retries": kinds}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (metric(column_mapping="x"), "evaluation.0.column_mapping: must be a mapping (got 'x')"),
        (metric(params=5), "evaluation.0.params: must be a mapping (got 5)"),
        (metric(headlin=1), "evaluation.0.headlin: unknown field, did you mean 'headline'?"),
        ({"evaluation": "x"}, "evaluation: must be a list (got 'x')"),
        ({"dataset": 5}, "dataset: must be a name, or a mapping of its fields (got 5)"),
        ({"dataset": None}, "dataset: must be a name, or a mapping of its fields (got None)"),
        ({"trials": 0}, "trials: Input should be greater than or equal to 1 (got 0)"),
        ({"triasl": 1}, "triasl: unknown field, did you mean 'trials'?"),
        ({"model": {}}, "model.name: is required"),
        ({"qqq": 1}, "qqq: unknown field"),
        (
            retries(timeout=-2),
            "model.max_retries.timeout: Input should be greater than or equal to 0 (got -2)",
        ),
        (
            retries(timeouts=2),
            "model.max_retries.timeouts: Input should be 'server_error', 'timeout', 'connection', "
            "'conflict', 'invalid_response' or 'rate_limit' (got 'timeouts')",
        ),
        ({"cache": {"days": 1}}, "cache.days: unknown field"),
    ],
)
def test_one_problem_is_one_line_with_its_place(wrong: dict[str, object], said: str) -> None:
    """In words of ours, with what was given; a field that is not known is met with the nearest."""
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.parse({**FINE, **wrong})
    assert str(caught.value) == f"This experiment is not valid: {said}"


def test_problems_are_listed_each_once() -> None:
    """A line for each."""
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.parse({"trials": 0, "qqq": 1})
    lines = str(caught.value).splitlines()
    assert lines[0] == "This experiment is not valid:"
    assert {"  - dataset: is required", "  - qqq: unknown field"} <= set(lines[1:])
