"""The SQL of a comparison: one query gives the counts, the statistics and the rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from promptlab.domain.results import MODELS_DOING
from promptlab.duck import literal, quoted
from promptlab.queries.compared import Change
from promptlab.results.clusters import CLUSTER, cluster_sql
from promptlab.results.index import ANSWER_HASH

CHANGES: tuple[Literal["different", "regressed", "improved", "same"], ...] = (
    "different",
    "regressed",
    "improved",
    "same",
)
ANSWER = ""
"""In place of a metric: the answer itself, of runs that share none."""
TOLERANCE = 1e-9
"""Scores nearer than this are the same: the last digits of a sum depend on its order."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The selection that one page shows a part of."""

    change: Change
    chosen: Sequence[int]
    """The pairs (of a metric and another run) that `change` is about."""
    found: Sequence[str]
    """Per run, the table of the rows that a search found; empty without a search."""
    by_difference: bool
    descending: bool
    between: tuple[float | None, float | None] = (None, None)
    """The least and the greatest difference of a chosen pair."""
    rows: str = ""
    """A condition on the base's index; empty for all rows."""


@dataclass(frozen=True, slots=True)
class Counting:
    """How a metric's values are counted."""

    worst: float | None = None
    """The value of an answer that the model failed to give; None: such a case has none."""
    bounds: tuple[float, float] | None = None
    """The range that missing values are filled with; None: nobody asks, or there is none."""
    complete: bool = False
    """Whether no run has a case without a score, so that nothing of this matters."""
    applies: str = "false"
    """SQL over a row of a run: whether the metric is to score the row, though neither run has a value."""
    centre: float = 0.0
    """The mean of the other run's values, and their deviation: a third power of 1e9 ± 1 has no digit that is
    right, and one of 1e120 is no number."""
    scale: float = 1.0

    def skewness(self, value: str) -> str:
        """SQL of the skewness of values, as `skewness_of` takes it; DuckDB's fails of what has no cube."""
        placed = f"(({value} - {self.centre!r}) / {self.scale!r})"
        return f"skewness(CASE WHEN abs({placed}) < 1e90 THEN {placed} END)"


