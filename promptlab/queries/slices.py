"""A run, or a comparison, by the values of one dataset column: one query over each index."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from promptlab.domain.decided import unfinished_notes
from promptlab.duck import literal, quoted
from promptlab.errors import RunError, UnknownNameError
from promptlab.ports import Blobs
from promptlab.queries.compare import cluster_errors, counting_of, not_comparable, paired_of, pairing_of
from promptlab.queries.compare_sql import ANSWER, Pairing, skewness_of
from promptlab.queries.compared import MAX_COMPARED
from promptlab.queries.gated_scores import slice_of
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool
from promptlab.queries.run_level import judged_together
from promptlab.queries.sliced_scores import By, SlicedScores, judgement_of, mean_of, sliced_scores
from promptlab.results.index import PREFIX_CHARS
from promptlab.statistics import (
    FEWEST,
    FEWEST_ROWS,
    Clusters,
    Judgement,
    is_skewed,
    numbers_interval,
    student_interval,
    t_of,
    wilson,
    wilson_t,
    z_of,
)

MOST = 50
"""Values with a slice of their own, the most frequent ones; all others are together."""
BINS = 5
"""Slices of a column of numbers with more than MOST_NUMBERS different ones, each with as many rows."""
MOST_NUMBERS = 12
MOST_CHARS = 200
"""Characters of a value that are shown."""
REST = "…"
_NUMBERS = ("BIGINT", "HUGEINT", "INTEGER", "DOUBLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMean:
    """One metric of the base run over a slice; of a score of the run as a whole its value, by `bootstrap`."""

    n: int
    """Rows that the mean is of."""
    rows: int
    """Rows to score."""
    mean: float | None
    stderr: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    method: str | None = None
    worst_low: float | None = None
    """The mean of all rows at least, whatever the missing scores are; None where none are missing."""
    worst_high: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDifference:
    """One metric of a slice in the base and in another run."""

    judgement: Judgement
    not_comparable: str | None
    """Why there is no verdict, where the two are not the same metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows with one value of the column."""

    value: str | None
    """As text, cut; `…` for all values together that have no slice, None for rows without a value."""
    rows: int
    """Dataset rows in the base."""
    means: Mapping[str, SliceMean]
    """By metric, of the base."""
    differences: Sequence[Mapping[str, SliceDifference]]
    """Per other run: by metric."""
    bounds: tuple[float, float] | None = None
    """Of a bin: the least and the greatest value, both in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """A run, and others against it, by one column."""

    column: str
    values: int
    """How many different values the column has."""
    binned: bool
    """Whether they are numbers, in bins with as many rows each."""
    slices: Sequence[Slice]
    notes: Sequence[str] = ()
    """What has to be known of the runs: those that were stopped."""


async def slices(
    pool: DuckDBPool, blobs: Blobs, runs: Sequence[StoredRun], column: str, margins: Mapping[str, float]
) -> Slices:
    """Slice the base run `runs[0]`, and the others against it, by a column of the base's dataset.

    Scores of the runs as a whole stand beside the metrics of cases: a slice's value, by its cases alone.
    Verdicts are Holm's over all slices, metrics, scores and runs. Texts that are the same in their first 48
    lower-case letters are one value, as in the index.

    Args:
        pool: where to ask.
        blobs: where the sums of cases are.
        runs: the base and at most three others.
        column: of the dataset.
        margins: δ by metric; under "" that of all others.

    Raises:
        RunError: there are more than three others.
        UnknownNameError: the dataset has no such column.
    """
    if not 1 <= len(runs) <= MAX_COMPARED:
        raise RunError(f"Slices are of a run with at most three others, not with {len(runs) - 1}.")
    base = runs[0]
    known = {source: name for source, name, _ in base.columns.inputs}
    if column not in known:
        raise UnknownNameError("dataset column", column, known)
    keys = await _keys(pool, base, known[column])
    means = await _means(pool, base, keys.sql)
    found: list[dict[Any, dict[str, Any]]] = []
    pairing = None
    if len(runs) > 1:
        pairing = await pairing_of(pool, runs)
        for other in range(len(runs) - 1):
            sql, names = pairing.statistics_by(keys.sql, other)
            rows = await pool.fetch(sql) if len(names) > 1 else []
            errors = await cluster_errors(pool, pairing, keys.sql, other)
            found.append(
                {row[0]: dict(zip(names, row, strict=True)) | errors.get(row[0], {}) for row in rows}
            )
    kind = base.columns.types[known[column]]
    whole = await sliced_scores(
        pool,
        blobs,
        runs,
        lambda run: keys.sql if run.columns.types.get(known[column]) == kind else None,
        By(column, keys.named),
    )
    differences = _differences(runs, pairing, found, keys, margins, whole) if pairing else {}
    return Slices(
        notes=(*unfinished_notes([run.run for run in runs], [run.total for run in runs]), *whole.notes),
        column=column,
        values=keys.values,
        binned=keys.binned,
        slices=[
            Slice(
                value=text,
                rows=means[key]["rows"],
                means=_slice_means(base, means[key])
                | {name: SliceMean(**mean_of(one)) for name, one in whole.base.get(key, {}).items()},
                differences=[differences.get((key, other), {}) for other in range(len(runs) - 1)],
                bounds=keys.bounds.get(key),
            )
            for key, text in keys.shown.items()
            if key in means
        ],
    )


