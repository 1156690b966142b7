"""Cluster-robust standard errors by SQL: of means over rows that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.domain.clustered_mean import ClusteredMean
from promptlab.domain.experiment import Metric
from promptlab.domain.results import MODELS_DOING
from promptlab.domain.summary import Summary
from promptlab.duck import literal, parquet, quoted, with_room
from promptlab.results.table import Columns
from promptlab.statistics import Clusters
from promptlab.statistics.clusters import ALIKE

CLUSTER = "cluster_key"
"""The index's column with a number for each value of `cluster_by`."""


FIELDS = 5
"""Columns of `cluster_sql` of each value."""


def cluster_column(evaluation: Sequence[Mapping[str, Any]], shape: Columns) -> str | None:
    """The table's name of the column that a recorded experiment clusters by; None for none."""
    column = next((m["cluster_by"] for m in evaluation if m.get("cluster_by")), None)
    return next((name for source, name, _ in shape.inputs if source == column), None)


def cluster_sql(source: str, values: Sequence[str]) -> str:
    """SQL of a row for each k: k, and of each value FIELDS columns: how many clusters have one, CR1, CR3,
    whether sizes differ by more than 2:1, and CR3's degrees of freedom. The formulas are those of
    `promptlab.statistics.clusters`.

    Args:
        source: a query of rows with k, cl (the cluster) and the values.
        values: expressions over such a row, NULL where there is none.
    """
    sums = ", ".join(f"sum({v}) AS s{n}, count({v}) AS c{n}" for n, v in enumerate(values))
    totals = ", ".join(
        f"sum(s{n}) AS tot{n}, sum(c{n})::DOUBLE AS all{n}, count(nullif(c{n}, 0))::DOUBLE AS many{n}, "
        f"max(c{n}) > 2 * min(nullif(c{n}, 0)) AS odd{n}, "
        f"all{n} + {ALIKE} * (sum(c{n}::DOUBLE * c{n}) - all{n}) AS var{n}"
        for n in range(len(values))
    )
    found = ", ".join(_errors(n) for n in range(len(values)))
    return (
        f"WITH g AS (SELECT k, cl, {sums} FROM ({source}) GROUP BY k, cl), "
        f"t AS (SELECT k, {totals} FROM g GROUP BY k) "
        f"SELECT g.k, {found} FROM g JOIN t ON g.k IS NOT DISTINCT FROM t.k GROUP BY g.k"
    )


def _errors(n: int) -> str:
    off = f"(s{n} - c{n} * tot{n} / nullif(all{n}, 0))"
    many, total = f"any_value(many{n})", f"any_value(all{n})"
    cr1 = f"sqrt({many} / nullif({many} - 1, 0) * sum({off} * {off})) / nullif({total}, 0)"
    without = f"{off} / nullif(all{n} - c{n}, 0)"
    cr3 = f"sqrt(({many} - 1) / nullif({many}, 0) * sum({without} * {without}))"
    return f"{many}::BIGINT, {cr1}, {cr3}, any_value(odd{n}), {_freedom(n)}"


def _freedom(n: int) -> str:
    # `satterthwaite`, term by term: share, variance and weight of a cluster, and the variance of the sum.
    w, v = f"(c{n} / all{n})", f"(c{n} * (1 + (c{n} - 1) * {ALIKE}))"
    a, total = f"(1 / nullif((all{n} - c{n}) ^ 2, 0))", f"any_value(var{n})"
    ww, vv, wv = (f"sum({a} * {x} * {y})" for x, y in ((w, w), (v, v), (w, v)))
    trace = f"sum({a} * ({v} - 2 * {w} * {v} + {w} * {w} * var{n}))"
    own = f"sum({a} * {a} * {v} * ({v} + 2 * {w} * ({w} * var{n} - 2 * {v})))"
    mixed = f"2 * {ww} * {vv} + 2 * {wv} * {wv} - 4 * {total} * {ww} * {wv} + {total} ^ 2 * {ww} * {ww}"
    return f"({trace}) ^ 2 / nullif({own} + {mixed}, 0)"


def errors_of(row: Sequence[Any]) -> list[Clusters]:
    """Read what a row of `cluster_sql` says of each value."""
    return [_error_of(*row[at : at + FIELDS]) for at in range(1, len(row), FIELDS)]


def _error_of(groups: int, cr1: float | None, cr3: float | None, unequal: bool, df: float | None) -> Clusters:
    if not unequal:
        return Clusters(groups, cr1 or 0.0, "CR1", max(groups - 1.0, 1.0))
    return Clusters(groups, cr3 or 0.0, "CR3", min(max(df or 1.0, 1.0), max(groups - 1.0, 1.0)))


def cluster_means(results: Path, shape: Columns, metrics: Sequence[Metric], total: Summary) -> None:
    """Add to a run's summary the standard errors of its metrics over clusters, from its results file.

    What the model failed counts as in the mean, but for metrics with a `when`: the file does not tell which
    of these rows were to be scored.
    """
    column = cluster_column([m.model_dump() for m in metrics], shape)
    chosen = [(m, name) for m, (_, name) in zip(metrics, shape.scores, strict=True) if m.cluster_by]
    if column is None or not chosen:
        return
    cells = ", ".join(f"{_value(m, name, total)} AS x{n}" for n, (m, name) in enumerate(chosen))
    source = (
        f'SELECT 0 AS k, any_value({quoted(column)}) AS cl, {cells} FROM {parquet(results)} GROUP BY "case"'
    )
    sql = cluster_sql(source, [f"x{n}" for n in range(len(chosen))])
    rows: list[tuple[Any, ...]] = []
    with_room(lambda con: rows.extend(con.execute(sql).fetchall()), results.parent)
    for row in rows:
        for (metric, _), found in zip(chosen, errors_of(row), strict=True):
            total.metrics[metric.name].clusters = ClusteredMean(metric.cluster_by or "", *found)


def _value(metric: Metric, name: str, total: Summary) -> str:
    """The value of a dataset row, the mean of its trials."""
    score, failed = quoted(f"score.{name}"), "0"
    counts = total.metrics[metric.name].counting
    if total.metrics[metric.name].fills and counts is not None and metric.when is None:
        doing = ", ".join(map(literal, sorted(MODELS_DOING)))
        failed = f"count(nullif({score} IS NULL AND coalesce(error_type IN ({doing}), false), false))"
        return (
            f"(coalesce(sum({score}), 0) + {failed} * {counts.worst!r}) / "
            f"nullif(count({score}) + {failed}, 0)"
        )
    return f"avg({score})"
