"""What came of a gate, as scripts and notebooks see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.gates.outcome import CheckOutcome, GateOutcome, Outcome


class Gate:
    """The outcome of a run's gate."""

    def __init__(self, record: GateOutcome) -> None:
        self.record = record

    @property
    def outcome(self) -> Outcome:
        """`passed`, `failed`, or `undecided` where a check cannot decide and none failed."""
        return self.record.outcome

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return self.record.passed

    @property
    def checks(self) -> Sequence[CheckOutcome]:
        """Every check and slice, with its reason."""
        return self.record.checks

    @property
    def run_id(self) -> str:
        """The run that was judged."""
        return self.record.run_id

    def to_json(self) -> dict[str, Any]:
        """Write it as `POST /api/v1/runs/{run_id}/gate` gives it."""
        return self.record.to_json()

    def markdown(self) -> str:
        """Write a summary for a pull request."""
        from promptlab.gates.reports import markdown

        return markdown(self.record)

    def junit(self) -> str:
        """Write JUnit's XML."""
        from promptlab.gates.reports import junit

        return junit(self.record)

    def __repr__(self) -> str:
        return f"<Gate of {self.record.run_id}: {self.record.outcome}>"

    def __str__(self) -> str:
        from promptlab.gates.reports import lines

        return "\n".join(lines(self.record))
