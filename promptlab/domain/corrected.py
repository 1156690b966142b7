"""What people's labels make of a judge's mean, and of its difference between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from promptlab.domain.records import made


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedMean:
    """A judge's mean, corrected by labels (PPI++)."""

    metric: str
    mean: float
    ci_low: float
    """The 95% interval."""
    ci_high: float
    stderr: float
    judge_mean: float
    """The judge's own mean of all rows that it scored."""
    labels: int
    """Rows with a label and a score."""
    weight: float
    """How much the judge's scores count: 0 nothing, 1 fully."""
    own: bool
    random: bool
    caveat: str | None = None
    """What may make the interval wrong, in words."""

    @property
    def words(self) -> str:
        """`corrected by 120 labels: 0.719 (0.649 … 0.779)`."""
        said = (
            f"corrected by {self.labels:,} labels: {self.mean:.4g} ({self.ci_low:.4g} … {self.ci_high:.4g})"
        )
        return f"{said}; {self.caveat}" if self.caveat else said

    def to_json(self) -> dict[str, Any]:
        """Write it as the API gives it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CorrectedMean:
        """Read its JSON."""
        return made(cls, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedDifference:
    """A judge's difference between two runs, corrected by labels of the same rows in both (PPI++)."""

    metric: str
    difference: float
    """other − base, as people would see it."""
    ci_low: float
    ci_high: float
    stderr: float
    judge_difference: float
    """The judge's own, over the rows that both runs have a score of."""
    labels: int
    """Rows that are labelled in both runs."""
    weight: float
    verdict: str
    """better, worse, or no evidence of a difference."""
    own: bool
    random: bool
    caveat: str | None = None

    @property
    def words(self) -> str:
        """`the judge says +0.083; 100 labels allow -0.05 … +0.03: no evidence of a difference`."""
        said = (
            f"the judge says {self.judge_difference:+.4g}; {self.labels:,} labels allow {self.ci_low:+.4g} … "
            f"{self.ci_high:+.4g}: {self.verdict}"
        )
        return f"{said}; {self.caveat}" if self.caveat else said

    def to_json(self) -> dict[str, Any]:
        """Write it as the API gives it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CorrectedDifference:
        """Read its JSON."""
        return made(cls, value)
