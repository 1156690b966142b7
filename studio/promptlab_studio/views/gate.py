"""What came of a run's gate, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from promptlab.gates.outcome import SYMBOLS, GateOutcome
from promptlab.gates.reports import by_weight, headline, quarantine_words, title_of

_CSS = {"passed": "good", "failed": "bad", "undecided": "warn", "left out": "muted"}


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check, or one slice of it."""

    css: str
    symbol: str
    outcome: str
    title: str
    n: int | None
    said: str


@dataclass(frozen=True, slots=True)
class GateView:
    """The outcome as the page shows it."""

    css: str
    headline: str
    base: str
    """The baseline: its label, else its run."""
    base_url: str
    """The comparison with the baseline; empty without one."""
    at: str
    checks: Sequence[CheckView]
    quarantined: str


def gate_view(gate: GateOutcome | None) -> GateView | None:
    """Show what came of a gate; None where the run was not judged."""
    if gate is None:
        return None
    compared = urlencode([("run", gate.baseline or ""), ("run", gate.run_id)])
    return GateView(
        css=_CSS[gate.outcome],
        headline=headline(gate),
        base=f"@{gate.baseline_label}" if gate.baseline_label else gate.baseline or "",
        base_url=f"/compare?{compared}" if gate.baseline else "",
        at=gate.at,
        checks=[
            CheckView(_CSS[one.outcome], SYMBOLS[one.outcome], one.outcome, title_of(one), one.n, one.said)
            for one in by_weight(gate.checks)
        ],
        quarantined=quarantine_words(gate) if gate.quarantined else "",
    )
