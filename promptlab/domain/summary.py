"""Aggregates of a metric and of a run, built up case by case and merged shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from promptlab.domain.clustered_mean import ClusteredMean
from promptlab.domain.counting import MAX_LABELS, RowCounts
from promptlab.domain.experiment import Metric
from promptlab.domain.judged_by import JudgedBy
from promptlab.domain.results import FILTERED, Score, Usage
from promptlab.domain.run_metrics import RunMetric
from promptlab.domain.said import Messages, merge_messages, most_frequent
from promptlab.domain.spending import Spending, counts_of, summed
from promptlab.domain.statistics import (
    Distribution,
    as_count,
    as_object,
)
from promptlab.domain.usages import spending_from, usage_from
from promptlab.errors import StoreDamagedError

T = TypeVar("T")

SCORE_REFUSED = "evaluator_refused"
"""The type of a failed score's error where the metric's model was refused for what has nothing to do with the
case: a wrong key, an unknown model, no credit."""
SCORE_ERRORS = ("evaluator_error", "evaluator_timeout", SCORE_REFUSED)
"""The types of failed scores' errors."""
_COUNTS = ("cases", "succeeded", "failed", "attempts", "cut", "cached")
MOST_REASONS, OTHER = 20, "other"
"""Different finish reasons that are counted by name, and the name of all others: a user's own model says
whatever it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanInterval:
    """The interval of a mean at 95%, and how it is made; None for what so few rows do not give."""

    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    method: str | None = None
    """`wilson`, `wilson_t`, `t`, or with clusters `CR1 t`, `CR3 wilson_t`, …"""


@dataclass(slots=True)
class MetricSummary:
    """One metric over many cases.

    The trials of one dataset row are one observation, their mean: they are not independent, and
    counting each would make the interval too narrow.
    """

    higher_is_better: bool = True
    scored: int = 0
    """Cases with a value or a label."""
    failed: int = 0
    """Cases whose evaluator failed."""
    not_applicable: int = 0
    """Cases of rows that the metric's `when` leaves out: neither scored nor failed."""
    unlabelled: int = 0
    """Cases of rows whose reference is empty: neither scored nor failed."""
    binary: bool = True
    """Whether every value so far was pass/fail."""
    zero_one: bool = False
    """Whether every value so far was 0 or 1, of a metric whose mean is then a share: also if evaluators
    return numbers."""
    values: Distribution = field(default_factory=Distribution)
    """Over dataset rows (mean of their trials), of the cases that have a value."""
    labels: dict[str, int] = field(default_factory=dict)
    """Cases per label; beyond 50 different ones, counted under `…`."""
    usage: Usage = field(default_factory=Usage)
    """The usage of the metric's own calls to models: judges, embeddings. Not part of the
    run's cost of the model."""
    counting: RowCounts | None = field(default_factory=RowCounts)
    """How the rows count that have no value, and trials; None in summaries of older versions."""
    clusters: ClusteredMean | None = None
    """The mean over rows that belong together, of a finished run with `cluster_by`."""
    judges: JudgedBy | None = None
    """Who judged; None of a metric that asks no model, and in summaries of older versions."""

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """An empty one for a metric of an experiment."""
        return cls(
            higher_is_better=metric.higher_is_better,
            zero_one=metric.may_be_a_share,
            counting=RowCounts.of(metric),
            judges=JudgedBy() if metric.judge else None,
        )

    def add_row(self, scores: Iterable[Score], *, failures: int = 0, lost: int = 0) -> None:
        """Count one dataset row.

        Args:
            scores: of its trials, as far as they have one.
            failures: trials that the model failed.
            lost: trials without a score for another reason; failed scores are counted besides.
        """
        values, labels = list[float](), list[str]()
        for score in scores:
            if score.usage:
                self.usage.add(score.usage)
            if score.error:
                self.failed += 1
                lost += 1
                continue
            self.scored += score.value is not None or score.label is not None
            if self.judges is not None:
                self.judges.add(score)
            if score.value is not None:
                values.append(score.value)
                self.zero_one = self.zero_one and score.value in (0.0, 1.0)
                self.binary = self.binary and score.passed is not None and score.value in (0.0, 1.0)
            if score.label is not None:
                labels.append(score.label)
                self._count_label(score.label, 1)
        if values:
            self.values.add(sum(values) / len(values))
        if self.counting is not None:
            self.counting.add_row(values, labels, failures, lost)

    def _count_label(self, label: str, count: int) -> None:
        if label not in self.labels and len(self.labels) >= MAX_LABELS:
            label = "…"
        self.labels[label] = self.labels.get(label, 0) + count

    def merge(self, other: Self) -> None:
        """Add all that `other` has counted."""
        self.higher_is_better = other.higher_is_better
        self.scored += other.scored
        self.failed += other.failed
        self.not_applicable += other.not_applicable
        self.unlabelled += other.unlabelled
        self.binary = self.binary and other.binary
        self.zero_one = self.zero_one and other.zero_one
        self.values.merge(other.values)
        self.usage.add(other.usage)
        self.clusters = None
        if self.judges is not None and other.judges is not None:
            self.judges.merge(other.judges)
        for label, count in other.labels.items():
            self._count_label(label, count)
        if self.counting is None or other.counting is None:
            self.counting = None
        else:
            self.counting.merge(other.counting)

    @property
    def fills(self) -> bool:
        """Whether what the model failed counts as the worst value in the mean: as `missing` says, else of
        pass/fail and of metrics with a known range."""
        found = self.counting
        if (
            found is None
            or found.bounds is None
            or not (self.values.n or (found.declared and not self.labels))
        ):
            return False
        if self.values.n and not (found.bounds[0] <= self.values.min and self.values.max <= found.bounds[1]):  # type: ignore[operator]
            return False
        known = found.declared or ((self.binary or self.zero_one) and self.values.n > 0)
        return found.missing == "fail" or (found.missing is None and known)

    @property
    def counted(self) -> Distribution:
        """The values that the mean is of, over dataset rows."""
        return self.counting.filled if self.counting is not None and self.fills else self.values

    @property
    def n(self) -> int:
        """Dataset rows with a value in the mean; of a metric of labels alone, with a label."""
        counted = self.counted
        if not counted.n and self.labels and self.counting is not None:
            return self.counting.labelled
        return counted.n

    @property
    def rows(self) -> int | None:
        """Dataset rows that the metric is to score; None in summaries of older versions."""
        return None if self.counting is None else max(self.counting.rows, self.n)

    @property
    def mean(self) -> float | None:
        counted = self.counted
        return counted.mean if counted.n else None

    @property
    def is_share(self) -> bool:
        """Whether the mean is the share of rows that pass: every value is 0 or 1, of one trial."""
        if self.counting is not None:
            return (self.binary or self.zero_one) and self.counted.n > 0 and not self.counting.several
        return (self.binary or self.zero_one) and 0 < self.values.n == self.scored

    @property
    def estimate(self) -> MeanInterval:
        """The mean's interval, its standard error, and how they are made."""
        from promptlab.domain.means import estimate  # on use: a run needs it at its end only

        return estimate(self)

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean; None where there is no interval."""
        return self.estimate.stderr

    @property
    def interval(self) -> tuple[float, float] | tuple[None, None]:
        """The 95% interval of the mean: Wilson's for pass/fail and zeros and ones, wilson_t for bounded
        numbers and trials, Student's for all others."""
        found = self.estimate
        return (None, None) if found.low is None or found.high is None else (found.low, found.high)

    @property
    def worst_case(self) -> tuple[float, float] | tuple[None, None]:
        """The least and the greatest mean over all rows, whatever the missing scores are; None where none are
        missing, or `missing` is `exclude`."""
        from promptlab.domain.means import worst_case

        return worst_case(self)

    def brief(self) -> dict[str, Any]:
        """Return what programs are told of it: `{n, rows, mean, stderr, ci_low, ci_high, method, …}`, as
        `promptlab.domain.means.brief` has it."""
        from promptlab.domain.means import brief

        return brief(self)

    def to_json(self) -> dict[str, Any]:
        return {
            "higher_is_better": self.higher_is_better,
            "scored": self.scored,
            "failed": self.failed,
            **({"not_applicable": self.not_applicable} if self.not_applicable else {}),
            **({"unlabelled": self.unlabelled} if self.unlabelled else {}),
            "binary": self.binary,
            "zero_one": self.zero_one,
            "values": self.values.to_json(),
            "labels": dict(self.labels),
            **({"usage": self.usage.to_json()} if self.usage.calls else {}),
            **({"counting": self.counting.to_json()} if self.counting is not None else {}),
            **({"clusters": self.clusters.to_json()} if self.clusters is not None else {}),
            **({"judges": self.judges.to_json()} if self.judges is not None else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The aggregate of a JSON object; what it lacks is empty, what is unknown is left out.

        Raises:
            StoreDamagedError: a number in it is none, or counts what cannot be counted.
        """
        value = as_object(value, "metric")
        values = Distribution.from_json(value.get("values", {}))
        labels = _counts(value.get("labels", {}), "labels")
        counting, clusters, judges = (value.get(name) for name in ("counting", "clusters", "judges"))
        return cls(
            higher_is_better=bool(value.get("higher_is_better", True)),
            scored=as_count(value.get("scored", 0), "scored"),
            failed=as_count(value.get("failed", 0), "failed"),
            not_applicable=as_count(value.get("not_applicable", 0), "not_applicable"),
            unlabelled=as_count(value.get("unlabelled", 0), "unlabelled"),
            binary=bool(value.get("binary", False)),
            zero_one=bool(value.get("zero_one", False)),
            values=values,
            labels=labels,
            usage=usage_from(value["usage"]) if value.get("usage") else Usage(),
            counting=None if counting is None else RowCounts.from_json(counting, values, labels),
            clusters=None if clusters is None else ClusteredMean.from_json(clusters),
            judges=None if judges is None else JudgedBy.from_json(judges),
        )


def _counts(value: Any, name: str) -> dict[str, int]:
    return {str(key): as_count(count, name) for key, count in as_object(value, name).items()}


@dataclass(slots=True)
class Summary:
    """A run's aggregate."""

    cases: int = 0
    succeeded: int = 0
    """Cases with an answer, however it was scored."""
    failed: int = 0
    """Cases whose model call failed. Failed scores are counted with their metric, and are no failed cases."""
    prompt_tokens: int | None = 0
    """Tokens read, of the cases whose tokens are known; None when nothing is known."""
    completion_tokens: int | None = 0
    """Tokens written, likewise."""
    cost_usd: float | None = 0.0
    """Dollars; None when the price of a call is unknown."""
    unknown_tokens: int = 0
    """Cases whose tokens are unknown, and not in the sums."""
    unknown_cost: int = 0
    """Cases whose cost is unknown: an answer without a price, or a failed call that
    may have been paid for."""
    unpriced: int = 0
    """How many of `unknown_cost` were answered."""
    attempts: int = 0
    """Calls made, retries included."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed cases by the type of their error."""
    messages: Messages = field(default_factory=dict)
    """The most frequent messages of each type of error: type → message → cases. Empty in
    summaries of older versions."""
    cut: int = 0
    """Answers that the model stopped at its limit of tokens."""
    cached: int = 0
    """Cases that were answered from the cache."""
    finish_reasons: dict[str, int] = field(default_factory=dict)
    """Answers by why the model stopped, as the provider puts it; what is said beyond MOST_REASONS different
    ones is `other`. Empty in summaries of older versions."""
    simulated_user: Usage = field(default_factory=Usage)
    """What the simulated users of conversations used: their dollars are in `cost_usd`, their tokens are not
    in the model's sums."""
    latency_ms: Distribution = field(default_factory=Distribution)
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    run_metrics: dict[str, RunMetric] = field(default_factory=dict)
    """The metrics of the run as a whole, once it is summarized."""

    @property
    def has_failures(self) -> bool:
        """Whether a pass over the failures has anything to do: failed cases, or failed scores."""
        return self.has_failures_of(())

    def has_failures_of(self, errors: Collection[str]) -> bool:
        """Check whether a pass over the failures with one of these types of error, or over all where none is
        named, may have anything to do. Types of failed scores are not counted: any may be one of these."""
        cases = any(map(self.errors.get, errors)) if errors else self.failed > 0
        return cases or any(metric.failed for metric in self.metrics.values())

    @property
    def metrics_usage(self) -> Usage:
        """Sum up what the metrics' own calls to models used."""
        total = Usage()
        for metric in self.metrics.values():
            total.add(metric.usage)
        return total

    def spend(self, more: Spending) -> None:
        """Add what calls used."""
        for name, value in summed(self, more).items():
            setattr(self, name, value)

    def finished(self, reason: str, count: int = 1) -> None:
        """Count answers that finished for a reason."""
        known = self.finish_reasons
        if reason not in known and len(known) >= MOST_REASONS:
            reason = OTHER
        known[reason] = known.get(reason, 0) + count

    @property
    def filtered(self) -> int:
        """Answers that a filter held back."""
        return sum(n for reason, n in self.finish_reasons.items() if reason.lower() in FILTERED)

    def merge(self, other: Self) -> None:
        """Add all that `other` has counted."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.spend(other)
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count
        for reason, count in other.finish_reasons.items():
            self.finished(reason, count)
        merge_messages(self.messages, other.messages)
        self.simulated_user.add(other.simulated_user)
        self.latency_ms.merge(other.latency_ms)
        for name, metric in other.metrics.items():
            if name in self.metrics:
                self.metrics[name].merge(metric)
            else:
                self.metrics[name] = MetricSummary.from_json(metric.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            **counts_of(self),
            "attempts": self.attempts,
            "errors": dict(self.errors),
            "messages": most_frequent(self.messages),
            "cut": self.cut,
            **({"cached": self.cached} if self.cached else {}),
            **({"finish_reasons": dict(self.finish_reasons)} if self.finish_reasons else {}),
            **({"simulated_user": self.simulated_user.to_json()} if self.simulated_user.calls else {}),
            "latency_ms": self.latency_ms.to_json(),
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            **(
                {"run_metrics": {name: metric.to_json() for name, metric in self.run_metrics.items()}}
                if self.run_metrics
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The aggregate of a JSON object; what it lacks is empty, what is unknown is left out.

        Raises:
            StoreDamagedError: a number in it is none, or counts what cannot be counted;
                the message names its place.
        """
        value = as_object(value, "summary")
        metrics = as_object(value.get("metrics", {}), "metrics")
        return cls(
            **{name: as_count(value.get(name, 0), name) for name in _COUNTS},
            **spending_from(value),
            errors=_counts(value.get("errors", {}), "errors"),
            finish_reasons=_counts(value.get("finish_reasons", {}), "finish_reasons"),
            messages={
                kind: _counts(known, f"messages: {kind}")
                for kind, known in as_object(value.get("messages", {}), "messages").items()
            },
            simulated_user=usage_from(value["simulated_user"]) if value.get("simulated_user") else Usage(),
            latency_ms=_inside("latency_ms", Distribution.from_json, value.get("latency_ms", {})),
            metrics={
                name: _inside(name, MetricSummary.from_json, metric) for name, metric in metrics.items()
            },
            run_metrics={
                name: _inside(name, RunMetric.from_json, metric)
                for name, metric in as_object(value.get("run_metrics", {}), "run_metrics").items()
            },
        )


def _inside(place: str, read: Callable[[Any], T], value: Any) -> T:
    try:
        return read(value)
    except StoreDamagedError as error:
        raise StoreDamagedError(f"{place}: {error}") from error
