"""The metrics of a run as a whole, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.domain.run_metrics import RunMetric
from promptlab.report import number

MOST_LABELS = 8
"""Labels of a confusion matrix that fits a terminal."""


def run_metrics_tables(found: Mapping[str, RunMetric]) -> list[Any]:
    """Show the metrics of a run as a whole, and of a few labels the confusion matrix."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("of the whole run", "value", "95% interval", "cases", "better"):
        side: Any = "left" if column in ("of the whole run", "better") else "right"
        shown.add_column(column, justify=side, overflow="fold")
    matrices = list[Any]()
    for name, metric in found.items():
        for score, one in metric.values.items():
            interval = "–" if one.low is None else f"{number(one.low)} … {number(one.high)}"
            value = one.label if one.value is None and one.label else number(one.value)
            better = "higher" if one.higher_is_better else "lower"
            shown.add_row(score, value, interval, f"{metric.cases:,}", better)
            if said := one.error or one.reason:
                shown.add_row(Text(f"  {said}", style="yellow" if one.error else "dim"))
        if metric.lost:
            why = f": {metric.lost_why}" if metric.lost_why else ""
            shown.add_row(Text(f"  {metric.lost:,} cases do not count{why}", style="dim"))
        if metric.method:
            shown.add_row(Text(f"  {metric.method}", style="dim"))
        if metric.detail.get("kind") == "confusion" and len(metric.detail["labels"]) <= MOST_LABELS:
            matrices += [Text(), _confusion(name, metric.detail)]
    return [shown, *matrices]


def _confusion(name: str, detail: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(f"{name}: label \\ answer", overflow="fold")
    for answer in detail["answers"]:
        table.add_column(answer, justify="right", overflow="fold")
    for label, row in zip(detail["labels"], detail["matrix"], strict=True):
        table.add_row(label, *(f"{count:,}" for count in row))
    return table
