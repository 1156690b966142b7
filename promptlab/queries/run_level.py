"""Metrics of runs as a whole, compared: differences with a paired bootstrap over the rows of both."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from promptlab.domain.comparable import not_comparable
from promptlab.domain.experiment import Experiment, RunMetricSpec
from promptlab.domain.judged_by import judges_of
from promptlab.domain.results import RunRecord
from promptlab.domain.run_metrics import RunMetric
from promptlab.errors import BlobNotFoundError, ConfigError
from promptlab.evaluators.of_runs import Additive
from promptlab.evaluators.registry import build
from promptlab.evaluators.whole import MOST_DRAWN
from promptlab.ports import Blobs
from promptlab.results.case_sums import total_of
from promptlab.results.run_draws import Draws
from promptlab.results.run_sums import RowSums, names_of
from promptlab.statistics import (
    PAIRED_WORK,
    Bootstrapped,
    Interval,
    Judgement,
    PairedData,
    Tested,
    Verdict,
    agreed,
    bp_t,
    drawn_interval,
    judge_with,
    paired_bootstrap,
    verdict_of_score,
)

TOO_FEW = "too few rows"
NO_DRAWS = (
    f"an interval needs `resamples` of the metric, {MOST_DRAWN:,} at most over all of its scores, and draws "
    "that vary"
)
MOST_KEPT = 64
"""Differences that are kept: the sums never change, and one takes a second or more."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """One score of the base run as a whole and one other's."""

    metric: str
    other: int
    """The other run, by its place in `others`."""
    higher_is_better: bool
    base_value: float | None
    other_value: float | None
    low: float | None = None
    """The 95% interval of the difference; None where there is none."""
    high: float | None = None
    stderr: float | None = None
    p: float | None = None
    """Two-sided, of no difference; None where there is no interval. At most .05 where the interval excludes
    0."""
    p_adjusted: float | None = None
    """Holm's, over all metrics, scores and runs of the comparison; None where nobody judged them together."""
    margin: float | None = None
    """δ, a difference that does not matter; None for none."""
    why: str | None = None
    """Why there is no interval."""
    not_comparable: str | None = None
    """Why the two values are not of the same metric."""

    @property
    def difference(self) -> float | None:
        """other − base."""
        if self.base_value is None or self.other_value is None:
            return None
        return self.other_value - self.base_value

    @property
    def verdict(self) -> Verdict | None:
        """Better or worse where the adjusted p is at most .05, else by the margin; None without an
        interval."""
        p = self.p if self.p_adjusted is None else self.p_adjusted
        if self.low is None or self.high is None or p is None or self.not_comparable:
            return None
        return verdict_of_score(self.low, self.high, p, self.margin, self.higher_is_better)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON, without its names."""
        return {
            "higher_is_better": self.higher_is_better,
            "base_value": self.base_value,
            "other_value": self.other_value,
            "difference": self.difference,
            "ci_low": self.low,
            "ci_high": self.high,
            "stderr": self.stderr,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "margin": self.margin,
            "verdict": self.verdict,
            "why": self.why,
            "not_comparable": self.not_comparable,
        }

    @classmethod
    def from_json(cls, metric: str, other: int, value: Any) -> RunComparison:
        """The inverse of `to_json`."""
        ends = {"low": value.get("ci_low"), "high": value.get("ci_high")}
        same = ("base_value", "other_value", "stderr", "p", "p_adjusted", "margin", "why", "not_comparable")
        plain = {name: value.get(name) for name in same}
        return cls(metric=metric, other=other, higher_is_better=value["higher_is_better"], **ends, **plain)


class Side(NamedTuple):
    """One run's metric in a comparison."""

    spec: RunMetricSpec
    metric: RunMetric
    run: RunRecord


