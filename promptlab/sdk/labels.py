"""The SDK's labels of people on cases, and checks of judges by them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.errors import ConfigError
from promptlab.lab import Lab
from promptlab.sdk.records import id_of
from promptlab.sdk.run import Run
from promptlab.sync import run_sync

if TYPE_CHECKING:
    from promptlab.labelling import CaseToLabel, CorrectedMean, Drift, JudgeCheck


class Labels:
    """What people say of cases."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def put(
        self,
        run: Run | str,
        case: int | str,
        *,
        trial: int = 0,
        passed: bool | None = None,
        score: float | None = None,
        tag: str | None = None,
        note: str | None = None,
        metric: str = "",
        rater: str = "",
        blind: bool = False,
        random: bool = False,
    ) -> bool:
        """Label one case; a label by the same rater on the same metric is replaced, and kept as history.

        Args:
            run: the run, or its id.
            case: the dataset row, from 0; or the row's id, as text.
            trial: the trial, from 0.
            passed: whether the answer is good enough.
            score: a number, in the units of `metric`.
            tag: a category.
            note: any text.
            metric: the metric that it is about; by default the answer as a whole.
            rater: who says so; by default the user of this process, and in a hosted lab the token's owner.
            blind: whether the rater did not see the scores.
            random: whether the case is of a random sample of all cases, as `queue` draws them.

        Returns:
            Whether it says something else than before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: it says nothing, or the run has no such case.
            UnknownNameError: the run has no such metric.
        """
        return run_sync(
            self.put_async(
                run,
                case,
                trial=trial,
                passed=passed,
                score=score,
                tag=tag,
                note=note,
                metric=metric,
                rater=rater,
                blind=blind,
                random=random,
            )
        )

    async def put_async(
        self,
        run: Run | str,
        case: int | str,
        *,
        trial: int = 0,
        passed: bool | None = None,
        score: float | None = None,
        tag: str | None = None,
        note: str | None = None,
        metric: str = "",
        rater: str = "",
        blind: bool = False,
        random: bool = False,
    ) -> bool:
        """Do as `put`."""
        label = CaseLabel(
            case=case if isinstance(case, int) else -1,
            id="" if isinstance(case, int) else case,
            trial=trial,
            passed=passed,
            score=score,
            tag=tag,
            note=note,
            metric=metric,
            rater=rater,
            blind=blind,
            random=random,
        )
        return bool(await self._lab.labels.put(id_of(run), [label], rater=self._lab.labels.me))

    def put_all(self, run: Run | str, labels: Sequence[CaseLabel] | str | Path, *, rater: str = "") -> int:
        """Keep many labels: given as such, or in a CSV file.

        Args:
            run: the run, or its id.
            labels: the labels; or a file with a line each, and columns `case` or `id`, and some of trial,
                passed, score, tag, note, metric and rater.
            rater: who says so, where a label does not say.

        Returns:
            How many say something else than before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the file cannot be read, or a label says nothing or is of no case of the run.
        """
        return run_sync(self.put_all_async(run, labels, rater=rater))

    async def put_all_async(
        self, run: Run | str, labels: Sequence[CaseLabel] | str | Path, *, rater: str = ""
    ) -> int:
        """Do as `put_all`."""
        if isinstance(labels, str | Path):
            labels = await asyncio.to_thread(labels_of, Path(labels))
        return await self._lab.labels.put(id_of(run), labels, rater=rater or self._lab.labels.me)

    def list(self, run: Run | str) -> Sequence[CaseLabel]:
        """List the labels of a run, by case.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.list_async(run))

    async def list_async(self, run: Run | str) -> Sequence[CaseLabel]:
        """Do as `list`."""
        return [label async for label in self._lab.labels.of(id_of(run))]

    def remove(self, run: Run | str, case: int, *, trial: int = 0, metric: str = "", rater: str = "") -> bool:
        """Remove one rater's label of a case, with its history; False where there is none.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.remove_async(run, case, trial=trial, metric=metric, rater=rater))

    async def remove_async(
        self, run: Run | str, case: int, *, trial: int = 0, metric: str = "", rater: str = ""
    ) -> bool:
        """Do as `remove`."""
        key = CaseKey(case, trial)
        return await self._lab.labels.remove(
            id_of(run), key, rater=rater or self._lab.labels.me, metric=metric
        )

    def forget_rater(self, rater: str, run: Run | str | None = None) -> int:
        """Remove all labels of a rater for good, of one run or of all; and count them."""
        return run_sync(self.forget_rater_async(rater, run))

    async def forget_rater_async(self, rater: str, run: Run | str | None = None) -> int:
        """Do as `forget_rater`."""
        return await self._lab.labels.forget_rater(rater, None if run is None else id_of(run))

    def queue(
        self,
        run: Run | str,
        n: int = 100,
        *,
        seed: int = 0,
        text: str = "",
        status: Literal["ok", "failed"] | None = None,
        rater: str = "",
        metric: str = "",
        second: bool = False,
    ) -> Sequence[CaseToLabel]:
        """Draw a sample of cases to label; the same seed draws the same rows of every run over a dataset.

        Args:
            run: the run, or its id; it has ended.
            n: how many, 5,000 at most.
            seed: which sample.
            text: only cases in which a search finds it. A sample of some cases is none of all of them.
            status: only answered or only failed cases, likewise.
            rater: whose labels count as done; by default as in `put`.
            metric: what the labels are about.
            second: only cases that somebody else labelled.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it has no results yet.
            ConfigError: n is out of its range.
        """
        return run_sync(
            self.queue_async(
                run, n, seed=seed, text=text, status=status, rater=rater, metric=metric, second=second
            )
        )

    async def queue_async(
        self,
        run: Run | str,
        n: int = 100,
        *,
        seed: int = 0,
        text: str = "",
        status: Literal["ok", "failed"] | None = None,
        rater: str = "",
        metric: str = "",
        second: bool = False,
    ) -> Sequence[CaseToLabel]:
        """Do as `queue`."""
        from promptlab.queries.filters import Filter

        return await self._lab.labels.queue(
            id_of(run),
            n=n,
            seed=seed,
            filter=Filter(text=text, status=status),
            rater=rater or self._lab.labels.me,
            metric=metric,
            second=second,
        )

    def corrected(self, run: Run | str) -> Mapping[str, CorrectedMean]:
        """Correct the means of a run's judges by people's labels (PPI++), by metric; nothing where fewer than
        20 rows are labelled.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.corrected_async(run))

    async def corrected_async(self, run: Run | str) -> Mapping[str, CorrectedMean]:
        """Do as `corrected`."""
        return await self._lab.labels.corrected(id_of(run))


def labels_of(path: Path) -> list[CaseLabel]:
    """Read labels from a CSV file.

    Raises:
        ConfigError: it cannot be read, or a line is wrong.
    """
    from promptlab.labels.files import MOST_BYTES, labels_in

    try:
        with path.open("rb") as file:
            return labels_in(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from error


class Judges:
    """How far judges can be relied on."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def check(
        self, metric: str, run: Run | str, *, threshold: float | None = None, record: bool = True
    ) -> JudgeCheck:
        """Hold a judge's scores against people's labels: agreement, TPR and TNR with their intervals, κ, the
        disagreements, and whether the judge is certified.

        Args:
            metric: the judge's metric.
            run: a run with labels, or its id; it has ended.
            threshold: from where on a score is a pass; by default the middle of its range.
            record: whether gates take the outcome for the judge's from now on.

        Raises:
            RunNotFoundError: there is no such run.
            UnknownNameError: it has no such metric.
            RunError: it has no results yet.
            ConfigError: the metric has no range, and no threshold is given.
        """
        return run_sync(self.check_async(metric, run, threshold=threshold, record=record))

    async def check_async(
        self, metric: str, run: Run | str, *, threshold: float | None = None, record: bool = True
    ) -> JudgeCheck:
        """Do as `check`."""
        return await self._lab.labels.check(id_of(run), metric, threshold=threshold, record=record)

    def drift(self, metric: str, base: Run | str, run: Run | str) -> Drift:
        """Measure what a judge makes of answers that are the same, byte for byte, in two runs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: one has no results yet.
            UnknownNameError: one has no such metric.
        """
        return run_sync(self.drift_async(metric, base, run))

    async def drift_async(self, metric: str, base: Run | str, run: Run | str) -> Drift:
        """Do as `drift`."""
        return await self._lab.labels.drift(id_of(base), id_of(run), metric)
