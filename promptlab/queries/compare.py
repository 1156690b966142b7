"""Two to four runs, joined case by case: SQL over their indexes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

from promptlab.errors import RunError, UnknownNameError
from promptlab.queries.compare_sql import ANSWER, CHANGES, Pairing, Selected
from promptlab.queries.compared import MAX_COMPARED, Change, Compared
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool
from promptlab.statistics import student_interval

Verdict = Literal["improved", "regressed", "same", "different", "missing"]
"""`different`: another label, another measure or another answer, which is neither better nor worse;
`missing`: only one of the two has a score."""
_VERDICTS: tuple[Verdict, ...] = ("same", "improved", "regressed", "different", "missing")


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of the base run and one other.

    The interval is that of a paired difference: with dᵢ = otherᵢ − baseᵢ over the n dataset rows that
    both scored (of trials, the row's mean), it is d̄ ± t₀.₉₇₅,ₙ₋₁ · s_d/√n, s_d the standard deviation of
    the dᵢ (Student, "The probable error of a mean", Biometrika 1908; for evaluations: Miller, "Adding
    Error Bars to Evals", 2024, section 4.2).
    """

    metric: str
    other: int
    """The other run, by its place in `others`."""
    higher_is_better: bool
    n: int
    """Dataset rows with a score in both."""
    base_mean: float | None
    """Over these rows."""
    other_mean: float | None
    difference: float | None
    """other − base."""
    stderr: float | None
    """The interval of the difference; None below two rows."""
    low: float | None
    """The 95% interval of the difference."""
    high: float | None
    improved: int
    """Cases that the other run won: what `Compared("improved", metric, other)` selects.
    So with the next ones."""
    regressed: int
    same: int
    different: int
    """Every case that is not the same: improved, regressed, another label, scored by only one."""
    fact: bool = False
    """It only measures: no case is better or worse by it."""


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


@dataclass(frozen=True, slots=True)
class Delta:
    """How one metric of a case changed."""

    difference: float | None
    """other − base, where both have a number."""
    verdict: Verdict


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

    Raises:
        RunError: there are not one to three others.
        UnknownNameError: no such metric that the base shares with the (chosen) other run, no such other run,
            or no such sort.
    """
    if not 2 <= len(runs) <= MAX_COMPARED:
        raise RunError(f"A comparison is of a run with one to three others, not with {len(runs) - 1}.")
    pairing = await _pairing(pool, runs)
    async with AsyncExitStack() as stack:
        found = (
            [await stack.enter_async_context(run.matches.found(run.search, selected.text)) for run in runs]
            if selected.text
            else []
        )
        which = _selected(pairing, selected, found, sort, descending)
        page = await _ask(pool, pairing, which, limit, offset)
        if not page["page"] and page["matching"] and offset:
            offset = (page["matching"] - 1) // limit * limit
            page = await _ask(pool, pairing, which, limit, offset)
    rows = await _rows(runs, pairing, page["page"] or [], text_chars)
    total = page["total"]
    return ComparePage(
        rows=rows,
        total_matching=page["matching"],
        total=total,
        offset=offset,
        limit=limit,
        counts={"all": total, **{change: page[change] for change in CHANGES}},
        metrics=tuple(
            _metric(pairing, page, n) for n, (name, _) in enumerate(pairing.pairs) if name != ANSWER
        ),
        joined_on=pairing.joined_on,
        unmatched=tuple((page[f"base_only{n}"], page[f"other_only{n}"]) for n in range(len(runs) - 1)),
    )


async def _pairing(pool: DuckDBPool, runs: Sequence[StoredRun]) -> Pairing:
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
        facts={m.name for m in base.metrics if m.is_fact},
        bounded={m.name for m in base.metrics if m.is_bounded},
        joined_on="case" if same else "id",
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


def _selected(
    pairing: Pairing, compared: Compared, found: Sequence[str], sort: str, descending: bool
) -> Selected:
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
    return Selected(compared.change, chosen, found, sort == "difference" and bool(chosen), descending)


async def _ask(
    pool: DuckDBPool, pairing: Pairing, which: Selected, limit: int, offset: int
) -> dict[str, Any]:
    sql, names = pairing.query(which, limit, offset)
    (row,) = await pool.fetch(sql)
    return dict(zip(names, row, strict=True))


def _metric(pairing: Pairing, found: Mapping[str, Any], pair: int) -> MetricComparison:
    metric, other = pairing.pairs[pair]
    n, base, mean, difference, deviation, improved, regressed, same = (
        found[f"{name}{pair}"] for name in pairing.AGGREGATES
    )
    stderr = deviation / math.sqrt(n) if n > 1 else None
    low, high = student_interval(difference, stderr, n) if stderr is not None else (None, None)
    different = found["total"] - same
    return MetricComparison(
        metric,
        other,
        pairing.higher[metric],
        n,
        base,
        mean,
        difference,
        stderr,
        low,
        high,
        improved,
        regressed,
        same,
        different,
        metric in pairing.facts,
    )


async def _rows(
    runs: Sequence[StoredRun], pairing: Pairing, page: Sequence[Mapping[str, Any]], chars: int
) -> list[PairRow]:
    halves = [await run.rows([item[f"r{n}"] for item in page]) for n, run in enumerate(runs)]
    rows = []
    for item, base, *others in zip(page, *halves, strict=True):
        deltas: list[dict[str, Delta]] = [{} for _ in others]
        for n, (metric, other) in enumerate(pairing.pairs):
            deltas[other][metric] = Delta(item[f"d{n}"], _VERDICTS[item[f"v{n}"]])
        inputs = {
            source: value[:chars] if isinstance(value := base[name], str) else value
            for source, name, _ in runs[0].columns.inputs
        }
        sides = [
            _side(names, half, chars) for names, half in zip(pairing.names, (base, *others), strict=True)
        ]
        rows.append(
            PairRow(
                base["case"], base["trial"], base["id"], inputs, sides[0], tuple(sides[1:]), tuple(deltas)
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
    return Side(
        **plain, response=response and response[:chars], scores=scores, cut=len(response or "") > chars
    )
