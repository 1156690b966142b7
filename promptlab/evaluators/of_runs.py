"""The base classes of metrics of a run as a whole: computed from all of its cases, not case by case."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from promptlab.evaluators.base import Evaluator, Returned

DETAIL = "."
"""What the names of sums begin with that are shown, and that no value is made of."""


class RunCase(dict[str, Any]):
    """One case as a metric of a run sees it: input → value, as the metric's column_mapping says.

    A case that the model failed has None for what the answer would have said.
    """

    def __init__(self, data: Mapping[str, Any], row: int = 0, trial: int = 0) -> None:
        super().__init__(data)
        self.row = row
        """The dataset row, from 0. Several trials of it are several cases."""
        self.trial = trial
        """Which answer to the row, from 0."""


class RunEvaluator(Evaluator):
    """Scores a run as a whole. Subclass it and write `evaluate`, which is given all cases.

    It is evaluated once, when the run is summarised: a sync `evaluate` in a thread or a process, within the
    metric's `timeout_s`. `inputs`, `scores`, `higher_is_better` and `value_range` are as of an `Evaluator`.
    """

    resamples: int = 0
    """How often it is evaluated on rows drawn with replacement, for an interval of each score; 0 for none.
    1,000 is usual; the time of all of them counts towards `timeout_s`."""

    def evaluate(self, cases: Sequence[RunCase]) -> Returned:  # type: ignore[override]
        """Score a run.

        Args:
            cases: its cases in order, each with the mapped inputs; those that a `when` leaves out, whose
                reference is empty or that were lost to a fault (not the model's doing) are not there.

        Returns:
            A number, a bool, a string or a `Score`; with `scores` a dict of one for each name.

        Raises:
            Exception: anything: it becomes the metric's error, and the run goes on.
        """
        raise TypeError(f"{type(self).__name__} has no evaluate(self, cases)")


class Additive(RunEvaluator):
    """A metric of a run that is a function of sums over its cases: intervals and differences of runs then
    come from the sums of rows, whatever the run's size."""

    judged_input: ClassVar[str] = "response"
    """The input that `extract` takes something out of."""
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """The least and the greatest value of scores, by name, where these are not 0 and 1."""

    def fitted(self, cases: Iterable[RunCase]) -> Additive:
        """Make a copy that knows what only all cases tell, such as the labels; by default this one."""
        del cases
        return self

    @abstractmethod
    def counts(self, case: RunCase) -> Mapping[str, float]:
        """Count one case: name → what it adds to that sum. Names that begin with DETAIL are for `detail`.

        Raises:
            ValueError: the case cannot be counted, and why.
        """

    @abstractmethod
    def values(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute the scores of sums, by name; None where one is not defined."""

    def detail(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Give what is shown beside the scores, as JSON."""
        del sums
        return {}

    def evaluate(self, cases: Sequence[RunCase]) -> dict[str, float | None]:  # type: ignore[override]
        """Score cases at once; those that cannot be counted are left out."""
        fitted, total = self.fitted(cases), dict[str, float]()
        for case in cases:
            add_to(total, fitted.counts(case))
        return fitted.values(total)


def add_to(total: dict[str, float], more: Mapping[str, float]) -> None:
    """Add sums to sums."""
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value