@dataclass(slots=True)
class Pairing:
    """How the base run and the others are joined. `a0` is the base, `a1` … the others."""

    AGGREGATES: ClassVar = (
        "n",
        "base",
        "mean",
        "difference",
        "deviation",
        "rose",
        "fell",
        "lowest",
        "highest",
        "ones",
        "missing_base",
        "missing_other",
        "least",
        "most",
    )
    """What the query gives for each pair, over dataset rows."""

    sources: Sequence[str]
    """Their indexes, as SQL."""
    totals: Sequence[int]
    """Their rows."""
    names: Sequence[Mapping[str, str]]
    """Per run: metric → its name in the table."""
    pairs: Sequence[tuple[str, int]]
    """(metric, other run)."""
    higher: Mapping[str, bool]
    facts: Collection[str]
    """Metrics that only measure: they differ, and are neither better nor worse."""
    bounded: Collection[str]
    """Measures with a bound: what counts is whether it is kept."""
    joined_on: Literal["case", "id"]
    trials: int
    counting: Sequence[Counting] = field(default_factory=tuple)
    """Per pair."""
    clustered: Collection[str] = ()
    """Metrics of the base whose rows belong together."""
    aligned: bool = False
    """Row n of one is row n of all: they are then read side by side, in a third of a join's time and half of
    its memory."""

    def alignment(self) -> str:
        """A query of whether row n of each is the same case."""
        keys = " AND ".join(
            f'(a0."case", a0.trial) IS NOT DISTINCT FROM (a{n}."case", a{n}.trial)'
            for n in range(1, len(self.sources))
        )
        return f"SELECT bool_and({keys}) FROM {self._side_by_side(range(len(self.sources)))}"

    def query(self, which: Selected, limit: int, offset: int) -> tuple[str, list[str]]:
        """SQL of one row, and the names of what it gives: counts, and `page`, the rows."""
        where = self.where(which)
        counted = {"total": "count(*)", "kept": "count(*) FILTER (kept)"}
        counted["matching"] = f"count(*) FILTER ({where})"
        counted |= {
            change: f"count(*) FILTER (kept AND {_changed(change, which.chosen)})" for change in CHANGES
        }
        for n in range(len(self.pairs)):
            counted |= {
                f"{name}{n}": f"count(*) FILTER (v{n} = {code})"
                for name, code in (("improved", 1), ("regressed", 2), ("same", 0))
            }
        rows = [
            *(f"r{n}" for n in range(len(self.sources))),
            *(f"{name}{n}" for n in range(len(self.pairs)) for name in "dv"),
        ]
        page = (
            f"SELECT {', '.join(rows)} FROM j WHERE {where} ORDER BY {self.order(which)} LIMIT "
            f"{int(limit)} OFFSET {int(offset)}"
        )
        other = {"page": f"(SELECT list({{{', '.join(f'{name}: {name}' for name in rows)}}}) FROM ({page}))"}
        for n in range(1, len(self.sources)):
            other |= {f"base_only{n - 1}": self._only(0, n), f"other_only{n - 1}": self._only(n, 0)}
        with_j = f"WITH j AS MATERIALIZED ({self.joined(which)})"
        return f"{with_j} SELECT {', '.join((counted | other).values())} FROM j", [*counted, *other]

    def where(self, which: Selected) -> str:
        """The condition of a page's pairs."""
        parts = ["hit", "kept", _changed(which.change, which.chosen)]
        low, high = which.between
        bounds = [f">= {low!r}"] * (low is not None) + [f"<= {high!r}"] * (high is not None)
        if bounds:
            ranges = (" AND ".join(f"d{n} {bound}" for bound in bounds) for n in which.chosen)
            parts.append(f"({' OR '.join(f'({one})' for one in ranges) or 'false'})")
        return " AND ".join(parts)

    def statistics(self, other: int) -> tuple[str, list[str]]:
        """SQL of one row: what the pairs of one other run are judged by, over the dataset rows that it shares
        with the base, whatever further runs have; and its names, none where there is no such pair."""
        measured, rows = self._judged(other)
        return f"SELECT {', '.join(measured.values())} FROM ({rows})", list(measured)

    def statistics_by(self, key: str, other: int) -> tuple[str, list[str]]:
        """SQL of a row a slice: its key, an expression over a row of the base's index, and what the pairs of
        one other run are judged by, as `statistics` has it; and the names."""
        measured, rows = self._judged(other, key)
        parts = ", ".join(["k", *measured.values()])
        return f"SELECT {parts} FROM ({rows}) GROUP BY k", ["k", *measured]

    def _judged(
        self, other: int, key: str | None = None, without: Sequence[str] = (), *, spread: bool = False
    ) -> tuple[dict[str, str], str]:
        """Return what the pairs of one other run are judged by, as expressions by their names, and the rows
        that they are over; with the key `k` of each row, without those of some ids, and with the deviation
        and the skewness of the other run's values, if they are asked for."""
        chosen = [n for n, (metric, run) in enumerate(self.pairs) if run == other and metric != ANSWER]
        measured = {f"{name}{n}": part for n in chosen for name, part in _statistics(n).items()}
        if spread:
            own = {n: f"stddev_samp(CASE WHEN x{n} IS NOT NULL THEN y{n} END)" for n in chosen}
            measured |= {f"spread{n}": part for n, part in own.items()}
            measured |= {
                f"skewness{n}": self.counting[n].skewness(f"CASE WHEN x{n} IS NOT NULL THEN y{n} END")
                for n in chosen
            }
        return measured, self._valued(chosen, other, key, without=without)

    def means_by(self, key: str) -> tuple[str, list[str]]:
        """SQL of a row a slice: its key, how many dataset rows it has, and of each metric of the base what
        its mean and interval are made of."""
        chosen = range(len(self.pairs))
        measured = {f"{name}{n}": part for n in chosen for name, part in _means(n, self.counting[n]).items()}
        parts = ", ".join(["k", "count(*)", *measured.values()])
        return f"SELECT {parts} FROM ({self._alone(chosen, key)}) GROUP BY k", ["k", "rows", *measured]

    def clusters_by(self, key: str, other: int | None, without: Sequence[str] = ()) -> tuple[str, list[int]]:
        """SQL of a row a slice with the standard errors over clusters (`cluster_sql`) of the differences to
        one other run, or without one of the base's means; and the pairs that they are of."""
        chosen = [
            n
            for n, (metric, run) in enumerate(self.pairs)
            if metric in self.clustered and run == (other or 0)
        ]
        if other is None:
            values = [f"x{n}" for n in chosen]
            return cluster_sql(self._alone(chosen, key, clusters=True), values), chosen
        values = [f"(y{n} - x{n})" for n in chosen]
        rows = self._valued(chosen, other, key, clusters=True, without=without)
        return cluster_sql(rows, values), chosen

    def values(self, pair: int, *, clusters: bool = False) -> str:
        """A query of the base's dataset rows: k, the row's number, cl, its cluster, if it is asked for, and
        x, its value of one pair's metric, where it has one."""
        names = ["k", *(["cl"] if clusters else []), f"x{pair} AS x"]
        rows = self._alone([pair], '"case"', clusters=clusters)
        return f"SELECT {', '.join(names)} FROM ({rows}) WHERE x{pair} IS NOT NULL"

    def _alone(self, chosen: Sequence[int], key: str, *, clusters: bool = False) -> str:
        """The base's dataset rows: k, its cluster if it is asked for, and each metric's value, as `_values`
        has it."""
        grouped = self.trials > 1
        sums = [part for n in chosen for part in self._sums(0, n, grouped)]
        keys = self._keys(key, grouped, clusters)
        side = f"SELECT {', '.join([*keys, *sums])} FROM {self.sources[0]}" + ' GROUP BY "case"' * grouped
        values = [part for n in chosen for part in self._values(n, {"x": "a0"})]
        names = ["a0.k", *(["a0.cl"] if clusters else []), *values]
        return f"SELECT {', '.join(names)} FROM ({side}) a0"

    @staticmethod
    def _keys(key: str, grouped: bool, clusters: bool) -> list[str]:
        found = {"k": key} | ({"cl": CLUSTER} if clusters else {})
        return [f"any_value({sql}) AS {k}" if grouped else f"{sql} AS {k}" for k, sql in found.items()]

    def sliced(
        self, other: int, by: str | None, without: Sequence[str], most: int
    ) -> tuple[str, list[str], list[str]]:
        """SQL of a row a slice, the largest first: a value of a column, and what `statistics` gives over its
        rows, with `spread` and `skewness`, of the other run's values.

        Args:
            other: the other run's place.
            by: the column in the base's table; None: one row over all, with a null.
            without: ids of rows that are left out.
            most: slices at most.

        Returns:
            The query, the names of what follows the value, and the query's parameters.
        """
        measured, rows = self._judged(other, quoted(by) if by else None, without, spread=True)
        head = "NULL" if by is None else "k"
        group = "" if by is None else " GROUP BY k ORDER BY count(*) DESC, k"
        sql = f"SELECT {', '.join([head, *measured.values()])} FROM ({rows}){group} LIMIT {int(most)}"
        return sql, list(measured), [*without, *without]

    def _valued(
        self,
        chosen: Sequence[int],
        other: int,
        by: str | None = None,
        *,
        clusters: bool = False,
        without: Sequence[str] = (),
    ) -> str:
        """A row a dataset row: per pair both values x, y, whether the metric is to score it (u), whether a
        case of it is missing, and the values' ends however that one is filled.

        A row's trials are not independent: they are one observation, the mean of each run's own."""
        grouped = self.trials > 1
        sides = []
        for run in (0, other + 1):
            key = ['"case"', "any_value(id) AS id" if grouped else "id"] + ["trial"] * (not grouped)
            sums = [part for n in chosen for part in self._sums(run, n, grouped)]
            key += self._keys(by, grouped, clusters) if by and not run else []
            columns = ", ".join([*key, *sums])
            where = f" WHERE id NOT IN ({', '.join('?' * len(without))})" if without else ""
            group = ' GROUP BY "case"' * grouped
            sides.append(f"(SELECT {columns} FROM {self.sources[run]}{where}{group}) a{run}")
        values = [p for n in chosen for p in self._values(n, {"x": "a0", "y": f"a{other + 1}"})]
        parts = ", ".join([*(["a0.k"] if by else []), *(["a0.cl"] if clusters else []), *values])
        if self.aligned and not grouped and not without:
            return f"SELECT {parts} FROM {sides[0]} POSITIONAL JOIN {sides[1]}"
        # Without trials every row is of trial 0: one whole number is then the key, which is looked up in an
        # array instead of a hash table.
        names = ['"case"' if self.joined_on == "case" else "id"]
        on = " AND ".join(f"a{other + 1}.{name} = a0.{name}" for name in names)
        return f"SELECT {parts} FROM {sides[0]} JOIN {sides[1]} ON {on}"

    def _sums(self, run: int, n: int, grouped: bool) -> list[str]:
        """Sum up one run's values of one pair, over the trials of a row: their sum (s) and count (c), the
        cases that the model failed (f), those lost otherwise (l), and whether to score the row (a)."""
        metric, counting = self.pairs[n][0], self.counting[n]
        score, label, unscored = (
            quoted(f"{part}.{self.names[run][metric]}") for part in ("score", "label", "unscored")
        )
        missing = f"{score} IS NULL AND {label} IS NULL AND (error IS NOT NULL OR {unscored})"
        doing = f"coalesce(error IN ({', '.join(map(literal, sorted(MODELS_DOING)))}), false)"
        fails = counting.worst is not None
        if not grouped:
            return self._cells(run, n, score, missing, doing)
        cells = {"s": score, "c": f"({score} IS NOT NULL)::INTEGER"}
        if not counting.complete:
            cells["f"] = f"({missing} AND {doing})::INTEGER" if fails else "0"
            cells["l"] = f"({missing}{f' AND NOT {doing}' if fails else ''})::INTEGER"
            if not run:
                cells["a"] = f"({counting.applies})"
        return [f"{'any_value' if k == 'a' else 'sum'}({sql}) AS {k}{n}" for k, sql in cells.items()]

    def _cells(self, run: int, n: int, score: str, missing: str, doing: str) -> list[str]:
        """One run's value of one pair (v), of rows that have one trial; what it is (w): 0 a score, 1 what a
        failure of the model counts as, 2 lost, 3 none; and whether to score the row (a).

        A join carries two columns then instead of four: 100,000 rows and five metrics take 0.25 s of CPU, and
        took 0.6.
        """
        counting = self.counting[n]
        if counting.complete:
            return [f"{score} AS v{n}"]
        failed = f"WHEN {missing} AND {doing} THEN" if counting.worst is not None else ""
        value = (
            f"CASE WHEN {score} IS NOT NULL THEN {score} {failed} {counting.worst} END" if failed else score
        )
        what = f"CASE WHEN {score} IS NOT NULL THEN 0 {f'{failed} 1' if failed else ''} WHEN {missing} THEN 2"
        applies = [] if run else [f"({counting.applies}) AS a{n}"]
        return [f"({value})::DOUBLE AS v{n}", f"({what} ELSE 3 END)::UTINYINT AS w{n}", *applies]

    def _values(self, n: int, runs: Mapping[str, str]) -> list[str]:
        made = self._grouped_values if self.trials > 1 else self._single_values
        return [f"{sql} AS {name}{n}" for name, sql in made(n, self.counting[n], runs).items()]

    @staticmethod
    def _single_values(n: int, counting: Counting, runs: Mapping[str, str]) -> dict[str, str]:
        if counting.complete:
            return _complete({v: f"{a}.v{n}" for v, a in runs.items()})
        found = {"u": f"({' OR '.join(f'{a}.w{n} = 0' for a in runs.values())} OR a0.a{n})"}
        for v, a in runs.items():
            found |= {
                v: f"CASE WHEN {found['u']} THEN {a}.v{n} END",
                f"{v}m": f"({a}.w{n} IN (1, 2))::INTEGER",
            }
            for end, bound in zip("lh", counting.bounds or (None, None), strict=True):
                filled = f"(CASE WHEN {a}.w{n} = 2 THEN {bound} ELSE {a}.v{n} END)::DOUBLE"
                found[f"{v}{end}"] = "NULL::DOUBLE" if bound is None else filled
        return found

    @staticmethod
    def _grouped_values(n: int, counting: Counting, runs: Mapping[str, str]) -> dict[str, str]:
        if counting.complete:
            return _complete({v: f"{a}.s{n} / nullif({a}.c{n}, 0)" for v, a in runs.items()})
        found = {"u": f"({' OR '.join(f'{a}.c{n} > 0' for a in runs.values())} OR a0.a{n})"}
        for v, a in runs.items():
            total = f"(coalesce({a}.s{n}, 0) + {a}.f{n} * {counting.worst or 0.0})"
            counted = f"({a}.c{n} + {a}.f{n})"
            found[v] = f"CASE WHEN {found['u']} THEN {total} / nullif({counted}, 0) END"
            found[f"{v}m"] = f"{a}.f{n} + {a}.l{n}"
            for end, bound in zip("lh", counting.bounds or ("NULL", "NULL"), strict=True):
                filled = f"({total} + {a}.l{n} * {bound}) / nullif({counted} + {a}.l{n}, 0)"
                found[f"{v}{end}"] = f"({filled})::DOUBLE"
        return found

    def joined(self, which: Selected) -> str:
        """A row a pair: the row numbers r0 …, the base's case, whether a search found it in any run, whether
        it is kept by the filter of the base's rows, and per pair of a metric and a run the difference and the
        verdict."""
        rows = [f"a{n}.file_row_number::INTEGER AS r{n}" for n in range(len(self.sources))]
        scores = [part for n, pair in enumerate(self.pairs) for part in self._pair(n, *pair)]
        hits = " OR ".join(
            f"a{n}.file_row_number IN (SELECT r FROM {table})" for n, table in enumerate(which.found)
        )
        kept = "true"
        if which.rows:
            kept = f"a0.file_row_number IN (SELECT file_row_number FROM {self.sources[0]} WHERE {which.rows})"
        fixed = ['a0."case" AS c', f"({hits or 'true'}) AS hit", f"({kept}) AS kept"]
        return f"SELECT {', '.join([*rows, *fixed, *scores])} FROM {self._source()}"

    def _pair(self, n: int, metric: str, other: int) -> list[str]:
        if metric == ANSWER:
            changed = f"a0.{ANSWER_HASH} IS DISTINCT FROM a{other + 1}.{ANSWER_HASH}"
            return [
                f"NULL::DOUBLE AS d{n}",
                f"CASE WHEN {changed} THEN 3 ELSE 0 END AS v{n}",
            ]
        (one, label, kept), (two, label2, kept2) = (
            [f"a{run}.{quoted(f'{part}.{self.names[run][metric]}')}" for part in ("score", "label", "passed")]
            for run in (0, other + 1)
        )
        missing = f"({one} IS NULL) <> ({two} IS NULL) OR ({label} IS NULL) <> ({label2} IS NULL)"
        verdict = f"WHEN {missing} THEN 4 WHEN {label} <> {label2} THEN 3 ELSE 0 END"
        if metric in self.facts:
            verdict = f"CASE WHEN abs({two} - {one}) > {TOLERANCE} THEN 3 {verdict}"
        elif metric in self.bounded:
            verdict = f"CASE WHEN {kept2} > {kept} THEN 1 WHEN {kept2} < {kept} THEN 2 {verdict}"
        else:
            gain = f"({two} - {one})" if self.higher[metric] else f"({one} - {two})"
            verdict = f"CASE WHEN {gain} > {TOLERANCE} THEN 1 WHEN {gain} < -{TOLERANCE} THEN 2 {verdict}"
        return [f"{two} - {one} AS d{n}", f"({verdict})::UTINYINT AS v{n}"]

    def _source(self, runs: Sequence[int] | None = None) -> str:
        runs = range(len(self.sources)) if runs is None else runs
        if self.aligned:
            return self._side_by_side(runs)
        on = (
            'a{n}."case" = a0."case" AND a{n}.trial = a0.trial'
            if self.joined_on == "case"
            else "a{n}.id = a0.id AND a{n}.trial = a0.trial"
        )
        joins = [f"JOIN {self.sources[n]} a{n} ON {on.format(n=n)}" for n in runs if n]
        return f"{self.sources[0]} a0 {' '.join(joins)}"

    def _side_by_side(self, runs: Sequence[int]) -> str:
        return " POSITIONAL JOIN ".join(f"{self.sources[n]} a{n}" for n in runs)

    def order(self, which: Selected) -> str:
        if not which.by_difference:
            return f"r0 {'DESC' if which.descending else 'ASC'}"
        n = which.chosen[0]
        worst_first = self.higher.get(self.pairs[n][0], True) != which.descending
        return f"d{n} {'ASC' if worst_first else 'DESC'} NULLS LAST, r0"

    def _only(self, one: int, other: int) -> str:
        """How many rows of one run the other has not."""
        if len(self.sources) == 2 or self.aligned:
            return f"{self.totals[one]} - count(*)"
        key = '("case", trial)' if self.joined_on == "case" else "(id, trial)"
        names = key.strip("()")
        return (
            f"(SELECT count(*) FROM (SELECT {names} FROM {self.sources[one]}) x ANTI JOIN (SELECT "
            f"{names} FROM {self.sources[other]}) y USING ({names}))"
        )


