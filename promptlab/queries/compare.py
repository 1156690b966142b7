"""Two to four runs, joined case by case: SQL over their indexes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from promptlab.domain import comparable
from promptlab.domain.corrected import CorrectedDifference
from promptlab.domain.decided import comparison_notes
from promptlab.domain.experiment import Metric
from promptlab.domain.judged_by import judges_of
from promptlab.domain.results import CaseKey
from promptlab.domain.summary import MetricSummary
from promptlab.duck import quoted
from promptlab.errors import RunError, UnknownNameError
from promptlab.queries.compare_opened import Located, locate
from promptlab.queries.compare_sql import ANSWER, CHANGES, Counting, Pairing, Selected
from promptlab.queries.compared import MAX_COMPARED, Change, Compared
from promptlab.queries.filters import condition
from promptlab.queries.opened import StoredRun, counted
from promptlab.queries.pool import DuckDBPool
from promptlab.queries.run_level import RunComparison, judged_together
from promptlab.results.clusters import errors_of
from promptlab.statistics import Clusters, Interval, Judgement, PairedData

CaseVerdict = Literal["improved", "regressed", "same", "different", "missing"]
"""`different`: another label, another measure or another answer, which is neither better nor worse;
`missing`: only one of the two has a score."""
_VERDICTS: tuple[CaseVerdict, ...] = ("same", "improved", "regressed", "different", "missing")


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of the base run and one other.

    Means, interval, p and verdict are `judgement`'s, over the dataset rows that both runs have a value for
    (of trials, each run's mean of a row); docs/statistics.md says how they are made. The counts below are of
    cases.
    """

    metric: str
    other: int
    """The other run, by its place in `others`."""
    higher_is_better: bool
    judgement: Judgement
    improved: int
    """Cases that the other run won: what `Compared("improved", metric, other)` selects.
    So with the next ones."""
    regressed: int
    same: int
    different: int
    """Every case that is not the same: improved, regressed, another label, scored by only one."""
    fact: bool = False
    """It only measures: no case is better or worse by it."""
    not_comparable: str | None = None
    """Why the two runs' values are not of the same metric: then there is no verdict."""
    corrected: CorrectedDifference | None = None
    """The difference as people's labels correct it; None where too few rows are labelled in both runs."""

    @property
    def n(self) -> int:
        """Dataset rows with a value in both."""
        return self.judgement.n

    @property
    def base_mean(self) -> float | None:
        """Over these rows."""
        return self.judgement.base_mean

    @property
    def other_mean(self) -> float | None:
        return self.judgement.other_mean

    @property
    def difference(self) -> float | None:
        """other − base."""
        return self.judgement.difference

    @property
    def stderr(self) -> float | None:
        return self.judgement.stderr

    @property
    def low(self) -> float | None:
        """The 95% interval of the difference."""
        return self.judgement.ci_low

    @property
    def high(self) -> float | None:
        return self.judgement.ci_high


@dataclass(frozen=True, slots=True)
class Side:
    """One run's half of a pair."""

    case: int
    trial: int
    response: str | None
    error_type: str | None
    error_message: str | None
    latency_ms: float | None
    cost_usd: float | None
    scores: Mapping[str, Mapping[str, Any]]
    """Metric → {score, passed, label, reason, score_error}."""
    cut: bool
    """Whether the response is longer than what is here."""
    calls: int = 0
    """Calls of tools in its messages."""
    turns: int = 0
    """Turns of its conversation."""


@dataclass(frozen=True, slots=True)
class Delta:
    """How one metric of a case changed."""

    difference: float | None
    """other − base, where both have a number."""
    verdict: CaseVerdict


@dataclass(frozen=True, slots=True)
class PairRow:
    """One case in every run."""

    case: int
    """The dataset row in the base run; trial, id and inputs are the base run's, too."""
    trial: int
    id: str
    inputs: Mapping[str, Any]
    """By dataset column."""
    base: Side
    others: tuple[Side, ...]
    deltas: tuple[Mapping[str, Delta], ...]
    """Per other run: metric → delta."""


@dataclass(frozen=True, slots=True)
class OpenedPair:
    """One case in every run, whole, and its place among the pairs that are selected."""

    found: Located
    deltas: Sequence[Mapping[str, Delta]]
    """Per other run: metric → delta."""


