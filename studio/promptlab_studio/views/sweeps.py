"""A sweep as values: a row a run, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from promptlab.queries.ranking import RankedCell, Ranking
from promptlab.queries.verdict_words import words_of
from promptlab_studio.views.digits import Digits, money, money_decimals
from promptlab_studio.views.figures import IntervalMark
from promptlab_studio.views.format import milliseconds

_CSS = {"better": "good", "worse": "bad", "depends on missing scores": "warn"}


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One run of a sweep."""

    cell: RankedCell
    choices: Sequence[str]
    """On each axis."""
    mean: str
    between: str
    bar: IntervalMark | None
    n: str
    missing: bool
    cost: str
    latency: str
    p_best: str
    chance: int
    """P(best) in per cent, for its bar."""
    ranks: str
    difference: str
    verdict: str
    css: str
    compare_url: str | None
    """Where it stands beside the best one."""


def axes_of(found: Ranking) -> list[str]:
    """Return what changes from run to run."""
    return list(dict.fromkeys(axis for cell in found.sweep.cells for axis in cell.choices))


def rows_of(found: Ranking) -> list[SweepRow]:
    """A row for each run; their bars share a scale, their figures the decimals."""
    cells = [cell for cell in found.cells if cell.mean is not None]
    ends = [v for c in cells for v in (c.mean, c.ci_low, c.ci_high) if v is not None]
    digits, low, high = Digits.of(ends), min(ends, default=0.0), max(ends, default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    places = money_decimals(cell.cost_usd for cell in found.cells)
    leader = found.leader
    axes = axes_of(found)
    return [
        _row(cell, [cell.choices.get(axis, "") for axis in axes], digits, (low, high), places, leader)
        for cell in found.cells
    ]


def _row(
    cell: RankedCell,
    choices: Sequence[str],
    digits: Digits,
    scale: tuple[float, float],
    places: int,
    leader: RankedCell | None,
) -> SweepRow:
    judged, is_best = cell.against_leader, cell.place == 1
    words = words_of(judged, None) if judged else "the best" if is_best else ""
    missing = cell.n < cell.rows
    ranks = "" if cell.rank_low is None else f"{cell.rank_low}"
    if cell.rank_low != cell.rank_high:
        ranks = f"{cell.rank_low} to {cell.rank_high}"
    compare = None
    if leader is not None and cell.place and not is_best:
        compare = f"/compare?{urlencode([('run', leader.run_id), ('run', cell.run_id)])}"
    chance = 0 if cell.p_best is None else round(100 * cell.p_best)
    return SweepRow(
        cell=cell,
        choices=choices,
        mean=digits.show(cell.mean),
        between=digits.between(cell.ci_low, cell.ci_high),
        bar=_bar(cell, scale),
        n=f"{cell.n:,} of {cell.rows:,}" if missing else f"{cell.n:,}",
        missing=missing,
        cost=money(cell.cost_usd, places),
        latency=milliseconds(cell.latency_ms),
        p_best=_share(cell.p_best),
        chance=chance,
        ranks=ranks,
        difference=digits.signed(judged.difference) if judged else "",
        verdict=words,
        css="good" if is_best else _CSS.get(words, "muted"),
        compare_url=compare,
    )


def _share(p: float | None) -> str:
    if p is None:
        return "–"
    return "<0.1%" if 0 < p < 0.001 else ">99.9%" if 0.999 < p < 1 else f"{p:.1%}"


def _bar(cell: RankedCell, scale: tuple[float, float]) -> IntervalMark | None:
    if cell.mean is None:
        return None
    mean, span = cell.mean, (scale[1] - scale[0]) or 1.0

    def at(number: float | None) -> float:
        return round(min(max(((mean if number is None else number) - scale[0]) / span, 0.0), 1.0) * 100, 1)

    return IntervalMark(at(mean), at(cell.ci_low), at(cell.ci_high))
