"""Whether what a model says of its own certainty is true: Brier score, calibration error, reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.of_runs import Additive, RunCase
from promptlab.evaluators.text import STRICT


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Calibration(Additive):
    """How well stated probabilities agree with what is right: Brier score and expected calibration error."""

    inputs = {"confidence": "$inference", "outcome": None}
    scores = ("brier", "ece")
    higher_is_better = False
    value_range: ClassVar = (0.0, 1.0)
    judged_input = "confidence"

    bins: int = Field(10, ge=2, le=50, description="How many equally wide bins the probabilities fall into.")

    def counts(self, case: RunCase) -> Mapping[str, float]:
        """Count one case.

        Raises:
            ValueError: the confidence is no probability, or there is no outcome.
        """
        p, y = _probability(case.get("confidence")), _outcome(case.get("outcome"))
        place = min(int(p * self.bins), self.bins - 1)
        return {"n": 1.0, "square": (p - y) ** 2, f"n {place}": 1.0, f"p {place}": p, f"y {place}": y}

    def values(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute the scores: `Brier = mean (p − y)²` (Brier 1950) and
        `ECE = Σ (n_b / n) |mean p − mean y|` over bins (Naeini et al. 2015)."""
        n = sums.get("n", 0.0)
        if not n:
            return {"brier": None, "ece": None}
        gaps = (abs(sums.get(f"p {b}", 0.0) - sums.get(f"y {b}", 0.0)) for b in range(self.bins))
        return {"brier": sums.get("square", 0.0) / n, "ece": math.fsum(gaps) / n}

    def detail(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Give the bins that hold something, `{low, high, n, confidence, share}`: the mean probability, and
        the share of cases that are right."""
        found = []
        for b in range(self.bins):
            if n := sums.get(f"n {b}", 0.0):
                ends = {"low": b / self.bins, "high": (b + 1) / self.bins}
                means = {"confidence": sums.get(f"p {b}", 0.0) / n, "share": sums.get(f"y {b}", 0.0) / n}
                found.append({**ends, "n": int(n), **means})
        return {"kind": "reliability", "bins": found}


def _probability(value: Any) -> float:
    percent = False
    if isinstance(value, str):
        text = value.strip()
        percent = text.endswith("%")
        try:
            value = float(text.rstrip("%").strip())
        except ValueError:
            raise ValueError(f"confidence {text[:80]!r} is no number: take it out with extract") from None
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"confidence is a number from 0 to 1, not {str(value)[:80]}")
    p = value / 100 if percent else float(value)
    if not 0 <= p <= 1:
        raise ValueError(f"confidence {value:g} is not from 0 to 1: write percentages with a %")
    return p


_WORDS = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}


def _outcome(value: Any) -> float:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().casefold(), value)
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"outcome is true or false, or a score from 0 to 1, not {str(value)[:80]}")