def _complete(values: Mapping[str, str]) -> dict[str, str]:
    """The columns of a pair of which no value is missing."""
    found = {"u": "true", **values}
    for v in values:
        found |= {f"{v}m": "0", f"{v}l": "NULL::DOUBLE", f"{v}h": "NULL::DOUBLE"}
    return found


def _statistics(n: int) -> dict[str, str]:
    """Return what `PairedData` is made of, for one pair, over dataset rows.

    Without FILTER: DuckDB keeps a chunk of all columns for each, 600 MB for ten pairs.
    """
    x, y, d = f"x{n}", f"y{n}", f"(y{n} - x{n})"
    base, other = f"CASE WHEN {y} IS NOT NULL THEN {x} END", f"CASE WHEN {x} IS NOT NULL THEN {y} END"
    return {
        "n": f"count({d})",
        "base": f"avg({base})",
        "mean": f"avg({other})",
        "difference": f"avg({d})",
        "deviation": f"stddev_samp({d})",
        "rose": f"count(nullif({d} > {TOLERANCE}, false))",
        "fell": f"count(nullif({d} < -{TOLERANCE}, false))",
        "lowest": f"min(least({base}, {other}))",
        "highest": f"max(greatest({base}, {other}))",
        "ones": f"bool_and({base} IN (0, 1) AND {other} IN (0, 1))",
        "missing_base": f"count(nullif(u{n} AND {x} IS NULL AND xm{n} > 0, false))",
        "missing_other": f"count(nullif(u{n} AND {y} IS NULL AND ym{n} > 0, false))",
        # A row in which nothing is missing has both ends at its value.
        "least": f"avg(CASE WHEN u{n} THEN yl{n} - xh{n} END)",
        "most": f"avg(CASE WHEN u{n} THEN yh{n} - xl{n} END)",
    }


