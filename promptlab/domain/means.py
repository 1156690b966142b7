"""What a metric's mean is said to be: its interval, its worst case, its trials, and that in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from promptlab.domain.summary import MeanInterval, MetricSummary
from promptlab.statistics import (
    FEWEST,
    FEWEST_ROWS,
    Interval,
    interpolated,
    is_skewed,
    median_place,
    numbers_interval,
    student_interval,
    t_of,
    wilson,
    wilson_t,
    z_of,
)
from promptlab.statistics.trials import at_least_k, flake_rate, pass_at_k, pass_hat_k

KS = (1, 2, 3, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100)
"""The k of pass@k and its kin that are said, and the number of trials itself."""


def bounds_of(m: MetricSummary) -> tuple[float, float] | None:
    """The range of a metric's values, if it has one that holds them all."""
    found, d = m.counting.bounds if m.counting is not None else None, m.counted
    if found is None and m.binary:
        found = (0.0, 1.0)
    if found is None or d.min is None or d.max is None:
        return found
    return found if found[0] <= d.min and d.max <= found[1] else None


def estimate(m: MetricSummary) -> MeanInterval:
    """The interval of a mean: of pass/fail Wilson's, of bounded numbers and of trials wilson_t, else
    Student's, and hall_t where values are skewed; over clusters with their standard error, and none where
    there are fewer than FEWEST."""
    d = m.counted
    if not d.n:
        return MeanInterval()
    if m.counting is None:
        return _before(m)
    stderr, n, prefix = d.stderr, float(d.n), ""
    if m.counting.clustered:
        if m.clusters is None or m.clusters.groups < FEWEST:
            return MeanInterval()
        stderr, n, prefix = m.clusters.stderr, m.clusters.like_rows, f"{m.clusters.method} "
    elif m.is_share:
        return _said(wilson(d.mean * n, n), stderr, z_of(), "wilson")
    if stderr is None or not math.isfinite(stderr):
        return MeanInterval()
    if bounds := bounds_of(m):
        ends = wilson_t(d.mean, stderr, n, bounds=bounds)
        return _said(ends, stderr, t_of(n - 1), f"{prefix}wilson_t")
    skewness = 0.0 if prefix else d.skewness or 0.0
    ends = numbers_interval(d.mean, stderr, n, skewness)
    name = "hall_t" if is_skewed(d.n, skewness) else f"{prefix}t"
    return _said(ends, stderr, t_of(n - 1), name)


def _said(ends: Interval, stderr: float | None, quantile: float, method: str) -> MeanInterval:
    # Equal values have no spread, and still an interval: then the error is the one that the interval is made
    # of, so that "1 ± 0" never stands beside 0.82 … 1.
    if not stderr:
        stderr = (ends.high - ends.low) / 2 / quantile
    return _made(ends, stderr, method)


def _before(m: MetricSummary) -> MeanInterval:
    """The interval as summaries were shown that do not say which rows have no value."""
    d = m.values
    if (m.binary or m.zero_one) and 0 <= d.mean <= 1:
        return _made(wilson(d.mean * d.n, d.n), d.stderr, "wilson")
    if d.stderr is None:
        return MeanInterval()
    return _made(student_interval(d.mean, d.stderr, d.n), d.stderr, "t")


def _made(ends: Interval, stderr: float | None, method: str) -> MeanInterval:
    return MeanInterval(low=ends.low, high=ends.high, stderr=stderr, method=method)


def worst_case(m: MetricSummary) -> tuple[float, float] | tuple[None, None]:
    """The mean over all rows with what is missing as the worst value, and as the best one (Manski 2003)."""
    found = m.counting
    if found is None or found.bounds is None or found.missing == "exclude" or not found.bounded:
        return None, None
    missing = found.lost if m.fills else found.lost + found.failures
    if not missing or (m.counted.n and bounds_of(m) is None):
        return None, None
    ends = found.ends[0], found.ends[1] if m.fills else found.ends[2]
    return min(ends) / found.bounded, max(ends) / found.bounded


@dataclass(frozen=True, slots=True)
class Median:
    """The median and its interval; each within 1% of the value that it is."""

    median: float
    median_low: float | None
    median_high: float | None


