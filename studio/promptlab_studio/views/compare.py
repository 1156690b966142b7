"""Two to four runs beside each other, as values: what differs in their configuration, metrics and cases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from promptlab.domain.corrected import CorrectedDifference
from promptlab.domain.experiment import Experiment
from promptlab.queries.compare import MetricComparison, PairRow, Side
from promptlab.queries.compare_sql import ANSWER
from promptlab.queries.compared import Change
from promptlab.queries.query_engine import ComparePage
from promptlab.queries.verdict_words import missing_words, verdict_words, why
from promptlab_studio.views.compare_words import Scale, Words, sentence, tally, words
from promptlab_studio.views.digits import Digits, difference, figure, money
from promptlab_studio.views.format import milliseconds, one_line
from promptlab_studio.views.state import Query
from promptlab_studio.views.text import word_diff

LETTERS = "ABCD"
CHANGES: tuple[tuple[Change, str], ...] = (
    ("all", "All"),
    ("different", "Different"),
    ("regressed", "Regressed"),
    ("improved", "Improved"),
    ("same", "Same"),
)
ANSWER_CHANGES: tuple[tuple[Change, str], ...] = (
    ("all", "All"),
    ("different", "Answer changed"),
    ("same", "Same answer"),
)
"""The changes to choose from where runs share no metric."""
COUNTED = {"calls": "Calls", "turns": "Turns"}
"""What of a case is counted where any case of a page has it, and the name of its column."""
TEXT_CHARS = 300
_MOST_INPUTS = 2
_MOST_SCORES = 3
"""Scores under an answer in the table: the chosen metric's first, then what changed; all are in its title."""
ANY = "*"
"""As the chosen metric: any that is not a mere fact."""
_CHANGED = {"improved": "improved", "regressed": "regressed", "same": "the same", "different": "different"}
_WORDS = {
    "regressed": "regressed",
    "improved": "improved",
    "different": "other label",
    "missing": "scored in one only",
    "same": "same",
}
_SIGNS = {"improved": "▲", "regressed": "▼", "different": "≠", "missing": "?"}


@dataclass(frozen=True, slots=True)
class MetricDelta:
    """One metric of one other run, against the base."""

    mean: str
    said: Words
    """The difference in words."""
    between: str
    counts: Sequence[tuple[str, str, int, str, bool]]
    """Change, in words, cases, address, whether it is chosen."""
    why: str
    """What the verdict is, how many rows it is over and what it rests on."""
    corrected: str
    """What labels of people make of the difference; empty where there are none."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One run's interval in the picture of a metric, on a rail of 100 whose middle is no difference."""

    y: float
    low: float
    width: float
    at: float
    css: str


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of all runs."""

    metric: str
    better: str
    chosen: bool
    """Whether the changes of the page are of this metric."""
    url: str
    """The page with the changes of this metric."""
    base: str
    """The base's mean over the rows that it shares with each other run: from the least to the greatest."""
    cells: Sequence[MetricDelta | None]
    """Per other run; None where it does not have the metric."""
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What the page says of one other run in a line."""

    said: Words
    rest: str
    """The verdicts of the other metrics, counted."""


@dataclass(frozen=True, slots=True)
class Half:
    """One run's answer in a row."""

    text: Markup
    failed: bool
    scores: Sequence[tuple[str, str]]
    """In words and css: what became worse, what better, what differs otherwise, and the rest."""
    said: str
    """All of the scores, the latency and the cost, as text."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A case in every run."""

    id: str
    anchor: str
    url: str
    inputs: str
    halves: Sequence[Half]
    counts: Sequence[str]
    """Of each of COUNTED that is shown, how many each run has: `2 / 3`."""