def skewness_of(found: float | None, n: int) -> float:
    """g₁ of n values from DuckDB's skewness, which is g₁·√(n(n − 1))/(n − 2); 0 where it knows none."""
    if found is None or n < 3 or not math.isfinite(found):
        return 0.0
    return found * (n - 2) / math.sqrt(n * (n - 1))


def _means(n: int, counting: Counting) -> dict[str, str]:
    """Return what a mean is made of, for one metric, over dataset rows."""
    x, u = f"x{n}", f"u{n}"
    return {
        "n": f"count({x})",
        "asked": f"count(nullif({u} AND ({x} IS NOT NULL OR xm{n} > 0), false))",
        "mean": f"avg({x})",
        "deviation": f"stddev_samp({x})",
        "skewness": counting.skewness(x),
        "lowest": f"min({x})",
        "highest": f"max({x})",
        "ones": f"bool_and({x} IN (0, 1))",
        "least": f"avg(CASE WHEN {u} THEN xl{n} END)",
        "most": f"avg(CASE WHEN {u} THEN xh{n} END)",
    }


def _changed(change: Change, chosen: Sequence[int]) -> str:
    """Whether any of the chosen pairs changed so; for `same`, whether none changed."""
    if change == "all":
        return "true"
    if change == "same":
        return "(" + (" AND ".join(f"v{n} = 0" for n in chosen) or "true") + ")"
    test = {"different": "<> 0", "improved": "= 1", "regressed": "= 2"}[change]
    return "(" + (" OR ".join(f"v{n} {test}" for n in chosen) or "false") + ")"
