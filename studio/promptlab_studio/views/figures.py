"""The geometry of figures, for inline SVG: attributes only, so that the policy
against inline styles holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.summary import MetricSummary


@dataclass(frozen=True, slots=True)
class IntervalMark:
    """A mean and its interval on a rail; positions in per cent of its width."""

    mean: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return max(self.high - self.low, 3.0)


def scale_of(metrics: Sequence[MetricSummary]) -> tuple[float, float]:
    """The range that one metric's bars share: 0 to 1 where the values are all over it."""
    values = [m.counted for m in metrics if m.counted.n]
    low = min((v.min for v in values if v.min is not None), default=0.0)
    high = max((v.max for v in values if v.max is not None), default=1.0)
    if low >= 0 and 0.2 <= high <= 1:
        return 0.0, 1.0
    low = min(low, 0.0) if low > 0 and low < high / 2 else low
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def interval(metric: MetricSummary, scale: tuple[float, float]) -> IntervalMark | None:
    """A metric's mean on its scale, or None where it has none."""
    if metric.mean is None:
        return None
    low, high = metric.interval
    left, span = scale[0], scale[1] - scale[0] or 1.0  # beyond 1e17 a half more is the same number

    def at(value: float) -> float:
        return round(min(max((value - left) / span, 0.0), 1.0) * 100, 1)

    return IntervalMark(
        at(metric.mean), at(metric.mean if low is None else low), at(metric.mean if high is None else high)
    )


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within a range: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Plot:
    """An area with two linear axes; positions in the units of the SVG's viewBox."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 640
    height: float = 220
    left: float = 52
    right: float = 16
    top: float = 12
    bottom: float = 30

    def px(self, value: float) -> float:
        """Return the horizontal position of a value."""
        return round(
            self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right),
            1,
        )

    def py(self, value: float) -> float:
        """Return the vertical position of a value, from the top."""
        return round(
            self.height
            - self.bottom
            - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - self.top - self.bottom),
            1,
        )


def padded(low: float, high: float) -> tuple[float, float]:
    """A range with a little room on both sides, never empty."""
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    return low - room, high + room


def bars(counts: Sequence[int], *, width: float = 100, height: float = 28) -> list[dict[str, Any]]:
    """The bars of a histogram: x, width, y and height; a bin with few cases can still be seen."""
    top, step = max(counts, default=0) or 1, width / max(len(counts), 1)
    found = []
    for number, value in enumerate(counts):
        tall = max(1.5, height * value / top) if value else 0.0
        found.append(
            {
                "x": round(number * step, 2),
                "width": round(step * 0.92, 2),
                "slot": round(step, 2),
                "y": round(height - tall, 2),
                "height": round(tall, 2),
            }
        )
    return found
