"""Metrics of runs as a whole, compared: differences with a paired bootstrap over the rows of both."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.experiment import Experiment, RunMetricSpec
from promptlab.domain.results import RunRecord
from promptlab.domain.run_metrics import RunMetric
from promptlab.errors import BlobNotFoundError, ConfigError
from promptlab.evaluators.of_runs import Additive
from promptlab.evaluators.registry import build
from promptlab.ports import Blobs
from promptlab.results.run_sums import RowSums, names_of
from promptlab.statistics import Bootstrapped, paired_bootstrap

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
    def verdict(self) -> str | None:
        """better or worse where the interval excludes 0, else undecided; None without an interval."""
        if self.low is None or self.high is None or self.not_comparable:
            return None
        if self.low <= 0 <= self.high:
            return "undecided"
        return "better" if (self.low > 0) == self.higher_is_better else "worse"

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
            "verdict": self.verdict,
            "why": self.why,
            "not_comparable": self.not_comparable,
        }

    @classmethod
    def from_json(cls, metric: str, other: int, value: Any) -> RunComparison:
        """The inverse of `to_json`."""
        ends = {"low": value.get("ci_low"), "high": value.get("ci_high")}
        same = ("base_value", "other_value", "stderr", "why", "not_comparable")
        plain = {name: value.get(name) for name in same}
        return cls(metric=metric, other=other, higher_is_better=value["higher_is_better"], **ends, **plain)


class RunComparisons:
    """Compares runs as a whole, and keeps what was found."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._kept: OrderedDict[tuple[str, str], dict[str, Bootstrapped]] = OrderedDict()

    async def compare(self, runs: Sequence[RunRecord]) -> tuple[RunComparison, ...]:
        """Every score of the base run as a whole that another run has, too."""
        base, *others = [(_specs(run), _metrics(run)) for run in runs]
        found: list[RunComparison] = []
        for name, metric in base[1].items():
            for place, (specs, metrics) in enumerate(others):
                if name in metrics and name in base[0] and name in specs:
                    pair = (base[0][name], metric), (specs[name], metrics[name])
                    found += await self._pair(place, *pair)
        return tuple(found)

    async def _pair(
        self, place: int, a: tuple[RunMetricSpec, RunMetric], b: tuple[RunMetricSpec, RunMetric]
    ) -> list[RunComparison]:
        different = _not_comparable(a[0], b[0])
        why, ends = None, dict[str, Bootstrapped]()
        if different is None:
            try:
                ends = await self._ends(a, b)
            except (ConfigError, BlobNotFoundError) as error:
                why = str(error)
            if not ends and why is None:
                own = a[1].units is None or b[1].units is None
                why = "a metric of one's own has no interval of its difference" if own else "too few rows"
        found = []
        for name, own_name, higher in names_of(a[0]):
            one, other, drawn = a[1].values.get(name), b[1].values.get(name), ends.get(own_name)
            if one is None or other is None:
                continue
            found.append(
                RunComparison(
                    metric=name,
                    other=place,
                    higher_is_better=higher,
                    base_value=one.value,
                    other_value=other.value,
                    low=drawn.interval.low if drawn else None,
                    high=drawn.interval.high if drawn else None,
                    stderr=drawn.stderr if drawn else None,
                    why=None if drawn else why,
                    not_comparable=different,
                )
            )
        return found

    async def _ends(
        self, a: tuple[RunMetricSpec, RunMetric], b: tuple[RunMetricSpec, RunMetric]
    ) -> dict[str, Bootstrapped]:
        keys = a[1].units, b[1].units
        if keys[0] is None or keys[1] is None:
            return {}
        key = keys[0], keys[1]
        if key not in self._kept:
            first, second = [RowSums.unpacked(await self._blobs.get(one)) for one in key]
            evaluator = build(a[0].metric, a[0].params)
            assert isinstance(evaluator, Additive)
            found = await asyncio.to_thread(_drawn, first, second, evaluator)
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _drawn(first: RowSums, second: RowSums, evaluator: Additive) -> dict[str, Bootstrapped]:
    if first.blocks != second.blocks:
        first, second = first.in_blocks(), second.in_blocks()
    names = sorted(first.units.keys() | second.units.keys())
    pairs = [(first.units.get(name, {}), second.units.get(name, {})) for name in names]
    return paired_bootstrap(pairs, evaluator.values)


def _specs(run: RunRecord) -> dict[str, RunMetricSpec]:
    experiment = Experiment.model_validate(run.experiment)
    return {spec.name: spec for spec in experiment.run_evaluation}


def _metrics(run: RunRecord) -> dict[str, RunMetric]:
    found = (run.summary or {}).get("run_metrics") or {}
    return {name: RunMetric.from_json(value) for name, value in found.items()}


def _not_comparable(a: RunMetricSpec, b: RunMetricSpec) -> str | None:
    if a.metric != b.metric and (a.code is None or b.code is None):
        return f"it is {a.metric} in one run and {b.metric} in the other"
    if a.params != b.params:
        names = sorted(k for k in a.params.keys() | b.params.keys() if a.params.get(k) != b.params.get(k))
        return f"its parameters differ: {', '.join(names)}"
    if a.cluster_by != b.cluster_by:
        return "rows belong together by other columns"
    if a.column_mapping != b.column_mapping or a.when != b.when or a.extract != b.extract:
        return "what it reads differs"
    return None
