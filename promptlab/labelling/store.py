"""Labels of people over a lab's store, and what they say of its judges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from promptlab.deleting.journal import user_name
from promptlab.domain.experiment import Experiment, Metric
from promptlab.domain.labels import CaseLabel
from promptlab.domain.records import CERTIFICATE
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import ConfigError, RunError, UnknownNameError
from promptlab.labelling.checking import checked_judge
from promptlab.labelling.correcting import corrected_difference, corrected_mean
from promptlab.labelling.drift import drift_of
from promptlab.labelling.judged import judged_by
from promptlab.labelling.people import Counted, counted_for, threshold_of
from promptlab.labelling.queue import drawn
from promptlab.labelling.values import CaseToLabel, CorrectedDifference, CorrectedMean, Drift, JudgeCheck
from promptlab.labels import CaseLabels
from promptlab.ports import Clock, Ledger
from promptlab.queries.filters import NO_FILTER, Filter
from promptlab.queries.finished import StoredResults
from promptlab.queries.query_engine import QueryEngine, ResultsQuery
from promptlab.statistics import length_slope

TOKENS = "completion_tokens"


class Labelled(Protocol):
    """What of a lab labels need."""

    ledger: Ledger
    clock: Clock

    async def get_run(self, run_id: str) -> RunRecord:
        """Read one run."""

    async def results_of(self, run: RunRecord) -> ResultsQuery:
        """Open the results of a run."""

    async def query_engine(self) -> QueryEngine:
        """Return what answers questions about runs."""


class StoreLabels:
    """The labels of people on the cases of one store's runs; the contract is `promptlab.lab.LabLabels`."""

    def __init__(self, lab: Labelled) -> None:
        self._lab, self.kept = lab, CaseLabels(lab.ledger)

    @property
    def me(self) -> str:
        """The user of this process."""
        return user_name()

    async def put(
        self, run_id: str, labels: Sequence[CaseLabel], *, rater: str, rater_name: str = "", by: str = ""
    ) -> int:
        """Keep labels on cases of a run.

        Args:
            run_id: the run.
            labels: the labels; a case may be named by its row's id alone.
            rater: who labels, where a label does not say.
            rater_name: what that rater is called.
            by: who enters them, where that is somebody else.

        Returns:
            How many say something else than before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a label says nothing, or is of no case or metric of the run; none is kept then.
        """
        run = await self._lab.get_run(run_id)
        metrics = {m.name: m for m in Experiment.model_validate(run.experiment).evaluation}
        found, now = await self._placed(run, labels), self._lab.clock.now()
        made = []
        for label in found:
            if label.metric and label.metric not in metrics:
                raise UnknownNameError("metric", label.metric, list(metrics))
            _check_range(label, metrics.get(label.metric))
            who, called = (label.rater, label.rater_name) if label.rater else (rater, rater_name)
            entered = by if by and by != who else ""
            made.append(replace(label, rater=who, rater_name=called, by=entered, at=now, history=()))
        return await self.kept.put(run_id, made)

    async def _placed(self, run: RunRecord, labels: Sequence[CaseLabel]) -> list[CaseLabel]:
        """Give the labels their case, where their row's id alone is known, and their id."""
        trials = int(run.experiment.get("trials", 1))
        rows = run.cases // trials if trials else 0
        ids, by_id = await self._ids(run, labels)
        found = []
        for label in labels:
            case = label.case if label.case >= 0 else by_id.get(label.id, -1)
            if case < 0:
                raise ConfigError(f"Run {run.run_id} has no row with the id {label.id[:100]!r}.")
            if case >= rows or not 0 <= label.trial < trials:
                raise ConfigError(
                    f"Run {run.run_id} has no case {case}.{label.trial}: it has {rows:,} rows and {trials} "
                    "trials, counted from 0."
                )
            found.append(replace(label, case=case, id=ids.get(case, label.id)))
        return found

    async def _ids(
        self, run: RunRecord, labels: Sequence[CaseLabel]
    ) -> tuple[dict[int, str], dict[str, int]]:
        """The ids of the labelled rows, and the rows by them; nothing of a run without results."""
        if run.results is None:
            return {}, {}
        if len(labels) == 1 and labels[0].case >= 0:
            row = await (await self._lab.results_of(run)).case(labels[0].case, labels[0].trial)
            return ({labels[0].case: str(row["id"])} if row else {}), {}
        ids = {case: id for case, _, id in await self._values(run, ())}
        return ids, {id: case for case, id in reversed(ids.items())}

    async def _values(
        self, run: RunRecord, columns: Sequence[str], filter: Filter = NO_FILTER
    ) -> list[tuple[Any, ...]]:
        results = await self._lab.results_of(run)
        if not isinstance(results, StoredResults):
            raise RunError(f"Run {run.run_id} is {run.status} and has no results yet.")
        return await results.values(columns, filter)

    async def page(
        self, run_id: str, *, after: CaseKey | None = None, limit: int = 500
    ) -> tuple[list[CaseLabel], CaseKey | None]:
        """Read a page of a run's labels, by case; and where the next page goes on, or None.

        Raises:
            RunNotFoundError: there is no such run.
        """
        await self._lab.get_run(run_id)
        return await self.kept.page(run_id, after=after, limit=limit)

    async def of(self, run_id: str) -> AsyncIterator[CaseLabel]:
        """Give all labels of a run, by case."""
        after = None
        while True:
            labels, after = await self.page(run_id, after=after)
            for label in labels:
                yield label
            if after is None:
                return

    async def remove(self, run_id: str, case: CaseKey, *, rater: str, metric: str = "") -> bool:
        """Remove one rater's label of a case, with its history; False where there is none."""
        await self._lab.get_run(run_id)
        label = CaseLabel(case=case.case, trial=case.trial, rater=rater, metric=metric)
        return await self.kept.remove(run_id, label)

    async def forget_rater(self, rater: str, run_id: str | None = None) -> int:
        """Remove all labels of a rater for good, of one run or of all; and count them."""
        return await self.kept.forget_rater(rater, run_id)

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
    ) -> list[CaseToLabel]:
        """Draw cases to label; see `labelling.queue.drawn`.

        Args:
            run_id: the run, ended.
            n: how many.
            seed: which sample.
            filter: of which cases; a sample of some is none of all, and says so in its labels.
            rater: whose labels count as done.
            metric: what the labels are about.
            second: only cases that somebody else labelled.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it has no results yet.
            ConfigError: n is out of its range.
        """
        run = await self._lab.get_run(run_id)
        cases = await self._values(run, (), filter)
        there = [label for label in await self.kept.of(run_id) if label.metric == metric]
        if second:
            others = {label.key for label in there if label.rater != rater}
            cases = [one for one in cases if CaseKey(one[0], one[1]) in others]
        own = {label.key for label in there if label.rater == rater}
        return drawn([(case, trial, id) for case, trial, id in cases], n, seed, own)

    async def check(
        self, run_id: str, metric: str, *, threshold: float | None = None, record: bool = True
    ) -> JudgeCheck:
        """Hold a judge's scores against people's labels.

        Args:
            run_id: the run, ended.
            metric: the judge's metric.
            threshold: from where on a score is a pass; the middle of the range by default.
            record: whether the judge counts as certified, or not, from now on.

        Raises:
            RunNotFoundError: there is no such run.
            UnknownNameError: it has no such metric.
            RunError: it has no results yet.
            ConfigError: the metric has no range, and no `threshold` is given.
        """
        run = await self._lab.get_run(run_id)
        found = _named(run, metric)
        if found.bounds is None and threshold is None:
            raise ConfigError(f"The metric {metric!r} has no range: say from where on a score is a pass.")
        at = threshold_of(found) if threshold is None else threshold
        name = _column(await self._lab.results_of(run), metric)
        rows = await self._values(run, [f"score.{name}", TOKENS])
        judged = (await judged_by(self._lab.ledger, run_id, [found]))[metric]
        scored = [(case, score, tokens) for case, _, _, score, tokens in rows if score is not None and tokens]
        made = checked_judge(
            found,
            {CaseKey(case, trial): score for case, trial, _, score, _ in rows if score is not None},
            {CaseKey(case, trial): id for case, trial, id, *_ in rows},
            counted_for(found, await self.kept.of(run_id)),
            judged,
            run_id=run_id,
            threshold=at,
            slope=length_slope([s for _, s, _ in scored], [t for *_, t in scored], [c for c, *_ in scored]),
            at=self._lab.clock.now(),
        )
        if record and made.fingerprint is not None and made.table.n:
            await self._lab.ledger.put_record(CERTIFICATE, made.fingerprint, _certificate(made))
        return made

    async def uncertified(self, run: RunRecord, names: Iterable[str]) -> dict[str, str]:
        """Say why the judges of some metrics of a run are not certified; nothing of those that are, and of
        metrics that ask no model."""
        wanted = set(names)
        metrics = [
            m
            for m in Experiment.model_validate(run.experiment).evaluation
            if m.judge and m.name in wanted and m.kept is None
        ]
        found = await judged_by(self._lab.ledger, run.run_id, metrics)
        said = {}
        for name, judged in found.items():
            for fingerprint in sorted(judged.counts):
                record = await self._lab.ledger.get_record(CERTIFICATE, fingerprint)
                if record is None:
                    said[name] = f"the judge {fingerprint} was never checked against labels of people"
                elif not record.get("certified"):
                    said[name] = f"the judge {fingerprint} is {record.get('why')}"
        return said

    async def corrected(self, run_id: str) -> dict[str, CorrectedMean]:
        """Correct the means of a run's judges by people's labels, and of metrics that they labelled; nothing
        where nobody labelled enough.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self._lab.get_run(run_id)
        if run.results is None or not await self.kept.has_any(run_id):
            return {}
        labels = await self.kept.of(run_id)
        chosen = {m.name: counted for m in _metrics(run) if (counted := _counted(m, labels)) is not None}
        values = await self._scores(run, list(chosen))
        made = {name: corrected_mean(_named(run, name), values[name], chosen[name]) for name in chosen}
        return {name: one for name, one in made.items() if one is not None}

    async def _scores(
        self, run: RunRecord, names: Sequence[str], places: Mapping[str, int] | None = None
    ) -> dict[str, dict[CaseKey, float]]:
        """The scores of some metrics by case; with `places` by the row that an id has there."""
        if not names:
            return {}
        results = await self._lab.results_of(run)
        rows = await self._values(run, [f"score.{_column(results, name)}" for name in names])
        found: dict[str, dict[CaseKey, float]] = {name: {} for name in names}
        for case, trial, id, *scores in rows:
            row = case if places is None else places.get(id, -1)
            for name, score in zip(names, scores, strict=True):
                if score is not None and row >= 0:
                    found[name][CaseKey(row, trial)] = score
        return found

    async def corrected_differences(self, run_ids: Sequence[str]) -> list[dict[str, CorrectedDifference]]:
        """Correct the differences of a base run and each of the others, of metrics that both have, by labels
        of the same rows; of each other run by metric.

        Raises:
            RunNotFoundError: there is no such run.
        """
        runs = [await self._lab.get_run(run_id) for run_id in run_ids]
        if any(run.results is None for run in runs) or not await self.kept.has_any(run_ids[0]):
            return [{} for _ in runs[1:]]
        labels = [await self.kept.of(run_id) for run_id in run_ids]
        base, *others = runs
        return [
            await self._difference((base, other), (labels[0], theirs)) if theirs else {}
            for other, theirs in zip(others, labels[1:], strict=True)
        ]

    async def _difference(
        self, runs: tuple[RunRecord, RunRecord], labels: tuple[list[CaseLabel], list[CaseLabel]]
    ) -> dict[str, CorrectedDifference]:
        base, other = runs
        names = {m.name for m in _metrics(other)}
        chosen: dict[str, list[Counted]] = {}
        for metric in _metrics(base):
            both = [_counted(metric, some) for some in labels]
            if metric.name in names and all(one is not None for one in both):
                chosen[metric.name] = [one for one in both if one is not None]
        if not chosen:
            return {}
        places = None
        if base.experiment["dataset"]["hash"] != other.experiment["dataset"]["hash"]:
            places = {id: case for case, _, id in await self._values(base, ())}
            labels = (
                labels[0],
                [replace(label, case=places[label.id]) for label in labels[1] if label.id in places],
            )
        values = [await self._scores(base, list(chosen)), await self._scores(other, list(chosen), places)]
        made = {}
        for name in chosen:
            metric = _named(base, name)
            counted = [counted_for(metric, some) for some in labels]
            made[name] = corrected_difference(metric, [value[name] for value in values], counted)
        return {name: one for name, one in made.items() if one is not None}

    async def drift(self, base_id: str, run_id: str, metric: str) -> Drift:
        """Measure what a judge makes of answers that are the same, byte for byte, in two runs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: one has no results yet.
            UnknownNameError: one has no such metric.
        """
        base, other = await self._lab.get_run(base_id), await self._lab.get_run(run_id)
        found = _named(base, metric), _named(other, metric)
        engine = await self._lab.query_engine()
        pairs = await engine.same_answers(base, other, metric)
        judged = [
            (await judged_by(self._lab.ledger, run.run_id, [one]))[metric]
            for run, one in zip((base, other), found, strict=True)
        ]
        return drift_of(found[0], (base_id, run_id), pairs, (judged[0], judged[1]))


def _certificate(made: JudgeCheck) -> dict[str, Any]:
    return {
        "certified": made.certified,
        "why": made.why,
        "metric": made.metric,
        "run_id": made.run_id,
        "at": made.at,
        "labels": made.table.n,
        "tpr": made.tpr._asdict() if made.tpr else None,
        "tnr": made.tnr._asdict() if made.tnr else None,
    }


def _metrics(run: RunRecord) -> list[Metric]:
    """The metrics of a run that its results have now."""
    return [m for m in Experiment.model_validate(run.experiment).evaluation if not m.is_fact]


def _named(run: RunRecord, name: str) -> Metric:
    metrics = Experiment.model_validate(run.experiment).evaluation
    for metric in metrics:
        if metric.name == name:
            return metric
    raise UnknownNameError("metric", name, [metric.name for metric in metrics])


def _column(results: ResultsQuery, metric: str) -> str:
    return dict(results.columns.scores)[metric]


def _counted(metric: Metric, labels: Sequence[CaseLabel]) -> Counted | None:
    """The labels that correct a metric: a judge's, or those that are about this metric."""
    counted = counted_for(metric, labels)
    return counted if counted.labels and (metric.judge or counted.own) else None


def _check_range(label: CaseLabel, metric: Metric | None) -> None:
    if metric is None or metric.bounds is None or label.score is None:
        return
    low, high = metric.bounds
    if not low <= label.score <= high:
        raise ConfigError(
            f"The label of case {label.case}.{label.trial} has the score {label.score:g}, and {metric.name} "
            f"goes from {low:g} to {high:g}."
        )
