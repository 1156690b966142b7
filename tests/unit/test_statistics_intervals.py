"""Intervals of one mean, against scipy, statsmodels and published digits."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from promptlab.statistics import (
    Interval,
    clustered,
    cr1,
    cr3,
    effective_n,
    hall_t,
    is_skewed,
    median_interval,
    numbers_interval,
    satterthwaite,
    student_interval,
    wilson,
    wilson_t,
    worst_case,
)
from tests.unit.oracles import EXACT, over

shares = st.lists(st.integers(0, 10**6).map(lambda v: v / 10**6), min_size=2, max_size=60)
numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def moments(values: list[float]) -> tuple[float, float, int]:
    n = len(values)
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(n), n


@over(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), confidences)
def test_wilson_is_that_of_statsmodels(found: tuple[int, int], confidence: float) -> None:
    """Also at none and at all."""
    successes, n = found
    assert wilson(successes, n, confidence) == pytest.approx(
        proportion_confint(successes, n, 1 - confidence, method="wilson"), **EXACT
    )


@over(numbers, confidences)
def test_the_t_interval_is_that_of_scipy(values: list[float], confidence: float) -> None:
    """Of any numbers."""
    mean, stderr, n = moments(values)
    assume(stderr > 0)
    wanted = stats.t.interval(confidence, n - 1, loc=mean, scale=stderr)
    assert student_interval(mean, stderr, n, confidence=confidence) == pytest.approx(wanted, rel=1e-9)


@over(st.lists(st.integers(-1000, 1000), min_size=3, max_size=60), confidences)
def test_halls_interval_undoes_his_cubic_and_is_never_shorter_than_students(
    values: list[int], confidence: float
) -> None:
    """The root of the cubic that he turns round, by numpy."""
    mean, stderr, n = moments([float(v) for v in values])
    assume(stderr > 0)
    skewness = float(stats.skew(values))
    assume(abs(skewness) > 1e-3)

    t = stats.t.ppf(0.5 + confidence / 2, n - 1)

    def cubic(quantile: float) -> float:
        """The end at which g(√n(x̄ − μ)/s) is the quantile."""
        root_n = math.sqrt(n)
        powers = [skewness**2 / (27 * n), skewness / (3 * root_n), 1, skewness / (6 * root_n) - quantile]
        real = min(np.roots(powers), key=lambda one: abs(one.imag)).real
        return mean - stderr * real

    plain = student_interval(mean, stderr, n, confidence=confidence)
    found = hall_t(mean, stderr, n, skewness, confidence=confidence)
    scale = 1e-9 * (abs(mean) + stderr)
    assert found.low == pytest.approx(min(plain.low, cubic(t)), rel=1e-9, abs=scale)
    assert found.high == pytest.approx(max(plain.high, cubic(-t)), rel=1e-9, abs=scale)


def test_halls_interval_reaches_to_the_side_of_the_long_tail() -> None:
    """In the mirror it is mirrored; without skewness it is Student's, and where Cochran's rule is kept."""
    found, plain = hall_t(10.0, 1.0, 20, 1.5), student_interval(10.0, 1.0, 20)
    assert found.high - plain.high > 1 > plain.low - found.low
    assert hall_t(-10.0, 1.0, 20, -1.5) == pytest.approx((-found.high, -found.low))
    assert hall_t(10.0, 1.0, 20, 0.0) == plain
    assert numbers_interval(10.0, 1.0, 20, 1.5) == found
    assert numbers_interval(10.0, 1.0, 20, 0.8) == plain


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 1, 0.5, 1, 0, 1, 0.75, 1, 1, 0.25], (0.444090, 0.918475)),
        ([1] * 20, (0.820319, 1)),
        ([0.7] * 10, (0.357216, 0.907381)),
        ([1] * 12 + [0] * 8, (0.368381, 0.794146)),
    ],
)
def test_wilson_t_has_the_digits_of_the_specification(
    values: list[float], wanted: tuple[float, float]
) -> None:
    """Computed once, independently."""
    mean, stderr, n = moments(values)
    assert wilson_t(mean, stderr, n) == pytest.approx(wanted, abs=5e-7)


def test_effective_n_of_the_specification() -> None:
    """13.5 of ten."""
    mean, stderr, n = moments([1, 1, 0.5, 1, 0, 1, 0.75, 1, 1, 0.25])
    assert effective_n(mean, stderr, n) == pytest.approx(13.5)


@over(shares, st.floats(-1000, 1000), st.floats(0.01, 1000), confidences)
def test_wilson_t_is_its_formula_within_the_range_and_never_a_point(
    values: list[float], low: float, length: float, confidence: float
) -> None:
    """Scaled to any range."""
    mean, stderr, n = moments(values)
    ends = wilson_t(
        low + mean * length,
        stderr * length,
        n,
        bounds=(low, low + length),
        confidence=confidence,
    )
    n_e = n if stderr == 0 else max(mean * (1 - mean) / stderr**2, n - 1)
    t = stats.t.ppf(0.5 + confidence / 2, n - 1)
    centre = (mean + t**2 / (2 * n_e)) / (1 + t**2 / n_e)
    half = t * np.sqrt(mean * (1 - mean) / n_e + t**2 / (4 * n_e**2)) / (1 + t**2 / n_e)
    near = 1e-9 * (length + abs(low))
    assert ends.low == pytest.approx(low + length * (centre - half), abs=near)
    assert ends.high == pytest.approx(low + length * (centre + half), abs=near)
    assert low - near <= ends.low <= low + mean * length + near
    assert ends.low < ends.high <= low + length + near


@over(st.integers(0, 50), st.integers(2, 50))
def test_wilson_t_of_pass_and_fail_is_wilson_with_t_and_one_less(passed: int, n: int) -> None:
    """As the specification says."""
    passed = min(passed, n)
    assume(0 < passed < n)
    mean, stderr, _ = moments([1.0] * passed + [0.0] * (n - passed))
    assert effective_n(mean, stderr, n) == pytest.approx(n - 1)


@over(st.lists(st.floats(-100, 100), min_size=1, max_size=80), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_median_is_that_of_hettmansperger_and_sheather(
    values: list[float], confidence: float
) -> None:
    """Against the binomial tail of scipy: between the shortest exact one, and the next one further in."""
    found, n, alpha = median_interval(values, confidence), len(values), 1 - confidence
    fitting = [k for k in range(1, n // 2 + 1) if 2 * stats.binom.cdf(k - 1, n, 0.5) <= alpha]
    if not fitting:
        assert found is None
        return
    k, ordered = fitting[-1], sorted(values)
    held, further = (1 - 2 * stats.binom.cdf(m - 1, n, 0.5) for m in (k, k + 1))
    share = (held - confidence) / (held - further)
    inward = (n - k) * share / (k + (n - 2 * k) * share)
    ends = [(1 - inward) * ordered[a] + inward * ordered[b] for a, b in ((k - 1, k), (n - k, n - k - 1))]
    assert found is not None and tuple(found) == pytest.approx(ends, rel=1e-9, abs=1e-9)
    assert ordered[k - 1] <= found.low <= found.high <= ordered[n - k]


def test_worst_cases_of_the_refusing_run() -> None:
    """742 of 1,102 passed and 217 refused: .5625 to .7271 of 1,319."""
    assert worst_case(742 / 1102, 1102, 217, (0, 1)) == pytest.approx((742 / 1319, 959 / 1319))
    assert worst_case(0.0, 0, 4, (1, 5)) == Interval(1, 5)
    assert worst_case(3.0, 8, 0, (1, 5)) == Interval(3, 3)


@over(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=9), min_size=2, max_size=20))
def test_clustered_errors_are_those_of_statsmodels_and_of_a_jackknife(groups: list[list[float]]) -> None:
    """CR1 of a regression on a constant; CR3 by leaving each cluster out."""
    sums, sizes = [math.fsum(g) for g in groups], [len(g) for g in groups]
    values, labels = np.concatenate(groups), np.repeat(range(len(groups)), sizes)
    mean, stderr = cr1(sums, sizes)
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": labels})
    near = {"rel": 1e-9, "abs": 1e-9}
    assert (mean, stderr) == pytest.approx((fit.params[0], fit.bse[0]), **near)
    without = [np.mean(values[labels != g]) for g in range(len(groups))]
    jackknife = math.sqrt((len(groups) - 1) / len(groups) * sum((w - mean) ** 2 for w in without))
    assert cr3(sums, sizes) == pytest.approx((mean, jackknife), **near)


def test_equal_clusters_have_one_error_and_unequal_ones_the_jackknife() -> None:
    """CR1 and CR3 agree where all sizes do."""
    equal = {n: (float(n * n), 4) for n in range(6)}
    found = clustered(equal)
    sums, sizes = zip(*equal.values(), strict=True)
    assert (found.method, found.clusters) == ("CR1", 6)
    assert cr1(sums, sizes) == pytest.approx(cr3(sums, sizes))
    assert found.df == 5.0 == pytest.approx(satterthwaite(sizes))
    assert clustered({**equal, 6: (9.0, 9)}).method == "CR3"


@over(st.lists(st.integers(1, 60), min_size=2, max_size=20), st.floats(0, 1))
def test_degrees_of_freedom_over_clusters_are_those_of_the_quadratic_form(
    sizes: list[int], alike: float
) -> None:
    """tr(M)²/tr(M²) of the matrix that CR3 is of; a cluster that outweighs all others leaves one."""
    n, count = sum(sizes), len(sizes)
    c = np.array(sizes, dtype=float)
    apart = np.eye(count) - np.outer(c / n, np.ones(count))
    form = np.outer(1 / (n - c), 1 / (n - c)) * (apart @ np.diag(c * (1 + (c - 1) * alike)) @ apart.T)
    wanted = np.trace(form) ** 2 / np.trace(form @ form)
    assert satterthwaite(sizes, alike) == pytest.approx(max(1.0, min(wanted, count - 1)), rel=1e-9)
    assert satterthwaite([1] * 8 + [10_000]) == pytest.approx(1.0, abs=1e-3)


def test_too_little_is_refused_in_words() -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match="at least 5 of them, got 4: cluster by a column with more"):
        clustered(dict.fromkeys(range(4), (1.0, 2)))
    with pytest.raises(ValueError, match="at least two clusters, got 1"):
        satterthwaite([3])
    with pytest.raises(ValueError, match="at least two observations, got n=1"):
        wilson_t(1.0, 0.0, 1)
    with pytest.raises(ValueError, match="at least one observation, got n=0"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="bounds must be finite"):
        wilson_t(1.0, 0.0, 5, bounds=(0, math.inf))


def test_cochrans_rule() -> None:
    """An exponential (g₁ = 2) needs a hundred."""
    assert is_skewed(99, 2.0) and not is_skewed(100, 2.0) and is_skewed(99, -2.0)
