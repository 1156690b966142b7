"""The runs of a sweep in an order: how good, how sure, for how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from promptlab.domain.records import made
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.sweeps import Sweep
from promptlab.errors import UnknownNameError
from promptlab.queries.compare import counting_of, not_comparable, paired_of, pairing_of, statistics_of
from promptlab.queries.compare_sql import Pairing
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool
from promptlab.statistics import (
    BLOCKS,
    RESAMPLES,
    Judgement,
    Ranked,
    bootstrap_ranks,
    judge,
    pareto_front,
)

LEAST_SCORED = 0.9
"""The share of its rows that a run needs a score of, to be ranked: all are ranked over the rows that they
share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCell:
    """One cell of a sweep, its run, and its place among the others."""

    run_id: str
    choices: Mapping[str, str]
    status: str
    """The run's; `waiting` of one that has not begun."""
    error: str | None = None
    """Why the run could not be begun, or failed."""
    cases: int = 0
    failed: int = 0
    cost_usd: float | None = None
    """Dollars of the calls of its model, not of its metrics' own; None where nobody knows."""
    latency_ms: float | None = None
    """The median of a call."""
    mean: float | None = None
    """The run's own mean of the metric, over the rows that count, as on its page."""
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    rows: int = 0
    unranked: str | None = None
    """Why it has no place."""
    place: int | None = None
    """By its mean over the rows that all ranked runs share; 1 is the best."""
    p_best: float | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    on_front: bool = False
    """Whether no other is at least as good for at most as much."""
    against_leader: Judgement | None = None
    """This run against the best one: its differences are negative where it is behind. Adjusted by Holm over
    all pairs of ranked runs, for the leader is chosen by what was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The runs of a sweep by one metric; the best first, those without a place last."""

    sweep: Sweep
    metric: str | None
    """None: the runs have no metric to rank by."""
    metrics: tuple[str, ...] = ()
    """Those that they can be ranked by."""
    higher_is_better: bool = True
    rows: int = 0
    """Rows that all ranked runs have a score of."""
    resamples: int = RESAMPLES
    cells: tuple[RankedCell, ...] = ()

    def over(self, sweep: Sweep, cells: Sequence[RankedCell], metrics: Sequence[str]) -> Ranking:
        """The same places among the cells as they are now: others may have begun or failed since."""
        was = {cell.run_id: cell for cell in self.cells}
        found = [was[cell.run_id] if cell.unranked is None else cell for cell in cells]
        found.sort(key=lambda cell: cell.place or len(found) + 1)
        return replace(self, sweep=sweep, cells=tuple(found), metrics=tuple(metrics))

    @property
    def leader(self) -> RankedCell | None:
        """The best one; None where none is ranked."""
        return next((cell for cell in self.cells if cell.place == 1), None)

    @property
    def ended(self) -> bool:
        """Whether every run has been worked on to its end."""
        return all(cell.status not in ("waiting", "running") for cell in self.cells)

    @property
    def usd(self) -> float | None:
        """Dollars of the models' calls of all runs; None where those of one are not known."""
        begun = [cell.cost_usd for cell in self.cells if cell.status != "waiting"]
        return None if None in begun else sum(usd for usd in begun if usd is not None)

    def to_json(self) -> dict[str, Any]:
        """Write it as `GET /api/v1/sweeps/{sweep_id}` gives it."""
        value = {
            **{name: one for name, one in self.sweep.to_json().items() if name != "cells"},
            "metric": self.metric,
            "metrics": list(self.metrics),
            "higher_is_better": self.higher_is_better,
            "rows": self.rows,
            "resamples": self.resamples,
            "ended": self.ended,
            "cost_usd": self.usd,
            "leader": self.leader.run_id if self.leader else None,
        }
        return value | {"cells": [{**asdict(cell), "choices": dict(cell.choices)} for cell in self.cells]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ranking:
        """Read what `to_json` wrote."""
        cells = tuple(_cell_from(cell) for cell in value["cells"])
        names = [field.name for field in fields(cls) if field.name not in ("sweep", "cells", "metrics")]
        known = {name: value[name] for name in names if name in value}
        metrics = tuple(value.get("metrics") or ())
        return cls(sweep=Sweep.from_json(value), cells=cells, metrics=metrics, **known)


def _cell_from(value: Mapping[str, Any]) -> RankedCell:
    judged = value.get("against_leader")
    return made(RankedCell, value, against_leader=made(Judgement, judged) if judged else None)


def cells_of(sweep: Sweep, runs: Mapping[str, RunRecord], metric: str | None) -> list[RankedCell]:
    """Return what is known of each cell without a look at any row.

    Args:
        sweep: the sweep.
        runs: its runs that have begun, by id.
        metric: the metric to rank by.
    """
    cells = []
    for cell in sweep.cells:
        run = runs.get(cell.run_id)
        if run is None:
            said = RankedCell(run_id=cell.run_id, choices=cell.choices, status="waiting", error=cell.error)
            cells.append(replace(said, unranked="its run has not begun"))
            continue
        summary = Summary.from_json(run.summary) if run.summary else None
        found = RankedCell(
            run_id=run.run_id,
            choices=cell.choices,
            status=run.status,
            error=run.error or cell.error,
            cases=run.cases,
            failed=summary.failed if summary else 0,
            cost_usd=summary.cost_usd if summary and not summary.unknown_cost else None,
            latency_ms=summary.latency_ms.quantile(0.5) if summary and summary.latency_ms.n else None,
        )
        cells.append(_with_mean(found, run, summary, metric))
    return cells


def _with_mean(cell: RankedCell, run: RunRecord, summary: Summary | None, metric: str | None) -> RankedCell:
    # What a budget or a person stopped has a part of its rows, and would rank all others by that part.
    if run.status != "completed" or run.results is None or summary is None:
        return replace(cell, unranked=f"its run is {run.status.replace('_', ' ')}")
    found = summary.metrics.get(metric or "")
    if found is None:
        return replace(cell, unranked=f"its run has no metric {metric!r}" if metric else "there is no metric")
    brief = found.brief()
    n, rows = brief.get("n") or 0, brief.get("rows") or brief.get("n") or 0
    cell = replace(
        cell, n=n, rows=rows, mean=brief.get("mean"), ci_low=brief.get("ci_low"), ci_high=brief.get("ci_high")
    )
    if brief.get("mean") is None:
        return replace(cell, unranked="it has no score")
    if n < LEAST_SCORED * rows:
        return replace(
            cell,
            unranked=f"only {n:,} of its {rows:,} rows have a score: resume what failed first",
        )
    return cell


def metrics_of(runs: Sequence[RunRecord]) -> tuple[list[str], str | None]:
    """The metrics that runs can be ranked by, those with a number that some have; and the first to show."""
    names: dict[str, bool] = {}
    for run in runs:
        of_run = (run.summary or {}).get("metrics") or {}
        for item in run.experiment.get("evaluation", ()):
            found = of_run.get(item["name"])
            if found is not None and found.get("values", {}).get("n") and not item.get("kept"):
                names[item["name"]] = names.get(item["name"], False) or bool(item.get("headline"))
    first = next((name for name, headline in names.items() if headline), next(iter(names), None))
    return list(names), first


async def ranked(
    pool: DuckDBPool,
    sweep: Sweep,
    cells: Sequence[RankedCell],
    stored: Mapping[str, StoredRun],
    metric: str,
    margins: Mapping[str, float],
) -> Ranking:
    """Rank the runs of a sweep by one metric.

    Args:
        pool: where to ask.
        sweep: the sweep.
        cells: its cells, as `cells_of` gives them.
        stored: the runs of those that are not `unranked`, by id.
        metric: the metric, which all of these have.
        margins: δ by metric; under "" that of all others.

    Raises:
        UnknownNameError: a run has no such metric.
    """
    runs = list(stored.values())
    if not runs:
        return Ranking(sweep=sweep, metric=metric, cells=tuple(cells))
    found = next((m for m in runs[0].metrics if m.name == metric), None)
    if found is None:
        raise UnknownNameError("metric", metric, {m.name for m in runs[0].metrics})
    reasons = {
        run.run.run_id: not_comparable([runs[0], run], metric, 0)
        for run in runs[1:]
        if any(m.name == metric for m in run.metrics)
    }
    runs = [run for run in runs if reasons.get(run.run.run_id) is None]
    counts, sums = await _blocks(pool, runs, metric, bool(found.cluster_by))
    rows, higher = sum(counts), found.higher_is_better
    means = [sum(one) / rows if rows else 0.0 for one in sums]
    order = sorted(range(len(runs)), key=lambda n: -means[n] if higher else means[n])
    ranks = await pool.call(_ranks, sums, counts, higher) if rows else [Ranked(0.0, 1, len(runs))] * len(runs)
    leader = runs[order[0]]
    judged = await _against(pool, leader, [runs[n] for n in order[1:]], metric, margins)
    placed: dict[str, dict[str, Any]] = {}
    for place, n in enumerate(order):
        one = ranks[n]
        placed[runs[n].run.run_id] = {
            "place": place + 1,
            "p_best": one.p_best if rows else None,
            "rank_low": one.low,
            "rank_high": one.high,
            "against_leader": judged[place - 1] if place else None,
        }
    done = [_placed(cell, placed, reasons) for cell in cells]
    front = pareto_front(
        [cell.cost_usd if cell.place else None for cell in done],
        [cell.mean if cell.place else None for cell in done],
        higher_is_better=higher,
    )
    done = [replace(cell, on_front=on) for cell, on in zip(done, front, strict=True)]
    done.sort(key=lambda cell: cell.place or len(done) + 1)
    return Ranking(sweep=sweep, metric=metric, higher_is_better=higher, rows=rows, cells=tuple(done))


def _placed(
    cell: RankedCell, placed: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str | None]
) -> RankedCell:
    if cell.run_id in placed:
        return replace(cell, **placed[cell.run_id])
    why = reasons.get(cell.run_id)
    return replace(cell, unranked=f"not comparable: {why}") if why else cell


