"""Whether a metric of two runs is the same one, so that its values may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.experiment import Metric
from promptlab.domain.judged_by import JudgedBy
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.made_of import made_of

Judges = Mapping[str, JudgedBy]
"""Who judged the metrics of a run, by their names."""
_NOT_OF_JUDGING = frozenset(
    {
        "api_key",
        "api_key_env",
        "api_key_secret",
        "cache",
        "max_concurrent_tasks",
        "requests_per_minute",
        "tokens_per_minute",
        "timeout_s",
        "max_retries",
        "outage_s",
        "allow_self",
        "batch",
        "stream",
    }
)
"""Fields of a judge that change when, and at which price, it answers, and not what."""


def not_comparable(
    a: Metric,
    b: Metric,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    judges: tuple[Judges, Judges] = ({}, {}),
) -> str | None:
    """Say why a metric of two runs is not the same one; None where it is, as far as they tell.

    Args:
        a: the base run's metric.
        b: the other run's, of the same name.
        before: the base run's experiment, as JSON.
        after: the other run's.
        judges: who judged either run's metrics, as far as it is known.
    """
    if a.metric != b.metric and (a.code is None or b.code is None):
        return f"it is {a.metric} in one run and {b.metric} in the other"
    if a.params != b.params:
        names = sorted(k for k in a.params.keys() | b.params.keys() if a.params.get(k) != b.params.get(k))
        return f"its parameters differ: {', '.join(names)}"
    if a.higher_is_better != b.higher_is_better:
        return "higher is better in one run, lower in the other"
    if a.cluster_by != b.cluster_by:
        ways = [m.cluster_by or "no column" for m in (a, b)]
        return f"rows are clustered by {ways[0]} in one run and by {ways[1]} in the other"
    if a.missing != b.missing:
        ways = [m.missing or "the default" for m in (a, b)]
        return f"missing is {ways[0]} in one run and {ways[1]} in the other"
    if a.value_range != b.value_range:
        return "its range of values differs"
    if a.when != b.when:
        return "it applies to other rows in one run than in the other"
    if (a.extract, a.extract_reference) != (b.extract, b.extract_reference):
        return "what it takes out of the answer differs (extract)"
    return (
        _other_judges(a, b)
        or _other_versions(a.name, judges)
        or _other_code(a, b)
        or _other_embedding(a, before, after)
        or _other_parts(a, before, after, judges)
    )


def _other_versions(name: str, judges: tuple[Judges, Judges]) -> str | None:
    one, two = (by.get(name) for by in judges)
    return one.differs(two) if one is not None and two is not None else None


def _other_parts(
    metric: Metric, before: Mapping[str, Any], after: Mapping[str, Any], judges: tuple[Judges, Judges]
) -> str | None:
    """Say that a metric is made of one that is not the same in both runs."""
    for name in made_of(metric):
        found = [_named(name, experiment) for experiment in (before, after)]
        if found[0] is None or found[1] is None:
            continue
        why = not_comparable(found[0], found[1], before, after, judges)
        if why:
            return f"it is made of {name}: {why}"
    return None


def _named(name: str, experiment: Mapping[str, Any]) -> Metric | None:
    found = (one for one in experiment.get("evaluation") or () if one.get("name") == name)
    return next((Metric.model_validate(one) for one in found), None)


def _other_judges(a: Metric, b: Metric) -> str | None:
    """Say that two metrics are judged by other models, or by the same ones asked otherwise."""
    one, two = (a.judge or ()), (b.judge or ())
    names = [[judge.name for judge in judges] for judges in (one, two)]
    if names[0] != names[1]:
        return f"it is judged by {_list(names[0])} in one run and by {_list(names[1])} in the other"
    for first, second in zip(one, two, strict=True):
        old, new = _judging(first), _judging(second)
        if differing := sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)):
            return f"its judge {first.name} is asked otherwise: {', '.join(differing)}"
    return None


def _list(names: Sequence[str]) -> str:
    return " and ".join(names) if names else "no model"


def _judging(judge: JudgeConfig) -> dict[str, Any]:
    found = judge.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in found.items() if name not in _NOT_OF_JUDGING}


def _other_code(a: Metric, b: Metric) -> str | None:
    """Say that two metrics are of different code, by the hash of its bundle or of its file; of code without
    one only the name is known."""
    if a.code is None or b.code is None:
        return None
    if a.code.qualname != b.code.qualname:
        return f"it is {a.code.qualname} in one run and {b.code.qualname} in the other"
    for name in ("bundle_hash", "source_hash"):
        hashes = getattr(a.code, name), getattr(b.code, name)
        if None not in hashes:
            return "its evaluator's code differs" if hashes[0] != hashes[1] else None
    return None


def _other_embedding(metric: Metric, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    if not metric.needs_embedding:
        return None
    names = [(one.get("embedding_model") or {}).get("name", "none") for one in (before, after)]
    return (
        f"its embedding model is {names[0]} in one run and {names[1]} in the other"
        if names[0] != names[1]
        else None
    )
