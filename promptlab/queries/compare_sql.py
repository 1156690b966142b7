"""The SQL of a comparison: one query gives the counts, the statistics and the rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from promptlab.duck import quoted
from promptlab.queries.compared import Change
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


@dataclass(slots=True)
class Pairing:
    """How the base run and the others are joined. `a0` is the base, `a1` … the others."""

    AGGREGATES: ClassVar = ("n", "base", "mean", "difference", "deviation", "improved", "regressed", "same")
    """The columns of the query for each pair, in this order."""

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
    aligned: bool = False
    """Row n of one is row n of all: they are then read side by side, in a third of a join's time and half of
    its memory."""

    def alignment(self) -> str:
        """A query of whether row n of each is the same case."""
        keys = " AND ".join(
            f'(a0."case", a0.trial) IS NOT DISTINCT FROM (a{n}."case", a{n}.trial)'
            for n in range(1, len(self.sources))
        )
        return f"SELECT bool_and({keys}) FROM {self._side_by_side()}"

    def query(self, which: Selected, limit: int, offset: int) -> tuple[str, list[str]]:
        """SQL of one row, and the names of what it gives: counts, statistics of each
        pair, and `page`, the rows."""
        where = f"hit AND {_changed(which.change, which.chosen)}"
        counted = {"total": "count(*)", "matching": f"count(*) FILTER ({where})"}
        counted |= {change: f"count(*) FILTER ({_changed(change, which.chosen)})" for change in CHANGES}
        for n in range(len(self.pairs)):
            counted |= {
                f"{name}{n}": f"count(*) FILTER (v{n} = {code})"
                for name, code in (("improved", 1), ("regressed", 2), ("same", 0))
            }
        measured = {name: part for n in range(len(self.pairs)) for name, part in _statistics(n).items()}
        rows = [
            *(f"r{n}" for n in range(len(self.sources))),
            *(f"{name}{n}" for n in range(len(self.pairs)) for name in "dv"),
        ]
        page = (
            f"SELECT {', '.join(rows)} FROM j WHERE {where} ORDER BY {self._order(which)} LIMIT "
            f"{int(limit)} OFFSET {int(offset)}"
        )
        other = {"page": f"(SELECT list({{{', '.join(f'{name}: {name}' for name in rows)}}}) FROM ({page}))"}
        for n in range(1, len(self.sources)):
            other |= {f"base_only{n - 1}": self._only(0, n), f"other_only{n - 1}": self._only(n, 0)}
        with_j = f"WITH j AS MATERIALIZED ({self._joined(which.found)})"
        if self.trials == 1:
            return f"{with_j} SELECT {', '.join((counted | measured | other).values())} FROM j", [
                *counted,
                *measured,
                *other,
            ]
        # A row's trials are not independent: they are one observation, their mean.
        means = ", ".join(f"avg(s{n}) AS s{n}, avg(d{n}) AS d{n}" for n in range(len(self.pairs)))
        rows_of = (
            f"SELECT {', '.join(measured.values()) or 'count(*)'} FROM (SELECT {means or '1 AS one'} "
            "FROM j GROUP BY c)"
        )
        both = f"(SELECT {', '.join((counted | other).values())} FROM j) CROSS JOIN ({rows_of})"
        return f"{with_j} SELECT * FROM {both}", [*counted, *other, *(measured or ["none"])]

    def _joined(self, found: Sequence[str]) -> str:
        """A row a pair: the row numbers r0 …, the base's case, whether a search found it in any run, and per
        pair of a metric and a run the base's score, the difference and the verdict."""
        rows = [f"a{n}.file_row_number::INTEGER AS r{n}" for n in range(len(self.sources))]
        scores = [part for n, pair in enumerate(self.pairs) for part in self._pair(n, *pair)]
        hits = " OR ".join(
            f"a{n}.file_row_number IN (SELECT r FROM {table})" for n, table in enumerate(found)
        )
        fixed = ['a0."case" AS c', f"({hits or 'true'}) AS hit"]
        return f"SELECT {', '.join([*rows, *fixed, *scores])} FROM {self._source()}"

    def _pair(self, n: int, metric: str, other: int) -> list[str]:
        if metric == ANSWER:
            changed = f"a0.{ANSWER_HASH} IS DISTINCT FROM a{other + 1}.{ANSWER_HASH}"
            return [
                f"NULL::DOUBLE AS s{n}",
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
        both = f"CASE WHEN {two} IS NOT NULL THEN {one} END"
        return [f"{both} AS s{n}", f"{two} - {one} AS d{n}", f"({verdict})::UTINYINT AS v{n}"]

    def _source(self) -> str:
        if self.aligned:
            return self._side_by_side()
        on = (
            'a{n}."case" = a0."case" AND a{n}.trial = a0.trial'
            if self.joined_on == "case"
            else "a{n}.id = a0.id AND a{n}.trial = a0.trial"
        )
        joins = [f"JOIN {source} a{n} ON {on.format(n=n)}" for n, source in enumerate(self.sources) if n]
        return f"{self.sources[0]} a0 {' '.join(joins)}"

    def _side_by_side(self) -> str:
        return " POSITIONAL JOIN ".join(f"{source} a{n}" for n, source in enumerate(self.sources))

    def _order(self, which: Selected) -> str:
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


def _statistics(n: int) -> dict[str, str]:
    """How many have both scores, both means, and mean and standard deviation of the
    differences of one pair."""
    return {
        f"n{n}": f"count(d{n})",
        f"base{n}": f"avg(s{n})",
        f"mean{n}": f"avg(s{n} + d{n})",
        f"difference{n}": f"avg(d{n})",
        f"deviation{n}": f"stddev_samp(d{n})",
    }


def _changed(change: Change, chosen: Sequence[int]) -> str:
    """Whether any of the chosen pairs changed so; for `same`, whether none changed."""
    if change == "all":
        return "true"
    if change == "same":
        return "(" + (" AND ".join(f"v{n} = 0" for n in chosen) or "true") + ")"
    test = {"different": "<> 0", "improved": "= 1", "regressed": "= 2"}[change]
    return "(" + (" OR ".join(f"v{n} {test}" for n in chosen) or "false") + ")"
