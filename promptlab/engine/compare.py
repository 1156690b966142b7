"""Two to four runs, joined case by case: SQL over their results files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Change = Literal["all", "different", "regressed", "improved", "same"]
"""`different`: a score, label or verdict differs, or only one of the two has it; `same`: not different."""
Verdict = Literal["improved", "regressed", "same", "different", "missing"]
"""`different`: labels differ, without better or worse; `missing`: at most one side has a score."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Which pairs of cases a page shows."""

    change: Change = "all"
    metric: str | None = None
    """The metric that `change` is about; None: any."""
    other: int | None = None
    """The run, by its place in `others`, that `change` is about; None: any."""
    text: str = ""
    """A part of the id, an input or any run's answer, whatever its case."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of the base run and one other, over the dataset rows that both scored."""

    metric: str
    other: int
    """The other run, by its place in `others`."""
    higher_is_better: bool
    n: int
    """Dataset rows with a score in both."""
    base_mean: float | None
    other_mean: float | None
    difference: float | None
    """Mean of other − base over the pairs."""
    stderr: float | None
    low: float | None
    """The 95% interval of the difference."""
    high: float | None
    improved: int
    """Cases: wins of the other run. These counts are what `Compared(change, metric, other)` selects."""
    regressed: int
    same: int
    different: int
    """All cases that are not the same: improved, regressed, other labels, scored on one side only."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run's half of a pair; all None where the run has no such case."""

    case: int | None
    trial: int | None
    response: str | None
    error_type: str | None
    error_message: str | None
    latency_ms: float | None
    cost_usd: float | None
    scores: Mapping[str, Mapping[str, Any]]
    """Metric → {score, passed, label}."""
    cut: bool
    """Whether the response is longer than what is here."""


@dataclass(frozen=True, slots=True)
class Delta:
    """How one metric of a case changed."""

    difference: float | None
    """other − base."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class PairRow:
    """One case in every run."""

    case: int
    """Of the base run."""
    trial: int
    id: str
    inputs: dict[str, Any]
    base: Side
    others: tuple[Side, ...]
    deltas: tuple[Mapping[str, Delta], ...]
    """Per other run: metric → delta."""


@dataclass(frozen=True, slots=True)
class ComparePage:
    """One page of a comparison, and its counts."""

    rows: list[PairRow]
    total_matching: int
    total: int
    """Cases that all runs have."""
    offset: int
    limit: int
    counts: Mapping[Change, int]
    """Cases per change, for the metric and run chosen; without the text."""
    metrics: tuple[MetricComparison, ...]
    joined_on: Literal["case", "id"]
    """`case`: the runs have the same dataset version; `id`: another one, joined on the rows' ids."""
    unmatched: tuple[tuple[int, int], ...]
    """Per other run: cases that only the base has, cases that only the other has."""


# On QueryEngine: async compare(base: RunRecord, others: Sequence[RunRecord], selected: Compared = Compared(), *,
#     sort: str = "case" (or "difference": largest change of `metric` against `other` first), descending=False, offset=0, limit=25, text_chars=600) -> ComparePage
