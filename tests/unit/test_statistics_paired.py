"""Paired differences: against scipy, statsmodels, brute force, and every outcome enumerated."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats import contingency_tables, multitest
from statsmodels.stats.proportion import confint_proportions_2indep

from promptlab.statistics import (
    bp_t,
    clustered_bp_t,
    holm,
    mcnemar,
    newcombe,
    normal_two_sided,
    paired_t,
    stuart_maxwell,
    tango,
    tango_z,
    welch,
)
from tests.unit.oracles import EXACT, over, tables

Z = 1.959963984540054
pairs = st.integers(1, 3000).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda d: st.integers(0, d).map(lambda b: (b, d - b, n)),
    )
)
squares = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(1, 40), min_size=k, max_size=k), min_size=k, max_size=k)
)
differences = st.lists(st.floats(-1, 1), min_size=2, max_size=80)


@pytest.mark.parametrize(
    ("counts", "exact", "mid_p"),
    [
        ((152, 209), 0.0031506568803606, 0.0026873913284714),
        ((4, 0), 0.125, 0.0625),
        ((5, 0), 0.0625, 0.03125),
        ((6, 0), 0.03125, 0.015625),
        ((0, 0), 1, 1),
        ((7, 7), 1, 1),
    ],
)
def test_mcnemar_has_the_digits_of_the_specification(
    counts: tuple[int, int], exact: float, mid_p: float
) -> None:
    """To the last."""
    assert mcnemar(*counts) == pytest.approx((mid_p, exact), rel=1e-13)
    assert mcnemar(*counts[::-1]) == pytest.approx((mid_p, exact), rel=1e-13)


def test_mcnemars_z_is_tangos_statistic_of_no_difference() -> None:
    """Also with the continuity correction, which is not offered: the specification's digits."""
    assert normal_two_sided(tango_z(152, 209, 1319, 0.0)) == pytest.approx(0.0026997960632602, rel=1e-12)
    corrected = (abs(152 - 209) - 1) / math.sqrt(152 + 209)
    assert normal_two_sided(corrected) == pytest.approx(0.0032049111277552, rel=1e-12)


def test_mcnemar_of_40_400_discordant_pairs() -> None:
    """A sum of whole numbers takes half a second for 5,000."""
    assert mcnemar(20_000, 20_400).exact == pytest.approx(0.047132097, abs=5e-10)


@over(st.integers(0, 2000), st.integers(0, 2000))
def test_mcnemar_is_that_of_statsmodels_and_its_formula(b: int, c: int) -> None:
    """Exact, and mid-p."""
    found = mcnemar(b, c)
    wanted = contingency_tables.mcnemar([[0, b], [c, 0]], exact=True).pvalue if b + c else 1.0
    assert found.exact == pytest.approx(wanted, rel=1e-9, abs=1e-300)
    half = 2 * stats.binom.cdf(min(b, c), b + c, 0.5) - stats.binom.pmf(min(b, c), b + c, 0.5)
    assert found.mid_p == pytest.approx(half if b != c else 1.0, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((1, 7, 21), -0.517232, -0.026003),  # Bentur et al., as in Fagerland, Lydersen & Laake
        ((12, 2, 50), 0.061112, 0.344709),
        ((0, 0, 50), -0.071348, 0.071348),
        ((5, 0, 50), 0.021518, 0.213602),
        ((3, 9, 40), -0.320865, 0.021988),
        ((152, 209, 1319), -0.071458, -0.015052),
    ],
)
def test_tango_has_the_digits_of_the_specification(
    counts: tuple[int, int, int], low: float, high: float
) -> None:
    """Published, and computed once by brute force."""
    assert tango(*counts) == pytest.approx((low, high), abs=5e-7)


