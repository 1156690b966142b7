"""A comparison of runs, as scripts, notebooks and the command line see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.queries.compare import ComparePage, MetricComparison, PairRow
from promptlab.queries.comparison_json import comparison_json
from promptlab.queries.run_level import RunComparison
from promptlab.queries.verdict_words import missing_words, p_words, score_words, verdict_words, why
from promptlab.report import number
from promptlab.sdk.rendered import rendered

if TYPE_CHECKING:
    from rich.console import Group

LETTERS = "ABCD"
TEXT_CHARS = 120
"""Characters of an answer in the table of pairs."""


class Comparison:
    """A run, the base, and one to three others over the same rows: metrics over all cases,
    and a page of the pairs."""

    def __init__(self, run_ids: Sequence[str], page: ComparePage) -> None:
        self.run_ids, self.page = tuple(run_ids), page

    @property
    def metrics(self) -> Sequence[MetricComparison]:
        """Every metric that the base shares with another run; `other` is the place of the other run, from
        0."""
        return self.page.metrics

    @property
    def run_metrics(self) -> Sequence[RunComparison]:
        """Every score of the runs as a whole that the base shares with another run."""
        return self.page.run_metrics

    @property
    def rows(self) -> Sequence[PairRow]:
        """The pairs of cases of this page."""
        return self.page.rows

    @property
    def counts(self) -> Mapping[str, int]:
        """Cases by change: all, different, regressed, improved, same."""
        return {str(change): count for change, count in self.page.counts.items()}

    def to_json(self) -> dict[str, Any]:
        """Write the comparison as `GET /api/v1/compare` gives it."""
        return comparison_json(self.run_ids, self.page)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.run_ids)}: {self.page.total:,} cases>"

    def __str__(self) -> str:
        return rendered(comparison_table(self.run_ids, self.page))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # what a notebook shows if it cannot show HTML

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def comparison_table(run_ids: Sequence[str], page: ComparePage) -> Group:
    """Show the runs, each metric's difference with its interval, and the pairs of cases."""
    from rich.console import Group
    from rich.text import Text

    joined = "by row" if page.joined_on == "case" else "by the rows' ids"
    shared = "1 case is" if page.total == 1 else f"{page.total:,} cases are"
    head = [Text(f"{LETTERS[n]}  run {run_id}") for n, run_id in enumerate(run_ids)]
    lines: list[Any] = [*head, Text(f"{shared} in all of them (joined {joined}).")]
    for place, (base, other) in enumerate(page.unmatched):
        if base or other:
            letter = LETTERS[place + 1]
            lines.append(
                Text(f"Only in A: {base:,} cases; only in {letter}: {other:,} cases.", style="yellow")
            )
    lines += [Text(note, style="yellow") for note in page.notes]
    lines += [Text(), _metrics_table(page) if page.metrics else Text("The runs share no metric.")]
    lines += [Text(), *(Text(line) for line in _reasons(page))] if page.metrics else []
    lines += [Text(), _run_metrics_table(page)] if page.run_metrics else []
    if page.rows:
        shown = f"{len(page.rows):,} of {page.total_matching:,} cases"
        lines += [Text(), Text(f"{shown}:", style="bold"), *_pairs(page)]
    return Group(*lines)


def _metrics_table(page: ComparePage) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    right = ("A", "other", "difference", "n", "won", "lost", "tied")
    names = (
        "metric",
        "with",
        "A",
        "other",
        "difference",
        "95% interval",
        "n",
        "won",
        "lost",
        "tied",
        "verdict",
    )
    for column in names:
        table.add_column(column, justify="right" if column in right else "left")
    for m in page.metrics:
        interval = "–" if m.low is None else f"{number(m.low)} … {number(m.high)}"
        difference = "–" if m.difference is None else f"{m.difference:+.4g}"
        found = m.judgement
        table.add_row(
            m.metric + ("" if m.higher_is_better else " (lower is better)"),
            LETTERS[m.other + 1],
            *(number(m.base_mean), number(m.other_mean), difference, interval),
            *(f"{count:,}" for count in (found.n, found.wins, found.losses, found.ties)),
            verdict_words(m),
        )
        if m.corrected is not None:
            by, ends = m.corrected, (number(m.corrected.ci_low), number(m.corrected.ci_high))
            table.add_row(
                "  corrected by labels",
                LETTERS[m.other + 1],
                *("", "", f"{by.difference:+.4g}", " … ".join(ends), f"{by.labels:,}", "", "", ""),
                by.verdict + (f"; {by.caveat}" if by.caveat else ""),
            )
    return table


def _run_metrics_table(page: ComparePage) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    right = ("A", "other", "difference")
    for column in ("of the whole run", "with", *right, "95% interval", "p (Holm)", "verdict"):
        table.add_column(column, justify="right" if column in right else "left")
    for m in page.run_metrics:
        interval = "–" if m.low is None else f"{number(m.low)} … {number(m.high)}"
        difference = "–" if m.difference is None else f"{m.difference:+.4g}"
        table.add_row(
            m.metric + ("" if m.higher_is_better else " (lower is better)"),
            LETTERS[m.other + 1],
            *(number(m.base_value), number(m.other_value), difference, interval),
            p_words(m.p_adjusted),
            score_words(m),
        )
    return table


def _reasons(page: ComparePage) -> list[str]:
    """Say what each verdict rests on, and how many rows are missing."""
    lines = []
    for m in page.metrics:
        if m.judgement.verdict is not None or m.not_comparable:
            missing = missing_words(m)
            lines.append(
                f"{m.metric}, {LETTERS[m.other + 1]}: {verdict_words(m)}. {why(m)}"
                + (f" {missing}." if missing and "have no score" not in why(m) else "")
            )
    return lines


def _pairs(page: ComparePage) -> list[Any]:
    from rich.text import Text

    lines: list[Any] = []
    for row in page.rows:
        changes = [
            f"{LETTERS[place + 1]} {delta.verdict} in {metric}"
            for place, deltas in enumerate(row.deltas)
            for metric, delta in deltas.items()
            if delta.verdict != "same"
        ]
        trial = f", trial {row.trial + 1}" if row.trial else ""
        lines.append(Text(f"{row.id}{trial}: {', '.join(changes) or 'same'}"))
        for letter, side in zip(LETTERS, (row.base, *row.others), strict=False):
            said = f"✕ {side.error_type}: {side.error_message}" if side.error_type else side.response or ""
            words = " ".join(said.split())
            lines.append(Text(f"  {letter}  {words[:TEXT_CHARS]}{'…' if len(words) > TEXT_CHARS else ''}"))
    return lines