@dataclass(frozen=True, slots=True)
class _Keys:
    """How rows are sliced."""

    sql: str
    """The key of a row of the index: the number of its slice; NULL for a row without a value."""
    shown: Mapping[int | None, str | None]
    """Key → text, in the order in which slices are shown."""
    values: int
    binned: bool
    bounds: Mapping[int | None, tuple[float, float]] = field(default_factory=dict)
    """Of a bin: its least and its greatest value."""
    named: Mapping[str, int | None] = field(default_factory=dict)
    """The value of a slice in the index, as text → its key; of bins and of all other values none."""


async def _keys(pool: DuckDBPool, run: StoredRun, name: str) -> _Keys:
    value, kind = quoted(name), run.columns.types[name]
    if kind in _NUMBERS:
        parts = ", ".join(str(n / BINS) for n in range(1, BINS))
        ((values, low, high, cuts),) = await pool.fetch(
            f"SELECT count(DISTINCT {value}), min({value}), max({value}), "
            f"quantile_disc({value}, [{parts}]) FROM {run.index}"
        )
        if values > MOST_NUMBERS:
            return _bins(value, values, low, sorted(set(cuts) - {high}), high)
    rows = await pool.fetch(
        f"SELECT {value} AS v, count(*) AS n, min(file_row_number), count(*) OVER () FROM {run.index} "
        f"WHERE v IS NOT NULL GROUP BY v ORDER BY n DESC, v LIMIT {MOST}"
    )
    # The index has texts in lower case, and their beginning only: a case of the slice has the value itself.
    whole = [row[name] for row in await run.rows([at for _, _, at, _ in rows])]
    shown: dict[int | None, str | None] = {n: _text(one) for n, one in enumerate(whole)}
    if kind in _NUMBERS or kind == "BOOLEAN":
        shown = dict(sorted(shown.items(), key=lambda item: rows[item[0] or 0][0]))
    cases = " ".join(f"WHEN {_literal(v)} THEN {n}" for n, (v, *_) in enumerate(rows))
    values = rows[0][3] if rows else 0
    sql = f"CASE WHEN {value} IS NULL THEN NULL ELSE CASE {value} {cases} ELSE {MOST} END END"
    named: dict[str, int | None] = {"": None, **{slice_of(v): n for n, (v, *_) in enumerate(rows)}}
    return _Keys(
        sql if rows else "NULL::INTEGER", {**shown, MOST: REST, None: None}, values, False, named=named
    )


def _bins(value: str, values: int, low: float, cuts: Sequence[float], high: float) -> _Keys:
    cases = " ".join(f"WHEN {value} <= {cut!r} THEN {n}" for n, cut in enumerate(cuts))
    ends = [low, *cuts, high]
    shown: dict[int | None, str | None] = {
        n: f"{_number(a)} to {_number(b)}" if not n else f"above {_number(a)} to {_number(b)}"
        for n, (a, b) in enumerate(pairwise(ends))
    }
    sql = f"CASE WHEN {value} IS NULL THEN NULL {cases} ELSE {len(cuts)} END"
    bounds: dict[int | None, tuple[float, float]] = {
        n: (a if not n else a + 1 if isinstance(a, int) else math.nextafter(a, math.inf), b)
        for n, (a, b) in enumerate(pairwise(ends))
    }
    return _Keys(sql, {**shown, None: None}, values, True, bounds)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return literal(value[:PREFIX_CHARS])
    return repr(value).lower() if isinstance(value, bool) else repr(value)


async def _means(pool: DuckDBPool, run: StoredRun, key: str) -> dict[Any, dict[str, Any]]:
    names = {m.name: name for m, (_, name) in zip(run.metrics, run.columns.scores, strict=True)}
    pairing = Pairing(
        sources=[run.index],
        totals=[run.total],
        names=[names],
        pairs=[(name, 0) for name in names],
        higher={},
        facts=(),
        bounded=(),
        joined_on="case",
        trials=run.run.experiment.get("trials", 1),
        counting=[counting_of([run, run], name, 0) for name in names],
        clustered={m.name for m in run.metrics if m.cluster_by},
    )
    sql, columns = pairing.means_by(key)
    errors = await cluster_errors(pool, pairing, key, None)
    rows = await pool.fetch(sql)
    return {row[0]: dict(zip(columns, row, strict=True)) | errors.get(row[0], {}) for row in rows}


