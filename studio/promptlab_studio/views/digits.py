"""How many digits computed figures have: one rule for a metric, and one for money.

Data is never rounded (`format.exact`); what PromptLab computed is shown to the digits that mean something,
and figures that stand together (a mean, its interval, a difference) have the same number of decimals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MOST_DECIMALS = 6
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Digits:
    """Figures of one metric: all with as many decimals."""

    decimals: int
    scientific: bool = False
    """They are too large or too small to be read otherwise."""

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Digits:
        """Read the decimals off the largest of some figures: three significant digits, three decimals at
        least below 10.

        Between 0.001 and 10 that is three decimals, so that shares read alike everywhere.
        """
        top = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
        if top == 0:
            return cls(3)
        if not 1e-6 <= top < 1e12:
            return cls(2, scientific=True)
        magnitude = math.floor(math.log10(top))
        if magnitude >= 0:
            return cls((3, 2, 1)[magnitude] if magnitude < 3 else 0)
        return cls(min(MOST_DECIMALS + 2, max(3, 2 - magnitude)))

    def show(self, value: float | None) -> str:
        """A figure: `0.563`, `1,234`, `−0.012` with a true minus; never `−0.000`."""
        if value is None:
            return _NONE
        if self.scientific and value:
            return f"{'−' if value < 0 else ''}{abs(value):.{self.decimals}e}"
        shown = f"{abs(value):,.{self.decimals}f}"
        return f"−{shown}" if value < 0 and shown.strip("0.,") else shown

    def signed(self, value: float | None) -> str:
        """A difference: `+0.346`, `−0.012`, and `0` where nothing of it is left."""
        if value is None:
            return _NONE
        shown = self.show(value)
        if not shown.strip("0.,"):
            return "0"
        return shown if value < 0 else f"+{shown}"

    def between(self, low: float | None, high: float | None) -> str:
        """An interval: `0.533 to 0.590`; nothing where there is none."""
        return "" if low is None or high is None else f"{self.show(low)} to {self.show(high)}"


def figure(value: float | None) -> str:
    """A computed figure that stands alone; a whole one, such as a count of words, has no decimals."""
    if value is not None and float(value).is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}".removeprefix("-" if not value else "")
    return Digits.of([value]).show(value)


def difference(change: float, value: float | None) -> str:
    """The change of a figure that has become `value`: whole where both are, as the figures beside it are."""
    whole = float(change).is_integer() and float(value or 0.0).is_integer()
    return (Digits(0) if whole else Digits.of([value, change])).signed(change)


def money_decimals(values: Iterable[float | None]) -> int:
    """How many decimals some sums have together: cents from a dollar on, four decimals
    below, six below a cent."""
    top = max((abs(v) for v in values if v is not None), default=0.0)
    return 2 if top >= 1 or top == 0 else 4 if top >= 0.01 else 6


def money(value: float | None, decimals: int | None = None) -> str:
    """A sum in dollars: `$12.30`, `$0.0412`, `$0.000370`; `<$0.000001` where no digit is
    left, `–` where unknown."""
    if value is None:
        return _NONE
    places = money_decimals([value]) if decimals is None else decimals
    least = 10**-places
    if 0 < value < least / 2:
        return f"<${least:.{places}f}"
    return f"${value:,.{places}f}"
