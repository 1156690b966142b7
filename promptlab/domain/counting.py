"""How the rows of a metric count: which have a value, what stands for those that have none, and trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from promptlab.domain.experiment import Metric, Missing
from promptlab.domain.statistics import Distribution, as_count, as_number, as_object
from promptlab.errors import StoreDamagedError

MAX_LABELS = 50
Passes = dict[tuple[int, int], int]
"""(answers of a row that passed, answers of it) → rows."""


@dataclass(slots=True)
class RowCounts:
    """The rows that a metric is to score, beside the values that are there.

    Made shard by shard and merged by adding, so that it holds sums and never rows.
    """

    missing: Missing | None = None
    """What a case without a score counts as; None: the default of its kind."""
    bounds: tuple[float, float] | None = None
    """The range of the values, the evaluator's or 0 to 1; None for a metric that only measures."""
    declared: bool = False
    """Whether the range is known, and not only what values look like."""
    worst: float | None = None
    """The worse of `bounds`; None without."""
    clustered: bool = False
    """Whether rows belong together, so that the mean has no interval without clusters."""
    rows: int = 0
    """Dataset rows that the metric is to score."""
    bounded: int = 0
    """Those of them that `ends` are of."""
    partial: int = 0
    """Rows with a value of which another trial has none."""
    failures: int = 0
    """Cases that the model failed: it refused, or gave no usable answer."""
    lost: int = 0
    """Cases without a score for another reason: a broken connection, a time limit, an evaluator's error."""
    several: bool = False
    """Whether any row has more than one trial."""
    filled: Distribution = field(default_factory=Distribution)
    """Over rows (mean of their trials), a case that the model failed with the worst value. Empty without a
    range."""
    ends: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Sums over all rows: what is missing with the worst value; failures with the worst and the rest with the
    best; all of it with the best."""
    passes: Passes = field(default_factory=dict)
    """Of several trials with values of 0 and 1, those that have a score."""
    passes_filled: Passes = field(default_factory=dict)
    """The same, failures counted as answers that did not pass."""
    labelled: int = 0
    """Rows with a label."""
    shares: dict[str, list[float]] = field(default_factory=dict)
    """Label → the sum of its shares of rows' trials, and the sum of their squares; of several trials only."""

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """An empty one for a metric."""
        bounds = metric.bounds
        worst = None if bounds is None else bounds[0] if metric.higher_is_better else bounds[1]
        return cls(metric.missing, bounds, metric.has_declared_bounds, worst, metric.cluster_by is not None)

    def add_row(self, values: list[float], labels: list[str], failures: int, lost: int) -> None:
        """Count a row by the values and the labels of its trials, and how many have none, and why."""
        if not (values or labels or failures or lost):
            return  # there was nothing to measure in it
        self.rows += 1
        self.failures += failures
        self.lost += lost
        self.partial += bool((values or labels) and (failures or lost))
        several = len(values) + failures + lost > 1
        self.several = self.several or several or len(labels) > 1
        if labels:
            self.labelled += 1
            for label in set(labels):
                _share(self.shares, label, labels.count(label) / len(labels))
        if self.bounds is not None and self.worst is not None and not (labels and not values):
            self._fill(values, failures, lost, self.worst, sum(self.bounds) - self.worst)
        if several and all(v in (0.0, 1.0) for v in values):
            passed, n = int(sum(values)), len(values)
            if n:
                self.passes[passed, n] = self.passes.get((passed, n), 0) + 1
            if n + failures and self.worst is not None:
                key = passed + failures * (self.worst == 1.0), n + failures
                self.passes_filled[key] = self.passes_filled.get(key, 0) + 1

    def _fill(self, values: list[float], failures: int, lost: int, worst: float, best: float) -> None:
        total, n = sum(values), len(values)
        if n + failures:
            self.filled.add((total + failures * worst) / (n + failures))
        if all_ := n + failures + lost:
            self.bounded += 1
            ends = (failures + lost) * worst, failures * worst + lost * best, (failures + lost) * best
            low, middle, high = ((total + end) / all_ for end in ends)
            self.ends = self.ends[0] + low, self.ends[1] + middle, self.ends[2] + high

    def merge(self, other: Self) -> None:
        """Add all that `other` has counted."""
        if other.bounds is not None or other.missing is not None:
            self.missing, self.bounds = other.missing, other.bounds
            self.declared, self.worst = other.declared, other.worst
        self.clustered = self.clustered or other.clustered
        for name in ("rows", "bounded", "partial", "failures", "lost", "labelled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.several = self.several or other.several
        self.filled.merge(other.filled)
        a, b = self.ends, other.ends
        self.ends = a[0] + b[0], a[1] + b[1], a[2] + b[2]
        for mine, theirs in ((self.passes, other.passes), (self.passes_filled, other.passes_filled)):
            for key, rows in theirs.items():
                mine[key] = mine.get(key, 0) + rows
        for label, (total, squares) in other.shares.items():
            _share(self.shares, label, total, squares)

    def to_json(self) -> dict[str, Any]:
        """JSON; the inverse of `from_json`. What is not needed of it is left out."""
        found: dict[str, Any] = {"rows": self.rows}
        for name in ("missing", "worst"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        if self.bounds is not None:
            found["bounds"] = list(self.bounds)
        for name in ("partial", "failures", "lost", "labelled", "declared", "several", "clustered"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        if self.failures:
            found["filled"] = self.filled.to_json()
        if self.failures or self.lost:
            found |= {"ends": list(self.ends), "bounded": self.bounded}
        if self.several:
            found |= {
                name: [[*key, rows] for key, rows in sorted(getattr(self, name).items())]
                for name in ("passes", "passes_filled")
                if getattr(self, name)
            }
            if self.shares:
                found["shares"] = self.shares
        return found

    @classmethod
    def from_json(cls, value: Any, values: Distribution, labels: Mapping[str, int]) -> Self:
        """The counts of a JSON object; where no case failed, rows are filled as `values` are, and of single
        trials a label's shares are its count.

        Raises:
            StoreDamagedError: a number in it is none, or counts what cannot be counted.
        """
        value = as_object(value, "counting")
        missing, bounds, worst = value.get("missing"), value.get("bounds"), value.get("worst")
        failures, lost = (
            as_count(value.get("failures", 0), "failures"),
            as_count(value.get("lost", 0), "lost"),
        )
        plain = {label: [float(n), float(n)] for label, n in labels.items()}
        found = cls(
            missing=missing if missing in ("fail", "exclude", "bound") else None,
            bounds=None if bounds is None else _numbers(bounds, 2, "bounds"),  # type: ignore[arg-type]
            declared=bool(value.get("declared", False)),
            worst=None if worst is None else as_number(worst, "worst"),
            rows=as_count(value.get("rows", 0), "rows"),
            partial=as_count(value.get("partial", 0), "partial"),
            failures=failures,
            lost=lost,
            several=bool(value.get("several", False)),
            clustered=bool(value.get("clustered", False)),
            labelled=as_count(value.get("labelled", 0), "labelled"),
            passes=_passes(value.get("passes", ())),
            passes_filled=_passes(value.get("passes_filled", ())),
            shares={
                str(label): list(_numbers(sums, 2, "shares"))
                for label, sums in as_object(value.get("shares", plain), "shares").items()
            },
        )
        if found.bounds is not None:
            if failures:
                found.filled = Distribution.from_json(value.get("filled", {}))
            else:
                found.filled.merge(values)
            total = values.total + values.carry
            whole = (total, total, total)
            found.bounded = as_count(value.get("bounded", values.n), "bounded")
            found.ends = _numbers(value.get("ends"), 3, "ends") if failures or lost else whole  # type: ignore[assignment]
        return found


def _share(shares: dict[str, list[float]], label: str, share: float, squares: float | None = None) -> None:
    if label not in shares and len(shares) >= MAX_LABELS:
        label = "…"
    sums = shares.setdefault(label, [0.0, 0.0])
    sums[0] += share
    sums[1] += share * share if squares is None else squares


def _numbers(value: Any, n: int, name: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != n:
        raise StoreDamagedError(f"{name} must be {n} numbers")
    return tuple(as_number(one, name) for one in value)


def _passes(value: Iterable[Any]) -> Passes:
    found: Passes = {}
    for item in value:
        if not isinstance(item, list | tuple) or len(item) != 3:
            raise StoreDamagedError("passes must be lists of three counts")
        passed, n, rows = (as_count(one, "passes") for one in item)
        if passed > n:
            raise StoreDamagedError(f"passes: {passed} of {n} trials")
        found[passed, n] = rows
    return found
