"""Several named scores of one evaluator: joined into one score while it is made, and parted again when it is
kept.

So whatever runs an evaluator (a thread, the event loop, a process) has one score to handle, with its limits.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from promptlab.domain.results import Failure, Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.foreign import scores_of

_PARTS = "promptlab.parts"
"""The key of a joined score's metadata under which its parts are."""
_KEPT = ("value", "passed", "label", "reason", "metadata", "error", "judged")


def joining(evaluator: Evaluator, parts: Sequence[str]) -> Evaluator:
    """Make a copy of an evaluator that gives its named scores as one; the object itself stays as it is."""
    bound, evaluate = copy.copy(evaluator), evaluator.evaluate
    if inspect.iscoroutinefunction(evaluate):

        async def joined(data: dict[str, Any]) -> Score:
            return _join(await evaluate(data), parts)

        object.__setattr__(bound, "evaluate", joined)  # built-in metrics are frozen
        return bound

    def joined_in_thread(data: dict[str, Any]) -> Score | Awaitable[Score]:
        verdict = evaluate(data)
        return _later(verdict, parts) if inspect.isawaitable(verdict) else _join(verdict, parts)

    object.__setattr__(bound, "evaluate", joined_in_thread)
    return bound


async def _later(verdict: Awaitable[Any], parts: Sequence[str]) -> Score:
    return _join(await verdict, parts)


def _join(verdict: Any, parts: Sequence[str]) -> Score:
    found = scores_of(verdict, parts)
    kept = {
        name: {field: value for field, value in asdict(score).items() if field in _KEPT and value is not None}
        for name, score in found.items()
    }
    return Score(metadata={_PARTS: kept})


def parted(score: Score, parts: Sequence[str]) -> dict[str, Score]:
    """Part a joined score by name; what the evaluation used is counted with the first.

    A score that is none of a joined one (the evaluator raised, or took too long) is that of every part.
    """
    kept = score.metadata.get(_PARTS)
    if isinstance(kept, Mapping):
        found = {part: _judged(_kept_score(kept[part]), score.judged) for part in parts}
    elif "left_out" in score.metadata:
        why = f"the scores' {score.metadata['left_out']}"
        found = dict.fromkeys(parts, Score(error=Failure("evaluator_error", why)))
    else:
        found = dict.fromkeys(
            parts,
            Score(
                score.value, score.label, score.passed, score.reason, error=score.error, judged=score.judged
            ),
        )
    if score.usage is not None:
        first = parts[0]
        found[first] = _kept_score({**asdict(found[first]), "usage": score.usage})
    return found


def _judged(score: Score, judged: str | None) -> Score:
    return score if judged is None or score.judged is not None else replace(score, judged=judged)


def with_printed(score: Score, printed: str, parts: Sequence[str] = ()) -> Score:
    """Make a copy of a score with what its evaluation printed, after its reason; of a joined one, after that
    of its first part."""
    kept = score.metadata.get(_PARTS)
    if not isinstance(kept, Mapping) or not parts:
        return replace(score, reason=_and_printed(score.reason, printed))
    first = {**kept[parts[0]], "reason": _and_printed(kept[parts[0]].get("reason"), printed)}
    return replace(score, metadata={**score.metadata, _PARTS: {**kept, parts[0]: first}})


def _and_printed(reason: str | None, printed: str) -> str:
    return f"{reason}\n\nPrinted:\n{printed}" if reason else f"Printed:\n{printed}"


def rejoined(score: Score, parts: Sequence[str], read: Callable[[Any], Score]) -> Score:
    """Read the parts of a joined score that comes from elsewhere; one that cannot be read has failed.

    Args:
        score: the score.
        parts: the names that it is to have.
        read: reads a score from JSON; ValueError where it is none.
    """
    kept = score.metadata.get(_PARTS)
    if not parts or _PARTS not in score.metadata:
        return score
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        try:
            found[part] = asdict(read(kept[part] if isinstance(kept, Mapping) else None))
        except (ValueError, KeyError) as error:
            found[part] = {
                "error": {"type": "evaluator_error", "message": f"{part}: it is no score: {error}"}
            }
    return Score(metadata={_PARTS: found}, usage=score.usage)


def _kept_score(kept: Mapping[str, Any]) -> Score:
    error = kept.get("error")
    return Score(**{**kept, "error": Failure(**error) if isinstance(error, Mapping) else error})