def _ranks(sums: Sequence[Sequence[float]], counts: Sequence[int], higher: bool) -> list[Ranked]:
    return bootstrap_ranks(sums, counts, higher_is_better=higher)


async def _blocks(
    pool: DuckDBPool, runs: Sequence[StoredRun], metric: str, clustered: bool
) -> tuple[list[int], list[list[float]]]:
    """The rows that all runs have a value of, in blocks: how many each has, and each run's sum of them."""
    sides = ", ".join(
        f"v{n} AS ({_alone(runs, run, metric).values(0, clusters=clustered and not n)})"
        for n, run in enumerate(runs)
    )
    joins = " ".join(f"JOIN v{n} ON v{n}.k = v0.k" for n in range(1, len(runs)))
    values = ", ".join(f"v{n}.x AS y{n}" for n in range(len(runs)))
    unit = "v0.cl" if clustered else "v0.k"
    sums = ", ".join(f"sum(y{n})::DOUBLE" for n in range(len(runs)))
    rows = await pool.fetch(
        f"WITH {sides}, j AS (SELECT {unit} AS unit, {values} FROM v0 {joins}), "
        f"b AS (SELECT *, dense_rank() OVER (ORDER BY hash(unit), unit) % {BLOCKS} AS g FROM j) "
        f"SELECT count(*), {sums} FROM b GROUP BY g ORDER BY g"
    )
    return [row[0] for row in rows], [[row[n + 1] for row in rows] for n in range(len(runs))]


def _alone(runs: Sequence[StoredRun], run: StoredRun, metric: str) -> Pairing:
    name = next(
        name for m, (_, name) in zip(run.metrics, run.columns.scores, strict=True) if m.name == metric
    )
    return Pairing(
        sources=[run.index],
        totals=[run.total],
        names=[{metric: name}],
        pairs=[(metric, 0)],
        higher={},
        facts=(),
        bounded=(),
        joined_on="case",
        trials=run.run.experiment.get("trials", 1),
        counting=[counting_of([runs[0], run], metric, 0)],
    )


async def _against(
    pool: DuckDBPool,
    leader: StoredRun,
    others: Sequence[StoredRun],
    metric: str,
    margins: Mapping[str, float],
) -> list[Judgement]:
    """Judge each other run against the leader, over all pairs of runs: whoever leads was chosen by it."""
    data = []
    for other in others:
        runs = [leader, other]
        pairing = await pairing_of(pool, runs)
        found = await statistics_of(pool, runs, pairing)
        pair = next(n for n, (name, _) in enumerate(pairing.pairs) if name == metric)
        data.append(replace(paired_of(runs, pairing, found, pair, margins), fact=False))
    count = len(others) + 1
    return judge(data, tests=count * (count - 1) // 2)
