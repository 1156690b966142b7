"""A mean over rows that belong together, as a finished run's summary keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from promptlab.domain.statistics import as_count, as_number, as_object


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over rows that belong together, by a dataset's column."""

    column: str
    groups: int
    """Different values of the column."""
    stderr: float
    """The cluster-robust standard error of the mean."""
    method: str
    """`CR1`, or `CR3` where sizes differ by more than 2:1."""
    df: float | None = None
    """Degrees of freedom; of older summaries none is known, and theirs were G − 1."""

    @property
    def like_rows(self) -> float:
        """How many independent rows have as many degrees of freedom."""
        return (self.groups - 1 if self.df is None else self.df) + 1

    def to_json(self) -> dict[str, Any]:
        """Write it as a summary keeps it."""
        return {
            "column": self.column,
            "groups": self.groups,
            "stderr": self.stderr,
            "method": self.method,
            "df": self.df,
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote.

        Raises:
            StoreDamagedError: a number in it is none.
        """
        value = as_object(value, "clusters")
        return cls(
            str(value.get("column", "")),
            as_count(value.get("groups", 0), "groups"),
            as_number(value.get("stderr", 0.0), "stderr"),
            str(value.get("method", "CR1")),
            None if value.get("df") is None else as_number(value["df"], "df"),
        )