def configuration(experiments: Sequence[Experiment]) -> list[tuple[str, list[str]]]:
    """List the settings that differ between the experiments, one row each."""
    flat = [_settings(e) for e in experiments]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [(name, [settings.get(name, "–") for settings in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _settings(experiment: Experiment) -> dict[str, str]:
    prompt, dataset = experiment.prompt_template, experiment.dataset
    found = {
        "prompt": f"{prompt.name}@{prompt.version}" if prompt else "an agent",
        "dataset": f"{dataset.name}@{dataset.version}",
    }
    found |= {f"model {key}": one_line(value) for key, value in experiment.model.public().items()}
    found["trials"] = str(experiment.trials)
    for metric in experiment.evaluation:
        found[f"metric {metric.name}"] = one_line(
            {"inputs": metric.column_mapping, **({"params": metric.params} if metric.params else {})}
        )
    return found


MARK = 8
"""Pixels of a run's interval in the picture of a metric."""


def metric_rows(
    query: Query,
    page: ComparePage,
    others: int,
    chosen: str,
    bounds: Mapping[str, tuple[float, float] | None],
) -> list[MetricRow]:
    """The metrics as rows and the runs as columns; what the page's changes are of stands first.

    Args:
        query: the page's address.
        page: the comparison.
        others: the number of other runs.
        chosen: the metric that changes are of; empty for any.
        bounds: the range of each metric's values, where it has one.
    """
    names = sorted(dict.fromkeys(m.metric for m in page.metrics), key=lambda name: name != chosen)
    rows = []
    for name in names:
        found = [m for m in page.metrics if m.metric == name]
        rows.append(
            _metric_row(
                query, found, others, name == chosen, Scale.of([m.judgement for m in found], bounds.get(name))
            )
        )
    return rows


def run_verdicts(
    page: ComparePage, others: int, chosen: str | None, bounds: Mapping[str, tuple[float, float] | None]
) -> list[RunVerdict]:
    """Per other run: the verdict of the metric that the page is about, and the tally of all others."""
    made = []
    for other in range(others):
        found = [m for m in page.metrics if m.other == other]
        of = next((m for m in found if m.metric == chosen), None)
        said = sentence(of, Scale.of([of.judgement], bounds.get(of.metric))) if of else Words("", "", "muted")
        made.append(RunVerdict(said, tally(found, chosen if of else None)))
    return made


def _metric_row(
    query: Query, found: Sequence[MetricComparison], others: int, chosen: bool, scale: Scale
) -> MetricRow:
    ends = [v for m in found for v in (m.low, m.high, m.difference) if v is not None]
    span = (max(map(abs, ends), default=0.0) or 1.0) * 1.1  # one scale for a metric, with room on both sides
    digits = Digits.of([*(v for m in found for v in (m.base_mean, m.other_mean)), *ends])
    first, by_run = found[0], {m.other: m for m in found}
    better = "higher is better" if first.higher_is_better else "lower is better"
    return MetricRow(
        first.metric,
        "a fact, no verdict" if first.fact else better,
        chosen,
        query.url(metric=first.metric),
        _base(found, digits),
        [_delta(query, by_run[n], digits, scale) if n in by_run else None for n in range(others)],
        [_mark(by_run[n], span, scale) for n in range(others) if n in by_run and by_run[n].low is not None],
    )


def _mark(m: MetricComparison, span: float, scale: Scale) -> Mark:
    def at(value: float | None) -> float:
        return round(50 + 50 * (value or 0.0) / span, 1)

    css = words(m, scale).css
    return Mark(MARK * m.other, at(m.low), max(round(at(m.high) - at(m.low), 1), 1.5), at(m.difference), css)


def _base(found: Sequence[MetricComparison], digits: Digits) -> str:
    means = sorted(m.base_mean for m in found if m.base_mean is not None)
    ends = dict.fromkeys(digits.show(mean) for mean in (means[:1] + means[-1:]))
    return "–".join(ends) or "–"


def _delta(query: Query, m: MetricComparison, digits: Digits, scale: Scale) -> MetricDelta:
    verdict = verdict_words(m) or "a fact, no verdict"
    return MetricDelta(
        digits.show(m.other_mean),
        words(m, scale),
        scale.between(m.low, m.high),
        _counts(query, m),
        " ".join(filter(None, (f"{verdict}; over {m.n:,} rows.", why(m), missing_words(m)))),
        _corrected(m.corrected, digits),
    )


def _corrected(found: CorrectedDifference | None, digits: Digits) -> str:
    if found is None:
        return ""
    ends = f"{digits.signed(found.ci_low)} to {digits.signed(found.ci_high)}"
    said = (
        f"by {found.labels:,} labels of people: {digits.signed(found.difference)} ({ends}), {found.verdict}"
    )
    return f"{said}; {found.caveat}" if found.caveat else said


def _counts(query: Query, m: MetricComparison) -> list[tuple[str, str, int, str, bool]]:
    counted = [("improved", "▲", m.improved), ("regressed", "▼", m.regressed)]
    # Facts and labels are neither better nor worse.
    if m.fact or (m.different and not m.improved + m.regressed):
        counted = [("different", "≠", m.different)]
    here = (query.get("change"), query.get("metric"), query.get("other"))
    return [
        (
            _CHANGED[change],
            sign,
            n,
            query.url(change=change, metric=m.metric, other=m.other),
            here == (change, m.metric, str(m.other)),
        )
        for change, sign, n in counted
    ]


def chosen_metric(query: Query, experiments: Sequence[Experiment]) -> str | None:
    """The metric that changes are of: as the address says, else the headline of the base; None for any."""
    asked = query.get("metric")
    if asked:
        return None if asked == ANY else asked
    shared = {m.name for e in experiments[1:] for m in e.evaluation}
    base = experiments[0]
    of_base = base.model_copy(update={"evaluation": tuple(m for m in base.evaluation if m.name in shared)})
    return of_base.headline.name if of_base.headline else None


def pair_of(
    query: Query, row: PairRow, facts: Collection[str], chosen: str | None, counted: Sequence[str] = ()
) -> Pair:
    """A row of the table: the case in every run, and where it is opened inside the comparison."""
    inputs = " · ".join(
        f"{one_line(value)}"
        for value in list(row.inputs.values())[:_MOST_INPUTS]
        if value is not None and one_line(value) != row.id
    )
    halves = [_half(row.base, None, {}, facts, chosen)]
    halves += [
        _half(side, row.base, deltas, facts, chosen)
        for side, deltas in zip(row.others, row.deltas, strict=True)
    ]
    key = f"{row.case}" + (f".{row.trial}" if row.trial else "")
    return Pair(
        row.id + (f" · {row.trial + 1}" if row.trial else ""),
        f"p{row.case}-{row.trial}",
        query.url(case=key),
        inputs,
        halves,
        [" / ".join(str(getattr(side, name)) for side in (row.base, *row.others)) for name in counted],
    )


def counted_on(rows: Sequence[PairRow]) -> list[str]:
    """Name what is counted of the cases of a page: of COUNTED that which any of them has."""
    sides = [side for row in rows for side in (row.base, *row.others)]
    return [name for name in COUNTED if any(getattr(side, name) for side in sides)]


def _half(
    side: Side,
    base: Side | None,
    deltas: Mapping[str, Any],
    facts: Collection[str],
    chosen: str | None,
) -> Half:
    if side.error_type:
        text = escape(f"✕ {side.error_type}: {side.error_message or ''}")
    elif base is None or base.error_type:
        text = escape(side.response or "")
    else:
        text = word_diff(base.response or "", side.response or "")[1]
    scores = _scores(side, deltas, facts, chosen)
    facts = [milliseconds(side.latency_ms)] * (side.latency_ms is not None) + [money(side.cost_usd)] * bool(
        side.cost_usd
    )
    said = " · ".join([*(text for text, _ in scores), *facts])
    return Half(
        text + ("…" if side.cut else ""),
        bool(side.error_type),
        scores[:_MOST_SCORES],
        said,
    )


def _scores(
    side: Side, deltas: Mapping[str, Any], facts: Collection[str], chosen: str | None
) -> list[tuple[str, str]]:
    """The scores in words; only the metric that the page is about has a colour, where it is about one."""
    answer = deltas.get(ANSWER)
    found = [("≠ answer changed", "warn")] if answer and answer.verdict == "different" else []
    css = {"regressed": "bad", "improved": "good", "different": "warn", "missing": "warn"}
    changed = {n for n, d in deltas.items() if d.verdict != "same" and n not in facts}
    for name in sorted(side.scores, key=lambda one: (one != chosen, one not in changed)):
        delta = deltas.get(name)
        verdict = delta.verdict if delta and name not in facts else "same"
        coloured = name == chosen or (chosen is None and verdict != "same")
        word = f"{_SIGNS[verdict]} {_WORDS[verdict]}: " if verdict != "same" else ""
        said = word if coloured else word[:2]
        found.append(
            (
                said + _score_text(name, side.scores[name], delta),
                css.get(verdict, "muted") if coloured else "muted",
            )
        )
    return found


def _score_text(name: str, score: Mapping[str, Any], delta: Any) -> str:
    passed, value, label = score.get("passed"), score.get("score"), score.get("label")
    shown = (
        "✓ pass"
        if passed
        else "✕ fail"
        if passed is not None
        else one_line(label)
        if label is not None
        else figure(value)
    )
    by = f" ({difference(delta.difference, value)})" if delta and delta.difference and passed is None else ""
    return f"{name} {shown}{by}"
