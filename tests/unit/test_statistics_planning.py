"""Power, early stopping, trials, and judges corrected by labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import special, stats

from promptlab.statistics import (
    at_least_k,
    detectable_mean,
    detectable_share,
    e_value,
    flake_rate,
    mcnemar,
    obrien_fleming,
    pass_at_k,
    pass_hat_k,
    ppi_mean,
    rows_for_mean,
    rows_for_share,
)
from tests.unit.oracles import EXACT, over, tables


@pytest.mark.parametrize(
    ("difference", "wanted"),
    [
        (0.01, [3923, 7847, 15696, 23545]),
        (0.02, [979, 1960, 3923, 5885]),
        (0.05, [None, 312, 626, 940]),
        (0.1, [None, None, 155, 234]),
    ],
)
def test_rows_for_a_share_are_those_of_the_table(difference: float, wanted: list[int | None]) -> None:
    """Discordant .05, .1, .2, .3; none where every pair would have to differ, and to one side."""
    found = [rows_for_share(difference, psi) if psi > difference else None for psi in (0.05, 0.1, 0.2, 0.3)]
    assert found == wanted
    assert rows_for_share(0.2, 0.1) is None


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (100, (0.088, 0.124, 0.175)),
        (300, (0.051, 0.072, 0.102)),
        (1000, (0.028, 0.040, 0.056)),
        (2000, (0.020, 0.028, 0.040)),
    ],
)
def test_detectable_shares_are_those_of_the_table(n: int, wanted: tuple[float, ...]) -> None:
    """Discordant .1, .2, .4."""
    assert tuple(round(detectable_share(n, psi) or 0, 3) for psi in (0.1, 0.2, 0.4)) == wanted


@over(st.integers(20, 10**6), st.floats(0.01, 0.9))
def test_the_rows_of_a_detectable_difference_are_as_many(n: int, psi: float) -> None:
    """Either formula is the other's inverse."""
    found = detectable_share(n, psi)
    if found is None:
        assert rows_for_share(psi, psi) is not None and rows_for_share(psi, psi) > n  # type: ignore[operator]
    else:
        assert rows_for_share(found * (1 + 1e-9), psi) in (n, n + 1)
    mean = detectable_mean(n, psi)
    assert rows_for_mean(mean * (1 + 1e-9), psi) == max(2, n)
    assert mean == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * psi / math.sqrt(n))


@pytest.mark.parametrize(("difference", "psi"), [(0.1, 0.2), (0.1, 0.3), (0.15, 0.3)])
def test_the_exact_power_at_that_size_is_80_percent(difference: float, psi: float) -> None:
    """Of the mid-p test, by every outcome."""
    n = rows_for_share(difference, psi)
    assert n is not None
    outcomes = tables(n, (psi + difference) / 2, (psi - difference) / 2)
    shown = sum(p for b, c, p in outcomes if mcnemar(b, c).mid_p <= 0.05)
    assert 0.795 <= shown <= 0.83


def test_no_number_of_rows_shows_nothing() -> None:
    """A difference of 0 is refused."""
    for call in (rows_for_share, rows_for_mean):
        with pytest.raises(ValueError, match="no number of rows"):
            call(0, 0.2)


@pytest.mark.parametrize(
    ("looks", "alpha", "wanted"),
    [
        (1, 0.05, [1.96]),
        (2, 0.05, [2.7718, 1.9793]),
        (3, 0.05, [3.3948, 2.4067, 2.0152]),
        (4, 0.05, [3.9199, 2.7740, 2.2982, 2.0426]),
        (5, 0.05, [4.3826, 3.0997, 2.5534, 2.2538, 2.0635]),
        (10, 0.05, [6.198, 4.3826, 3.5819, 3.1189, 2.8155, 2.5996, 2.4371, 2.3096, 2.2067, 2.1217]),
        (10, 0.04, [6.4945, 4.5923, 3.7521, 3.2636, 2.9423, 2.7132, 2.5402, 2.4045, 2.2946, 2.2037]),
    ],
)
def test_boundaries_are_those_of_the_specification(looks: int, alpha: float, wanted: list[float]) -> None:
    """By recursive integration, elsewhere."""
    assert obrien_fleming(looks, alpha) == pytest.approx(wanted, abs=6e-5)


