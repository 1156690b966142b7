"""The strip on top of a case: its verdict with the reason, and what else was odd or cost something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.results import CUT, FILTERED
from promptlab.queries.answers import TrialOutcome
from promptlab_studio.views.case import CaseState, ScoreView, case_state
from promptlab_studio.views.cases import USUAL
from promptlab_studio.views.digits import figure, money
from promptlab_studio.views.format import milliseconds, one_line

_LONGEST = 160
"""Characters of a reason that stand in the strip; the whole is with the scores."""


@dataclass(frozen=True, slots=True)
class Note:
    """A part of the strip behind the verdict."""

    text: str
    css: str = ""
    """warn, where it is no news of a case that went well."""


def strip_state(row: Mapping[str, Any], scores: Sequence[ScoreView], headline: str | None) -> CaseState:
    """The verdict of the metric that the run is judged by, with its reason: `✕ numeric_match: expected 20,
    got 800`."""
    state = case_state(row, scores, headline)
    if row["pending"]:
        return state
    if row["error_type"]:
        return CaseState(state.css, f"✕ {row['error_type']}{_short(row['error_message'])}")
    score = next((s for s in scores if s.name == headline), None)
    if score is None:
        return state
    if score.error is not None:
        return CaseState(state.css, f"! {score.name} not scored{_short(score.error)}")
    if score.passed is None:
        return CaseState(
            state.css, state.text + (f" ({short[2:]})" if (short := _short(score.reason)) else "")
        )
    return CaseState(state.css, f"{'✓' if score.passed else '✕'} {score.name}{_short(score.reason)}")


def _short(reason: str | None) -> str:
    text = one_line(reason)
    if not text:
        return ""
    return f": {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}"


@dataclass(frozen=True, slots=True)
class TrialLink:
    """One trial of the row, as it is flipped through."""

    trial: int
    text: str
    css: str
    url: str


@dataclass(frozen=True, slots=True)
class TrialsView:
    """All trials of the row beside each other."""

    share: str
    """How many passed, of how many."""
    links: Sequence[TrialLink]
    next: str | None
    """The next trial, after the last one the first."""


MOST_TRIALS = 100
"""Trials that are shown; all are counted."""


def trials_view(
    outcomes: Sequence[TrialOutcome], here: int, headline: str | None, link: Callable[[int], str]
) -> TrialsView | None:
    """The trials of a row by the run's headline metric; None where there is only one."""
    if len(outcomes) < 2:
        return None
    judged = [one.passed for one in outcomes if one.passed is not None]
    failed = sum(one.error_type is not None for one in outcomes)
    parts = []
    if judged and headline:
        parts.append(f"{sum(judged)} of {len(outcomes)} trials pass {headline}")
    elif headline and (values := [one.score for one in outcomes if one.score is not None]):
        parts.append(
            f"{headline} from {figure(min(values))} to {figure(max(values))} in {len(outcomes)} trials"
        )
    else:
        parts.append(f"{len(outcomes)} trials")
    if failed:
        parts.append(f"{failed} failed")
    following = (here + 1) % len(outcomes)
    return TrialsView(
        ", ".join(parts),
        [_trial(one, link) for one in outcomes[:MOST_TRIALS]],
        link(outcomes[following].trial),
    )


def _trial(one: TrialOutcome, link: Callable[[int], str]) -> TrialLink:
    if one.pending:
        sign, css = "○", "muted"
    elif one.error_type is not None:
        sign, css = "! ", "warn"
    elif one.passed is not None:
        sign, css = ("✓", "good") if one.passed else ("✕", "bad")
    else:
        sign, css = (figure(one.score), "") if one.score is not None else ("–", "muted")
    return TrialLink(one.trial, f"{one.trial + 1}: {sign}", css, link(one.trial))


def further_scores(scores: Sequence[ScoreView], headline: str | None) -> list[Note]:
    """The other metrics that decide, as notes: those that failed before those that passed."""
    others = [s for s in scores if s.name != headline and (s.passed is not None or s.error is not None)]
    others.sort(key=lambda s: s.error is None and bool(s.passed))
    return [
        Note(f"! {s.name}", "warn")
        if s.error is not None
        else Note(f"{'✓' if s.passed else '✕'} {s.name}", "good" if s.passed else "bad")
        for s in others
    ]


def notes_of(row: Mapping[str, Any]) -> list[Note]:
    """Return what a case cost and how long it took, and what was odd about it: cut, held back, asked
    again."""
    found = []
    finish = row.get("finish_reason")
    if finish and finish.lower() in CUT:
        found.append(
            Note(f"cut at max_tokens ({finish})" if finish != "max_tokens" else "cut at max_tokens", "warn")
        )
    elif finish and finish.lower() in FILTERED:
        found.append(Note(f"held back by a filter ({finish})", "warn"))
    elif finish and finish.lower() not in USUAL:
        found.append(Note(f"finished: {finish}", "warn"))
    if row.get("attempts"):
        n = row["attempts"]
        found.append(Note(f"{n:,} attempt{'s' if n != 1 else ''}", "warn" if n > 1 else ""))
    if row.get("cached"):
        found.append(Note("from the cache"))
    if not row.get("pending"):
        cost = row.get("cost_usd")
        found.append(Note("cost unknown" if cost is None else money(cost)))
    if row.get("latency_ms") is not None:
        found.append(Note(milliseconds(row["latency_ms"])))
    read, written = row.get("prompt_tokens"), row.get("completion_tokens")
    if read is not None or written is not None:
        ends = ["unknown" if n is None else f"{n:,}" for n in (read, written)]
        found.append(Note(f"tokens {ends[0]} read, {ends[1]} written"))
    elif not row.get("pending"):
        found.append(Note("tokens unknown"))
    return found
