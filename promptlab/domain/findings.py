"""What a check of a set-up found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "error"]
SYMBOLS: dict[Outcome, str] = {"ok": "✓", "warning": "!", "error": "✕"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    outcome: Outcome
    message: str
    """What is so, and what to do where that is wrong."""

    def __str__(self) -> str:
        return f"{SYMBOLS[self.outcome]} {self.check}: {self.message}"

    def to_json(self) -> dict[str, str]:
        """Write it as `promptlab doctor --json` and the API give it."""
        return asdict(self)
