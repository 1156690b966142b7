"""Scores of other libraries, dicts and several scores, as one `Score`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from promptlab.domain.results import Failure, Score, described
from promptlab.domain.texts import cut
from promptlab.evaluators.base import to_score

MAX_SEVERAL = 50
"""Scores that one evaluation may give."""
_VALUES = ("score", "value")
_PASSED = ("passed", "success")
_REASONS = ("reason", "comment", "explanation", "rationale")
_NAMES = ("name", "key", "metric")
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""The letters of Inspect: correct, partially correct, incorrect, no answer."""
_MISSING = object()


def score_of(verdict: Any) -> Score:
    """The score of an object with the attributes, or of a dict with the keys, that scores have elsewhere.

    Read are `score` or `value`, `passed` or `success`, `label`, `reason`, `comment`, `explanation` or
    `rationale`, `metadata` and `error`: the scores of autoevals, deepeval, Inspect, openevals,
    pydantic-evals and ragas. A list of named scores, and a dict of them by name, give the first one, with
    all of them in its reason.

    Raises:
        TypeError: it has none of them.
        ValueError: it has no value.
    """
    if isinstance(verdict, list | tuple):
        return _several([(_name(item, verdict), item) for item in verdict])
    found = _first(verdict, _VALUES)
    others = [_first(verdict, names) for names in (_PASSED, ("label",))]
    if found is _MISSING and all(other is _MISSING for other in others):
        if isinstance(verdict, Mapping) and verdict:
            return _several(list(islice(verdict.items(), MAX_SEVERAL + 1)))
        if hasattr(verdict, "as_integer_ratio"):  # a Decimal, a Fraction
            return to_score(float(verdict))
        raise TypeError(
            "an evaluator returns a number, a bool, a string, a Score or a dict with a score, "
            f"not {type(verdict).__name__}"
        )
    return _one(verdict, found, *others)


def scores_of(verdict: Any, parts: Sequence[str]) -> dict[str, Score]:
    """The scores of an evaluator that has said their names: from a dict, a list of named scores, or an object
    with these attributes.

    A score that cannot be read, or is not there, has failed. What else a dict has is in the metadata of the
    first.

    Raises:
        TypeError: it holds no named scores.
    """
    named: Mapping[str, Any]
    if isinstance(verdict, Mapping):
        named = {str(key): value for key, value in islice(verdict.items(), MAX_SEVERAL + len(parts))}
    elif isinstance(verdict, list | tuple) and not hasattr(verdict, "_fields"):
        named = {_name(item, verdict): item for item in verdict[: MAX_SEVERAL + len(parts)]}
    else:
        named = {part: getattr(verdict, part) for part in parts if hasattr(verdict, part)}
    if not named.keys() & set(parts):
        raise TypeError(
            f"the evaluator says that its scores are {', '.join(parts)}, and gave none of them but "
            f"{cut(', '.join(named), 200) if named else type(verdict).__name__}"
        )
    found = {part: _part(named, part) for part in parts}
    others = {k: v for k, v in named.items() if k not in found and type(v) in (str, bool, int, float)}
    first = found[parts[0]]
    if others and not first.error:
        found[parts[0]] = to_score(replace(first, metadata={**first.metadata, "others": others}))
    return found


def _part(named: Mapping[str, Any], part: str) -> Score:
    try:
        if part not in named:
            raise ValueError(f"the evaluator gave no score {part!r}")
        return to_score(named[part])
    except (TypeError, ValueError, OverflowError) as error:
        return Score(error=Failure("evaluator_error", f"{part}: {described(error)}"))


def _one(verdict: Any, found: Any, passed: Any, label: Any) -> Score:
    reason, metadata, error = (_first(verdict, names) for names in (_REASONS, ("metadata",), ("error",)))
    words = None if reason in (_MISSING, None) else str(reason)
    kept: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    if error not in (_MISSING, None):
        return Score(error=error, reason=words, metadata=kept)
    if isinstance(found, str) and found in _GRADES and hasattr(verdict, "explanation"):
        found = _GRADES[found]
    base = Score() if found in (_MISSING, None) else to_score(found)
    chosen = Score(
        value=base.value,
        passed=base.passed if passed in (_MISSING, None) else bool(passed),
        label=base.label if label in (_MISSING, None) else str(label),
        reason=words or base.reason,
        metadata=kept,
    )
    if chosen.value is None and chosen.label is None:
        raise ValueError(f"the score has no value{f': {words}' if words else ''}")
    return chosen


def _several(named: list[tuple[Any, Any]]) -> Score:
    if not named:
        raise TypeError("an evaluator returned an empty list in place of a score")
    if len(named) > MAX_SEVERAL:
        raise ValueError(f"an evaluation may give at most {MAX_SEVERAL} scores")
    scores = [(str(name), to_score(item)) for name, item in named]
    _, first = scores[0]
    return Score(
        value=first.value,
        passed=first.passed,
        label=first.label,
        error=first.error,
        reason="; ".join(_said(name, score) for name, score in scores),
        metadata={"scores": {name: _plain(score) for name, score in scores}},
    )


def _plain(score: Score) -> dict[str, Any]:
    parts = {"value": score.value, "passed": score.passed, "label": score.label, "reason": score.reason}
    return {name: value for name, value in parts.items() if value is not None}


def _said(name: str, score: Score) -> str:
    shown = score.label if score.value is None else f"{score.value:g}"
    return f"{name} {shown}" + (f" ({score.reason})" if score.reason else "")


def _name(item: Any, verdict: Any) -> str:
    found = _first(item, _NAMES)
    if found in (_MISSING, None):
        raise TypeError(
            f'several scores have names, as in {{"precision": 0.5, "recall": 0.7}}: not '
            f"{type(verdict).__name__} of "
            f"{type(item).__name__}"
        )
    return str(found)


def _first(verdict: Any, names: tuple[str, ...]) -> Any:
    """The first member of these names that is not None; None if all there are is None; else _MISSING."""
    seen: Any = _MISSING
    for name in names:
        value = (
            verdict.get(name, _MISSING) if isinstance(verdict, Mapping) else getattr(verdict, name, _MISSING)
        )
        if value is not _MISSING and not callable(value):
            if value is not None:
                return value
            seen = None
    return seen
