"""From what was measured to the outcome of a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptlab.gates.conditions import parse_condition
from promptlab.gates.config import Check, Gates
from promptlab.gates.outcome import CheckOutcome
from promptlab.statistics import Judgement, PairedData, judge, judge_with, verdict_of_score
from promptlab.statistics.intervals import Interval, numbers_interval, wilson, wilson_t

PASSING = ("better", "the same within δ", "not worse by more than δ")
"""The only verdicts that a comparison passes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMetric:
    """One metric of the run over all rows, or over those of one slice; without the quarantined ones."""

    metric: str
    slice: str | None = None
    """`column=value`; None of all rows."""
    n: int
    """Rows with a value."""
    missing: int = 0
    """Rows without one."""
    mean: float | None = None
    deviation: float = 0.0
    """Of n − 1 degrees of freedom."""
    skewness: float = 0.0
    """g₁ of the values."""
    share: bool = False
    """Whether every value is 0 or 1, of one trial."""
    bounds: tuple[float, float] | None = None
    paired: PairedData | None = None
    """Against the baseline; None without one, or where it lacks the metric or the slice."""
    not_comparable: str | None = None
    """Why the two runs' values are not of the same metric."""

    @property
    def interval(self) -> Interval | None:
        """The 95% interval of the mean; None where there is too little for one."""
        if self.mean is None or self.n < (1 if self.share else 2):
            return None
        if self.share:
            return wilson(round(self.mean * self.n), self.n)
        stderr = self.deviation / self.n**0.5
        if self.bounds is not None:
            return wilson_t(self.mean, stderr, self.n, bounds=self.bounds)
        return numbers_interval(self.mean, stderr, self.n, self.skewness)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedScore:
    """One score of the run as a whole, or over the rows of a slice, and its difference to the baseline's."""

    metric: str
    slice: str | None = None
    """`column=value`; None of all rows."""
    rows: int
    """Rows that count."""
    value: float | None = None
    interval: Interval | None = None
    error: str | None = None
    """Why there is no value."""
    compared: bool = False
    """Whether the baseline has it."""
    difference: float | None = None
    """This run's minus the baseline's."""
    ends: Interval | None = None
    """The 95% interval of the difference."""
    p: float | None = None
    """Two-sided, of no difference; None without an interval."""
    higher_is_better: bool = True
    not_comparable: str | None = None
    """Why the two runs' values are not of the same metric."""
    why: str | None = None
    """Why the difference has no interval."""
    with_quarantined: bool = False
    """Whether rows in quarantine count in it."""
    unsliced: str | None = None
    """Why it is known over all rows alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInputs:
    """What the checks of a gate look at."""

    metrics: Sequence[GatedMetric] = ()
    """Metrics of cases, over all rows and by slice."""
    scores: Sequence[GatedScore] = ()
    """Scores of the run as a whole, over all rows and by slice."""
    quarantined: tuple[str, ...] = ()
    """Ids of the rows that are left out."""


def judged(
    gates: Gates,
    measured: GateInputs,
    facts: Mapping[str, Any],
    base_facts: Mapping[str, Any] | None = None,
) -> list[CheckOutcome]:
    """Judge every check.

    Metrics, and scores of the run as a whole, that may not be worse are judged together, by Holm's
    adjustment, as in a comparison. Slices that must all hold need none (intersection–union), and neither does
    non-inferiority.

    Args:
        gates: the checks.
        measured: what checks of metrics look at.
        facts: the run's numbers (`facts_of`).
        base_facts: the baseline's; None without one.
    """
    family = _family(gates, measured)
    scores = {one.metric for one in measured.scores}
    found: list[CheckOutcome] = []
    for check in gates.checks:
        if check.kind == "condition":
            found.append(_condition(check, facts))
        elif check.kind == "number":
            found.append(_number(check, facts, base_facts))
        elif check.metric in scores:
            found += _of_run(check, measured.scores, family.scores)
        else:
            found += _of_metric(check, measured.metrics, family.metrics)
    return found


@dataclass(frozen=True, slots=True)
class _Family:
    """What may not be worse, judged together: by metric and margin, and by score the adjusted p."""

    metrics: Mapping[tuple[str, float | None], Judgement]
    scores: Mapping[str, float]


def _family(gates: Gates, measured: GateInputs) -> _Family:
    """Judge what may not be worse together, each metric with its margin."""
    wanted: dict[tuple[str, float | None], PairedData] = {}
    p_of: dict[str, float] = {}
    whole = {one.metric: one for one in measured.metrics if one.slice is None}
    scores = {one.metric: one for one in measured.scores if one.slice is None}
    for check in gates.checks:
        if check.kind != "no_regression" or check.slices:
            continue
        one, score = whole.get(check.metric or ""), scores.get(check.metric or "")
        if score is not None and score.p is not None and score.not_comparable is None:
            p_of[score.metric] = score.p
        elif one is not None and (paired := one.paired) is not None and not one.not_comparable:
            wanted |= (
                {} if paired.fact else {(one.metric, check.margin): replace(paired, margin=check.margin)}
            )
    found, adjusted = judge_with(list(wanted.values()), list(p_of.values()))
    return _Family(dict(zip(wanted, found, strict=True)), dict(zip(p_of, adjusted, strict=True)))


def _of_metric(
    check: Check, measured: Sequence[GatedMetric], family: Mapping[tuple[str, float | None], Judgement]
) -> list[CheckOutcome]:
    mine = [one for one in measured if one.metric == check.metric]
    if check.slices:
        chosen = [one for one in mine if one.slice and one.slice.partition("=")[0] in check.slices]
    else:
        chosen = [one for one in mine if one.slice is None]
    if not chosen:
        said = f"the run has no values of {check.metric}" + (" in any slice" if check.slices else "")
        return [_outcome(check, None, "undecided", said)]
    found = []
    for one in chosen:
        if one.slice is not None and one.n < check.min_rows:
            said = f"{one.n:,} rows, and {check.min_rows:,} are wanted of a slice"
            found.append(_outcome(check, one, "left out", said))
        elif check.kind == "bound":
            found.append(_bound(check, one))
        else:
            found.append(_compared(check, one, family))
    return found


def _bound(check: Check, one: GatedMetric) -> CheckOutcome:
    if one.interval is None or one.mean is None:
        return _outcome(check, one, "undecided", f"{one.n:,} rows are too few for an interval")
    outcome, said = _within(check, "mean", one.mean, one.interval)
    if one.missing:
        said += f"; {one.missing:,} rows have no value"
    low, high = one.interval
    return _outcome(check, one, outcome, said, value=one.mean, low=low, high=high)


def _within(check: Check, what: str, value: float, interval: Interval) -> tuple[str, str]:
    """Hold an interval against a check's bounds: the outcome, and why in words."""
    low, high = interval
    least = float("-inf") if check.min is None else check.min
    most = float("inf") if check.max is None else check.max
    wanted = " and ".join(
        f"{sign} {bound:g}" for sign, bound in (("≥", check.min), ("≤", check.max)) if bound is not None
    )
    said = f"{what} {value:.4g}, 95% interval {low:.4g} … {high:.4g}, must be {wanted}"
    if least <= low and high <= most:
        return "passed", said
    if high < least or low > most:
        return "failed", said
    return "undecided", f"{said}: the interval holds the bound, so that more rows are needed"


