"""A quick part of `make simulate`: what docs/statistics.md promises of intervals and verdicts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from promptlab.statistics import bootstrap_ranks
from tests.simulation import coverage, means, ranks, verdicts


def table(rows: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], list[list[float]]]:
    """The header, and the numbers of the other columns; of `4.0 (198)` the first."""
    header, *lines = rows
    return header, [[float(cell.split(" (")[0]) for cell in line[1:]] for line in lines]


def test_wilson_is_right_on_average_and_nowhere_far_off() -> None:
    """Exact: the mean over p in 94–96%, no p below 91% from n = 50 on."""
    _, rows = table(coverage.wilson_table((20, 50, 100)))
    assert all(94 <= mean <= 96 for mean, _, _ in rows)
    assert all(worst >= least for (_, worst, _), least in zip(rows, (89, 91, 92), strict=True))


def test_tango_and_not_worse_hold() -> None:
    """Exact: at least 93.3%, and at most 3.3% of wrong *not worse*."""
    header, *rows = coverage.tango_table((20, 50))
    assert header[-1] == "not-worse error, worst"
    for row in rows:
        assert float(row[3]) >= 93.3
        assert float(row[-1]) <= 3.3


def test_a_single_metric_is_called_different_in_at_most_5_percent() -> None:
    """Exact, of runs that do not differ."""
    _, rows = table(verdicts.mid_p_table((20, 100, 500)))
    assert max(max(row) for row in rows) <= 5.0


def test_intervals_of_numbers_cover() -> None:
    """By 400 repetitions, whose standard error is 1.1 points: 4 of them below what 10,000 show."""
    _, rows = table(coverage.wilson_t_table(400, (50,)))
    assert min(row[0] for row in rows) >= 89.5
    _, rows = table(coverage.bp_t_table(400, (50,)))
    assert min(row[0] for row in rows) >= 90


def test_intervals_of_clusters_and_of_trials_cover() -> None:
    """By 300 repetitions, whose standard error is 1.3 points: 4 of them below what 10,000 show."""
    _, *rows = means.clustered_share_table(300, (10,))
    assert min(float(cell.split(" (")[0]) for row in rows for cell in row[2:]) >= 83
    _, numbers = table(means.trials_table(300, (50,)))
    assert min(min(row) for row in numbers) >= 89


def test_ranks_of_sweeps_hold() -> None:
    """By 100 sweeps of three runs: rank intervals hold in 19 of 20, and few of equal runs are called worse;
    what is drawn by numpy is what a sweep ships."""
    _, row = ranks.ranking_table(100, ((3, 100),))
    assert float(row[1]) >= 90 and float(row[5]) <= 14
    values = ranks.shares_of(np.random.default_rng(1), 5, 100, 0.02)
    fast, shipped = (
        ranks.ranks_of(np.random.default_rng(2), values),
        bootstrap_ranks(values.tolist(), [1] * 100),
    )
    assert all(abs(a.p_best - b.p_best) < 0.06 for a, b in zip(fast, shipped, strict=True))
    assert all(abs(a.low - b.low) + abs(a.high - b.high) <= 1 for a, b in zip(fast, shipped, strict=True))


def test_not_worse_and_the_rule_that_stops_are_wrong_in_few() -> None:
    """By 100 repetitions, whose standard error is 1.6 points: 2.5 and 5%, and 4 of them."""
    for line in list(verdicts.not_worse_table(100, (50,)))[1:]:
        assert float(line[1]) <= 9, line
    for line in list(verdicts.sequential_table(100, 60))[1:]:
        assert float(line[1]) <= 12 and float(line[2]) <= 9, line


def test_a_family_of_metrics_is_called_different_in_few() -> None:
    """By 80 repetitions of five metrics, whose standard error is 2.4 points: at most 5% and 4 of them."""
    _, rows = table(verdicts.false_positives_table(80, sizes=(5,)))
    assert max(rows[0]) <= 15


def test_looking_early_is_wrong_in_few_and_saves_calls() -> None:
    """By 300 orders: at most 5% and 4 standard errors; a great difference is shown in a third of the rows."""
    header, first, *_ = verdicts.stopping_table(300)
    assert header[1] == "δ = 0"
    assert float(first[1].split(" (")[0]) <= 10
    assert float(first[4].split(" (")[1].rstrip(")")) < 70