def skewed(m: MetricSummary) -> bool:
    """Whether the mean's interval is that of a skewed distribution of few rows."""
    return m.estimate.method == "hall_t"


def median_of(m: MetricSummary) -> Median | None:
    """The median of the rows' values; None without any."""
    d = m.counted
    middle = d.quantile(0.5)
    if middle is None:
        return None
    place = median_place(d.n)
    if place is None:
        return Median(middle, None, None)
    return Median(middle, *interpolated(place, d.n, lambda rank: d.at(rank) or 0.0))


def label_shares(m: MetricSummary) -> dict[str, dict[str, Any]]:
    """Label → `{n, share, ci_low, ci_high}`, the most frequent first: of how many rows it is the label, with
    trials as shares of a row; Wilson's interval of one trial, wilson_t's of several."""
    counting = m.counting
    if counting is None or not counting.labelled:
        return {}
    found, rows = {}, counting.labelled
    for label, (total, squares) in sorted(counting.shares.items(), key=lambda item: -item[1][0]):
        mean, ends = total / rows, Interval(math.nan, math.nan)
        if counting.clustered:
            pass
        elif not counting.several:
            ends = wilson(total, rows)
        elif rows > 1:
            variance = max(0.0, squares - rows * mean * mean) / (rows - 1)
            ends = wilson_t(mean, math.sqrt(variance / rows), rows)
        low, high = (None, None) if math.isnan(ends.low) else ends
        n = int(total) if total == int(total) else round(total, 4)
        found[label] = {"n": n, "share": mean, "ci_low": low, "ci_high": high}
    return found


def trials_of(m: MetricSummary) -> dict[str, Any]:
    """Several answers to a row, of pass/fail: `{trials, pass_at: {k: {n, mean, ci_low, ci_high}}, pass_hat,
    at_least, flake_rate}`; empty for one trial, and for other metrics.

    Each is unbiased for a row, and their mean is over the rows with k answers at least. What the model failed
    counts as `missing` says.
    """
    counting = m.counting
    if counting is None or not counting.several or not (m.binary or m.zero_one):
        return {}
    table = counting.passes_filled if m.fills else counting.passes
    if not m.higher_is_better:
        table = {(n - passed, n): rows for (passed, n), rows in table.items()}
    most = max((n for _, n in table), default=0)
    if most < 2:
        return {}
    ks = [*(k for k in KS if k < most), most]

    def over(least: int, value: Callable[[int, int], float]) -> dict[str, Any]:
        return _mean(
            [(value(c, n), rows) for (c, n), rows in table.items() if n >= least], counting.clustered
        )

    return {
        "trials": most,
        "pass_at": {str(k): over(k, lambda c, n, k=k: pass_at_k(c, n, k)) for k in ks},  # type: ignore[misc]
        "pass_hat": {str(k): over(k, lambda c, n, k=k: pass_hat_k(c, n, k)) for k in ks},  # type: ignore[misc]
        "at_least": {str(k): over(k, lambda c, n, k=k: at_least_k(c, k)) for k in ks},  # type: ignore[misc]
        "flake_rate": over(2, flake_rate),
    }


def _mean(values: list[tuple[float, int]], clustered: bool) -> dict[str, Any]:
    """The mean of (value, how many rows) with its interval, of values from 0 to 1."""
    n = sum(rows for _, rows in values)
    if not n:
        return {"n": 0, "mean": None, "ci_low": None, "ci_high": None}
    mean = math.fsum(value * rows for value, rows in values) / n
    low = high = None
    if n > 1 and not clustered:
        squares = math.fsum(rows * (value - mean) ** 2 for value, rows in values)
        low, high = wilson_t(mean, math.sqrt(squares / (n - 1) / n), n)
    return {"n": n, "mean": mean, "ci_low": low, "ci_high": high}


