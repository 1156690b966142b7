"""The distributions behind every interval and test: normal, Student's t, beta, binomial. No library."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_MOST_STEPS = 1_000_000
"""Steps of the continued fraction at most. It takes some √max(a, b) of them near the mean: 220 at a = b =
50,000, 22,000 at 5e8."""
_SERIES_FROM = 10.0
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def normal_quantile(p: float) -> float:
    """z with P(Z ≤ z) = p, of the standard normal distribution (Wichura, AS 241, as in `statistics`).

    Args:
        p: 0 < p < 1.
    """
    return _NORMAL.inv_cdf(p)


def normal_two_sided(z: float) -> float:
    """P(|Z| ≥ |z|), from 0 to 1; of great z too, where 1 − Φ would be all rounding."""
    return math.erfc(abs(z) / math.sqrt(2))


def normal_cdf(z: float) -> float:
    """P(Z ≤ z), from 0 to 1."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _stirling_rest(x: float) -> float:
    """log Γ(x) − ((x − ½)·log x − x + ½·log 2π), for x ≥ 10 (Abramowitz & Stegun 6.1.42)."""
    y = 1 / (x * x)
    series = 1 / 1188 - y * (691 / 360360 - y * (1 / 156))
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y * series)))) / x


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function B(a, b) = Γ(a)Γ(b)/Γ(a+b), for a, b > 0.

    From Stirling's series where an argument is 10 or more: the difference of three `lgamma` loses ten digits
    at 100,000 (Didonato & Morris, "Algorithm 708", ACM TOMS 1992).
    """
    small, large = min(a, b), max(a, b)
    if large < _SERIES_FROM:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    rest = _stirling_rest(large) - _stirling_rest(a + b)
    share = small / (a + b)
    if small >= _SERIES_FROM:
        rest += _stirling_rest(small)
        parts = (small - 0.5) * math.log(share) + large * math.log1p(-share)
        return rest - 0.5 * math.log(large) + _LOG_SQRT_2PI + parts
    parts = small - small * math.log(a + b) + (large - 0.5) * math.log1p(-share)
    return math.lgamma(small) + rest + parts


def _log_weight(a: float, b: float, x: float, y: float) -> float:
    """log(xᵃ·yᵇ / B(a, b)) with y = 1 − x; near the mean of large a and b without the cancellation of terms
    that are 100,000 times as great as their sum (Loader, "Fast and Accurate Computation of Binomial
    Probabilities", 2000)."""
    if min(a, b) < _SERIES_FROM:
        log_x = math.log(x) if x < 0.5 else math.log1p(-y)
        log_y = math.log(y) if y < 0.5 else math.log1p(-x)
        return a * log_x + b * log_y - log_beta(a, b)
    n = a + b
    off = x * b - y * a  # x/(a/n) is 1 + off/a, and y/(b/n) is 1 − off/b
    log_x = math.log1p(off / a) if off > -0.5 * a else math.log(x * n / a)
    log_y = math.log1p(-off / b) if off < 0.5 * b else math.log(y * n / b)
    parts = a * log_x + b * log_y
    rest = _stirling_rest(n) - _stirling_rest(a) - _stirling_rest(b)
    return parts + rest + 0.5 * math.log(a * b / n) - _LOG_SQRT_2PI


def incomplete_beta(a: float, b: float, x: float, y: float | None = None) -> float:
    """The regularised incomplete beta function I_x(a, b), from 0 to 1.

    By its continued fraction (Didonato & Morris 1992, equation 9), evaluated as Lentz does (Press et al.,
    Numerical Recipes, 5.2).

    Args:
        a, b: the parameters, above 0.
        x: from 0 to 1.
        y: 1 − x, where the caller has it with more digits than the subtraction leaves.

    Raises:
        ValueError: an argument is out of its range.
    """
    y = 1 - x if y is None else y
    if not (a > 0 and b > 0 and 0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"I_x(a, b) needs a, b > 0 and 0 ≤ x ≤ 1, got a={a}, b={b}, x={x}")
    if x == 0 or y == 0:
        return float(y == 0)
    if x * (a + b + 2) > a + 1:
        return 1 - _lower_tail(b, a, y, x)
    return _lower_tail(a, b, x, y)


def _lower_tail(a: float, b: float, x: float, y: float) -> float:
    weight = _log_weight(a, b, x, y)
    if weight < -745:
        return 0.0
    # The even part of the fraction, written so that no term is the difference of nearly equal ones where x is
    # almost 1 (as Boost's ibeta_fraction2 does): at a = 5e8 the plain one has eight right digits.
    excess = a * y - b * x + 1
    found = c = _away_from_zero(a * excess / (a + 1))
    d = 0.0
    for m in range(1, _MOST_STEPS):
        here = a + 2 * m - 1
        up = (a + m - 1) * (a + b + m - 1) / here * m * (b - m) / here * x * x
        down = m + m * (b - m) * x / here + (a + m) * (excess + m * (1 + y)) / (here + 2)
        d = 1 / _away_from_zero(down + up * d)
        c = _away_from_zero(down + up / c)
        found *= (change := d * c)
        if abs(change - 1) < 1e-15:
            break
    return math.exp(weight) / found


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def student_two_sided(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of Student's t with `df` degrees of freedom, from 0 to 1.

    I_{df/(df+t²)}(df/2, ½) (Abramowitz & Stegun 26.7.1). Within 1e-9 of the true value, relatively, for df
    from 1 to 1e9.

    Raises:
        ValueError: `df` is not above 0.
    """
    if not df > 0:
        raise ValueError(f"Student's t needs df > 0, got df={df}")
    if math.isinf(t):
        return 0.0
    scale = 1 / (1 + t * t / df)
    return incomplete_beta(df / 2, 0.5, scale, t * t / df * scale)


@lru_cache(maxsize=4096)
def student_quantile(p: float, df: float) -> float:
    """t with P(T ≤ t) = p, of Student's t with `df` degrees of freedom; within 1e-9, relatively.

    Newton's method on the upper tail, from the normal quantile on: the tail is convex there, so that every
    step stays below the root and comes nearer.

    Args:
        p: 0 < p < 1.
        df: above 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not (0 < p < 1 and df > 0):
        raise ValueError(f"Student's quantile needs 0 < p < 1 and df > 0, got p={p}, df={df}")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -_upper_quantile(2 * p, df)
    return _upper_quantile(2 * (1 - p), df)


def _upper_quantile(both_tails: float, df: float) -> float:
    """t > 0 with P(|T| ≥ t) = both_tails."""
    t = -normal_quantile(both_tails / 2)
    for _ in range(200):
        tail = student_two_sided(t, df)
        log_density = -log_beta(df / 2, 0.5) - 0.5 * math.log(df) - (df + 1) / 2 * math.log1p(t * t / df)
        # In the logarithm the far tails of few degrees of freedom take ten steps, not a hundred.
        step = tail / (2 * math.exp(log_density)) * math.log(tail / both_tails)
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t


def binomial_cdf(k: int, n: int, p: float = 0.5) -> float:
    """P(X ≤ k) of a binomial X with n trials: I_{1−p}(n − k, k + 1) (Abramowitz & Stegun 26.5.24).

    Args:
        k: any whole number.
        n: 0 or more.
        p: from 0 to 1.
    """
    if k < 0 or k >= n:
        return float(k >= n)
    return incomplete_beta(n - k, k + 1, 1 - p, p)


def binomial_pmf(k: int, n: int, p: float = 0.5) -> float:
    """P(X = k) of a binomial X with n trials, 0 < p < 1; relative error below 1e-10 for n to 1e6."""
    if not 0 <= k <= n:
        return 0.0
    # C(n, k) = 1 / ((n + 1)·B(k + 1, n − k + 1)), and xᵃyᵇ/B as in the incomplete beta.
    return math.exp(_log_weight(k + 1, n - k + 1, p, 1 - p)) / ((n + 1) * p * (1 - p))


def chi_square_tail(value: float, df: int) -> float:
    """P(χ² ≥ value) with `df` degrees of freedom, a whole number of 1 or more (Abramowitz & Stegun 26.4.4 and
    26.4.5)."""
    if value <= 0:
        return 1.0
    half = value / 2
    if df % 2:
        found, term = math.erfc(math.sqrt(half)), math.exp(-half) * math.sqrt(half / math.pi) * 2
        first = 3
    else:
        found, term, first = math.exp(-half), math.exp(-half) * half, 4
    for k in range(first, df + 1, 2):
        found += term
        term *= value / k
    return min(found, 1.0)
