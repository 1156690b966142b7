"""Turns of a conversation, as the ledger keeps them while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from promptlab.domain.results import CaseKey, Completion, Usage


class TurnKey(NamedTuple):
    """The key of a turn: a case, a trial, and the number of the turn in it (all 0-based)."""

    case: int
    trial: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn: what the user says, and what is answered."""

    shard: int
    case: int
    trial: int
    number: int
    """0 for the first turn."""
    generation: int = 0
    """The pass in which it was recorded."""
    user: str | None = None
    """What the user says; None where the prompt itself ends with that."""
    simulator: Usage | None = None
    """What the simulated user used for it; None where the dataset has it."""
    is_over: bool = False
    """Whether the user has nothing more to say: then there is no answer."""
    answer: Completion | None = None
    """The answer, with what its calls used; None while there is none."""

    @property
    def key(self) -> TurnKey:
        return TurnKey(self.case, self.trial, self.number)

    @property
    def cost_usd(self) -> float:
        """Dollars of its calls, as far as they are known."""
        user = self.simulator.cost_usd if self.simulator else None
        return (user or 0.0) + ((self.answer and self.answer.cost_usd) or 0.0)

    @property
    def case_key(self) -> CaseKey:
        return CaseKey(self.case, self.trial)