@pytest.mark.parametrize("shares", [[0.5, 1.0], [0.2, 0.5, 1.0], [0.1, 0.15, 0.9]])
def test_boundaries_spend_the_error_by_the_normal_integral_of_scipy(shares: list[float]) -> None:
    """At looks of any distance: P(no boundary reached) is what was not spent by the last."""
    bounds = np.array(obrien_fleming(shares, 0.05))
    covariance = [[math.sqrt(min(s, t) / max(s, t)) for t in shares] for s in shares]
    inside = stats.multivariate_normal(cov=covariance).cdf(bounds, lower_limit=-bounds)
    spent = 2 - 2 * stats.norm.cdf(1.959963984540054 / math.sqrt(shares[-1]))
    assert 1 - inside == pytest.approx(spent, abs=2e-5)


def test_looks_that_do_not_rise_are_refused() -> None:
    """Rising shares in (0, 1]."""
    for looks in (0, [0.5, 0.5], [0.0, 1.0], [0.5, 1.2]):
        with pytest.raises(ValueError, match="rising shares"):
            obrien_fleming(looks)  # type: ignore[arg-type]


@over(st.integers(0, 400), st.integers(0, 400))
def test_the_e_process_is_its_formula_and_a_martingale(b: int, c: int) -> None:
    """A fair coin's next toss changes nothing in the mean."""
    log = special.betaln(b + 0.5, c + 0.5) - math.log(math.pi) + (b + c) * math.log(2)
    assert e_value(b, c) == pytest.approx(math.exp(log), rel=1e-9)
    assert (e_value(b + 1, c) + e_value(b, c + 1)) / 2 == pytest.approx(e_value(b, c), rel=1e-9)


def test_the_e_process_begins_at_1_and_does_not_overflow() -> None:
    """A hundred thousand wins are finite."""
    assert e_value(0, 0) == pytest.approx(1)
    assert math.isfinite(e_value(100_000, 0))


@over(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_choices(found: tuple[int, int, int]) -> None:
    """Of k answers without replacement: hypergeometric."""
    n, passed, k = found
    assert pass_at_k(passed, n, k) == pytest.approx(1 - stats.hypergeom.pmf(0, n, passed, k), abs=1e-9)
    assert pass_hat_k(passed, n, k) == pytest.approx(stats.hypergeom.pmf(k, n, passed, k), abs=1e-9)
    assert pass_at_k(passed, n, 1) == pytest.approx(passed / n)
    if n > 1:
        assert flake_rate(passed, n) == pytest.approx(stats.hypergeom.pmf(1, n, passed, 2), abs=1e-9)


def test_k_out_of_range_is_refused() -> None:
    """Of five answers there are no six."""
    assert (at_least_k(3, 3), at_least_k(2, 3)) == (1, 0)
    for call in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match="got k=6 of 2 passed in 5"):
            call(2, 5, 6)
    with pytest.raises(ValueError, match="got k=2"):
        flake_rate(1, 1)


samples = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@over(samples, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_ppi_is_its_formula(judged: list[float], labelled: list[tuple[float, float]]) -> None:
    """With numpy."""
    y, f = (np.array(v) for v in zip(*labelled, strict=True))
    found = ppi_mean(judged, list(y), list(f))
    n, big, spread = len(y), len(judged), np.var([*judged, *f], ddof=1)
    weight = np.clip(np.cov(y, f)[0, 1] / ((1 + n / big) * spread), 0, 1) if spread > 0 else 0
    mean = weight * np.mean(judged) + np.mean(y - weight * f)
    variance = np.var(y - weight * f, ddof=1) / n + weight**2 * np.var(judged, ddof=1) / big
    assert found.weight == pytest.approx(weight, rel=1e-7, abs=1e-9)
    assert found.mean == pytest.approx(np.clip(mean, 0, 1), abs=1e-8)
    assert found.stderr == pytest.approx(math.sqrt(variance), abs=1e-8)
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_a_judge_that_tells_nothing_has_no_weight_and_one_that_is_right_narrows() -> None:
    """λ is 0, and near 1."""
    random = np.random.default_rng(3)
    truth = (random.random(1100) < 0.7).astype(float)
    right = ppi_mean(list(truth[100:]), list(truth[:100]), list(truth[:100]))
    noise = list((random.random(1100) < 0.5).astype(float))
    useless = ppi_mean(noise[100:], list(truth[:100]), noise[:100])
    assert right.weight == pytest.approx(1 / 1.1, rel=0.1)
    assert useless.weight < 0.3
    assert (right.high - right.low) < 0.6 * (useless.high - useless.low)
    assert EXACT
    with pytest.raises(ValueError, match="got 5 judged, 1 labelled and 1"):
        ppi_mean([1.0] * 5, [1.0], [1.0])
