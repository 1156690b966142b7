"""What a run that may end early says of itself: how far it is, what was decided, and what that saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.results import DONE, RunRecord
from promptlab.domain.stopping import StopRule
from promptlab.domain.summary import Summary

MEANING = (
    "Its means, intervals and comparisons are of the cases that were done, a random part of the set; a run "
    "that stops once a difference is clear shows it somewhat larger than it is."
)
"""What the numbers of a run that ended early mean."""


def stop_json(run: RunRecord) -> dict[str, Any] | None:
    """Give the rule of a run that may end early, as people and programs are told it; None without one."""
    if run.stop is None:
        return None
    rule = StopRule.from_json(run.stop).to_json()
    return {"against": rule.pop("base"), **rule}


def decided_json(run: RunRecord, summary: Summary | None) -> dict[str, Any] | None:
    """Give what was decided before all cases were done, with what that saved; None while nothing is.

    Args:
        run: the run.
        summary: its cases, once they are summed up.
    """
    if run.decided is None or run.stop is None:
        return None
    rule, found = StopRule.from_json(run.stop), run.decided
    went_on = bool(found.get("went_on"))
    done = summary.cases if summary is not None else None
    saved = 0 if went_on else None if done is None else run.cases - done
    return {
        "verdict": found["verdict"],
        "by": found["by"],
        "rows": found["n"],
        "of_rows": found["total"],
        "missing": found.get("missing", 0),
        "against": rule.base,
        "label": rule.label,
        "metric": rule.metric,
        "margin": rule.margin,
        **{name: found.get(name) for name in ("estimate", "low", "high", "z", "boundary", "e")},
        "went_on": went_on,
        "cases_done": done,
        "cases_saved": saved,
        "usd_saved": _usd(summary, saved),
    }


def _usd(summary: Summary | None, saved: int | None) -> float | None:
    """Dollars that the cases which were left out would have cost, at the mean of those that were done."""
    if summary is None or saved is None or summary.cost_usd is None or not summary.cases:
        return None
    judged = summary.metrics_usage.cost_usd if summary.metrics_usage.calls else 0.0
    paid = summary.cases - summary.cached
    if judged is None or paid < 1:
        return None
    return (summary.cost_usd + judged) / paid * saved


def stop_words(run: RunRecord) -> str | None:
    """Say when a run that goes on ends: `ends once it is known whether it is better or worse than …`."""
    if run.stop is None or run.decided is not None:
        return None
    rule = StopRule.from_json(run.stop)
    same = f", or the same within {rule.margin:g}" if rule.margin is not None else ""
    reach = f" Up to now {run.reach['rows']:,} rows of a random order may be done." if run.reach else ""
    return (
        f"Ends once it is known whether it is better or worse than {_base(rule)} by {rule.metric}{same}, at "
        f"{rule.looks} looks." + reach
    )


def fields_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of a run's record back from what `stop_json` and `decided_json` gave."""
    stop, decided = answer.get("stop"), answer.get("decided")
    if stop is None:
        return {}
    names = ("verdict", "by", "missing", "estimate", "low", "high", "z", "boundary", "e", "went_on")
    found = decided and {
        "n": decided["rows"],
        "total": decided["of_rows"],
        **{name: decided.get(name) for name in names},
    }
    return {"stop": {**stop, "base": stop["against"]}, "decided": found}


def decided_words(facts: Mapping[str, Any] | None) -> list[str]:
    """Say what was decided, what was saved, and what the numbers of the run mean.

    Args:
        facts: what `decided_json` gives.
    """
    if facts is None:
        return []
    against = (facts["label"] and f"{facts['label']} (run {facts['against']})") or f"run {facts['against']}"
    same = facts["verdict"].startswith("the same")
    verdict = f"the same within {facts['margin']:g} as" if same else f"{facts['verdict']} than"
    lines = [
        f"{verdict[0].upper()}{verdict[1:]} {against} by {facts['metric']}: known after {facts['rows']:,} of "
        f"{facts['of_rows']:,} rows ({_why(facts)})."
    ]
    if facts["went_on"]:
        return [*lines, "The other cases were done all the same: its numbers are of all of them."]
    if facts["cases_saved"] is not None:
        usd = facts["usd_saved"]
        money = f", about {_dollars(usd)}" if usd else ""
        saved = f"{_calls(facts['cases_saved'])} saved{money}"
        lines += [f"Stopped early: {facts['cases_done']:,} cases were done, {saved}.", MEANING]
    return lines


def early_words(run: RunRecord, summary: Summary | None) -> list[str]:
    """Say of a run that may end early when it does, or what was decided; nothing of any other."""
    said = decided_words(decided_json(run, summary if run.summary else None))
    return said or [words for words in (stop_words(run),) if words]


def unfinished_notes(runs: Sequence[RunRecord], done: Sequence[int]) -> tuple[str, ...]:
    """Say what numbers of runs mean of which some were stopped, not by their rule.

    Args:
        runs: the runs.
        done: how many cases of each the numbers are of.
    """
    return tuple(
        f"Run {run.run_id} is {run.status.replace('_', ' ')}: {cases:,} of {run.cases:,} cases are done, and "
        "what stands here is of those, which nobody drew by chance. Resume it for the others."
        for run, cases in zip(runs, done, strict=True)
        if cases < run.cases and run.status not in DONE
    )


def comparison_notes(runs: Sequence[RunRecord], done: Sequence[int]) -> tuple[str, ...]:
    """Say what a comparison of runs means of which some ended early.

    Args:
        runs: the runs.
        done: how many cases of each are compared.
    """
    found = list(unfinished_notes(runs, done))
    for run in runs:
        if run.status != "decided" or run.summary is None:
            continue
        facts = decided_json(run, Summary.from_json(run.summary))
        first, *_ = decided_words(facts) or [""]
        found.append(
            f"Run {run.run_id} was stopped early, after {run.summary['cases']:,} of {run.cases:,} cases: "
            f"{first} That verdict is its rule's. What stands here is of the cases that were done, judged as "
            "if nobody had looked before: where it stopped for a large difference, the difference is "
            "somewhat smaller, and the interval too narrow. Resume the run for all cases."
        )
    return tuple(found)


def _why(facts: Mapping[str, Any]) -> str:
    gained = f"difference {facts['estimate']:+.3g}"
    if facts["by"] == "e-process":
        return f"{gained}; e-process {facts['e']:.3g}, 100 decides"
    if facts["verdict"].startswith("the same"):
        return f"{gained}, {facts['low']:+.3g} to {facts['high']:+.3g}"
    return f"{gained}; z {facts['z']:.2f}, {facts['boundary']:.2f} decides at this look"


def _calls(saved: int) -> str:
    return "1 case was" if saved == 1 else f"{saved:,} cases were"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.2g}"


def _base(rule: StopRule) -> str:
    return f"{rule.label} (run {rule.base})" if rule.label else f"run {rule.base}"
