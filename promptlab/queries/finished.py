"""Queries of a run that has a results file: SQL over its index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.domain.results import CaseKey
from promptlab.duck import quoted
from promptlab.queries.answers import (
    PAGE,
    TEXT_CHARS,
    CaseRows,
    Facets,
    MetricFacet,
    Neighbours,
    TrialOutcome,
)
from promptlab.queries.filters import NO_FILTER, Filter, known_metric, number_column, order
from promptlab.queries.histograms import Histogram, edges, histogram
from promptlab.queries.opened import StoredRun, cut
from promptlab.queries.pool import DuckDBPool

MAX_LABELS = 50


class StoredResults:
    """The results of a run that has a results file."""

    live = False

    def __init__(self, stored: StoredRun, pool: DuckDBPool) -> None:
        self._stored, self._pool = stored, pool
        self.run, self.columns = stored.run, stored.columns

    async def page(
        self,
        filter: Filter = NO_FILTER,
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = PAGE,
        text_chars: int = TEXT_CHARS,
    ) -> CaseRows:
        by = ", ".join(
            [
                *(f"{key} {'DESC' if descending else 'ASC'} NULLS LAST" for key in self._keys(sort)),
                f"r {_way(sort, descending)}",
            ]
        )
        async with self._stored.matching(filter) as (where, values):
            matching = self._matching(where, sort)
            sql = (
                f"WITH m AS MATERIALIZED ({matching}) SELECT (SELECT count(*) FROM m), (SELECT list(r) "
                f"FROM (SELECT r FROM m ORDER BY {by} LIMIT ? OFFSET ?))"
            )
            ((total, found),) = await self._pool.fetch(sql, [*values, limit, offset])
            if not found and total and offset:
                offset = (total - 1) // limit * limit
                ((total, found),) = await self._pool.fetch(sql, [*values, limit, offset])
        rows = await self._stored.rows(found or [])
        return CaseRows([cut(row, text_chars) for row in rows], total, self._stored.total, offset, limit)

    async def row_numbers(self, filter: Filter = NO_FILTER) -> list[int]:
        async with self._stored.matching(filter) as (where, values):
            sql = f'SELECT list(DISTINCT "case" ORDER BY "case") FROM {self._stored.index} WHERE {where}'
            ((found,),) = await self._pool.fetch(sql, values)
        return found or []

    async def values(self, names: Sequence[str], filter: Filter = NO_FILTER) -> list[tuple[Any, ...]]:
        """Read number columns of the cases that match: case, trial, id, and the columns, in order.

        Raises:
            UnknownNameError: it names a column or a metric that the table does not have.
        """
        columns = ['"case"', "trial", "id", *(number_column(name, self.columns) for name in names)]
        async with self._stored.matching(filter) as (where, values):
            sql = f"SELECT {', '.join(columns)} FROM {self._stored.index} WHERE {where} ORDER BY 1, 2"
            return await self._pool.fetch(sql, values)

    async def case(self, case: int, trial: int = 0) -> dict[str, Any] | None:
        found = await self._pool.fetch(
            f'SELECT file_row_number FROM {self._stored.index} WHERE "case" = ? AND trial = ?', [case, trial]
        )
        return (await self._stored.rows([found[0][0]]))[0] if found else None

    async def trials(self, case: int, metric: str | None = None) -> Sequence[TrialOutcome]:
        cells = ["NULL", "NULL"]
        if metric is not None:
            known_metric(metric, self.columns)
            cells = [quoted(f"passed.{metric}"), quoted(f"score.{metric}")]
        found = await self._pool.fetch(
            f'SELECT trial, error, {", ".join(cells)} FROM {self._stored.index} WHERE "case" = ? '
            "ORDER BY trial",
            [case],
        )
        return [TrialOutcome(*row) for row in found]

    async def neighbours(
        self,
        case: int,
        trial: int = 0,
        filter: Filter = NO_FILTER,
        *,
        sort: str = "case",
        descending: bool = False,
    ) -> Neighbours:
        keys, way = self._keys(sort), _way(sort, descending)
        back = "ASC" if way == "DESC" else "DESC"
        before, after = (
            _beyond([(key, descending, True) for key in keys] + [("r", way == "DESC", False)], later)
            for later in (False, True)
        )
        ahead = ", ".join(
            [*(f"m.{key} {'DESC' if descending else 'ASC'} NULLS LAST" for key in keys), f"m.r {way}"]
        )
        behind = ", ".join(
            [*(f"m.{key} {'ASC' if descending else 'DESC'} NULLS FIRST" for key in keys), f"m.r {back}"]
        )
        async with self._stored.matching(filter) as (where, values):
            sql = f"""
                WITH m AS MATERIALIZED ({self._matching(where, sort)}),
                    t AS MATERIALIZED (SELECT * FROM m WHERE c = ? AND i = ?)
                SELECT (SELECT count(*) FROM m), (SELECT count(*) FROM t),
                    (SELECT count(*) FROM m, t WHERE {before}),
                    (SELECT [m.c, m.i] FROM m, t WHERE {before} ORDER BY {behind} LIMIT 1),
                    (SELECT [m.c, m.i] FROM m, t WHERE {after} ORDER BY {ahead} LIMIT 1)"""
            ((total, there, position, previous, following),) = await self._pool.fetch(
                sql, [*values, case, trial]
            )
        return Neighbours(
            previous and CaseKey(*previous),
            following and CaseKey(*following),
            position if there else None,
            total,
        )

    async def histogram(self, column: str, filter: Filter = NO_FILTER, *, bins: int = 20) -> Histogram:
        name = number_column(column, self.columns)
        bounds = self._stored.edges.get((column, bins))
        if bounds is None:
            bounds = self._stored.edges[column, bins] = await edges(
                self._pool, self._stored.index, name, bins
            )
        async with self._stored.matching(filter) as (where, values):
            return await histogram(self._pool, self._stored.index, column, bounds, where, values)

    async def facets(self, filter: Filter = NO_FILTER) -> Facets:
        metrics = [metric for _, metric in self.columns.scores]
        counts = ["count(*)", "count(error)", _top("error"), _top("finish_reason")]
        for metric in metrics:
            passed = quoted(f"passed.{metric}")
            counts += [
                f"count(*) FILTER ({passed})",
                f"count(*) FILTER (NOT {passed})",
                f"count(*) FILTER ({quoted(f'unscored.{metric}')})",
            ]
            counts.append(_top(quoted(f"label.{metric}")))
        columns = [
            "error",
            "finish_reason",
            *(quoted(f"{part}.{metric}") for metric in metrics for part in ("passed", "unscored", "label")),
        ]
        async with self._stored.matching(filter) as (where, values):
            sql = (
                f"WITH m AS MATERIALIZED (SELECT {', '.join(columns)} FROM {self._stored.index} WHERE "
                f"{where}) SELECT {', '.join(counts)} FROM m"
            )
            ((total, failed, errors, reasons, *rest),) = await self._pool.fetch(sql, values)
        groups = [rest[at : at + 4] for at in range(0, len(rest), 4)]
        found = {
            m: MetricFacet(passed, not_passed, unscored, _counts(labels))
            for m, (passed, not_passed, unscored, labels) in zip(metrics, groups, strict=True)
        }
        return Facets(total, total - failed, failed, _counts(errors), found, _counts(reasons))

    def _keys(self, sort: str) -> list[str]:
        return [f"k{n}" for n in range(len(order(sort, self.columns)))]

    def _matching(self, where: str, sort: str) -> str:
        """A select of the matching cases: row `r`, case `c`, trial `i` and what they are sorted by, `k0` …"""
        keys = "".join(f", {column} AS k{n}" for n, column in enumerate(order(sort, self.columns)))
        return (
            f'SELECT file_row_number AS r, "case" AS c, trial AS i{keys} FROM {self._stored.index} '
            f"WHERE {where}"
        )


def _way(sort: str, descending: bool) -> str:
    """The direction of the last key, the row's number: only a sort by case turns it."""
    return "DESC" if descending and sort == "case" else "ASC"


def _beyond(keys: list[tuple[str, bool, bool]], later: bool) -> str:
    """Whether a row of `m` is later (or earlier) than that of `t` by (key, descending, may
    be NULL) …, NULLs last."""
    (key, descending, nullable), *rest = keys
    sign = ">" if later != descending else "<"
    parts = [f"m.{key} {sign} t.{key}"]
    if nullable:
        one, other = ("m", "t") if later else ("t", "m")
        parts.append(f"({one}.{key} IS NULL AND {other}.{key} IS NOT NULL)")
    if rest:
        parts.append(f"(m.{key} IS NOT DISTINCT FROM t.{key} AND {_beyond(rest, later)})")
    return f"({' OR '.join(parts)})"


def _top(column: str) -> str:
    return (
        f"(SELECT list({{v: v, n: n}}) FROM (SELECT {column} AS v, count(*) AS n FROM m WHERE "
        f"{column} IS NOT NULL GROUP BY 1 ORDER BY n DESC, v LIMIT {MAX_LABELS}))"
    )


def _counts(found: list[dict[str, Any]] | None) -> dict[str, int]:
    return {item["v"]: item["n"] for item in found or []}