def restricted(b: int, c: int, n: int, delta: float) -> float:
    """The share that regressed with the greatest likelihood where the difference is `delta`."""
    least, most = max(0.0, -delta), (1 - delta) / 2

    def slope(q: float) -> float:
        return (b / (q + delta) if b else 0) + (c / q if c else 0) - 2 * (n - b - c) / (1 - 2 * q - delta)

    inside = 1e-13 * (most - least)
    low, high = least + inside, most - inside
    if slope(low) <= 0:
        return least
    if slope(high) >= 0:
        return most
    return float(optimize.brentq(slope, low, high, xtol=1e-16, rtol=1e-14, maxiter=500))


@over(pairs, st.floats(-0.99, 0.99))
def test_tangos_statistic_is_that_of_the_restricted_likelihood(
    counts: tuple[int, int, int], delta: float
) -> None:
    """Maximised numerically, not by the closed form."""
    b, c, n = counts
    assume(n - b - c > 0)
    q = restricted(b, c, n, delta)
    variance = n * (2 * q + delta * (1 - delta))
    assume(variance > 1e-6)
    wanted = (b - c - n * delta) / math.sqrt(variance)
    assert tango_z(b, c, n, delta) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@over(pairs)
def test_the_ends_of_tangos_interval_are_where_its_statistic_is_z(counts: tuple[int, int, int]) -> None:
    """And the statistic at 0 is McNemar's; the interval holds the difference and turns with the sides."""
    b, c, n = counts
    low, high = tango(b, c, n)
    assert -1 <= low <= (b - c) / n <= high <= 1
    if low > -1:
        assert tango_z(b, c, n, low) == pytest.approx(Z, abs=1e-6)
    if high < 1:
        assert tango_z(b, c, n, high) == pytest.approx(-Z, abs=1e-6)
    if b + c:
        assert tango_z(b, c, n, 0) == pytest.approx((b - c) / math.sqrt(b + c), rel=1e-9)
    assert tango(c, b, n) == pytest.approx((-high, -low), abs=1e-12)


CELLS = [(0.02, 0), (0.1, 0), (0.1, 0.05), (0.2, 0), (0.2, 0.1), (0.2, 0.19), (0.4, 0.02), (0.5, 0)]


@pytest.mark.parametrize("n", [50, 100])
def test_tango_covers_at_least_93_percent_in_every_cell(n: int) -> None:
    """By every outcome with its probability, where a discordant pair is to be expected."""
    for psi, delta in CELLS:
        covered = sum(
            p
            for b, c, p in tables(n, (psi + delta) / 2, (psi - delta) / 2)
            if abs(tango_z(b, c, n, delta)) <= Z
        )
        assert covered >= 0.933, (n, psi, delta)


@pytest.mark.parametrize("n", [20, 100, 500, 2000])
def test_mid_p_is_wrong_in_at_most_5_percent(n: int) -> None:
    """By every outcome with its probability: D discordant pairs of n, and b ~ Bin(D, ½) of them."""
    critical = []
    for d in range(n + 1):
        k = critical[-1] if critical else -1
        while 2 * (k + 1) < d and mcnemar(k + 1, d - k - 1).mid_p <= 0.05:
            k += 1
        critical.append(k)
    sizes = 2 * stats.binom.cdf(critical, np.arange(n + 1), 0.5)
    for psi in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        assert stats.binom.pmf(np.arange(n + 1), n, psi) @ sizes <= 0.0502, (n, psi)


@pytest.mark.parametrize("n", [20, 50, 100])
def test_not_worse_is_said_wrongly_in_at_most_3_3_percent(n: int) -> None:
    """The truth is the margin; nominal 2.5%, and 36% with the interval of t."""
    for margin in (0.02, 0.05, 0.1):
        for psi in (0.05, 0.1, 0.2, 0.4):
            if psi > margin and psi * n >= 1:
                wrong = sum(
                    p
                    for b, c, p in tables(n, (psi - margin) / 2, (psi + margin) / 2)
                    if tango_z(b, c, n, -margin) > Z
                )
                assert wrong <= 0.033, (n, margin, psi)