def _of_run(check: Check, scores: Sequence[GatedScore], adjusted: Mapping[str, float]) -> list[CheckOutcome]:
    """Judge a score of the run as a whole, or each of its slices."""
    mine = [one for one in scores if one.metric == check.metric]
    whole = next((one for one in mine if one.slice is None), None)
    if not check.slices:
        return [_of_score(check, whole, adjusted)] if whole else []
    chosen = [one for one in mine if one.slice and one.slice.partition("=")[0] in check.slices]
    if not chosen:
        why = (whole and whole.unsliced) or "the run has no rows of it"
        return [_outcome(check, None, "undecided", f"it has no slices: {why}")]
    found = []
    for one in chosen:
        if one.rows < check.min_rows:
            said = f"{one.rows:,} rows, and {check.min_rows:,} are wanted of a slice"
            found.append(_outcome(check, one, "left out", said))
        else:
            found.append(_of_score(check, one, {}))
    return found


def _of_score(check: Check, one: GatedScore, adjusted: Mapping[str, float]) -> CheckOutcome:
    known: dict[str, Any] = {"value": one.value}
    if check.kind != "bound":
        p = one.p
        if check.kind == "no_regression" and one.slice is None and one.metric in adjusted:
            p = adjusted[one.metric]
        outcome, verdict, said = _run_verdict(check, one, p)
        known |= {"value": one.difference, "verdict": verdict, "p": p}
        known |= {"low": one.ends.low, "high": one.ends.high} if one.ends else {}
    elif one.value is None:
        outcome, said = "undecided", f"the run has no value of it: {one.error or 'it is not defined'}"
    elif one.interval is None:
        by_sums = one.slice and not one.unsliced
        remedy = "more rows are needed" if by_sums else "use require, or give the metric resamples"
        outcome, said = "undecided", f"value {one.value:.4g} has no interval: {remedy}"
    else:
        outcome, said = _within(check, "value", one.value, one.interval)
        known |= {"low": one.interval.low, "high": one.interval.high}
    if one.with_quarantined:
        said += f"; rows in quarantine count in it: {one.unsliced or 'it is of the whole run'}"
    return _outcome(check, one, outcome, said, **known)


def _run_verdict(check: Check, one: GatedScore, p: float | None) -> tuple[str, str | None, str]:
    """The outcome, the verdict and the reason of a score against the baseline's: better or worse by the p,
    else the same where the interval of its difference lies within the margin."""
    if one.not_comparable:
        return "undecided", None, f"the runs' values are not of the same metric: {one.not_comparable}"
    if not one.compared or one.difference is None or one.ends is None or p is None:
        why = one.why if one.compared else "the baseline has no value of it"
        return "undecided", None, why or "it has no value in both runs"
    margin = check.margin
    found = verdict_of_score(one.ends.low, one.ends.high, p, margin, one.higher_is_better)
    verdict = found.replace("δ", f"{margin:.3g}" if margin else "δ")
    said = f"{verdict}; difference {one.difference:+.4g} ({one.ends.low:+.4g} … {one.ends.high:+.4g})"
    said += f"; {_p(p)}"
    if verdict == "no evidence of a difference":
        remedy = "without a margin only better passes: give one" if margin is None else "more rows are needed"
        return "undecided", verdict, f"{said}; {remedy}"
    return "failed" if verdict == "worse" else "passed", verdict, said


