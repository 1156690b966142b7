"""What a metric of a run as a whole came to: its scores with intervals, and what is shown beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from promptlab.domain.statistics import as_count, as_number, as_object


@dataclass(frozen=True, slots=True, kw_only=True)
class RunValue:
    """One score of a run."""

    value: float | None = None
    label: str | None = None
    low: float | None = None
    """The 95% interval; None where there is none."""
    high: float | None = None
    stderr: float | None = None
    higher_is_better: bool = True
    reason: str | None = None
    error: str | None = None
    """Why there is no score."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON: `{value, ci_low, ci_high, stderr, higher_is_better}`, and where there is one
        `label`, `reason` and `error`."""
        further = {"label": self.label, "reason": self.reason, "error": self.error}
        return {
            "value": self.value,
            "ci_low": self.low,
            "ci_high": self.high,
            "stderr": self.stderr,
            "higher_is_better": self.higher_is_better,
            **{name: one for name, one in further.items() if one is not None},
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            StoreDamagedError: a number in it is none.
        """
        found = as_object(value, "score of a run")
        numbers: dict[str, Any] = {
            ours: None if found.get(name) is None else as_number(found[name], name)
            for ours, name in (
                ("value", "value"),
                ("low", "ci_low"),
                ("high", "ci_high"),
                ("stderr", "stderr"),
            )
        }
        texts: dict[str, Any] = {
            name: None if found.get(name) is None else str(found[name])
            for name in ("label", "reason", "error")
        }
        return cls(**numbers, **texts, higher_is_better=bool(found.get("higher_is_better", True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetric:
    """One metric of a run as a whole."""

    metric: str
    """The metric's own name, such as classification; of a user's own what it is called."""
    values: Mapping[str, RunValue] = field(default_factory=dict)
    """By name in results: the metric's, or `metric.score` where it has several."""
    cases: int = 0
    """Cases that count."""
    rows: int = 0
    """Dataset rows that they are of; these, or clusters of them, are drawn for the intervals."""
    lost: int = 0
    """Cases that could not be counted."""
    lost_why: str | None = None
    """Why the first of these could not."""
    method: str | None = None
    """How the intervals are made."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What is shown beside the scores: `kind` is confusion or reliability."""
    units: str | None = None
    """Key of the blob with the sums of rows, which differences of runs are made of; None where there is
    none."""
    by_case: str | None = None
    """Key of the blob with the sums of each case, which scores of a part of the rows are made of; None where
    there is none."""

    by_slice: str | None = None
    """Key of the blob with the scores of slices, of a metric of a user's own; None where there is none."""

    def brief(self) -> dict[str, Any]:
        """Give what programs are told: as `to_json`, without the keys of sums."""
        return {
            name: value
            for name, value in self.to_json().items()
            if name not in ("units", "by_case", "by_slice")
        }

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "metric": self.metric,
            "values": {name: value.to_json() for name, value in self.values.items()},
            "cases": self.cases,
            "rows": self.rows,
            **({"lost": self.lost, "lost_why": self.lost_why} if self.lost else {}),
            **({"method": self.method} if self.method else {}),
            **({"detail": dict(self.detail)} if self.detail else {}),
            **({"units": self.units} if self.units else {}),
            **({"by_case": self.by_case} if self.by_case else {}),
            **({"by_slice": self.by_slice} if self.by_slice else {}),
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            StoreDamagedError: a number in it is none.
        """
        found = as_object(value, "metric of a run")
        values = as_object(found.get("values", {}), "values")
        texts: dict[str, Any] = {
            name: None if found.get(name) is None else str(found[name])
            for name in ("lost_why", "method", "units", "by_case", "by_slice")
        }
        counts: dict[str, Any] = {n: as_count(found.get(n, 0), n) for n in ("cases", "rows", "lost")}
        return cls(
            metric=str(found.get("metric", "")),
            values={str(name): RunValue.from_json(one) for name, one in values.items()},
            **counts,
            **texts,
            detail=as_object(found.get("detail", {}), "detail"),
        )
