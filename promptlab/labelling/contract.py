"""What can be done with the labels of people in a lab: `StoreLabels` over a store, `RemoteLabels` over a
hosted Studio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.labelling.values import CaseToLabel, CorrectedMean, Drift, JudgeCheck
from promptlab.queries.filters import NO_FILTER, Filter


class LabLabels(Protocol):
    """The labels of people on the cases of a lab's runs."""

    @property
    def me(self) -> str:
        """Who labels, where nothing else is said; empty: a hosted lab knows that by itself."""

    async def put(
        self, run_id: str, labels: Sequence[CaseLabel], *, rater: str, rater_name: str = "", by: str = ""
    ) -> int:
        """Keep labels on cases of a run, and count those that say something else than before.

        Args:
            run_id: the run.
            labels: the labels; a case may be named by its row's id alone, once the run has results.
            rater: who labels, where a label does not say; a hosted lab knows that by itself.
            rater_name: what that rater is called.
            by: who enters them, where that is somebody else.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a label says nothing, or is of no case of the run.
            UnknownNameError: a label is about a metric that the run does not have.
            ForbiddenError: a hosted lab lets labellers enter their own labels only.
        """

    def of(self, run_id: str) -> AsyncIterator[CaseLabel]:
        """Give all labels of a run, by case.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def remove(self, run_id: str, case: CaseKey, *, rater: str, metric: str = "") -> bool:
        """Remove one rater's label of a case, with its history; False where there is none.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def forget_rater(self, rater: str, run_id: str | None = None) -> int:
        """Remove all labels of a rater for good, of one run or of all; and count them."""

    async def queue(
        self,
        run_id: str,
        *,
        n: int = 100,
        seed: int = 0,
        filter: Filter = NO_FILTER,
        rater: str = "",
        metric: str = "",
        second: bool = False,
    ) -> Sequence[CaseToLabel]:
        """Draw a sample of cases to label, by a seed; a hosted lab takes of the filter its text and status.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it has no results yet.
            ConfigError: n is not from 1 to 5,000.
        """

    async def check(
        self, run_id: str, metric: str, *, threshold: float | None = None, record: bool = True
    ) -> JudgeCheck:
        """Hold a judge's scores against people's labels, and record whether it is certified.

        Raises:
            RunNotFoundError: there is no such run.
            UnknownNameError: it has no such metric.
            RunError: it has no results yet.
            ConfigError: the metric has no range, and no threshold is given.
        """

    async def corrected(self, run_id: str) -> Mapping[str, CorrectedMean]:
        """Correct the means of a run's judges by people's labels; nothing where too few are labelled.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def drift(self, base_id: str, run_id: str, metric: str) -> Drift:
        """Measure what a judge makes of answers that are the same, byte for byte, in two runs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: one has no results yet.
            UnknownNameError: one has no such metric.
        """