def test_bp_t_has_the_digits_of_the_specification() -> None:
    """R = 1."""
    d = [0.2, 0, 0, -0.1, 0.5, 0, 0.3, 0, 0, 0.1]
    found = bp_t(statistics.fmean(d), statistics.stdev(d), 10, 1)
    assert (found.low, found.high, found.p) == pytest.approx((-0.144387, 0.326205, 0.404832), abs=5e-7)
    same = bp_t(0, 0, 50, 1)
    assert (same.low, same.high, same.p) == pytest.approx((-0.039403, 0.039403, 1), abs=5e-7)


@over(differences, st.floats(1, 10))
def test_bp_t_is_t_of_the_differences_and_two_halves(d: list[float], reach: float) -> None:
    """Weights ½ of +R and −R, variances of the weighted sample; interval and p never contradict."""
    n = len(d)
    found = bp_t(statistics.fmean(d), statistics.stdev(d), n, reach)
    values, weights = np.array([*d, reach, -reach]), np.array([*([1.0] * n), 0.5, 0.5])
    mean = np.average(values, weights=weights)
    stderr = math.sqrt(np.average((values - mean) ** 2, weights=weights) / (n + 1))
    half = stats.t.ppf(0.975, n - 1) * stderr
    wanted = (stderr, mean - half, mean + half, 2 * stats.t.sf(abs(mean / stderr), n - 1))
    assert (found.stderr, found.low, found.high, found.p) == pytest.approx(wanted, **EXACT)
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p <= 0.05) == (not found.low <= 0 <= found.high)


@over(differences, st.floats(1, 10), st.integers(1, 4))
def test_over_clusters_the_half_observations_are_of_as_many_rows_as_are_alike(
    d: list[float], reach: float, copies: int
) -> None:
    """A cluster of equal rows counts as one row, whose interval is bp_t's but for n/(n − 1)."""
    n, mean, stderr = len(d), statistics.fmean(d), statistics.stdev(d) / math.sqrt(len(d))
    assume(stderr > 1e-6)
    rows = [value for value in d for _ in range(copies)]
    found = clustered_bp_t(mean, statistics.stdev(rows), stderr, len(rows), reach, df=n - 1)
    alike = max(1.0, (n * copies * stderr) ** 2 / math.fsum((x - mean) ** 2 for x in rows))
    assert alike == pytest.approx(copies * n / (n - 1))
    total = n * copies + alike
    # Two halves of a cluster of so many rows, one all +R and one all −R.
    halves = [alike * (side * reach - mean * n * copies / total) for side in (1, -1)]
    moved = mean * alike / total  # how far the clusters' mean lies from that of all
    spread = (n * copies * stderr) ** 2 + sum(0.5 * half**2 for half in halves)
    spread += moved**2 * n * copies * alike
    assert found.stderr == pytest.approx(math.sqrt(spread) / total, rel=1e-9)
    alone = bp_t(mean, statistics.stdev(d), n, reach)
    assert found.stderr == pytest.approx(alone.stderr, rel=2 / n)
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p > 0.05) == (found.low <= 0 <= found.high)


def test_clusters_that_all_agree_prove_nothing_by_themselves() -> None:
    """Five clusters of three rows, each with the same difference, or with none: t has no width."""
    won, same = (clustered_bp_t(d, s, 0.0, 15, 1.0, df=4) for d, s in ((1 / 3, 0.488), (0.0, 0.0)))
    assert won.low > 0 and won.p < 0.05 and won.low < 1 / 3 < won.high
    assert (same.low, same.high, same.p) == pytest.approx((-0.17353, 0.17353, 1.0), abs=1e-5)
    assert paired_t(0.0, 0.0, 15, df=4).high == 0.0
    with pytest.raises(ValueError, match="at least two pairs"):
        clustered_bp_t(0.0, 0.0, 0.0, 1, 1.0, df=4)


