"""Scores for evaluations that gave none: what was raised, and what took too long."""

from __future__ import annotations

from promptlab.domain.results import Failure, Score
from promptlab.domain.summary import SCORE_REFUSED
from promptlab.errors import ConfigError, ModelError


def broken(metric: str, error: BaseException, words: str) -> Score:
    """The score for what an evaluator of a user raised: an assertion is a verdict,
    everything else a failure."""
    if isinstance(error, AssertionError):
        return Score(passed=False, reason=words.partition(": ")[2] or "an assertion does not hold")
    return (
        Score(error=Failure(SCORE_REFUSED, f"{metric}: {words}"))
        if _is_refusal(error)
        else failed(metric, words)
    )


def _is_refusal(error: BaseException) -> bool:
    """Whether a metric's model was refused for what has nothing to do with the case."""
    if not isinstance(error, ModelError):
        return isinstance(error, ConfigError)  # a key that is missing
    from promptlab.models.failures import (
        Hopeless,
        hopeless,
    )  # a process of a user's evaluator has no use for it

    return hopeless(error) is Hopeless.ACCOUNT


def failed(metric: str, why: str) -> Score:
    """The score of an evaluation that failed."""
    return Score(error=Failure("evaluator_error", f"{metric}: {why}"))


def overdue(metric: str, timeout_s: float) -> Score:
    """The score of an evaluation that took longer than it may."""
    return Score(error=Failure("evaluator_timeout", f"{metric}: no score within timeout_s={timeout_s:g} s"))
