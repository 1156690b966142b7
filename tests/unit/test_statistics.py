"""Streaming statistics: against the standard library, and against published tables."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from typing import Any

import orjson
import pytest

from promptlab.domain.statistics import RELATIVE_ERROR, Distribution
from promptlab.errors import StoreDamagedError
from promptlab.statistics import student_interval, wilson

RANDOM = random.Random(5)
STREAMS = {
    "uniform": [RANDOM.random() for _ in range(2000)],
    "latencies": [RANDOM.lognormvariate(5, 2) for _ in range(2000)],
    "signed": [RANDOM.gauss(0, 100) for _ in range(2000)],
    "pass/fail": [float(RANDOM.random() < 0.3) for _ in range(2000)],
    "far from zero": [1e9 + RANDOM.random() for _ in range(2000)],
    "wide": [RANDOM.choice((-1, 1)) * 10 ** RANDOM.uniform(-8, 8) for _ in range(2000)],
    "one": [42.0],
    "constant": [0.1] * 7,
    "powers of the bucket width": [(1.01 / 0.99) ** i for i in range(-50, 50)],
}
streams = pytest.mark.parametrize("values", STREAMS.values(), ids=STREAMS)


def counted(values: list[float]) -> Distribution:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    return distribution


def merged(parts: list[list[float]]) -> Distribution:
    whole = Distribution()
    for part in parts:
        whole.merge(counted(part))
    return whole


def assert_equal(one: Distribution, other: Distribution) -> None:
    """Counts to the last one; moments up to rounding."""
    for field in ("n", "min", "max", "bins", "negative", "zeros"):
        assert getattr(one, field) == getattr(other, field)
    spread = max(abs(one.min or 0), abs(one.max or 0))
    assert one.mean == pytest.approx(other.mean, rel=1e-12, abs=1e-12 * spread)
    assert one.m2 == pytest.approx(other.m2, rel=1e-9, abs=1e-12 * spread)


@streams
def test_mean_and_error_are_those_of_the_standard_library(values: list[float]) -> None:
    """Exact fractions are the reference."""
    distribution = counted(values)
    assert distribution.n == len(values)
    assert (distribution.min, distribution.max) == (min(values), max(values))
    assert distribution.mean == pytest.approx(statistics.mean(values), rel=1e-12, abs=1e-9)
    if len(values) > 1:
        expected = math.sqrt(statistics.variance(values) / len(values))
        assert distribution.stderr == pytest.approx(expected, rel=1e-7, abs=1e-15)


@streams
@pytest.mark.parametrize("size", [1, 50, 333])
def test_merging_parts_in_any_order_is_counting_all_at_once(values: list[float], size: int) -> None:
    """Shards finish in any order."""
    parts = [values[i : i + size] for i in range(0, len(values), size)]
    whole = counted(values)
    assert_equal(merged(parts), whole)
    assert_equal(merged(parts[::-1]), whole)
    assert_equal(merged(random.Random(6).sample(parts, len(parts))), whole)


def test_every_order_of_merging_three_parts_gives_the_same() -> None:
    """Also when sums of sums are merged."""
    parts = [[1.0, 2.0, -3.0], [0.0, 1e-12, 1e6], [5.0]]
    whole = counted(list(itertools.chain(*parts)))
    for order in itertools.permutations(parts):
        assert_equal(merged(list(order)), whole)
        right = counted(order[1])
        right.merge(counted(order[2]))
        left = counted(order[0])
        left.merge(right)
        assert_equal(left, whole)


@streams
def test_merging_with_nothing_changes_not_one_bit(values: list[float]) -> None:
    """A run of one shard has that shard's numbers, and empty shards add nothing."""
    once = counted(values)
    into_empty = Distribution()
    into_empty.merge(once)
    assert into_empty == once
    once.merge(Distribution())
    assert into_empty == once


def test_merging_leaves_the_other_as_it_was() -> None:
    """The parts share nothing afterwards."""
    one, other = counted([1.0]), counted([2.0, 2.0])
    before = other.to_json()
    one.merge(other)
    one.add(2.0)
    assert other.to_json() == before


