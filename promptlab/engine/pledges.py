"""What the batches of a run may cost: set aside before each is submitted, settled once it is collected.

A batch is at its provider for up to a day, and whoever submitted it need not be alive then. So its dollars
are leased under a name of their own, and whoever comes next goes on with that lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from promptlab.engine.budget import DUST, Budget, room_usd

OWNER = "batch"
"""Who leases: one process at a time works on the batches of a run."""
SHARE = 0.5
"""The share of what is left that one batch may cost at most, so that what the first ones do not spend can be
spent by later ones. A single request may cost all of it."""


@dataclass(slots=True)
class Pledges:
    """The dollars of the batches of one run."""

    budget: Budget
    cases: int = 0
    """Cases that are answered, or asked, in batches: their scores need dollars, too."""
    _held: dict[int, float] = field(default_factory=dict)

    async def most_usd(self) -> float:
        """The most that one batch may cost."""
        return SHARE * max(0.0, min([await room_usd(purse) for purse in self.budget.purses]))

    def remember(self, number: int, usd: float, cases: int) -> None:
        """Go on with what was set aside for a batch that is at its provider."""
        if number not in self._held:
            self._held[number] = usd
            self.cases += cases
            self._change(usd)

    def scores_usd(self, cases: int) -> float:
        """Return what is to be left for scores beside a batch of so many cases: those of all cases that are
        answered, or asked, in batches. Nothing beside a batch of judges, which makes scores itself."""
        return self.budget.judging * (self.cases + cases) if cases else 0.0

    async def take(self, number: int, usd: float, cases: int, beside: float) -> bool:
        """Set aside what a batch may cost at most, and leave something beside; False where that is not
        there."""
        if number in self._held:
            return True
        if not await self.budget.set_aside(usd, beside):
            return False
        self._held[number] = usd
        self.budget.pledged += usd
        self.cases += cases
        return True

    def settle(self, number: int, spent: float) -> None:
        """Say what a batch cost."""
        usd = self._held.pop(number, 0.0)
        self._change(-usd)
        self.budget.charge(spent)

    def give_up(self, usd: float) -> None:
        """Let no batch be submitted: what the next one may cost is not there."""
        self.budget.reach(usd)

    @property
    def is_open(self) -> bool:
        """Whether dollars are set aside that may come back."""
        return sum(self._held.values()) > DUST

    def _change(self, usd: float) -> None:
        self.budget.pledged += usd
        for purse in self.budget.purses:
            purse.reserved += usd
