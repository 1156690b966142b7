"""Why a run ends before all of its cases are done, though nobody stopped it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

HaltStatus = Literal["stopped", "budget_reached", "interrupted"]


@dataclass(frozen=True, slots=True)
class Halt:
    """What ends a run early: see `Job.halt`."""

    status: HaltStatus
    """The run's status from then on."""
    reason: str
    """Why, in words for people: it becomes the run's error."""

    def changes(self) -> dict[str, Any]:
        """The fields of the run's record."""
        return {"status": self.status, "error": self.reason}
