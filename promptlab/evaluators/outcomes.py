"""Scores for evaluations that gave none: what was raised, and what took too long."""

from __future__ import annotations

from dataclasses import replace

from promptlab.domain.results import Failure, Score
from promptlab.domain.summary import SCORE_REFUSED
from promptlab.errors import ConfigError, ModelError

REFUSED = "refused"
"""The key of a failed score's metadata that has the type of a refusal which may be every request's: it is
known where the evaluator runs, and counted where the run is."""


def broken(metric: str, error: BaseException, words: str) -> Score:
    """The score for what an evaluator of a user raised: an assertion is a verdict,
    everything else a failure."""
    if isinstance(error, AssertionError):
        return Score(passed=False, reason=words.partition(": ")[2] or "an assertion does not hold")
    if isinstance(error, ConfigError):  # a key that is missing
        return _refused(metric, words)
    if isinstance(error, ModelError):
        # A process of a user's evaluator has no use for it else.
        from promptlab.models.failures import Hopeless, hopeless

        if (why := hopeless(error)) is Hopeless.ACCOUNT:
            return _refused(metric, words)
        if why is Hopeless.REQUEST:
            return replace(failed(metric, words), metadata={REFUSED: error.type})
    return failed(metric, words)


def _refused(metric: str, words: str) -> Score:
    """The score where a metric's model was refused for what has nothing to do with the case."""
    return Score(error=Failure(SCORE_REFUSED, f"{metric}: {words}"))


def failed(metric: str, why: str) -> Score:
    """The score of an evaluation that failed."""
    return Score(error=Failure("evaluator_error", f"{metric}: {why}"))


def overdue(metric: str, timeout_s: float) -> Score:
    """The score of an evaluation that took longer than it may."""
    return Score(error=Failure("evaluator_timeout", f"{metric}: no score within timeout_s={timeout_s:g} s"))
