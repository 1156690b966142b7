"""What a metric judges of a case: its inputs, after the steps of its `extract`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.experiment import Metric, RunMetricSpec, score_source
from promptlab.domain.results import Failure, Score
from promptlab.domain.texts import cut
from promptlab.engine.scored import Scored, inputs
from promptlab.errors import TemplateError
from promptlab.evaluators.base import MAX_JUDGED, Evaluator
from promptlab.results.table import Case


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


@dataclass(frozen=True, slots=True)
class RunInputs:
    """How a metric of the run as a whole reads a case: as any metric, with the input that it judges in the
    place of the response."""

    spec: RunMetricSpec
    evaluator: Evaluator
    judged: str
    """The name of that input."""
    scores: Mapping[str, str]
    """Input → the score of another metric that it is (`$score.NAME`)."""

    @classmethod
    def of(cls, spec: RunMetricSpec, evaluator: Evaluator) -> RunInputs:
        """Make them of a metric."""
        judged = getattr(evaluator, "judged_input", "response")
        renamed = {"response" if n == judged else n: s for n, s in spec.column_mapping.items()}
        mapping = {n: s for n, s in renamed.items() if not score_source(s)}
        return cls(
            spec.model_copy(update={"column_mapping": mapping, "part": "run"}),
            evaluator,
            judged,
            {n: s for n, s in renamed.items() if score_source(s)},
        )

    def taken(self, case: Case) -> Taken:
        """Take them for a case, without the scores of other metrics; raises as `taken`."""
        return taken(Scored(case, {}, 0), self.spec, self.evaluator)

    def of_case(self, case: Case, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Give them under their own names; `scores` by source. Raises as `taken`."""
        data = self.taken(case).data | {name: scores[source] for name, source in self.scores.items()}
        if self.judged != "response" and "response" in data:
            data[self.judged] = data.pop("response")
        return data

    def counts(self, case: Case) -> bool:
        """Whether the case is one of those that the metric is about."""
        return self.spec.applies_to(case.row) and self.spec.is_labelled(case.row)

    def judged_of(self, case: Case) -> str | None:
        """Give what is judged of an answer, to be shown beside it; None where nothing is.

        Raises:
            TimeoutError: a pattern took too long.
        """
        if case.completion.error is not None or not self.counts(case):
            return None
        try:
            found = self.taken(case).judged
        except (TemplateError, ValueError):  # the metric says so of the run
            return None
        return None if found is None else cut(found, MAX_JUDGED)


def _worst(metric: Metric, evaluator: Evaluator, why: str) -> Score:
    bounds = metric.bounds if metric.has_declared_bounds else None
    if bounds is None:
        return Score(error=Failure("nothing_to_judge", f"{metric.evaluator_name}: {why}"))
    if getattr(evaluator, "decides", False):
        return Score(passed=False, reason=why)
    return Score(value=bounds[0] if metric.higher_is_better else bounds[1], reason=why)
