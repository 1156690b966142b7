"""A run by the values of a column, as scripts, notebooks and the command line see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.queries.compared import margins_of
from promptlab.queries.sliced_scores import METHOD
from promptlab.queries.slices import Slice, SliceDifference, SliceMean, Slices
from promptlab.queries.slices_json import slices_json
from promptlab.queries.verdict_words import words_of
from promptlab.report import number
from promptlab.sdk.rendered import rendered

if TYPE_CHECKING:
    from rich.console import Group

    from promptlab.lab import Lab

LETTERS = "ABCD"
NONE = "(none)"
"""What stands for rows without a value."""


class RunSlices:
    """A run, and others against it, by a column of its dataset."""

    def __init__(self, run_ids: Sequence[str], found: Slices) -> None:
        self.run_ids, self.found = tuple(run_ids), found

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.found.slices)

    def __len__(self) -> int:
        return len(self.found.slices)

    def to_json(self) -> dict[str, Any]:
        """Write the slices as `GET /api/v1/slices` gives them."""
        return slices_json(self.run_ids, self.found)

    def __str__(self) -> str:
        return rendered(slices_table(self.run_ids, self.found))

    def __repr__(self) -> str:
        return f"<{len(self)} slices of {', '.join(self.run_ids)} by {self.found.column}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


async def sliced(
    lab: Lab, run_ids: Sequence[str], column: str, margin: float | Mapping[str, float] | None
) -> RunSlices:
    """Ask a lab for slices."""
    return RunSlices(run_ids, await lab.slices(run_ids, column, margins_of(margin)))


def slices_table(run_ids: Sequence[str], found: Slices) -> Group:
    """Show each metric's mean by slice, and of other runs the difference and its verdict."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text(f"{LETTERS[n]}  run {run_id}") for n, run_id in enumerate(run_ids)]
    how = ", in bins with as many rows each" if found.binned else ""
    lines.append(Text(f"by {found.column}: {found.values:,} different values{how}"))
    for metric in dict.fromkeys(name for one in found.slices for name in one.means):
        lines += [Text(), Text(metric, style="bold"), _metric_table(metric, run_ids, found)]
    lines += [Text(note, style="yellow") for note in found.notes]
    if len(run_ids) > 1:
        lines += [
            Text(),
            Text(
                "Verdicts are adjusted over all slices, metrics, scores of the run and runs (Holm).",
                style="dim",
            ),
        ]
    return Group(*lines)


def _metric_table(metric: str, run_ids: Sequence[str], found: Slices) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    others = [f"{LETTERS[n]} − A, 95% interval" for n in range(1, len(run_ids))]
    of_run = any((mean := one.means.get(metric)) and mean.method == METHOD for one in found.slices)
    said = "value" if of_run else "mean"
    for name in (found.column, "n", said, "95% interval", *others):
        table.add_column(name, justify="right" if name in ("n", said) else "left", overflow="fold")
    for one in found.slices:
        mean = one.means.get(metric)
        if mean is not None:
            cells = [_difference(d.get(metric)) for d in one.differences]
            value = NONE if one.value is None else one.value
            table.add_row(value, _n(mean), number(mean.mean), _interval(mean), *cells)
    return table


def _n(mean: SliceMean) -> str:
    return f"{mean.n:,}" if mean.n >= mean.rows else f"{mean.n:,} of {mean.rows:,}"


def _interval(mean: SliceMean) -> str:
    return "–" if mean.ci_low is None else f"{number(mean.ci_low)} … {number(mean.ci_high)}"


def _difference(found: SliceDifference | None) -> str:
    if found is None or found.judgement.difference is None:
        return "–"
    judged = found.judgement
    ends = "" if judged.ci_low is None else f", {judged.ci_low:+.3g} … {judged.ci_high:+.3g}"
    return f"{judged.difference:+.3g}{ends}: {words_of(judged, found.not_comparable)}"
