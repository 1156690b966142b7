"""`python -m tests.simulation [--quick] [WORD]`: print every table of docs/statistics, or those with a word
in their title."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tests.simulation import clusters, coverage, judged, means, numbers, of_runs, ranks, verdicts


class Shown(NamedTuple):
    """A table, and how it is made."""

    title: str
    make: Callable[..., Iterable[tuple[str, ...]]]
    covers: slice | None = None
    """The columns that are coverages of one interval as it is shipped, for the table at the end."""
    exact: bool = False
    """By enumeration: no repetitions."""


ALL = slice(1, None)
TABLES = (
    Shown("Wilson, share of intervals that hold the truth (%), exact", coverage.wilson_table, exact=True),
    Shown("wilson_t of bounded numbers (%)", coverage.wilson_t_table, slice(1, 5)),
    Shown("Student's t of numbers, hall_t where skewed (%)", numbers.numbers_table, slice(1, 5)),
    Shown("The interval of a median (%)", numbers.medians_table, ALL),
    Shown("Tango, and the error of not worse (%), exact", coverage.tango_table, exact=True),
    Shown("bp_t of paired differences (%)", coverage.bp_t_table, slice(1, 4)),
    Shown("Newcombe, two shares of different rows (%), exact", numbers.newcombe_table, ALL, exact=True),
    Shown("Welch, two means of different rows (%)", numbers.welch_table, ALL),
    Shown("Clusters, means of numbers, t (%)", clusters.numbers_table, ALL),
    Shown("Clusters, means of pass/fail, wilson_t (Student's t) (%)", clusters.shares_table, slice(2, None)),
    Shown("Clusters, differences, bp_t (Student's t) (%)", clusters.differences_table, slice(2, None)),
    Shown("pass@3, pass^3 and flake rate of five trials (%)", means.trials_table, ALL),
    Shown("A run as a whole: bootstrap intervals (%)", of_runs.run_metrics_table, ALL),
    Shown("Ranking (%)", ranks.ranking_table, slice(1, 2)),
    Shown("PPI++ (%)", coverage.ppi_table, slice(3, 4)),
    Shown("A judge that likes one run's style, and PPI++", judged.false_differences_table),
    Shown("False better or worse, one pass/fail metric (%), exact", verdicts.mid_p_table, exact=True),
    Shown("False better or worse of a family of metrics, 100 rows (%)", verdicts.false_positives_table),
    Shown("Wrong not worse, the same or better, of a loss of δ (%)", verdicts.not_worse_table),
    Shown("Stopping early, the rule as a whole (%)", verdicts.sequential_table),
    Shown("Stopping early: shown % (mean calls)", verdicts.stopping_table),
)


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 repetitions")
    parser.add_argument("word", nargs="?", default="", help="only tables with this in their title")
    asked = parser.parse_args()
    whole: list[tuple[str, ...]] = [("interval", "mean over its cells", "worst", "at")]
    for shown in TABLES:
        if asked.word.casefold() not in shown.title.casefold():
            continue
        began = time.process_time()
        rows = list(shown.make(500) if asked.quick and not shown.exact else shown.make())
        show(shown.title, rows)
        print(f"\n({time.process_time() - began:.0f} s of CPU)", flush=True)
        if shown.title.startswith(("Wilson", "Tango")):
            whole.append(_stated(shown.title, rows))
        elif shown.covers is not None:
            whole.append(worst_of(shown.title, rows, shown.covers))
    if len(whole) > 1:
        show("Every interval as shipped: coverage in %", whole)


def show(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table."""
    print(f"\n### {title}\n")
    for number, row in enumerate(rows):
        print(f"| {' | '.join(row)} |")
        if not number:
            print("|" + " --- |" * len(row), flush=True)


def worst_of(title: str, rows: Sequence[tuple[str, ...]], columns: slice) -> tuple[str, ...]:
    """The mean of a table's coverages, and the worst of them with its place."""
    header, *lines = rows
    cells = [
        (float(cell.split(" (")[0]), f"{', '.join(line[: columns.start])}; {name}")
        for line in lines
        for name, cell in list(zip(header, line, strict=True))[columns]
    ]
    mean = sum(cell for cell, _ in cells) / len(cells)
    least, at = min(cells)
    return (title.split(" (")[0], f"{mean:.1f}", f"{least:.1f}", at)


def _stated(title: str, rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The same of a table whose lines have the mean, the worst cell and its place."""
    at = rows[0].index("worst")
    what = rows[0][at + 1].removeprefix("at ")
    lines = [(float(row[at]), f"n = {row[0]}; {what} {row[at + 1]}") for row in rows[1:]]
    mean = sum(float(row[at - 1]) for row in rows[1:]) / len(lines)
    return (title.split(",")[0], f"{mean:.1f}", f"{min(lines)[0]:.1f}", min(lines)[1])


if __name__ == "__main__":
    main()
