"""Histograms with edges that people read easily."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from promptlab.duck import quoted
from promptlab.queries.pool import DuckDBPool

TAIL = 0.995
"""Values beyond this quantile share the last bin where they would take more than a third of the axis."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Values from `low` up to `high`, which only the last bin includes. `Range(column, low, high, closed)`
    selects just these."""

    low: float
    high: float
    count: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """How one number column is distributed."""

    column: str
    bins: tuple[Bin, ...]
    """None where there is no value. The last may be wider than the others: it takes the tail."""
    count: int
    """Values in all bins."""
    missing: int
    """Matching cases without a value."""


async def edges(pool: DuckDBPool, source: str, column: str, bins: int) -> list[float]:
    """The edges of a column's bins, one more than bins; empty where it has no values.

    Args:
        pool: where to ask.
        source: SQL of the table.
        column: quoted name of the column.
        bins: how many there should be, about.
    """
    values = (
        f"min({column}), max({column}), bool_and({column} IN (0, 1)), bool_and({column} = "
        f"floor({column})), approx_quantile({column}, {TAIL})"
    )
    ((low, high, binary, whole, tail),) = await pool.fetch(
        f"SELECT {values} FROM {source} WHERE isfinite({column}::DOUBLE)"
    )
    if low is None:
        return []
    return nice_edges(float(low), float(high), bins, binary=binary, whole=whole, tail=float(tail))


def nice_edges(
    low: float,
    high: float,
    bins: int,
    *,
    binary: bool = False,
    whole: bool = False,
    tail: float | None = None,
) -> list[float]:
    """Edges for values between `low` and `high`.

    Two bins for pass/fail; `bins` of [0, 1] for values in it, unless all are below 0.2; else about `bins`
    steps of 1, 2 or 5 times a power of ten (at least 1 for whole numbers), where `tail`, a high quantile,
    keeps outliers from taking the axis.
    """
    if binary:
        return [0.0, 0.5, 1.0]
    # Values in a corner of [0, 1], such as costs, would all be one bar there.
    if low >= 0 and 0.2 <= high <= 1 and not whole:
        return [n / bins for n in range(bins + 1)]
    cap = tail if tail is not None and low < tail and high - tail > (high - low) / 3 else high
    if high - low > 1e300:  # its width would overflow
        return [low, high]
    step = _nice((cap - low) / bins) if cap > low else max(abs(low) * 0.1, 1.0)
    step = max(step, 1.0) if whole else step
    first = math.floor(low / step)
    count = max(1, math.floor(cap / step) - first + 1)
    digits = 2 - math.floor(math.log10(step))  # 0.3 and not 0.30000000000000004
    found = [round((first + n) * step, digits) for n in range(count + 1)]
    if (
        len(found) > 2 and not whole and found[-2] >= cap
    ):  # the highest value is an edge: the last bin includes it
        found.pop()
    # Steps near or below the precision of the values may be the same number twice, or beside them.
    first_edge, last_edge = min(found[0], low), max(found[-1], high, math.nextafter(low, math.inf))
    return [first_edge, *(e for e in sorted(set(found[1:-1])) if first_edge < e < last_edge), last_edge]


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * (1 - 1e-9))


async def histogram(
    pool: DuckDBPool, source: str, column: str, bounds: Sequence[float], where: str, values: Sequence[Any]
) -> Histogram:
    """Count the values between edges, by the very comparisons that a Range makes."""
    name, last = quoted(column), len(bounds) - 2
    # A search is made once, and the bins are counted over what it found.
    counts = [
        f"count(*) FILTER (v >= ?::DOUBLE AND v {'<=' if n == last else '<'} ?::DOUBLE)"
        for n in range(len(bounds) - 1)
    ]
    sql = (
        f"WITH m AS MATERIALIZED (SELECT {name} AS v FROM {source} WHERE {where}) SELECT "
        f"{', '.join(['count(*)', *counts])} FROM m"
    )
    pairs = [bound for pair in pairwise(bounds) for bound in pair]
    ((total, *found),) = await pool.fetch(sql, [*values, *pairs])
    bins = tuple(
        Bin(low, high, count, n == last)
        for n, ((low, high), count) in enumerate(zip(pairwise(bounds), found, strict=True))
    )
    return Histogram(column, bins, sum(found), total - sum(found))