@streams
@pytest.mark.parametrize("q", [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1])
def test_a_quantile_is_within_one_percent(values: list[float], q: float) -> None:
    """The quantile is within 1% of the value with that rank, as counted one by one."""
    true = sorted(values)[math.floor(q * (len(values) - 1))]
    found = counted(values).quantile(q)
    assert found is not None
    assert abs(found - true) <= abs(true) * RELATIVE_ERROR * (1 + 1e-9)


def test_values_near_zero_are_zero() -> None:
    """Buckets would go on forever towards it."""
    distribution = counted([0.0, -0.0, 1e-10, -1e-300, 5.0])
    assert (distribution.zeros, len(distribution.bins), len(distribution.negative)) == (4, 1, 0)
    assert distribution.quantile(0.5) == 0.0


def test_an_empty_distribution_has_no_numbers() -> None:
    """None, and not zero."""
    empty = Distribution()
    assert (empty.n, empty.min, empty.max, empty.stderr, empty.quantile(0.5)) == (0, None, None, None, None)
    assert counted([3.0]).stderr is None
    assert counted([3.0]).quantile(0.5) == 3.0


@streams
def test_a_distribution_survives_json(values: list[float]) -> None:
    """To the last bit, and can be added to afterwards."""
    distribution = counted(values)
    again = Distribution.from_json(orjson.loads(orjson.dumps(distribution.to_json())))
    assert again == distribution
    again.add(1.0)
    distribution.add(1.0)
    assert again == distribution


def test_an_empty_distribution_survives_json() -> None:
    """As a metric that scored nothing has one."""
    assert Distribution.from_json(orjson.loads(orjson.dumps(Distribution().to_json()))) == Distribution()


def test_an_overflown_variance_survives_json() -> None:
    """Squares beyond 1e308 are infinite, which JSON cannot say."""
    huge = counted([1e200, -1e200])
    again = Distribution.from_json(orjson.loads(orjson.dumps(huge.to_json())))
    again.merge(counted([1.0]))
    assert (again.n, again.stderr) == (3, math.inf)