@dataclass(frozen=True, slots=True)
class ComparePage:
    """One page of a comparison, and its counts."""

    rows: list[PairRow]
    total_matching: int
    total: int
    """Cases that all runs have."""
    offset: int
    limit: int
    counts: Mapping[Change, int]
    """Cases per change for the metric and the run that were chosen, whatever the text. `improved` and
    `regressed` may overlap where these are any."""
    metrics: tuple[MetricComparison, ...]
    """Every metric that the base shares with each other run."""
    joined_on: Literal["case", "id"]
    """`case`: the runs are of the same rows; `id`: of another dataset version, joined on the rows' ids."""
    unmatched: tuple[tuple[int, int], ...]
    """Per other run: cases that only the base has, and cases that only the other has."""
    opened: OpenedPair | None = None
    """The case that was asked for, if it was and every run has it."""
    notes: tuple[str, ...] = ()
    """What has to be known of the runs: those that ended early, decided."""
    run_metrics: tuple[RunComparison, ...] = ()
    """Every score of the runs as a whole that the base shares with each other run."""

    def corrected_by(self, found: Sequence[Mapping[str, CorrectedDifference]]) -> ComparePage:
        """Give the page with corrected differences: of each other run by metric."""
        metrics = tuple(replace(m, corrected=found[m.other].get(m.metric)) for m in self.metrics)
        return replace(self, metrics=metrics)


async def compare(
    pool: DuckDBPool,
    runs: Sequence[StoredRun],
    selected: Compared,
    *,
    sort: str = "case",
    descending: bool = False,
    offset: int = 0,
    limit: int = 25,
    text_chars: int = 600,
    at: CaseKey | None = None,
    whole: Sequence[RunComparison] = (),
) -> ComparePage:
    """A page of the pairs of `runs[0]`, the base, with the others.

    Args:
        pool: where to ask.
        runs: the base and one to three others.
        selected: which pairs.
        sort: `case`, or `difference`: by how much better the chosen metric (else the first) of the chosen
            run (else the first) became; the greatest loss first, or with `descending` the greatest gain.
        descending: the other way round.
        offset: pairs to skip; beyond the last page, the last page.
        limit: pairs of a page.
        text_chars: how much of an answer or an input a row has.
        at: a case of the base run that is to be opened, whole, whether it is selected or not.
        whole: the scores of the runs as a whole, which are judged together with the metrics.

    Raises:
        RunError: there are not one to three others.
        UnknownNameError: no such metric that the base shares with the (chosen) other run, no such other run,
            or no such sort.
    """
    if not 2 <= len(runs) <= MAX_COMPARED:
        raise RunError(f"A comparison is of a run with one to three others, not with {len(runs) - 1}.")
    pairing = await pairing_of(pool, runs)
    async with AsyncExitStack() as stack:
        found = (
            [await stack.enter_async_context(run.matches.found(run.search, selected.text)) for run in runs]
            if selected.text
            else []
        )
        which, values = _selected(runs[0], pairing, selected, found, sort, descending)
        page = await _ask(pool, pairing, which, values, limit, offset)
        if not page["page"] and page["matching"] and offset:
            offset = (page["matching"] - 1) // limit * limit
            page = await _ask(pool, pairing, which, values, limit, offset)
        located = None if at is None else await locate(pool, runs, pairing, which, values, at)
    rows = await _rows(runs, pairing, page["page"] or [], text_chars)
    total = page["total"]
    statistics = page | await statistics_of(pool, runs, pairing)
    metrics, run_metrics = _judged(runs, pairing, statistics, selected.margins, whole)
    return ComparePage(
        rows=rows,
        total_matching=page["matching"],
        total=total,
        offset=offset,
        limit=limit,
        counts={"all": page["kept"], **{change: page[change] for change in CHANGES}},
        metrics=metrics,
        run_metrics=run_metrics,
        joined_on=pairing.joined_on,
        unmatched=tuple((page[f"base_only{n}"], page[f"other_only{n}"]) for n in range(len(runs) - 1)),
        opened=OpenedPair(located, _deltas(pairing, located.item)) if located else None,
        notes=comparison_notes([run.run for run in runs], [run.total for run in runs]),
    )


