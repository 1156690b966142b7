"""Results as they are recorded: without any key in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from promptlab.domain.masking import hidden
from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.domain.results import Completion, Failure, Score, ScoreSet
from promptlab.domain.texts import cut
from promptlab.domain.trace import Trace

R = TypeVar("R")

_SAID: dict[type, tuple[str, ...]] = {
    Text: ("content",),
    Reasoning: ("content", "signature"),
    ToolCall: ("id", "name", "arguments"),
    ToolCallResponse: ("id", "response"),
    Media: ("mime_type", "uri", "file_id"),
}
"""The fields of a part that an endpoint fills with texts."""


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
            words_of(result.messages),
            None if result.trace is None else _lists(result.trace),
        ]
        clean = hidden(texts)
        if clean is not texts:
            response, finish, metadata, error, tries, said_in, traced = clean
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
                messages=with_words(result.messages, said_in),
                trace=None if traced is None else Trace(*map(tuple, traced)),
            )
    if isinstance(result, ScoreSet):
        said = {name: score for name, score in result.scores.items() if _says_something(score)}
        found = {name: _of_score(score) for name, score in said.items()}
        clean = hidden(found)
        if clean is not found:
            changed = {name: _score_without_keys(score, clean[name]) for name, score in said.items()}
            return replace(result, scores={**result.scores, **changed})
    return result


def words_of(messages: Sequence[Message]) -> list[Any]:
    """Take all that was said out of messages, of whichever of their parts."""
    return [
        [m.finish_reason, [[getattr(part, name) for name in _SAID[type(part)]] for part in m.parts]]
        for m in messages
    ]


def with_words(messages: Sequence[Message], said: Sequence[Any]) -> tuple[Message, ...]:
    """Put what `words_of` took out back into messages."""
    return tuple(
        replace(
            m,
            finish_reason=finish,
            parts=tuple(
                replace(part, **dict(zip(_SAID[type(part)], texts, strict=True)))
                for part, texts in zip(m.parts, parts, strict=True)
            ),
        )
        for m, (finish, parts) in zip(messages, said, strict=True)
    )


def _lists(trace: Trace) -> list[Any]:
    return [trace.contexts, trace.spans, trace.turns]


def words(said: object, most: int) -> str:
    """Return an error or another's words as a run's record can have them: without any key in whichever form,
    at most `most` characters long."""
    found: str = hidden(str(said))
    return cut(found, most)


def _says_something(score: Score) -> bool:
    return bool(score.label or score.reason or score.metadata or score.error or score.judged)


def _of_score(score: Score) -> list[Any]:
    return [score.label, score.reason, dict(score.metadata), _texts(score.error), score.judged]


def _score_without_keys(score: Score, texts: list[Any]) -> Score:
    label, reason, metadata, error, judged = texts
    return replace(score, label=label, reason=reason, metadata=metadata, error=_failure(error), judged=judged)


def _texts(error: Failure | None) -> list[str] | None:
    return None if error is None else [error.type, error.message]


def _failure(texts: list[str] | None) -> Failure | None:
    return None if texts is None else Failure(*texts)