# Wilson score intervals at 95%: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("successes", "n", "low", "high"), NEWCOMBE)
def test_wilson_intervals_are_those_of_the_published_table(
    successes: int, n: int, low: float, high: float
) -> None:
    """To its four digits; and mirrored for failures."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1319, 100_000])
def test_a_wilson_interval_holds_its_proportion(n: int) -> None:
    """Between 0 and 1, at both ends too."""
    for successes in {0, 1, n // 3, n - 1, n}:
        low, high = wilson(successes, n)
        assert 0 <= low <= successes / n <= high <= 1
        assert low < high
    assert wilson(0, n)[0] == 0
    assert wilson(n, n)[1] == 1


@pytest.mark.parametrize("n", [0, -1])
def test_a_proportion_of_nothing_is_an_error(n: int) -> None:
    """There is no interval to give."""
    with pytest.raises(ValueError, match=f"n={n}"):
        wilson(0, n)


# Student's t at 97.5%, by degrees of freedom: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
STUDENT = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
    10: 2.228,
    15: 2.131,
    20: 2.086,
    30: 2.042,
    100: 1.984,
}


@pytest.mark.parametrize(("df", "t"), STUDENT.items())
def test_the_interval_of_a_mean_uses_students_t(df: int, t: float) -> None:
    """Within 0.1% of the table and its rounding."""
    low, high = student_interval(10.0, 2.0, df + 1)
    assert 10 - low == pytest.approx(high - 10)
    assert (high - low) / 4 == pytest.approx(t, rel=1e-3, abs=5e-4)


# The same to all digits of a double.
QUANTILES = {
    4: 2.7764451051977987,
    5: 2.570581835636314,
    6: 2.4469118511449692,
    7: 2.3646242515927844,
    8: 2.306004135204166,
    9: 2.2621571628540993,
    10: 2.2281388519649385,
    15: 2.131449545559323,
    20: 2.085963447265837,
    30: 2.0422724563012373,
    100: 1.983971518523553,
}


@pytest.mark.parametrize(("df", "t"), QUANTILES.items())
def test_students_t_lacks_only_the_terms_from_the_fifth_power_on(df: int, t: float) -> None:
    """Its four first terms are those of the expansion."""
    _, high = student_interval(0.0, 1.0, df + 1)
    assert abs(high - t) < 1.5 / df**5


def test_the_interval_of_a_mean_of_many_is_the_normal_one() -> None:
    """t goes to 1.96."""
    assert student_interval(0.0, 1.0, 10_000_000) == pytest.approx((-1.959964, 1.959964), abs=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_the_interval_of_a_mean_needs_two_values(n: int) -> None:
    """One value says nothing of its spread."""
    with pytest.raises(ValueError, match=f"n={n}"):
        student_interval(1.0, 0.0, n)


def test_a_worked_example_of_a_mean() -> None:
    """2, 4, 4, 4, 5, 5, 7, 9: mean 5, s² = 32/7, t(7) = 2.364624."""
    distribution = counted([2, 4, 4, 4, 5, 5, 7, 9])
    stderr = math.sqrt(32 / 7 / 8)
    assert distribution.stderr == pytest.approx(stderr)
    assert distribution.stderr is not None
    expected = (5 - 2.364624 * stderr, 5 + 2.364624 * stderr)
    assert student_interval(distribution.mean, distribution.stderr, 8) == pytest.approx(expected, rel=1e-3)


def test_a_quantile_is_within_the_values_at_both_ends() -> None:
    """The least at 0, the greatest at 1."""
    distribution = counted([-1.0, 0.0, 1.0])
    found = [distribution.quantile(q) for q in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([-1.0, 0.0, 1.0], rel=0.0101)
    assert all(value is not None and -1.0 <= value <= 1.0 for value in found)
    assert [counted([7.3] * 5).quantile(q) for q in (0.0, 0.5, 1.0)] == [7.3] * 3
    assert Distribution().mean == 0.0


def test_values_of_a_billionth_are_told_from_nothing() -> None:
    """Below that they are zeros."""
    distribution = counted([1e-9, -1e-9, 0.9e-9])
    assert (distribution.zeros, sum(distribution.bins.values()), sum(distribution.negative.values())) == (
        1,
        1,
        1,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 1},
        {"n": 2, "zeros": 1},
        {"n": 1, "bins": {"x": 1}},
        {"n": 1, "bins": {"40001": 1}},
        {"n": 1, "negative": {"-40001": 1}},
        {"n": 0, "bins": {"1": -1, "2": 1}},
        {"n": 1, "zeros": 1, "min": None, "max": 1.0},
        {"n": 1, "zeros": 1, "min": 0.0, "max": math.inf},
        {"n": 1, "zeros": 1, "min": 0.0, "max": 0.0, "total": "0"},
        {"n": 1, "zeros": 1, "min": 0.0, "max": 0.0, "carry": math.nan},
        {"n": 1, "zeros": 1, "min": 0.0, "max": 0.0, "m2": True},
        {"n": True},
        {"n": -1},
        {"n": 1.0},
        [],
        None,
    ],
)
def test_a_record_that_counts_what_cannot_be_is_damaged(wrong: Any) -> None:
    """Each number is one, and the bins hold as many values as there are."""
    with pytest.raises(StoreDamagedError):
        Distribution.from_json(wrong)


def test_the_farthest_buckets_and_squares_of_a_record_are_read() -> None:
    """Rounding once made squares negative; beyond 1e308 they are infinite, and JSON has null for that."""
    ends = {"n": 2, "bins": {"40000": 1}, "negative": {"-40000": 1}, "min": 1.0, "max": 2.0}
    assert Distribution.from_json(ends).bins == {40_000: 1}
    assert Distribution.from_json({**ends, "m2": -1e-9}).m2 == 0.0
    assert Distribution.from_json({**ends, "m2": None}).m2 == math.inf
