"""A quick part of `make simulate`: what docs/statistics.md promises of intervals and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pytest

from promptlab.evaluators.classification import Classification
from promptlab.statistics import bootstrap, bootstrap_ranks, paired_data
from tests.simulation import clusters, coverage, families, means, numbers, of_runs, ranks, verdicts


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
    for shown in (clusters.shares_table, clusters.differences_table):
        _, *rows = shown(300, (10,))
        assert min(float(cell.split(" (")[0]) for row in rows for cell in row[2:]) >= 84
    _, found = table(clusters.numbers_table(300, (10,)))
    assert min(found[0]) >= 90
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


def test_intervals_without_a_range_and_of_different_rows_cover() -> None:
    """Exact, or by 400 repetitions, whose standard error is 1.1 points: 4 of them below what 10,000 show."""
    _, found = table(numbers.numbers_table(400, (100,)))
    assert min(row[0] for row in found) >= 90
    assert min(row[0] for row in table(numbers.medians_table(400, (20,)))[1]) >= 90
    assert min(row[0] for row in table(numbers.newcombe_table((20,)))[1]) >= 94
    assert min(row[0] for row in table(numbers.welch_table(400, (20,)))[1]) >= 88


def test_what_is_drawn_by_numpy_is_what_is_shipped() -> None:
    """Scores of confusion matrices are those of the metric, and their interval is its bootstrap's but for the
    draws; pairs are summed up as they are from lists."""
    random, metric = np.random.default_rng(3), Classification(labels=list(of_runs.LABELS))
    for _ in range(50):
        counts = random.integers(0, 4, (3, 3)) * random.integers(0, 2, (3, 3))
        counts[0, 1] += 1
        cells = [(t, a) for t in range(3) for a in range(3) for _ in range(int(counts[t, a]))]
        total: dict[str, float] = {}
        for cell in cells:
            for name, one in of_runs.unit(metric, *cell).items():
                total[name] = total.get(name, 0.0) + one
        for name, values in of_runs.scores(counts[None]).items():
            wanted = metric.values(total)[name]
            assert values[0] == pytest.approx(math.nan if wanted is None else wanted, nan_ok=True)
    counts = np.array([[30, 4, 2], [5, 12, 1], [1, 2, 3]])
    cells = [(t, a) for t in range(3) for a in range(3) for _ in range(int(counts[t, a]))]
    shipped = bootstrap([of_runs.unit(metric, *cell) for cell in cells], metric.values)
    drawn = random.multinomial(60, counts.ravel() / 60, size=1_000).reshape(-1, 3, 3)
    for name, values in of_runs.scores(np.concatenate([counts[None], drawn])).items():
        ends = of_runs.interval_of(values, 60)
        assert ends is not None and ends == pytest.approx(tuple(shipped[name].interval), abs=0.05)
    base, other = np.where(random.random((2, 1, 40)) < 0.1, np.nan, random.integers(0, 2, (2, 1, 40)))
    (found,) = families.data_of(base, other, kind="binary")
    lists = [[None if math.isnan(v) else v for v in side[0].tolist()] for side in (base, other)]
    wanted, got = asdict(paired_data(*lists)), asdict(found)
    assert tuple(got.pop("extremes")) == pytest.approx(tuple(wanted.pop("extremes")))
    assert got.pop("bounds") == wanted.pop("bounds") and got == pytest.approx(wanted)


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