def _p(p: float) -> str:
    return f"p {p:.4f}" if p >= 0.0001 else "p < .0001"


def _compared(
    check: Check, one: GatedMetric, family: Mapping[tuple[str, float | None], Judgement]
) -> CheckOutcome:
    if one.not_comparable:
        said = f"the runs' values are not of the same metric: {one.not_comparable}"
        return _outcome(check, one, "undecided", said)
    if one.paired is None:
        return _outcome(check, one, "undecided", "the baseline has no values of it")
    if one.paired.fact:
        said = "it only measures, and neither run is better by it: give it a bound"
        return _outcome(check, one, "undecided", said)
    found = family.get((one.metric, check.margin)) if one.slice is None else None
    if found is None or check.kind == "non_inferior":
        (found,) = judge([replace(one.paired, margin=check.margin)])
    verdict = found.verdict
    outcome = "passed" if verdict in PASSING else "failed" if verdict == "worse" else "undecided"
    words = (verdict or "").replace("δ", f"{found.margin:.3g}" if found.margin else "δ")
    return _outcome(
        check,
        one,
        outcome,
        _why(words, found),
        verdict=words,
        n=found.n,
        value=found.difference,
        low=found.ci_low,
        high=found.ci_high,
        p=found.p_adjusted,
    )


def _why(words: str, found: Judgement) -> str:
    parts = [words]
    if found.difference is not None and found.ci_low is not None and found.ci_high is not None:
        parts.append(f"difference {found.difference:+.4g} ({found.ci_low:+.4g} … {found.ci_high:+.4g})")
    if found.p_adjusted is not None:
        parts.append(_p(found.p_adjusted))
    parts.append(f"{found.wins:,} rows won, {found.losses:,} lost, {found.ties:,} tied")
    if found.missing_base or found.missing_other:
        parts.append(f"without a score: {found.missing_base:,} of the baseline, {found.missing_other:,} here")
    if found.rows_needed and found.rows_needed > found.n and found.verdict in _MORE_ROWS:
        parts.append(f"{found.rows_needed:,} rows are needed")
    if found.margin is None and found.verdict == "no evidence of a difference":
        parts.append("without a margin only better passes: give one")
    return "; ".join(parts)


_MORE_ROWS = ("too few cases", "no evidence of a difference")


def _condition(check: Check, facts: Mapping[str, Any]) -> CheckOutcome:
    text = check.require or check.fail_if or ""
    metrics = facts["metrics"]
    condition = parse_condition(text, metrics, [name.rpartition(".")[0] for name in metrics], "gates")
    unknown = [one.name for group in condition.groups for one in group if one.value(facts) is None]
    numbers = dict.fromkeys(
        f"{one.name} is {one.value(facts):.6g}"
        for group in condition.groups
        for one in group
        if one.value(facts) is not None
    )
    holds = condition.holds(facts)
    if holds is None:
        return _outcome(check, None, "undecided", f"unknown: {', '.join(dict.fromkeys(unknown))}")
    passed = holds if check.require is not None else not holds
    return _outcome(check, None, "passed" if passed else "failed", "; ".join(numbers))


def _number(check: Check, facts: Mapping[str, Any], base_facts: Mapping[str, Any] | None) -> CheckOutcome:
    name = check.number or ""
    value = facts.get(name)
    if value is None:
        return _outcome(check, None, "undecided", f"{name} is unknown")
    wanted: list[tuple[str, float, bool]] = []
    if check.min is not None:
        wanted.append((f"≥ {check.min:g}", check.min, value >= check.min))
    if check.max is not None:
        wanted.append((f"≤ {check.max:g}", check.max, value <= check.max))
    if check.max_ratio is not None:
        base = (base_facts or {}).get(name)
        if base is None:
            return _outcome(check, None, "undecided", f"{name} is unknown of the baseline")
        most = base * check.max_ratio
        wanted.append((f"≤ {check.max_ratio:g} × the baseline's {base:.6g}", most, value <= most))
    said = f"{name} is {value:.6g}, must be {' and '.join(words for words, _, _ in wanted)}"
    return _outcome(
        check, None, "passed" if all(ok for *_, ok in wanted) else "failed", said, value=float(value)
    )


def _outcome(
    check: Check, one: GatedMetric | GatedScore | None, outcome: Any, said: str, **numbers: Any
) -> CheckOutcome:
    n = one.n if isinstance(one, GatedMetric) else one.rows if one else None
    return CheckOutcome(
        check=check.title,
        kind=check.kind,
        outcome=outcome,
        said=said,
        metric=check.metric,
        slice=one.slice if one else None,
        **{"n": n, **numbers},
    )
