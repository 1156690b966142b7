"""Student's t, the binomial tail and their relatives, against scipy and published digits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from scipy import special, stats

from promptlab.statistics import (
    binomial_cdf,
    binomial_pmf,
    chi_square_tail,
    incomplete_beta,
    log_beta,
    normal_cdf,
    normal_quantile,
    normal_two_sided,
    student_quantile,
    student_two_sided,
)
from tests.unit.oracles import EXACT, over

parameters = st.floats(0.01, 1e6)
counts = st.integers(0, 200_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@over(parameters, parameters, st.floats(0, 1))
def test_the_incomplete_beta_is_that_of_scipy(a: float, b: float, x: float) -> None:
    """Tails below 1e-300 are nothing."""
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-300)


@over(parameters, parameters, st.floats(-4, 4))
def test_it_is_right_near_its_mean_too(a: float, b: float, off: float) -> None:
    """There the terms of its logarithm cancel."""
    mean = a / (a + b)
    x = min(max(mean + off * (mean * (1 - mean) / (a + b + 1)) ** 0.5, 0.0), 1.0)
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), **EXACT)


@over(st.floats(0.001, 1e9), st.floats(0.001, 1e9))
def test_log_beta_is_that_of_scipy(a: float, b: float) -> None:
    """From 0.001 to 1e9."""
    assert log_beta(a, b) == pytest.approx(special.betaln(a, b), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("df", [*range(1, 301), 999, 9_999, 99_999, 1_000_000, 10**9])
def test_the_quantile_of_t_is_right_to_nine_digits(df: int) -> None:
    """For every size of a run."""
    assert student_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)


def test_the_quantile_of_t_is_that_of_the_tables() -> None:
    """Abramowitz & Stegun, table 26.10."""
    assert [round(student_quantile(0.975, df), 3) for df in (1, 2, 5, 10, 30, 120)] == [
        12.706,
        4.303,
        2.571,
        2.228,
        2.042,
        1.98,
    ]


@over(st.floats(1e-9, 1 - 1e-9), st.floats(0.5, 1e6))
def test_a_quantile_of_any_probability_is_that_of_scipy(p: float, df: float) -> None:
    """Both tails, and degrees of freedom that are no whole number."""
    assert student_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-9)


@over(st.floats(-60, 60), st.floats(0.5, 1e7))
def test_the_p_of_t_is_that_of_scipy(t: float, df: float) -> None:
    """Far into the tails."""
    assert student_two_sided(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9, abs=1e-300)


@over(st.floats(-38, 38), st.floats(1e-12, 1 - 1e-12))
def test_the_normal_distribution_is_that_of_scipy(z: float, p: float) -> None:
    """Its quantile, and its tails without the loss of a subtraction."""
    assert normal_two_sided(z) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9, abs=1e-300)
    assert normal_cdf(z) == pytest.approx(stats.norm.cdf(z), rel=1e-9, abs=1e-300)
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), **EXACT)


@over(
    st.integers(0, 200_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.05, 0.95)
)
def test_binomial_tails_are_those_of_scipy(found: tuple[int, int], p: float) -> None:
    """Up to 200,000 discordant pairs."""
    k, n = found
    assert binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9, abs=1e-280)
    assert binomial_cdf(k, n) == pytest.approx(stats.binom.cdf(k, n, 0.5), rel=1e-9, abs=1e-280)
    assert binomial_pmf(k, n, p) == pytest.approx(stats.binom.pmf(k, n, p), rel=1e-9, abs=1e-280)
    assert binomial_pmf(k, n) == pytest.approx(stats.binom.pmf(k, n, 0.5), rel=1e-9, abs=1e-280)


def test_beyond_the_ends_of_a_binomial_nothing_is_left() -> None:
    """Fewer than none, more than all."""
    assert (binomial_cdf(-1, 5), binomial_cdf(5, 5), binomial_cdf(9, 5)) == (0, 1, 1)
    assert (binomial_pmf(-1, 5), binomial_pmf(6, 5), binomial_cdf(0, 0)) == (0, 0, 1)


@over(st.floats(0, 500), st.integers(1, 60))
def test_the_tail_of_chi_square_is_that_of_scipy(value: float, df: int) -> None:
    """Odd and even degrees of freedom."""
    assert chi_square_tail(value, df) == pytest.approx(stats.chi2.sf(value, df), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    "call",
    [
        lambda: incomplete_beta(0, 1, 0.5),
        lambda: incomplete_beta(1, 1, 1.5),
        lambda: student_quantile(1, 5),
        lambda: student_quantile(0.5, 0),
        lambda: student_two_sided(1, 0),
    ],
)
def test_arguments_out_of_range_are_refused(call: object) -> None:
    """With the range, and what was given."""
    with pytest.raises(ValueError, match="needs"):
        call()  # type: ignore[operator]