def _deltas(pairing: Pairing, item: Mapping[str, Any]) -> tuple[dict[str, Delta], ...]:
    """Per other run: how each metric changed."""
    deltas: tuple[dict[str, Delta], ...] = tuple({} for _ in pairing.sources[1:])
    for n, (metric, other) in enumerate(pairing.pairs):
        deltas[other][metric] = Delta(item[f"d{n}"], _VERDICTS[item[f"v{n}"]])
    return deltas


async def pairing_of(pool: DuckDBPool, runs: Sequence[StoredRun]) -> Pairing:
    """How runs are joined, and which metrics they share."""
    base, names = (
        runs[0],
        [
            {m.name: name for m, (_, name) in zip(run.metrics, run.columns.scores, strict=True)}
            for run in runs
        ],
    )
    pairs = [
        (m.name, other) for m in base.metrics for other in range(len(runs) - 1) if m.name in names[other + 1]
    ]
    # Runs without a common metric can still be compared by what they answered.
    alone = set(range(len(runs) - 1)) - {other for _, other in pairs}
    pairs += [(ANSWER, other) for other in sorted(alone)]
    same = len({run.run.experiment["dataset"]["hash"] for run in runs}) == 1
    pairing = Pairing(
        sources=[run.index for run in runs],
        totals=[run.total for run in runs],
        names=names,
        pairs=pairs,
        higher={m.name: m.higher_is_better for m in base.metrics},
        counting=[counting_of(runs, metric, other) for metric, other in pairs],
        facts={m.name for m in base.metrics if m.is_fact},
        bounded={m.name for m in base.metrics if m.is_bounded},
        joined_on="case" if same else "id",
        clustered={m.name for m in base.metrics if m.cluster_by},
        trials=max(run.run.experiment.get("trials", 1) for run in runs),
    )
    if same and len(set(pairing.totals)) == 1:
        await _align(pool, runs, pairing)
    return pairing


async def _align(pool: DuckDBPool, runs: Sequence[StoredRun], pairing: Pairing) -> None:
    """Find out whether the runs' rows are side by side; the files never change, so that it is asked once."""
    known, key = runs[0].aligned, tuple(pairing.sources[1:])
    if key not in known:
        ((answer,),) = await pool.fetch(pairing.alignment())
        known[key] = bool(answer)
    pairing.aligned = known[key]


async def statistics_of(pool: DuckDBPool, runs: Sequence[StoredRun], pairing: Pairing) -> dict[str, Any]:
    """Return what each pair is judged by. The files never change: it is asked once, and not for each page."""
    known, key = runs[0].compared, tuple(pairing.sources[1:])
    if key not in known:
        found: dict[str, Any] = {}
        for other in range(len(runs) - 1):
            sql, names = pairing.statistics(other)
            if names:
                (row,) = await pool.fetch(sql)
                found |= zip(names, row, strict=True)
            found |= (await cluster_errors(pool, pairing, "0", other)).get(0, {})
        known[key] = found
    return known[key]


async def cluster_errors(
    pool: DuckDBPool, pairing: Pairing, key: str, other: int | None, without: Sequence[str] = ()
) -> dict[Any, dict[str, Clusters]]:
    """The pairs' standard errors over clusters, of each slice, by `clusters` and the number of the pair;
    without the rows of some ids."""
    sql, chosen = pairing.clusters_by(key, other, without)
    if not chosen:
        return {}
    found: dict[Any, dict[str, Clusters]] = {}
    for row in await pool.fetch(sql, [*without, *without]):
        found[row[0]] = {f"clusters{n}": one for n, one in zip(chosen, errors_of(row), strict=True)}
    return found


def _selected(
    base: StoredRun,
    pairing: Pairing,
    compared: Compared,
    found: Sequence[str],
    sort: str,
    descending: bool,
) -> tuple[Selected, list[Any]]:
    """Return what a page shows a part of, and its query's parameters."""
    others = range(len(pairing.sources) - 1)
    if compared.other is not None and compared.other not in others:
        raise UnknownNameError("other run", str(compared.other), map(str, others))
    if sort not in ("case", "difference"):
        raise UnknownNameError("order", sort, ["case", "difference"])
    if compared.change not in ("all", *CHANGES):
        raise UnknownNameError("change", compared.change, ["all", *CHANGES])
    chosen = [
        n
        for n, (metric, other) in enumerate(pairing.pairs)
        if (compared.metric is None or metric == compared.metric)
        and (compared.other is None or other == compared.other)
    ]
    if compared.metric is not None and not chosen:
        raise UnknownNameError(
            "metric that these runs share",
            compared.metric,
            {metric for metric, _ in pairing.pairs if metric != ANSWER},
        )
    if compared.metric is None:  # a fact is no reason to call a case better, worse or changed
        chosen = [n for n in chosen if pairing.pairs[n][0] not in pairing.facts] or chosen
    rows, values = condition(compared.rows, base.columns) if compared.rows else ("", [])
    which = Selected(
        compared.change,
        chosen,
        found,
        sort == "difference" and bool(chosen),
        descending,
        (compared.least, compared.most),
        rows,
    )
    return which, values