def brief(m: MetricSummary) -> dict[str, Any]:
    """Return what programs are told of a metric: `{n, rows, mean, stderr, ci_low, ci_high, method}`, and
    where there is such a thing `missing` (how cases without a score count) with `failures`, `lost`,
    `missing_rows`, `worst_low` and `worst_high`; `skewed` with the median; `labels`; `trials`; `clusters`;
    `failed` scores, and the cases that were not to be scored: `not_applicable`, `unlabelled`."""
    found = m.estimate
    said: dict[str, Any] = {
        "n": m.n,
        **({"rows": m.rows} if m.rows is not None else {}),
        "mean": m.mean,
        "stderr": found.stderr,
        "ci_low": found.low,
        "ci_high": found.high,
        **({"method": found.method} if found.method else {}),
        **_missing(m),
    }
    if skewed(m) and (median := median_of(m)):
        said |= {"skewed": True, **asdict(median)}
    if labels := label_shares(m):
        said["labels"] = labels
    if trials := trials_of(m):
        said["trials"] = trials
    if m.clusters is not None:
        said["clusters"] = m.clusters.to_json()
    counts = {name: getattr(m, name) for name in ("failed", "not_applicable", "unlabelled")}
    return said | {name: count for name, count in counts.items() if count}


def _missing(m: MetricSummary) -> dict[str, Any]:
    counting = m.counting
    if counting is None or not (counting.failures or counting.lost):
        return {}
    low, high = worst_case(m)
    return {
        "missing": "fail" if m.fills else counting.missing if counting.missing == "exclude" else "bound",
        "failures": counting.failures,
        "lost": counting.lost,
        "missing_rows": max(counting.rows, m.n) - m.n,
        **({"partial_rows": counting.partial} if counting.partial else {}),
        **({} if low is None else {"worst_low": low, "worst_high": high}),
    }


def n_of(m: MetricSummary) -> str:
    """Say how many rows the mean is of: `1,198 of 1,319`, or the number alone where all have a value."""
    rows = m.rows
    return f"{m.n:,}" if rows is None or rows == m.n else f"{m.n:,} of {rows:,}"


def notes(m: MetricSummary, number: Callable[[float | None], str], *, trials: bool = True) -> list[str]:
    """Say what a reader of a mean has to know: what is missing and what it could do, trials, few rows.

    Args:
        m: the metric.
        number: how a value is written.
        trials: whether to say how often trials of a row agree, which takes as long as all else.
    """
    said, counting = [], m.counting
    if counting is None:
        return []
    if m.fills and counting.failures:
        said.append(
            f"{_cases(counting.failures)} that the model failed {_count_as(counting.failures)}"
            f" {number(counting.worst)}"
        )
    missing = counting.lost + (0 if m.fills else counting.failures)
    if missing:
        low, high = worst_case(m)
        bounds = "" if low is None else f": over all rows the mean is from {number(low)} to {number(high)}"
        said.append(f"{_cases(missing)} without a score{bounds}")
    if skewed(m) and (median := median_of(m)):
        ends = (
            ""
            if median.median_low is None
            else f", {number(median.median_low)} … {number(median.median_high)}"
        )
        said.append(f"skewed: the mean's interval is corrected for it; median {number(median.median)}{ends}")
    if trials:
        said += _of_trials(m, number)
    if counting.clustered and m.counted.n:
        said.append(_of_clusters(m))
    elif 0 < m.n < FEWEST_ROWS:
        said.append(f"exploratory: fewer than {FEWEST_ROWS} rows")
    return said


def _of_trials(m: MetricSummary, number: Callable[[float | None], str]) -> list[str]:
    trials = trials_of(m)
    if not trials:
        return []
    k = str(trials["trials"])
    at, hat, flake = trials["pass_at"][k], trials["pass_hat"][k], trials["flake_rate"]
    return [
        f"of {k} trials: pass@{k} {_with_ends(at, number)}, pass^{k} {_with_ends(hat, number)}, "
        f"flake rate {_with_ends(flake, number)}"
    ]


def _with_ends(found: dict[str, Any], number: Callable[[float | None], str]) -> str:
    ends = "" if found["ci_low"] is None else f" ({number(found['ci_low'])} … {number(found['ci_high'])})"
    return f"{number(found['mean'])}{ends}"


def _of_clusters(m: MetricSummary) -> str:
    if m.clusters is None:
        return "rows belong together: the interval is known when the run has ended"
    groups, column = m.clusters.groups, m.clusters.column
    if groups < FEWEST:
        return f"{groups} clusters by {column}: an interval needs at least {FEWEST}"
    return f"{groups:,} clusters by {column}"


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count:,} cases"


def _count_as(count: int) -> str:
    return "counts as" if count == 1 else "count as"