@over(differences)
def test_paired_t_is_that_of_scipy(d: list[float]) -> None:
    """Interval and p."""
    n, stderr = len(d), statistics.stdev(d) / math.sqrt(len(d))
    assume(stderr > 1e-9)
    found, wanted = paired_t(statistics.fmean(d), stderr, n), stats.ttest_1samp(d, 0)
    interval = wanted.confidence_interval()
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-7, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), **EXACT)


def test_differences_that_are_all_the_same_are_certain_or_nothing() -> None:
    """A standard error of 0 divides nothing."""
    assert paired_t(0, 0, 5).p == 1
    assert paired_t(0.5, 0, 5).p == 0


@over(differences, differences)
def test_welch_is_that_of_scipy(one: list[float], two: list[float]) -> None:
    """Interval and p, with its degrees of freedom."""
    assume(min(statistics.stdev(one), statistics.stdev(two)) > 1e-6)
    given = [(statistics.fmean(v), statistics.stdev(v), len(v)) for v in (one, two)]
    found, wanted = welch(given[0], given[1]), stats.ttest_ind(two, one, equal_var=False)
    interval = wanted.confidence_interval()
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-7, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-8, abs=1e-9)


@over(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_newcombe_is_that_of_statsmodels(b: int, n: int, c: int, m: int) -> None:
    """The hybrid score interval."""
    b, c = min(b, n), min(c, m)
    wanted = confint_proportions_2indep(c, m, b, n, method="newcomb", compare="diff")
    assert newcombe(b, n, c, m) == pytest.approx(wanted, **EXACT)


@over(
    st.integers(2, 5).flatmap(
        lambda k: st.lists(st.lists(st.integers(1, 40), min_size=k, max_size=k), min_size=k, max_size=k)
    )
)
def test_stuart_maxwell_is_that_of_statsmodels(counts: list[list[int]]) -> None:
    """Of two to five labels."""
    wanted = contingency_tables.SquareTable(np.array(counts)).homogeneity(method="stuart_maxwell")
    assert stuart_maxwell(counts) == pytest.approx(wanted.pvalue, rel=1e-8, abs=1e-12)


def test_labels_of_pairs_that_agree_change_nothing() -> None:
    """Of two labels it is McNemar's z; one that nobody changes is left out, and all alike are alike."""
    two = stuart_maxwell([[3, 9], [2, 5]])
    assert two == pytest.approx(2 * stats.norm.sf(7 / math.sqrt(11)))
    assert stuart_maxwell([[3, 9, 0], [2, 5, 0], [0, 0, 8]]) == pytest.approx(two)
    assert stuart_maxwell([[3, 0], [0, 5]]) == 1


@over(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    """An adjusted p is the greatest of all families that hold its test (Marcus, Peritz & Gabriel 1976)."""
    families = [f for size in range(1, len(p) + 1) for f in itertools.combinations(range(len(p)), size)]
    wanted = [max(min(1.0, len(f) * min(p[k] for k in f)) for f in families if n in f) for n in range(len(p))]
    assert holm(p) == pytest.approx(wanted, **EXACT)


def test_holm_is_that_of_statsmodels() -> None:
    """In the order of the tests; ties and ones too."""
    p = [0.01, 0.04, 0.03, 0.005, 0.01, 1, 0.2]
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], **EXACT)
    assert holm([]) == []


def test_what_is_no_pair_is_refused() -> None:
    """With what was given."""
    with pytest.raises(ValueError, match="4 and 3 discordant pairs are not of 6 pairs"):
        tango(4, 3, 6)
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        mcnemar(-1, 3)
    with pytest.raises(ValueError, match="at least two pairs, got n=1"):
        bp_t(0.5, 0, 1, 1)
    with pytest.raises(ValueError, match="finite length above 0, got inf"):
        bp_t(0.5, 0, 3, math.inf)
    with pytest.raises(ValueError, match="at least two pairs, got n=1"):
        paired_t(0.5, 0, 1)
    with pytest.raises(ValueError, match="two observations of each, got 1 and 5"):
        welch((1, 0, 1), (1, 0, 5))
