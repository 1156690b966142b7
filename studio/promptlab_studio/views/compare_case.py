"""A case that is opened inside a comparison: every run's answer, whole, and the scores with their reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.queries.compare import Delta, OpenedPair
from promptlab_studio.views.case import CaseState, ScoreView, score_view
from promptlab_studio.views.case_verdict import Note, notes_of, strip_state
from promptlab_studio.views.cases import case_path, expected_columns, measured_metrics
from promptlab_studio.views.digits import difference
from promptlab_studio.views.format import exact
from promptlab_studio.views.room import Beginning, Room
from promptlab_studio.views.state import Query
from promptlab_studio.views.text import word_diff

_MOST = 40_000
"""Characters of one answer."""
_REASON = 2_000
_CHANGED = {
    "improved": ("▲ improved", "good"),
    "regressed": ("▼ regressed", "bad"),
    "different": ("≠ other", "warn"),
    "missing": ("? in one only", "warn"),
}


@dataclass(frozen=True, slots=True)
class OpenedHalf:
    """One run's answer."""

    url: str
    """The case's page in the run."""
    state: CaseState
    notes: Sequence[Note]
    text: Markup
    begins: Beginning
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScoreAcross:
    """One metric in one run."""

    said: str
    css: str
    changed: str
    changed_css: str
    judged: str
    reason: Beginning


@dataclass(frozen=True, slots=True)
class MetricAcross:
    """One metric in every run."""

    name: str
    chosen: bool
    scores: Sequence[ScoreAcross | None]
    """None in a run that does not have it."""


@dataclass(frozen=True, slots=True)
class OpenedCase:
    """What the page shows of a case in every run."""

    id: str
    trial: int
    inputs: Sequence[tuple[str, Beginning]]
    """The columns that the prompts ask for; all, where these are unknown."""
    more: Sequence[tuple[str, Beginning]]
    """All other columns."""
    expected: Sequence[tuple[str, Beginning]]
    halves: Sequence[OpenedHalf]
    metrics: Sequence[MetricAcross]
    position: int | None
    previous: str | None
    next: str | None
    up: str
    """The page of the comparison that the case is on."""


def opened_case(
    query: Query,
    runs: Sequence[RunRecord],
    experiments: Sequence[Experiment],
    columns: Sequence[Any],
    pair: OpenedPair,
    *,
    chosen: str | None,
    facts: Collection[str],
    asked: Collection[str],
    size: int,
) -> OpenedCase:
    """Make the page of one pair.

    Args:
        query: the page's address, with the case.
        runs: the base, then the others.
        experiments: what ran, of each.
        columns: the columns of each run's results.
        pair: the case in every run.
        chosen: the metric that the comparison is about; None for any.
        facts: metrics without a verdict.
        asked: the dataset columns that the prompts ask for.
        size: rows of a page of the comparison.
    """
    room, base = Room(), pair.found.rows[0]

    def begun(n: int, of: str, most: int = _MOST) -> Beginning:
        """The beginning of a value of one run's row, and where the whole is."""
        row = pair.found.rows[n]
        path = case_path(runs[n].run_id, row["case"], row["trial"])
        return room.take(exact(row.get(of)), f"{path}/text?{urlencode({'of': of})}", most)

    answers = [begun(n, "response") for n in range(len(runs))]
    scores = [
        {
            metric: score_view(metric, name, row, name in measured_metrics(run, shape), experiment)
            for metric, name in shape.scores
        }
        for run, shape, row, experiment in zip(runs, columns, pair.found.rows, experiments, strict=True)
    ]
    expected = expected_columns(experiments[0])
    values = [
        (source, begun(0, name, 20_000))
        for source, name, _ in columns[0].inputs
        if base.get(name) is not None
    ]
    shown = [v for v in values if v[0] in asked and v[0] not in expected] or [
        v for v in values if v[0] not in expected and v[0] != "id"
    ][:1]
    beside = {name for name, _ in shown} | set(expected)
    return OpenedCase(
        id=base["id"],
        trial=base["trial"],
        inputs=shown,
        more=[v for v in values if v[0] not in beside],
        expected=[v for v in values if v[0] in expected],
        halves=[
            _half(runs[n], experiments[n], pair.found.rows[n], [*scores[n].values()], answers, n)
            for n in range(len(runs))
        ],
        metrics=_metrics(pair.deltas, scores, columns, chosen, facts, begun),
        position=pair.found.position,
        previous=_link(query, pair.found.previous),
        next=_link(query, pair.found.next),
        up=query.url(
            case=None,
            page=(pair.found.position or 0) // size + 1 if (pair.found.position or 0) >= size else None,
        )
        + f"#p{base['case']}-{base['trial']}",
    )


def _link(query: Query, key: CaseKey | None) -> str | None:
    return None if key is None else query.url(case=f"{key.case}" + (f".{key.trial}" if key.trial else ""))


def _half(
    run: RunRecord,
    experiment: Experiment,
    row: Mapping[str, Any],
    scores: Sequence[ScoreView],
    answers: Sequence[Beginning],
    n: int,
) -> OpenedHalf:
    row = {"pending": None, **row}
    headline = experiment.headline.name if experiment.headline else None
    return OpenedHalf(
        case_path(run.run_id, row["case"], row["trial"]),
        strip_state(row, scores, headline),
        notes_of(row),
        _text(answers, n),
        answers[n],
        row,
    )


def _text(answers: Sequence[Beginning], n: int) -> Markup:
    """An answer with what differs from the base's; the base's shows what is gone where there is one other."""
    here, base = answers[n].text, answers[0].text
    if n:
        return word_diff(base, here)[1] if base and here else escape(here)
    return word_diff(base, answers[1].text)[0] if len(answers) == 2 and answers[1].text else escape(base)


def _metrics(
    deltas: Sequence[Mapping[str, Delta]],
    scores: Sequence[Mapping[str, ScoreView]],
    columns: Sequence[Any],
    chosen: str | None,
    facts: Collection[str],
    begun: Any,
) -> list[MetricAcross]:
    """Return what the comparison is about first, then what changed, then the rest, facts last."""
    names = list(dict.fromkeys(name for of_run in scores for name in of_run))
    changed = {name for of_run in deltas for name, d in of_run.items() if d.verdict != "same"} - set(facts)
    names.sort(key=lambda name: (name != chosen, name in facts, name not in changed))
    return [
        MetricAcross(
            name,
            name == chosen,
            [
                None
                if name not in of_run
                else _score_across(
                    of_run[name], deltas[n - 1].get(name) if n else None, name in facts, begun, n
                )
                for n, of_run in enumerate(scores)
            ],
        )
        for name in names
    ]


def _score_across(s: ScoreView, delta: Delta | None, fact: bool, begun: Any, n: int) -> ScoreAcross:
    css = "warn" if s.error is not None else {True: "good", False: "bad", None: ""}[s.passed]
    if s.error is not None:
        said = "! not scored"
    else:
        word = {True: "✓ pass", False: "✕ fail", None: ""}[s.passed]
        said = " ".join(filter(None, (word, s.label, s.shown))) or "–"
    changed, changed_css = "", "muted"
    if delta is not None and delta.verdict != "same":
        changed, changed_css = ("", "muted") if fact else _CHANGED[delta.verdict]
        if delta.difference and s.passed is None:
            changed = f"{changed} {difference(delta.difference, s.value)}".strip()
    reason = begun(n, f"{'score_error' if s.error is not None else 'reason'}.{s.column}", _REASON)
    if not reason and s.reason:
        reason = Beginning(s.reason)
    return ScoreAcross(said, css, changed, changed_css, s.judged or "", reason)
