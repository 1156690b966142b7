"""`python -m tests.simulation [--quick] [WORD]`: print every table of docs/statistics, or those with a word
in their title."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable

from tests.simulation import coverage, judged, means, ranks, verdicts

TABLES: list[tuple[str, Callable[..., Iterable[tuple[str, ...]]], bool]] = [
    ("Wilson, share of intervals that hold the truth (%), exact", coverage.wilson_table, False),
    ("wilson_t of bounded numbers (%)", coverage.wilson_t_table, True),
    ("Tango, and the error of not worse (%), exact", coverage.tango_table, False),
    ("The interval of a median (%), exact", ranks.medians_table, False),
    ("bp_t of paired differences (%)", coverage.bp_t_table, True),
    ("Clusters, t(G − 1) (%)", coverage.clusters_table, True),
    ("Pass/fail over clusters, wilson_t (Student's t) (%)", means.clustered_share_table, True),
    ("pass@3, pass^3 and flake rate of five trials (%)", means.trials_table, True),
    ("A run as a whole: bootstrap intervals (%)", ranks.run_metrics_table, True),
    ("Ranking (%)", ranks.ranking_table, True),
    ("PPI++ (%)", coverage.ppi_table, True),
    ("A judge that likes one run's style, and PPI++", judged.false_differences_table, True),
    ("False better or worse, one pass/fail metric (%), exact", verdicts.mid_p_table, False),
    ("False better or worse of a family of metrics, 100 rows (%)", verdicts.false_positives_table, True),
    ("Wrong not worse, the same or better, of a loss of δ (%)", verdicts.not_worse_table, True),
    ("Stopping early, the rule as a whole (%)", verdicts.sequential_table, True),
    ("Stopping early: shown % (mean calls)", verdicts.stopping_table, True),
]


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 repetitions")
    parser.add_argument("word", nargs="?", default="", help="only tables with this in their title")
    asked = parser.parse_args()
    quick = asked.quick
    for title, table, repeated in TABLES:
        if asked.word.casefold() not in title.casefold():
            continue
        began = time.perf_counter()
        rows = list(table(500) if quick and repeated else table())
        print(f"\n### {title}\n")
        for number, row in enumerate(rows):
            print(f"| {' | '.join(row)} |")
            if not number:
                print("|" + " --- |" * len(row))
        print(f"\n({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
