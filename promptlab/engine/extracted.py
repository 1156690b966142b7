"""What a metric judges of a case: its inputs, after the steps of its `extract`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.experiment import Metric
from promptlab.domain.results import Failure, Score
from promptlab.domain.texts import cut
from promptlab.engine.scored import Scored, inputs
from promptlab.evaluators.base import MAX_JUDGED, Evaluator


@dataclass(frozen=True, slots=True)
class Taken:
    """The inputs of one evaluation."""

    data: dict[str, Any]
    judged: str | None = None
    """What the steps gave of the answer; None of a metric without steps."""
    score: Score | None = None
    """The score, where nothing is left to evaluate: the steps found nothing in the answer."""

    def marked(self, score: Score) -> Score:
        """The score with what was judged."""
        if self.judged is None or score.judged is not None:
            return score
        return replace(score, judged=cut(self.judged, MAX_JUDGED))


def taken(scored: Scored, metric: Metric, evaluator: Evaluator) -> Taken:
    """Take an evaluator's inputs for a case, and what its steps leave of them.

    An answer in which the steps find nothing is wrong: it has the worst value of the metric's range; where
    the range is not known, its score has failed; an evaluator of several scores judges an empty answer. A
    reference in which they find nothing is a mistake of the dataset.

    Raises:
        TemplateError: the prompt is asked for and cannot be made again.
        ValueError: a reference has nothing that the steps find; a text is too long.
        TimeoutError: a pattern took too long.
    """
    data = inputs(scored, metric.column_mapping)
    if not metric.extract and not metric.extract_reference:
        return Taken(data)
    from promptlab.evaluators.extraction import NothingError, extraction  # few metrics have steps

    if metric.extract_reference and data.get("reference") is not None:
        try:
            data["reference"] = extraction(metric.extract_reference).of_all(data["reference"], "reference")
        except NothingError as error:
            raise ValueError(f"{error}: the dataset or extract_reference is wrong") from None
    if not metric.extract or data.get("response") is None:
        return Taken(data)
    try:
        found = extraction(metric.extract).of(data["response"], "response")
    except NothingError as error:
        if metric.part is not None:  # of several scores each has a worst value of its own
            return Taken({**data, "response": ""})
        return Taken(data, score=_worst(metric, evaluator, str(error)))
    return Taken({**data, "response": found}, found)


def _worst(metric: Metric, evaluator: Evaluator, why: str) -> Score:
    bounds = metric.bounds if metric.has_declared_bounds else None
    if bounds is None:
        return Score(error=Failure("nothing_to_judge", f"{metric.evaluator_name}: {why}"))
    if getattr(evaluator, "decides", False):
        return Score(passed=False, reason=why)
    return Score(value=bounds[0] if metric.higher_is_better else bounds[1], reason=why)