async def _ask(
    pool: DuckDBPool, pairing: Pairing, which: Selected, values: Sequence[Any], limit: int, offset: int
) -> dict[str, Any]:
    sql, names = pairing.query(which, limit, offset)
    (row,) = await pool.fetch(sql, list(values))
    return dict(zip(names, row, strict=True))


def _named(run: StoredRun, name: str) -> Metric:
    return next(m for m in run.metrics if m.name == name)


def counting_of(runs: Sequence[StoredRun], name: str, other: int) -> Counting:
    """How the values of a metric count: as the base run's metric says, or by default as its values are."""
    if name == ANSWER:
        return Counting()
    metric, pair = _named(runs[0], name), (runs[0], runs[other + 1])
    found = _counting(runs[0], metric, pair)
    centre, scale = _place(runs[other + 1], name)
    return replace(found, centre=centre, scale=scale)


def _place(run: StoredRun, name: str) -> tuple[float, float]:
    """Where a run's values of a metric lie, and how far apart, as far as its summary tells."""
    found = ((run.run.summary or {}).get("metrics") or {}).get(name)
    if found is None:
        return 0.0, 1.0
    values = MetricSummary.from_json(found).counted
    deviation = (values.stderr or 0.0) * math.sqrt(values.n)
    return (values.mean, deviation) if 0 < deviation < math.inf else (0.0, 1.0)


def _counting(base: StoredRun, metric: Metric, pair: tuple[StoredRun, StoredRun]) -> Counting:
    name, bounds = metric.name, metric.bounds
    if not any(_is_incomplete(run, name) for run in pair):
        return Counting(complete=True)
    if metric.missing == "exclude":
        return Counting(applies=_applies(base, metric))
    fails = metric.missing == "fail" or (
        metric.missing is None and (metric.has_declared_bounds or all(_is_binary(run, name) for run in pair))
    )
    worst = None
    if fails and bounds is not None:
        worst = bounds[0] if metric.higher_is_better else bounds[1]
    return Counting(worst, bounds, applies=_applies(base, metric))


def _is_incomplete(run: StoredRun, name: str) -> bool:
    """Whether a case of a run may be without a score: one failed, or one of its scores did."""
    summary = run.run.summary
    if summary is None or name not in (summary.get("metrics") or {}):
        return True
    return bool(summary["failed"] or summary["metrics"][name].get("failed"))


def _is_binary(run: StoredRun, name: str) -> bool:
    """Whether every value of a run is pass or fail, so that what the model failed is a failure."""
    found = ((run.run.summary or {}).get("metrics") or {}).get(name)
    if found is None:
        return False
    metric = MetricSummary.from_json(found)
    return metric.is_share if metric.counting is None else metric.fills


def _applies(run: StoredRun, metric: Metric) -> str:
    """SQL of whether the metric is to score a row, as far as the index tells: what `when` looks at is not in
    it, so that a row without any score is then left out."""
    if metric.when is not None:
        return "false"
    column = metric.reference_column
    names = {source: name for source, name, _ in run.columns.inputs}
    if column is None or column not in names:
        return "true"
    value = quoted(names[column])
    return f"coalesce(trim(CAST({value} AS VARCHAR)) NOT IN ('', '[]'), false)"


def not_comparable(runs: Sequence[StoredRun], name: str, other: int) -> str | None:
    """Say why the metric of two runs is not the same one; None where it is, as far as they tell."""
    pair = runs[0], runs[other + 1]
    first, second = (_named(run, name) for run in pair)
    before, after = (run.run.experiment for run in pair)
    judges = judges_of(pair[0].run.summary), judges_of(pair[1].run.summary)
    return comparable.not_comparable(first, second, before, after, judges)