def _slice_means(run: StoredRun, found: Mapping[str, Any]) -> dict[str, SliceMean]:
    means, trials = {}, run.run.experiment.get("trials", 1)
    for n, metric in enumerate(run.metrics):
        value = {
            name: found[f"{name}{n}"]
            for name in ("n", "asked", "mean", "deviation", "skewness", "least", "most")
        }
        count, mean, bounds = value["n"], value["mean"], metric.bounds
        if bounds and count and not (bounds[0] <= found[f"lowest{n}"] and found[f"highest{n}"] <= bounds[1]):
            bounds = None
        made: dict[str, Any] = {}
        clusters = found.get(f"clusters{n}")
        if clusters is not None:
            made = _clustered(mean, bounds, clusters) if count and clusters.groups >= FEWEST else {}
        elif count and bounds == (0.0, 1.0) and found[f"ones{n}"] and trials == 1:
            made = _made(wilson(mean * count, count), value["deviation"], count, z_of(), "wilson")
        elif count > 1 and bounds:
            error = value["deviation"] / count**0.5
            ends = wilson_t(mean, error, count, bounds=bounds)
            made = _made(ends, value["deviation"], count, t_of(count - 1), "wilson_t")
        elif count > 1:
            skewness = skewness_of(value["skewness"], count)
            ends = numbers_interval(mean, value["deviation"] / count**0.5, count, skewness)
            name = "hall_t" if is_skewed(count, skewness) else "t"
            made = _made(ends, value["deviation"], count, t_of(count - 1), name)
        if bounds and value["least"] is not None and value["least"] < value["most"]:
            made |= {"worst_low": value["least"], "worst_high": value["most"]}
        if count or value["asked"]:
            made["higher_is_better"] = metric.higher_is_better
            means[metric.name] = SliceMean(n=count, rows=value["asked"], mean=mean, **made)
    return means


def _clustered(mean: float, bounds: tuple[float, float] | None, clusters: Clusters) -> dict[str, Any]:
    stderr, df = clusters.stderr, clusters.df or clusters.groups - 1.0
    ends = wilson_t(mean, stderr, df + 1, bounds=bounds) if bounds else student_interval(mean, stderr, df + 1)
    name = f"{clusters.method} {'wilson_t' if bounds else 't'}"
    return _made(ends, stderr, 1, t_of(df), name)


def _made(
    ends: tuple[float, float], deviation: float | None, n: int, quantile: float, method: str
) -> dict[str, Any]:
    low, high = ends
    stderr = (deviation or 0.0) / n**0.5 or (high - low) / 2 / quantile
    return {"ci_low": low, "ci_high": high, "stderr": stderr, "method": method}


def _differences(
    runs: Sequence[StoredRun],
    pairing: Pairing,
    found: Sequence[Mapping[Any, Mapping[str, Any]]],
    keys: _Keys,
    margins: Mapping[str, float],
    whole: SlicedScores,
) -> dict[tuple[Any, int], dict[str, SliceDifference]]:
    """Judge all slices, metrics, scores of the runs as a whole and runs together."""
    places, data = [], []
    for key in keys.shown:
        for pair, (name, other) in enumerate(pairing.pairs):
            if name == ANSWER or key not in found[other]:
                continue
            reason = not_comparable(runs, name, other)
            one = paired_of(runs, pairing, found[other][key], pair, margins)
            data.append(replace(one, fact=True) if reason else one)
            places.append((key, other, name, reason))
    made: dict[tuple[Any, int], dict[str, SliceDifference]] = {}
    # A score of too few rows has no verdict, and is no test.
    few = [rows < FEWEST_ROWS for _, _, rows in whole.compared]
    judgements, scores = judged_together(
        data,
        [replace(one, p=None) if no else one for (_, one, _), no in zip(whole.compared, few, strict=True)],
        margins,
    )
    for (key, other, name, reason), judgement in zip(places, judgements, strict=True):
        difference = SliceDifference(judgement=judgement, not_comparable=reason)
        made.setdefault((key, other), {})[name] = difference
    for (key, _, rows), score in zip(whole.compared, scores, strict=True):
        difference = SliceDifference(judgement=judgement_of(score, rows), not_comparable=score.not_comparable)
        made.setdefault((key, score.other), {})[score.metric] = difference
    return made
