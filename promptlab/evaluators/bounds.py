"""Metrics that measure, and pass or fail where a bound is given: length, latency, cost."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.text import STRICT, nfc, quote, response_of


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Length(Evaluator):
    """The response's length; with a bound also whether it is kept."""

    inputs = {"response": "$inference"}
    higher_is_better = False
    value_range: ClassVar = (0.0, None)

    unit: Literal["characters", "words", "lines"] = Field("characters", description="What is counted.")
    min: int | None = Field(None, ge=0, description="Pass only if at least this long.")
    max: int | None = Field(None, ge=0, description="Pass only if at most this long.")

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min must be at most max (got min {self.min}, max {self.max})")
        object.__setattr__(self, "higher_is_better", self.min is not None and self.max is None)

    def evaluate(self, data: dict[str, Any]) -> Score:
        length = self._measure(response_of(data))
        if self.min is None and self.max is None:
            return Score(value=length)
        if self.min is not None and length < self.min:
            return Score(
                value=length, passed=False, reason=f"{length:,} {self.unit}, less than min {self.min:,}"
            )
        if self.max is not None and length > self.max:
            return Score(
                value=length, passed=False, reason=f"{length:,} {self.unit}, more than max {self.max:,}"
            )
        return Score(value=length, passed=True)

    def _measure(self, text: str) -> int:
        if self.unit == "words":
            return len(text.split())
        return len(text.splitlines()) if self.unit == "lines" else len(nfc(text))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Latency(Evaluator):
    """How long the call took, in milliseconds; with a bound also whether it is kept."""

    inputs = {"latency_ms": "$latency_ms"}
    higher_is_better = False
    value_range: ClassVar = (0.0, None)

    max_ms: float | None = Field(
        None, ge=0, description="Pass only if the call took at most this many milliseconds."
    )

    def evaluate(self, data: dict[str, Any]) -> Score:
        value = _number(data.get("latency_ms"), "latency_ms", "the call was not measured")
        return _bounded(value, self.max_ms, f"{value:,.1f} ms, more than max_ms")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Cost(Evaluator):
    """The cost of the call, in US dollars; with a bound also whether it is kept."""

    inputs = {"cost_usd": "$cost_usd"}
    higher_is_better = False
    value_range: ClassVar = (0.0, None)

    max_usd: float | None = Field(
        None, ge=0, description="Pass only if the call cost at most this many US dollars."
    )

    def evaluate(self, data: dict[str, Any]) -> Score:
        missing = "the model's price is unknown; give the model input_usd_per_mtok and output_usd_per_mtok"
        value = _number(data.get("cost_usd"), "cost_usd", missing)
        return _bounded(value, self.max_usd, f"${value:.6g}, more than max_usd")


def _number(value: Any, name: str, missing: str) -> float:
    if value is None:
        raise ValueError(f"{name} is missing (null): {missing}")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number (got {quote(str(value))})")
    return number


def _bounded(value: float, bound: float | None, text: str) -> Score:
    if bound is None:
        return Score(value=value)
    return Score(
        value=value, passed=value <= bound, reason=None if value <= bound else f"{text} {bound:,.6g}"
    )