def paired_of(
    runs: Sequence[StoredRun],
    pairing: Pairing,
    found: Mapping[str, Any],
    pair: int,
    margins: Mapping[str, float],
) -> PairedData:
    """One pair's statistics as what is judged."""
    name, _ = pairing.pairs[pair]
    metric = _named(runs[0], name)
    value = {key: found[f"{key}{pair}"] for key in Pairing.AGGREGATES}
    bounds = metric.bounds
    if bounds is None or not (value["n"] and bounds[0] <= value["lowest"] and value["highest"] <= bounds[1]):
        bounds = None
    share = bounds == (0.0, 1.0) and bool(value["ones"]) and pairing.trials == 1
    extremes = None
    if bounds is not None and value["least"] is not None and value["least"] < value["most"]:
        extremes = Interval(value["least"], value["most"])
    return PairedData(
        n=value["n"],
        kind="binary" if share else "bounded" if bounds else "unbounded",
        base_mean=value["base"],
        other_mean=value["mean"],
        difference=value["difference"],
        deviation=value["deviation"] or 0.0,
        rose=value["rose"],
        fell=value["fell"],
        higher_is_better=metric.higher_is_better,
        bounds=bounds,
        missing_base=value["missing_base"],
        missing_other=value["missing_other"],
        extremes=extremes,
        clusters=found.get(f"clusters{pair}"),
        fact=metric.is_fact,
        margin=None if metric.is_fact else margins.get(name, margins.get("")),
    )


def _judged(
    runs: Sequence[StoredRun],
    pairing: Pairing,
    found: Mapping[str, Any],
    margins: Mapping[str, float],
    whole: Sequence[RunComparison],
) -> tuple[tuple[MetricComparison, ...], tuple[RunComparison, ...]]:
    """Judge all pairs of a metric, or of a score of the runs as a whole, and a run together; those that are
    not comparable count for nobody."""
    places = [n for n, (name, _) in enumerate(pairing.pairs) if name != ANSWER]
    reasons = [not_comparable(runs, *pairing.pairs[n]) for n in places]
    paired = [paired_of(runs, pairing, found, n, margins) for n in places]
    data = [replace(one, fact=True) if reason else one for one, reason in zip(paired, reasons, strict=True)]
    judged, scores = judged_together(data, whole, margins)
    metrics = tuple(
        MetricComparison(
            metric=pairing.pairs[n][0],
            other=pairing.pairs[n][1],
            higher_is_better=pairing.higher[pairing.pairs[n][0]],
            judgement=judgement,
            improved=found[f"improved{n}"],
            regressed=found[f"regressed{n}"],
            same=found[f"same{n}"],
            different=found["total"] - found[f"same{n}"],
            fact=pairing.pairs[n][0] in pairing.facts,
            not_comparable=reason,
        )
        for n, judgement, reason in zip(places, judged, reasons, strict=True)
    )
    return metrics, tuple(scores)


async def _rows(
    runs: Sequence[StoredRun], pairing: Pairing, page: Sequence[Mapping[str, Any]], chars: int
) -> list[PairRow]:
    halves = [await run.rows([item[f"r{n}"] for item in page]) for n, run in enumerate(runs)]
    rows = []
    for item, base, *others in zip(page, *halves, strict=True):
        inputs = {
            source: value[:chars] if isinstance(value := base[name], str) else value
            for source, name, _ in runs[0].columns.inputs
        }
        sides = [
            _side(names, half, chars) for names, half in zip(pairing.names, (base, *others), strict=True)
        ]
        rows.append(
            PairRow(
                base["case"],
                base["trial"],
                base["id"],
                inputs,
                sides[0],
                tuple(sides[1:]),
                _deltas(pairing, item),
            )
        )
    return rows


def _side(names: Mapping[str, str], row: Mapping[str, Any], chars: int) -> Side:
    response = row["response"]
    scores = {
        metric: {
            part: row[f"{part}.{name}"] for part in ("score", "passed", "label", "reason", "score_error")
        }
        for metric, name in names.items()
    }
    plain = {
        name: row[name] for name in ("case", "trial", "error_type", "error_message", "latency_ms", "cost_usd")
    }
    counts = counted(row)
    return Side(
        **plain,
        response=response and response[:chars],
        scores=scores,
        cut=len(response or "") > chars,
        calls=counts["calls"],
        turns=counts["turns"],
    )
