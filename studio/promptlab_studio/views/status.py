"""How a run went, in a word and a colour: completed is not yet a success."""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.domain.results import RunRecord

_SYMBOLS = {
    "completed": "✓",
    "decided": "✓",
    "failed": "✕",
    "running": "●",
    "stopped": "⊗",
    "budget_reached": "$",
    "interrupted": "‖",
    "cancelled": "⊘",
}


@dataclass(frozen=True, slots=True)
class RunState:
    """The words and the look of a run's status cell."""

    css: str
    symbol: str
    text: str


def state_of(run: RunRecord) -> RunState:
    """The status of a run; one in which every case failed says so, and why."""
    if run.unreadable:
        return RunState("failed", "✕", "unreadable")
    if not all_failed(run):
        return RunState(run.status, symbol_of(run.status), run.status.replace("_", " "))
    assert run.summary is not None
    errors = run.summary["errors"]
    kinds = sorted(errors, key=lambda kind: -errors[kind])
    more = f" and {len(kinds) - 1} more" if len(kinds) > 1 else ""
    return RunState("failed", "✕", f"all failed: {kinds[0]}{more}" if kinds else "all failed")


def symbol_of(status: str) -> str:
    """The sign of a status."""
    return _SYMBOLS.get(status, "·")


def all_failed(run: RunRecord) -> bool:
    """Whether a run ended without one good case."""
    summary = run.summary
    return bool(summary and summary["cases"] and summary["failed"] >= summary["cases"])
