"""A sweep, as scripts, notebooks and the command line see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Self

from promptlab.domain.results import Progress, RunRecord
from promptlab.domain.sweeps import Sweep
from promptlab.experiments.matrix import SweepConfig, said
from promptlab.lab import Lab
from promptlab.queries.ranking import RankedCell, Ranking
from promptlab.queries.verdict_words import words_of
from promptlab.report import dollars, duration, number
from promptlab.sdk.progress import ProgressView
from promptlab.sdk.rendered import rendered
from promptlab.sdk.speaking import say, shown
from promptlab.sync import ending_as_cancellation

if TYPE_CHECKING:
    from rich.console import Group


class SweepRanking:
    """The runs of a sweep, the best first."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking

    @property
    def sweep_id(self) -> str:
        """The sweep's id, which is also a tag of its runs."""
        return self.ranking.sweep.sweep_id

    @property
    def cells(self) -> Sequence[RankedCell]:
        """Every cell with its run, the best first, those without a place last."""
        return self.ranking.cells

    @property
    def leader(self) -> RankedCell | None:
        """The best one; None where none is ranked."""
        return self.ranking.leader

    @property
    def front(self) -> Sequence[RankedCell]:
        """The cells that no other beats in score and cost at once, the cheapest first."""
        return sorted((c for c in self.cells if c.on_front), key=lambda c: c.cost_usd or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Write it as `GET /api/v1/sweeps/{sweep_id}` gives it."""
        return self.ranking.to_json()

    def __repr__(self) -> str:
        return f"<Sweep {self.sweep_id} of {self.ranking.sweep.name!r}: {len(self.cells)} runs>"

    def __str__(self) -> str:
        return rendered(ranking_table(self.ranking))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # what a notebook shows if it cannot show HTML

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


class EachRun:
    """The progress of one run after the other, each in a view of its own."""

    def __init__(
        self, view: Callable[[], AbstractContextManager[ProgressView]], say: Callable[[str], None]
    ) -> None:
        self._make, self._say = view, say
        self._open = ExitStack()
        self._view: ProgressView | None = None
        self._cells: Mapping[str, str] = {}
        self.sweep: Sweep | None = None
        self.run: RunRecord | None = None
        """The run that began last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._view = None
        self._open.close()

    def on_sweep(self, sweep: Sweep) -> None:
        """Hear of the sweep, before its runs."""
        self.sweep = sweep
        count = len(sweep.cells)
        self._cells = {
            cell.run_id: f"{n} of {count}: {said(cell.choices)}" for n, cell in enumerate(sweep.cells, 1)
        }
        self._say(f"{sweep.name}: {sweep.sweep_id}, {count} {'run' if count == 1 else 'runs'}")

    def on_start(self, run: RunRecord) -> None:
        """Hear of a run that begins."""
        self._open.close()
        self._say(self._cells.get(run.run_id, run.run_id))
        self.run, self._view = run, self._open.enter_context(self._make())
        self._view.started(run)

    def on_progress(self, progress: Progress) -> None:
        """Hear how far it is."""
        if self._view is not None:
            self._view(progress)


async def run_sweep(lab: Lab, config: SweepConfig, *, quiet: bool) -> Ranking:
    """Run a sweep to its end, and rank its runs; an interruption says how to go on."""

    async def begin(seen: EachRun) -> Sweep:
        return await lab.sweep(
            config, on_sweep=seen.on_sweep, on_start=seen.on_start, on_progress=seen.on_progress
        )

    return await _to_its_end(lab, begin, quiet)


async def go_on_with(lab: Lab, sweep_id: str, *, max_cost_usd: float | None, quiet: bool) -> Ranking:
    """Do what a sweep is missing, and rank its runs."""

    async def begin(seen: EachRun) -> Sweep:
        return await lab.resume_sweep(
            sweep_id,
            max_cost_usd=max_cost_usd,
            on_sweep=seen.on_sweep,
            on_start=seen.on_start,
            on_progress=seen.on_progress,
        )

    return await _to_its_end(lab, begin, quiet)


async def _to_its_end(lab: Lab, begin: Callable[[EachRun], Awaitable[Sweep]], quiet: bool) -> Ranking:
    with (
        ending_as_cancellation(),
        EachRun(lambda: shown(quiet=quiet), (lambda _: None) if quiet else say) as seen,
    ):
        try:
            sweep = await begin(seen)
        except asyncio.CancelledError as stop:
            if seen.sweep is not None:
                again = f"was interrupted: resume_sweep({seen.sweep.sweep_id!r}) goes on with it"
                goes_on = "goes on" if lab.goes_on else again
                stop.add_note(f"Sweep {seen.sweep.sweep_id} {goes_on} at {lab.where}.")
            raise
    return await lab.rank(sweep.sweep_id)


def ranking_table(found: Ranking) -> Group:
    """Show the runs of a sweep in their order, and what the order rests on."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    axes = list(dict.fromkeys(axis for cell in found.cells for axis in cell.choices))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("rank", justify="right")
    for axis in axes:
        table.add_column(axis)
    right = ("n", "cost", "median", "P(best)")
    metric = found.metric or "score"
    for column in (metric, "95% interval", *right, "ranks", "against the best", "run"):
        table.add_column(column, justify="right" if column in (metric, *right) else "left")
    for cell in found.cells:
        low, high = cell.ci_low, cell.ci_high
        table.add_row(
            f"{cell.place}" if cell.place else "–",
            *(cell.choices.get(axis, "") for axis in axes),
            number(cell.mean),
            "–" if low is None else f"{number(low)} … {number(high)}",
            f"{cell.n:,}",
            dollars(cell.cost_usd) + (" *" if cell.on_front else ""),
            "–" if cell.latency_ms is None else duration(cell.latency_ms / 1000),
            "–" if cell.p_best is None else f"{cell.p_best:.1%}",
            "–" if cell.rank_low is None else _ranks(cell),
            against(cell),
            cell.run_id if cell.status == "completed" else f"{cell.run_id} ({_status(cell)})",
        )
    return Group(Text(f"{found.sweep.name}: {found.sweep.sweep_id}"), table, *map(Text, notes(found)))


def against(cell: RankedCell) -> str:
    """Say how a run stands against the best one."""
    if cell.place == 1:
        return "the best"
    judged = cell.against_leader
    if judged is None:
        return cell.unranked or "–"
    difference = "" if judged.difference is None else f"{judged.difference:+.4f} "
    return f"{difference}{words_of(judged, None)}"


def _ranks(cell: RankedCell) -> str:
    return f"{cell.rank_low}" if cell.rank_low == cell.rank_high else f"{cell.rank_low} to {cell.rank_high}"


def _status(cell: RankedCell) -> str:
    return cell.status.replace("_", " ") + (f": {cell.error}" if cell.error else "")


def notes(found: Ranking) -> list[str]:
    """Say what the order rests on, and what is missing."""
    lines = []
    ranked = [cell for cell in found.cells if cell.place]
    if len(ranked) > 1:
        way = "higher" if found.higher_is_better else "lower"
        lines.append(
            f"Over the {found.rows:,} rows that all ranked runs have a score of; {way} is better. P(best) "
            f"and ranks: {found.resamples:,} paired bootstrap resamples; p by Holm over all pairs of runs."
        )
        alike = [
            cell for cell in ranked[1:] if cell.against_leader and cell.against_leader.verdict != "worse"
        ]
        if alike:
            count = len(alike)
            lines.append(
                f"{count} {'run is' if count == 1 else 'runs are'} not shown to be worse than the best: "
                "choose by cost among them, or run more rows."
            )
    if any(cell.on_front for cell in ranked):
        lines.append("* on the front of score against cost: no other is as good for less.")
    if left := [cell for cell in found.cells if cell.status != "completed"]:
        lines.append(f"{len(left)} of {len(found.cells)} runs are not complete.")
    return lines
