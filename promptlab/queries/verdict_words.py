"""Verdicts in words, the same on the command line, in a notebook and in the Studio."""

from __future__ import annotations

from promptlab.queries.compare import MetricComparison
from promptlab.queries.run_level import RunComparison
from promptlab.statistics import FEWEST, FEWEST_ROWS, Judgement


def verdict_words(m: MetricComparison) -> str:
    """Say the verdict, with δ as a number; nothing of a metric that only measures."""
    return words_of(m.judgement, m.not_comparable)


def words_of(judgement: Judgement, not_comparable: str | None) -> str:
    """Say a verdict, with δ as a number; nothing where there is none."""
    if not_comparable:
        return "not comparable"
    if judgement.verdict is None:
        return ""
    return judgement.verdict.replace("δ", _short(judgement.margin or 0.0))


def score_words(m: RunComparison) -> str:
    """Say the verdict of a score of the runs as a whole; why there is none, where there is none."""
    if m.not_comparable:
        return f"not comparable: {m.not_comparable}"
    return (m.verdict or m.why or "").replace("δ", _short(m.margin or 0.0))


def score_why(m: RunComparison) -> str:
    """Say what the verdict of a score of the runs as a whole rests on, in a sentence or two."""
    if m.not_comparable or m.p is None:
        return m.not_comparable or m.why or "There is no interval."
    p = m.p if m.p_adjusted is None else m.p_adjusted
    return f"A paired bootstrap over the rows of both runs: p {p_words(p)}{' (Holm)' if p != m.p else ''}."


def why(m: MetricComparison) -> str:
    """Say what the verdict rests on, in a sentence or two."""
    if m.not_comparable:
        return f"The runs' values are not of the same metric: {m.not_comparable}."
    found = m.judgement
    if found.verdict is None:
        return "It only measures: neither is better by it."
    if found.verdict == "too few cases":
        if found.ci_low is None and found.n >= FEWEST_ROWS:
            return f"Rows belong together: fewer than {FEWEST} groups of them show nothing."
        differ = found.wins + found.losses
        return f"{_rows(found.n)}, of which {differ:,} differ, show too little.{_needed(m)}"
    if found.verdict == "depends on missing scores":
        return (
            f"{_missing(m)} have no score: counted in one way or the other they move the difference from "
            f"{_signed(found.worst_low)} to {_signed(found.worst_high)}."
        )
    p = f"p {p_words(found.p_adjusted)}" + (" (Holm)" if found.p_adjusted != found.p else "")
    if found.verdict in ("better", "worse"):
        return f"{p}: {found.wins:,} rows won, {found.losses:,} lost, {found.ties:,} tied."
    seen = found.minimum_detectable
    if not found.wins + found.losses and not seen:
        return f"{p}. No row differs."
    least = f" So many rows show {_short(seen)} with 80% power." if seen is not None else ""
    return f"{p}.{least}{_needed(m)}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def missing_words(m: MetricComparison) -> str:
    """Say how many rows have no value; nothing where all have one."""
    return f"{_missing(m)} without a score" if m.judgement.missing_base or m.judgement.missing_other else ""


def _missing(m: MetricComparison) -> str:
    base, other = m.judgement.missing_base, m.judgement.missing_other
    return f"{_rows(base)} of the base and {other:,} of the other run"


def _needed(m: MetricComparison) -> str:
    rows, margin = m.judgement.rows_needed, m.judgement.margin
    if rows is None or rows <= m.judgement.n:
        return ""
    return f" To show {_short(margin)}, {rows:,} are needed." if margin else f" {rows:,} are needed."


def _short(value: float) -> str:
    return f"{value:.3g}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def p_words(p: float | None) -> str:
    """Write a p as statistics do: `.0312`, `< .0001`."""
    return "–" if p is None else "< .0001" if p < 0.0001 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
