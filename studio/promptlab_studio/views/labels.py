"""Labels of people, and the checks of judges by them, as pages show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.experiment import Experiment
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import ConfigError
from promptlab.labelling import CorrectedMean, JudgeCheck
from promptlab.labelling.words import facts
from promptlab_studio.views.cases import case_path
from promptlab_studio.views.digits import Digits

MOST_TAGS = 9
"""Tags that have a key of their own."""
MOST_LISTED = 200
"""Labels that the tab lists."""


@dataclass(frozen=True, slots=True)
class CasePeople:
    """What a page of a case shows of its labels."""

    labels: Sequence[CaseLabel]
    mine: CaseLabel | None
    """What the caller said of it, about the same thing."""
    tags: Sequence[str]
    """Tags of this run, the most frequent first."""
    metrics: Sequence[str]
    metric: str
    """What the form is about; empty: the answer as a whole."""
    action: str
    then: str
    blind: bool = False
    random: bool = False


def case_people(
    run: RunRecord,
    key: CaseKey,
    labels: Sequence[CaseLabel],
    me: str,
    *,
    then: str,
    tags: Sequence[str] = (),
    metric: str = "",
    blind: bool = False,
    random: bool = False,
) -> CasePeople:
    """Show the labels of a case, and the form that takes one."""
    mine = [label for label in labels if label.rater == me]
    same = next((label for label in mine if label.metric == metric), None)
    return CasePeople(
        labels=[label for label in labels if not blind or label.rater == me],
        mine=same,
        tags=tags,
        metrics=labelled_metrics(run),
        metric=metric,
        action=f"{case_path(run.run_id, *key)}/label",
        then=then,
        blind=blind,
        random=random,
    )


def labelled_metrics(run: RunRecord) -> list[str]:
    """Name the metrics of a run that labels may be about, judges first."""
    metrics = [
        m for m in Experiment.model_validate(run.experiment).evaluation if not m.is_fact and not m.kept
    ]
    return [m.name for m in sorted(metrics, key=lambda m: m.judge is None)]


def frequent_tags(labels: Iterable[CaseLabel]) -> list[str]:
    """List the tags of a run, the most frequent first."""
    counts = Counter(label.tag for label in labels if label.tag)
    return [tag for tag, _ in counts.most_common(MOST_TAGS)]


def said_in(fields: Mapping[str, Sequence[str]], key: CaseKey, me: str, called: str) -> CaseLabel:
    """Read the label of a form.

    Raises:
        ConfigError: its score is no number.
    """

    def text(name: str) -> str:
        return fields.get(name, [""])[-1].strip()

    passed = {"pass": True, "fail": False}.get(text("passed"))
    score = None
    if (given := text("score").replace(",", ".")) != "":
        try:
            score = float(given)
        except ValueError:
            raise ConfigError(f"{given[:50]!r} is no number.") from None
    return CaseLabel(
        case=key.case,
        trial=key.trial,
        passed=passed,
        score=score,
        tag=text("quick") or text("tag") or None,
        note=text("note") or None,
        metric=text("metric"),
        rater=me,
        rater_name=called,
        blind=bool(text("blind")),
        random=bool(text("random")),
    )


@dataclass(frozen=True, slots=True)
class JudgeCard:
    """A judge's check on the page."""

    metric: str
    css: str
    why: str
    facts: Sequence[tuple[str, str]]
    disagreements: Sequence[Mapping[str, Any]]
    more: int


def judge_card(check: JudgeCheck, most: int = 50) -> JudgeCard:
    """Show a check."""
    listed = [
        {
            "url": case_path(check.run_id, one.case, one.trial),
            "id": one.id or str(one.case),
            "people": one.people,
            "judge": one.judge,
            "value": one.value,
            "tag": one.tag,
            "note": one.note,
        }
        for one in check.disagreements[:most]
    ]
    total = check.table.missed + check.table.waved_through
    return JudgeCard(
        check.metric,
        "good" if check.certified else "warn",
        check.why,
        list(facts(check)),
        listed,
        total - len(listed),
    )


def corrected_rows(found: Mapping[str, CorrectedMean]) -> list[Mapping[str, Any]]:
    """Show corrected means; the figures of one have the same decimals."""
    rows: list[Mapping[str, Any]] = []
    for one in found.values():
        digits = Digits.of((one.judge_mean, one.mean, one.ci_low, one.ci_high))
        rows.append(
            {
                "metric": one.metric,
                "judge": digits.show(one.judge_mean),
                "mean": digits.show(one.mean),
                "interval": digits.between(one.ci_low, one.ci_high),
                "labels": one.labels,
                "caveat": one.caveat,
            }
        )
    return rows
