"""Moments of scores that hardly differ, and summaries that another program or a fault has written."""

from __future__ import annotations

import math
import random
import statistics as exact
from fractions import Fraction
from typing import Any

import pytest

from promptlab.domain.counting import RowCounts
from promptlab.domain.results import Score
from promptlab.domain.statistics import Distribution
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.errors import StoreDamagedError
from promptlab.statistics import t_of, wilson


def counted(values: list[float]) -> Distribution:
    """Count all values in one stream."""
    found = Distribution()
    for value in values:
        found.add(value)
    return found


def merged(values: list[float], size: int) -> Distribution:
    """Count the values in shards of a size and merge these, each by way of its JSON."""
    total = Distribution()
    for start in range(0, len(values), size):
        total.merge(Distribution.from_json(counted(values[start : start + size]).to_json()))
    return total


@pytest.mark.parametrize("value", [0.1, 0.2, 0.9, 0.95, 0.0001, 1e-5, 123.456, -0.95, 1e150, 0.0])
def test_equal_scores_have_no_spread_however_many_there_are(value: float) -> None:
    """The mean is the score, and the interval is as narrow, for every n to 5,000."""
    stream = Distribution()
    for n in range(1, 5_001):
        stream.add(value)
        assert stream.m2 == 0
        assert stream.mean == value
        assert stream.stderr == (0.0 if n > 1 else None)
    for size in (1, 7, 50):
        found = merged([value] * 5_000, size)
        assert (found.m2, found.mean, found.stderr) == (0, value, 0)


def test_equal_row_means_of_trials_have_no_spread() -> None:
    """Three trials of 0.1, 0.2 and 0.3 in each of 5,000 rows: of scores from 0 to 1 the interval has a width
    all the same, and the error is the one that it is made of."""
    metric = MetricSummary(counting=RowCounts(bounds=(0.0, 1.0), worst=0.0))
    for _ in range(5_000):
        metric.add_row([Score(value=0.1), Score(value=0.2), Score(value=0.3)])
    assert metric.values.stderr == 0 and metric.mean == pytest.approx(0.2)
    low, high = metric.interval
    assert low is not None and high is not None and low < 0.2 < high
    assert metric.stderr == pytest.approx((high - low) / 2 / t_of(4_999))


@pytest.mark.parametrize(
    "values",
    [
        [1e15 + i for i in range(10)] * 100,
        [-1e15 - i for i in range(10)] * 100,
        [1e9 + i / 1000 for i in range(1000)],
        [0.95 + i * 1e-16 for i in range(1000)],
        [1e15, 1.0, -1e15, 2.0] * 50,
        [1e-300 * i for i in range(100)],
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_the_variance_is_that_of_exact_arithmetic(values: list[float], size: int) -> None:
    """Numbers far from 0 and near each other keep their spread, streamed, in shards and in any order."""
    values = random.Random(7).sample(values, len(values))
    wanted = exact.variance([Fraction(value) for value in values])
    found = merged(values, size)
    assert found.m2 >= 0
    assert found.m2 / (len(values) - 1) == pytest.approx(float(wanted), rel=1e-9, abs=1e-320)


def test_the_mean_is_within_its_least_and_greatest_value() -> None:
    """Rounding of the sum does not carry the mean out of its data."""
    for value in (0.1, 0.7, 1 / 3, 5e-324):
        assert counted([value] * 3).mean == value
        assert merged([value] * 999, 10).mean == value


def test_wilson_takes_a_sum_that_rounding_put_beyond_n() -> None:
    """A proportion is at most 1 and at least 0."""
    assert wilson(3 * (1 + 2e-16), 3) == wilson(3, 3)
    assert wilson(-1e-17, 3) == wilson(0, 3)


def test_moments_that_rounding_once_made_negative_are_read() -> None:
    """A run that an older version recorded with a negative m2 has a standard error of 0."""
    old = {**counted([0.95] * 60).to_json(), "m2": -1.1e-14}
    found = MetricSummary.from_json({"values": old, "scored": 60})
    assert found.stderr == 0
    assert found.brief()["ci_low"] == pytest.approx(0.95)


def test_a_summary_of_another_version_is_read() -> None:
    """Missing fields are empty; unknown ones are left out."""
    summary = Summary(cases=2, succeeded=2)
    summary.metrics["f1"] = MetricSummary()
    summary.metrics["f1"].add_row([Score(value=0.5)])
    summary.metrics["f1"].not_applicable = 3
    newer = summary.to_json() | {"from_tomorrow": 1}
    newer["metrics"]["f1"] |= {"kurtosis": 3}
    newer["metrics"]["f1"]["values"] |= {"m4": 1.5}
    assert Summary.from_json(newer) == summary
    assert Summary.from_json({"cases": 2, "succeeded": 2}) == Summary(cases=2, succeeded=2)


BROKEN: list[Any] = [
    None,
    [],
    "{}",
    {"cases": "many"},
    {"cases": -1},
    {"cost_usd": "free"},
    {"metrics": []},
    {"metrics": {"f1": None}},
    {"metrics": {"f1": {"values": {"n": 2, "total": math.nan, "min": 0, "max": 1, "zeros": 2}}}},
    {"metrics": {"f1": {"values": {"n": 1, "total": None, "min": 0, "max": 1, "zeros": 1}}}},
    {"metrics": {"f1": {"values": {"n": 1, "min": None, "max": 1, "zeros": 1}}}},
    {"metrics": {"f1": {"values": {"n": 1, "min": 1, "max": 1, "bins": {"one": 1}}}}},
    {"metrics": {"f1": {"values": {"n": 1, "min": 1, "max": 1, "bins": {"1": "one"}}}}},
    {"metrics": {"f1": {"values": {"n": 1, "min": 1, "max": 1, "bins": {"99999999": 1}}}}},
    {"metrics": {"f1": {"values": {"n": 5, "min": 1, "max": 1, "bins": {"1": 1}}}}},
    {"metrics": {"f1": {"labels": {"a": None}}}},
    {"latency_ms": {"n": 1.5}},
]


@pytest.mark.parametrize("value", BROKEN)
def test_a_summary_that_is_none_is_one_typed_error(value: Any) -> None:
    """Never a KeyError, an OverflowError or a nan that turns up on a page."""
    with pytest.raises(StoreDamagedError):
        Summary.from_json(value)
