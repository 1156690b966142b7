"""How far a judge says what people say, and whether that is enough to rely on it (docs/judges.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from promptlab.domain.experiment import Metric
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.labelling.judged import Judged
from promptlab.labelling.people import Counted, is_good, verdict, verdict_of
from promptlab.labelling.values import Disagreement, JudgeCheck
from promptlab.statistics import (
    CERTIFIED,
    FEWEST_FOR_KAPPA,
    Rate,
    Slope,
    Table,
    kappa,
    krippendorff,
    labels_needed,
    rate,
)

MOST_DISAGREEMENTS = 500
_UNKNOWN_RATE = 0.9
"""What a class without any label is taken for, to say how many it needs."""


def checked_judge(
    metric: Metric,
    values: Mapping[CaseKey, float],
    ids: Mapping[CaseKey, str],
    counted: Counted,
    judged: Judged,
    *,
    run_id: str,
    threshold: float,
    slope: Slope | None = None,
    at: str = "",
) -> JudgeCheck:
    """Hold a judge's scores against people's labels.

    One trial of a row counts, the first that is labelled: those of one row are not independent. Where several
    judges made the run's scores (a version changed under way), the one that made most of the labelled ones is
    checked.
    """
    first: dict[int, CaseKey] = {}
    for key in sorted(counted.by_case):
        first.setdefault(key.case, key)
    by_case = {key: labels for key, labels in counted.by_case.items() if first[key.case] == key}
    fingerprint = _most(judged, list(by_case))
    pairs: dict[CaseKey, tuple[bool, bool]] = {}
    tied = unscored = 0
    for key, labels in by_case.items():
        people = verdict(labels, metric, threshold)
        if key not in values or (fingerprint is not None and judged.prints.get(key) != fingerprint):
            unscored += 1
        elif people is None:
            tied += 1
        else:
            pairs[key] = people, is_good(values[key], metric, threshold)
    table = Table.of(pairs.values())
    tpr = rate(table.both_pass, table.both_pass + table.missed)
    tnr = rate(table.both_fail, table.both_fail + table.waved_through)
    certified = all(one is not None and one.low >= CERTIFIED for one in (tpr, tnr))
    differing = [(key, people, judge) for key, (people, judge) in sorted(pairs.items()) if people != judge]
    alpha = krippendorff(judged.votes, _level(judged.votes)) if judged.votes else None
    return JudgeCheck(
        run_id=run_id,
        metric=metric.name,
        fingerprint=fingerprint,
        versions=tuple(sorted(judged.versions)),
        threshold=threshold,
        table=table,
        agreement=rate(table.both_pass + table.both_fail, table.n),
        tpr=tpr,
        tnr=tnr,
        kappa=kappa(table),
        kappa_caveat=_caveat(table),
        needed_passed=labels_needed(tpr.share if tpr else _UNKNOWN_RATE),
        needed_failed=labels_needed(tnr.share if tnr else _UNKNOWN_RATE),
        certified=certified,
        why=_why(certified, tpr, tnr),
        raters=len({label.rater for label in counted.labels}),
        own=counted.own,
        random=counted.random,
        tied=tied,
        unscored=unscored,
        disagreements=tuple(
            _disagreement(key, people, judge, values[key], ids.get(key, ""), by_case[key])
            for key, people, judge in differing[:MOST_DISAGREEMENTS]
        ),
        **_between_people(by_case.values(), metric, threshold),
        jury_alpha=alpha,
        jury=max((len(votes) for votes in judged.votes), default=1),
        length_slope=slope,
        fingerprints=dict(judged.counts.most_common(50)),
        at=at,
    )


def _most(judged: Judged, keys: Sequence[CaseKey]) -> str | None:
    prints = [judged.prints[key] for key in keys if key in judged.prints]
    if prints:
        return max(sorted(set(prints)), key=prints.count)
    return max(judged.counts, key=lambda one: judged.counts[one], default=None)


def _level(votes: Sequence[Sequence[float | str]]) -> Literal["nominal", "interval"]:
    return "nominal" if isinstance(votes[0][0], str) else "interval"


def _caveat(table: Table) -> str | None:
    if table.n < FEWEST_FOR_KAPPA:
        return f"of fewer than {FEWEST_FOR_KAPPA} labels its usual interval is too short: read TPR and TNR"
    share = (table.both_pass + table.missed) / table.n
    if not 0.1 < share < 0.9:
        return "where nearly all cases are of one class κ is low however good the judge is: read TPR and TNR"
    return None


def _why(certified: bool, tpr: Rate | None, tnr: Rate | None) -> str:
    if certified:
        return f"certified: the lower bounds of TPR and TNR reach {CERTIFIED:.2f}"
    parts = []
    for name, what, one in (("TPR", "passed", tpr), ("TNR", "failed", tnr)):
        if one is None:
            needed = labels_needed(_UNKNOWN_RATE)
            parts.append(f"no case is labelled as {what}: {needed} are enough for a rate of {_UNKNOWN_RATE}")
        elif one.low < CERTIFIED:
            parts.append(f"{name} is {one.share:.2f} and at least {one.low:.2f}: {_needs(one, what)}")
    return "not certified: " + "; ".join(parts)


def _needs(one: Rate, what: str) -> str:
    needed = labels_needed(one.share)
    if needed is None:
        return f"no number of labels would bring it to {CERTIFIED:.2f}"
    if needed <= one.n:
        return f"{one.n} {what} cases are labelled, a few more may be enough"
    return f"{needed} {what} cases labelled in place of {one.n} would do, if it stays so"


def _disagreement(
    key: CaseKey, people: bool, judge: bool, value: float, id: str, labels: Sequence[CaseLabel]
) -> Disagreement:
    tag = next((label.tag for label in labels if label.tag), None)
    note = next((label.note for label in labels if label.note), None)
    return Disagreement(
        case=key.case,
        trial=key.trial,
        id=id,
        people=people,
        judge=judge,
        value=value,
        tag=tag,
        note=note[:500] if note else None,
    )


def _between_people(cases: Iterable[Sequence[CaseLabel]], metric: Metric, threshold: float) -> dict[str, Any]:
    units = []
    for labels in cases:
        said = [one for label in labels if (one := verdict_of(label, metric, threshold)) is not None]
        if len(said) > 1:
            units.append(said)
    pairs = [a == b for unit in units for a, b in combinations(unit, 2)]
    return {
        "people_agreement": rate(sum(pairs), len(pairs)),
        "people_alpha": krippendorff([[str(one) for one in unit] for unit in units]) if units else None,
    }
