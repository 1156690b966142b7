"""Results as they are recorded: without any key in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from promptlab.domain.masking import hidden
from promptlab.domain.results import Completion, Failure, Score, ScoreSet
from promptlab.domain.texts import cut

R = TypeVar("R")


def without_keys(result: R) -> R:
    """Return a result without any key that this process knows, in whichever of its texts; the very result
    where there is none, as nearly always.

    All texts of a case are looked at together, for an endpoint may send a key in pieces.
    """
    if isinstance(result, Completion):
        texts = [
            result.response,
            result.finish_reason,
            dict(result.metadata),
            _texts(result.error),
            [[attempt.type, attempt.said, attempt.request_id] for attempt in result.tries],
        ]
        clean = hidden(texts)
        if clean is not texts:
            response, finish, metadata, error, tries = clean
            return replace(
                result,
                response=response,
                finish_reason=finish,
                metadata=metadata,
                error=_failure(error),
                tries=tuple(
                    replace(attempt, type=kind, said=said, request_id=request_id)
                    for attempt, (kind, said, request_id) in zip(result.tries, tries, strict=True)
                ),
            )
    if isinstance(result, ScoreSet):
        said = {name: score for name, score in result.scores.items() if _says_something(score)}
        found = {name: _of_score(score) for name, score in said.items()}
        clean = hidden(found)
        if clean is not found:
            changed = {name: _score(score, clean[name]) for name, score in said.items()}
            return replace(result, scores={**result.scores, **changed})
    return result


def words(said: object, most: int) -> str:
    """Return an error or another's words as a run's record can have them: without any key in whichever form,
    at most `most` characters long."""
    found: str = hidden(str(said))
    return cut(found, most)


def _says_something(score: Score) -> bool:
    return bool(score.label or score.reason or score.metadata or score.error)


def _of_score(score: Score) -> list[Any]:
    return [score.label, score.reason, dict(score.metadata), _texts(score.error)]


def _score(score: Score, texts: list[Any]) -> Score:
    label, reason, metadata, error = texts
    return replace(score, label=label, reason=reason, metadata=metadata, error=_failure(error))


def _texts(error: Failure | None) -> list[str] | None:
    return None if error is None else [error.type, error.message]


def _failure(texts: list[str] | None) -> Failure | None:
    return None if texts is None else Failure(*texts)