class RunComparisons:
    """Compares runs as a whole, and keeps what was found."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._kept: OrderedDict[tuple[str, str], dict[str, Bootstrapped]] = OrderedDict()

    async def compare(self, runs: Sequence[RunRecord]) -> tuple[RunComparison, ...]:
        """Every score of the base run as a whole that another run has, too."""
        base, *others = [sides_of(run) for run in runs]
        found: list[RunComparison] = []
        for name, a in base.items():
            for place, other in enumerate(others):
                if name in other:
                    found += await self._pair(place, a, other[name])
        return tuple(found)

    async def _pair(self, place: int, a: Side, b: Side) -> list[RunComparison]:
        different = why_not_comparable(a, b)
        why, ends = None, dict[str, Bootstrapped]()
        if different is None:
            try:
                ends = await self._ends(a, b)
            except (ConfigError, BlobNotFoundError) as error:
                why = str(error)
            if why is None:
                why = TOO_FEW if a.spec.code is None else NO_DRAWS
        found = []
        for name, own_name, higher in names_of(a.spec):
            one, other, drawn = a.metric.values.get(name), b.metric.values.get(name), ends.get(own_name)
            if one is None or other is None:
                continue
            test = None
            if drawn is not None and one.value is not None and other.value is not None:
                test = tested(other.value - one.value, drawn)
            found.append(
                RunComparison(
                    metric=name,
                    other=place,
                    higher_is_better=higher,
                    base_value=one.value,
                    other_value=other.value,
                    low=test and test.low,
                    high=test and test.high,
                    stderr=test and test.stderr,
                    p=test and test.p,
                    why=None if test else why,
                    not_comparable=different,
                )
            )
        return found

    async def _ends(self, a: Side, b: Side) -> dict[str, Bootstrapped]:
        keys = a.metric.units, b.metric.units
        if keys[0] is None or keys[1] is None:
            return {}
        key = keys[0], keys[1]
        if key not in self._kept:
            data = [await self._blobs.get(one) for one in key]
            if a.spec.code is None:
                evaluator = build(a.spec.metric, a.spec.params)
                assert isinstance(evaluator, Additive)
                first, second = map(RowSums.unpacked, data)
                found = await asyncio.to_thread(differences, first, second, evaluator)
            else:
                base, other = map(Draws.unpacked, data)
                found = _paired(a, b, base, other)
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def judged_together(
    data: Sequence[PairedData], whole: Sequence[RunComparison], margins: Mapping[str, float]
) -> tuple[list[Judgement], list[RunComparison]]:
    """Judge metrics of cases and scores of the runs as a whole as one family (Holm), as gates do.

    Args:
        data: the metrics of cases.
        whole: the scores; those that are not comparable, or have no p, are no tests.
        margins: δ by metric; under "" that of all others.
    """
    p_of = {n: one.p for n, one in enumerate(whole) if one.p is not None and one.not_comparable is None}
    judgements, adjusted = judge_with(data, list(p_of.values()))
    by_place = dict(zip(p_of, adjusted, strict=True))
    return judgements, [
        replace(one, p_adjusted=by_place.get(n), margin=margins.get(one.metric, margins.get("")))
        for n, one in enumerate(whole)
    ]


def tested(difference: float, drawn: Bootstrapped) -> Tested:
    """The interval and the p of a difference, which agree on 0."""
    return agreed(Tested(difference, drawn.stderr, *drawn.interval, drawn.p))


def differences(
    first: RowSums, second: RowSums, evaluator: Additive, *, most_work: int = PAIRED_WORK
) -> dict[str, Bootstrapped]:
    """The differences of a metric's scores, second − first, over pairs of equal units."""
    if first.blocks != second.blocks:
        first, second = first.in_blocks(), second.in_blocks()
    names = sorted(first.units.keys() | second.units.keys())
    pairs = [(first.units.get(name, {}), second.units.get(name, {})) for name in names]
    found = paired_bootstrap(pairs, evaluator.values, most_work=most_work)
    totals = [evaluator.values(total_of(side)) for side in (first, second)]
    bounds = {name: evaluator.bounds.get(name, (0.0, 1.0)) for name in found}
    return _varied(found, totals, bounds, len(pairs))


def _varied(
    found: Mapping[str, Bootstrapped],
    values: Sequence[Mapping[str, float | None]],
    bounds: Mapping[str, tuple[float, float]],
    n: int,
) -> dict[str, Bootstrapped]:
    """The same intervals; where no draw varied, which is no certainty, that of a mean difference of numbers
    within the score's range, by its bounds, and none where these are not known."""
    made = {}
    for name, one in found.items():
        a, b = (side.get(name) for side in values)
        if one.stderr > 0 or a is None or b is None:
            made[name] = one
        elif name in bounds and n > 1:
            low, high = bounds[name]
            test = bp_t(b - a, 0.0, n, high - low)
            ends = Interval(min(test.low, b - a), max(test.high, b - a))
            made[name] = Bootstrapped(ends, test.stderr, one.resamples, test.p)
    return made


def _paired(a: Side, b: Side, base: Draws, other: Draws) -> dict[str, Bootstrapped]:
    """The intervals of a metric of a user's own: draws of equal rows are pairs.

    Raises:
        ConfigError: the runs are not of the same rows.
    """
    if base.units != other.units:
        raise ConfigError("the runs count other rows, so that what was drawn of them are no pairs")
    values = [
        {own: side.metric.values[name].value for name, own, _ in names_of(side.spec)} for side in (a, b)
    ]
    return paired_draws(values, base, other, b.spec, b.metric.rows)


def paired_draws(
    values: Sequence[Mapping[str, float | None]], base: Draws, other: Draws, spec: RunMetricSpec, n: int
) -> dict[str, Bootstrapped]:
    """The intervals of the differences of a user's metric, from draws that are pairs.

    Args:
        values: the base's, and the other's, by score.
        base, other: their draws, of the same rows.
        spec: the metric.
        n: rows that were drawn from.
    """
    found = {}
    for own, apart in other.against(base).items():
        before, after = (one.get(own) for one in values)
        if before is None or after is None:
            continue
        # Of clusters it is not known how many there are: of rows the interval is a little shorter.
        drawn = drawn_interval(after - before, apart, n)
        if drawn is not None:
            found[own] = drawn
    known = spec.value_range if spec.cluster_by is None else None
    return _varied(found, values, dict.fromkeys(found, known) if known else {}, n)


def sides_of(run: RunRecord) -> dict[str, Side]:
    """The metrics of a run as a whole, by name."""
    metrics = run_metrics_of(run)
    specs = Experiment.model_validate(run.experiment).run_evaluation if metrics else ()
    return {spec.name: Side(spec, metrics[spec.name], run) for spec in specs if spec.name in metrics}


def run_metrics_of(run: RunRecord) -> dict[str, RunMetric]:
    """Read the metrics of a run as a whole, by name."""
    found = (run.summary or {}).get("run_metrics") or {}
    return {name: RunMetric.from_json(value) for name, value in found.items()}


def why_not_comparable(a: Side, b: Side) -> str | None:
    judges = judges_of(a.run.summary), judges_of(b.run.summary)
    different = not_comparable(a.spec, b.spec, a.run.experiment, b.run.experiment, judges)
    reads_other = a.spec.column_mapping != b.spec.column_mapping
    return different or ("what it reads differs" if reads_other else None)
