"""One case in every run of a comparison, and its place among the pairs that are selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.results import CaseKey
from promptlab.queries.compare_sql import Pairing, Selected
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool


@dataclass(frozen=True, slots=True)
class Located:
    """A pair, whole, and what is around it."""

    rows: Sequence[Mapping[str, Any]]
    """Per run, the base first: the row of its results table."""
    item: Mapping[str, Any]
    """Per pair of a metric and a run: `d`, the difference, and `v`, the verdict's number."""
    position: int | None
    """0-based; None where the pair itself is not selected: then the next is the first that is."""
    previous: CaseKey | None
    """In the base run; so is `next`."""
    next: CaseKey | None


async def locate(
    pool: DuckDBPool,
    runs: Sequence[StoredRun],
    pairing: Pairing,
    which: Selected,
    values: Sequence[Any],
    at: CaseKey,
) -> Located | None:
    """Read a case of every run, and find its neighbours; None where a run has no such case.

    Args:
        pool: where to ask.
        runs: the base, then the others.
        pairing: how they are joined.
        which: what is selected, and its order.
        values: the parameters of the selection.
        at: the case, in the base run.
    """
    found = await pool.fetch(
        f'SELECT file_row_number FROM {runs[0].index} WHERE "case" = ? AND trial = ?', list(at)
    )
    if not found:
        return None
    sql, names = _pair_of(pairing, found[0][0])
    pairs = await pool.fetch(sql)
    if not pairs:
        return None
    item = dict(zip(names, pairs[0], strict=True))
    ((position, before, after),) = await pool.fetch(_place(pairing, which, item["r0"]), list(values))
    keys = []
    for number in (before, after):
        beside = await runs[0].rows([] if number is None else [number])
        keys.append(CaseKey(beside[0]["case"], beside[0]["trial"]) if beside else None)
    rows = [(await run.rows([item[f"r{n}"]]))[0] for n, run in enumerate(runs)]
    return Located(rows, item, position, *keys)


def _place(pairing: Pairing, which: Selected, row: int) -> str:
    """SQL of one row: the place of a base's row among those that a page would show, null where it is not
    among them, and the row numbers in the base of the one before and the next one."""
    return f"""
        WITH j AS MATERIALIZED ({pairing.joined(which)}),
            m AS MATERIALIZED (SELECT r0, row_number() OVER (ORDER BY {pairing.order(which)}) - 1 AS p
                FROM j WHERE {pairing.where(which)}),
            t AS (SELECT max(p) AS p FROM m WHERE r0 = {int(row)})
        SELECT t.p, (SELECT r0 FROM m WHERE m.p = t.p - 1),
            (SELECT r0 FROM m WHERE m.p = coalesce(t.p + 1, 0)) FROM t"""


def _pair_of(pairing: Pairing, row: int) -> tuple[str, list[str]]:
    """SQL of the pair of a base's row, whatever is selected, and the names of what it gives; no row where
    another run has no such case."""
    names = [
        *(f"r{n}" for n in range(len(pairing.sources))),
        *(f"{name}{n}" for n in range(len(pairing.pairs)) for name in "dv"),
    ]
    joined = pairing.joined(Selected("all", [], [], False, False))
    return f"SELECT {', '.join(names)} FROM ({joined}) WHERE r0 = {int(row)}", names
