"""What came of a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from promptlab.domain.records import made

Outcome = Literal["passed", "failed", "undecided"]
EXIT_CODES: Mapping[Outcome, int] = {"passed": 0, "failed": 4, "undecided": 5}
WORDS: Mapping[str, str] = {"passed": "passed", "failed": "failed", "undecided": "cannot decide"}
SYMBOLS: Mapping[str, str] = {"passed": "✓", "failed": "✗", "undecided": "?", "left out": "–"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What came of one check, or of one slice of it."""

    check: str
    """Its title."""
    kind: str
    outcome: Literal["passed", "failed", "undecided", "left out"]
    """`left out`: the slice has fewer rows than `min_rows`."""
    said: str
    """Why, in words, with the numbers."""
    metric: str | None = None
    slice: str | None = None
    """`column=value`."""
    verdict: str | None = None
    """Of a comparison: the verdict's words."""
    n: int | None = None
    """Rows that it rests on."""
    value: float | None = None
    """The mean, the difference to the baseline, or the number."""
    low: float | None = None
    """Its 95% interval."""
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """What came of all checks over one run."""

    run_id: str
    name: str
    """The experiment."""
    outcome: Outcome
    """`failed` if one check did; else `undecided` if one could not decide."""
    checks: tuple[CheckOutcome, ...]
    baseline: str | None = None
    """The run that it was held against."""
    baseline_label: str | None = None
    """The label that named it."""
    quarantined: tuple[str, ...] = ()
    """Rows of the run that no check of a metric looked at."""
    at: str = ""
    """ISO 8601, UTC."""
    commit: str | None = None
    """The commit that the run was made at."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the run: cases, failed, cost_usd, …"""

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return self.outcome == "passed"

    @property
    def exit_code(self) -> int:
        """0, 4 where it failed, 5 where it cannot decide."""
        return EXIT_CODES[self.outcome]

    def counted(self, outcome: str) -> int:
        """How many checks came out so."""
        return sum(check.outcome == outcome for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Write it as the API gives it."""
        return asdict(self) | {
            "checks": [asdict(check) for check in self.checks],
            "quarantined": list(self.quarantined),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GateOutcome:
        """Read what `to_json` wrote.

        Raises:
            StoreDamagedError: it is none.
        """
        return made(
            cls,
            value,
            checks=tuple(made(CheckOutcome, check) for check in value.get("checks") or ()),
            quarantined=tuple(value.get("quarantined") or ()),
        )


def overall(checks: Sequence[CheckOutcome]) -> Outcome:
    """Say what all checks come to: one that fails fails the gate; without one, one that cannot decide leaves
    it undecided. A gate of which nothing was looked at cannot decide."""
    outcomes = {check.outcome for check in checks}
    if "failed" in outcomes:
        return "failed"
    return "undecided" if "undecided" in outcomes or "passed" not in outcomes else "passed"
