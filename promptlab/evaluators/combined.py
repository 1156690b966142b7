"""A metric that is made of others: all, any, not, bounds, and weighted means of their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.made_of import parts_in
from promptlab.domain.results import Failure, Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.text import STRICT

MOST_NODES, MOST_DEPTH = 200, 10
NOTHING = "nothing_to_combine"
"""The type of the error where no part applies to a case."""
_BOUNDS = ("at_least", "at_most", "is")


@plain_dataclass(frozen=True, slots=True)
class Said:
    """What a part comes to: passed or not, None where that is not known; and that in words."""

    passed: bool | None
    words: str
    applies: bool = True


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Combined(Evaluator):
    """Other metrics of the experiment combined: all, any or none of them pass, or their weighted mean."""

    inputs = {}
    value_range: ClassVar = (0.0, 1.0)

    all: list[Any] | None = Field(None, description="Conditions of which each must hold.")
    any: list[Any] | None = Field(None, description="Conditions of which one must hold.")
    not_: Any = Field(None, alias="not", description="A condition that must not hold.")
    weights: dict[str, float] | None = Field(
        None, description="Metrics whose weighted mean is the score: name → weight, above 0."
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The least weighted mean that passes; by default there is no pass or fail.",
    )

    def __post_init__(self) -> None:
        given = [name for name, value in self._forms if value is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of all, any, not and weights")
        if self.threshold is not None and self.weights is None:
            raise ValueError("threshold is for weights: all, any and not pass or fail by themselves")
        if self.weights is not None and not self.weights:
            raise ValueError("weights: name at least one metric")
        for name, weight in (self.weights or {}).items():
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"weights: {name}: a weight is a number above 0, not {weight:g}")
        if self._tree is not None:
            _check(self._tree, 1, [0])

    @property
    def _forms(self) -> list[tuple[str, Any]]:
        return [("all", self.all), ("any", self.any), ("not", self.not_), ("weights", self.weights)]

    @property
    def decides(self) -> bool:  # type: ignore[override]
        """Whether it passes or fails, and has no value in between."""
        return self.weights is None

    @cached_property
    def _tree(self) -> dict[str, Any] | None:
        return next(({n: v} for n, v in self._forms if v is not None and n != "weights"), None)

    @property
    def parts(self) -> tuple[str, ...]:
        """The metrics that it is made of, each once."""
        return parts_in(dict(self._forms))

    def combine(self, scores: Mapping[str, Score], applies: Mapping[str, bool]) -> Score:
        """Score a case by its other scores.

        Three values (Kleene 1938): a part without a score leaves open what depends on it, and no more.

        Args:
            scores: those that there are, by metric.
            applies: whether each part is to score the case at all; those that are not are left out.
        """
        if self.weights is not None:
            return self._mean(scores, applies)
        said = _holds(self._tree, scores, applies)
        if not said.applies:
            return Score(error=Failure(NOTHING, f"no part applies to this case: {said.words}"))
        if said.passed is None:
            return Score(error=Failure("evaluator_error", f"it depends on a missing score: {said.words}"))
        return Score(passed=said.passed, reason=said.words)

    def _mean(self, scores: Mapping[str, Score], applies: Mapping[str, bool]) -> Score:
        total = weight = 0.0
        said = []
        for name, share in (self.weights or {}).items():
            if not applies[name]:
                said.append(f"– {name} (does not apply)")
                continue
            score = scores.get(name)
            if score is None or score.error or score.value is None:
                why = score.error.message if score is not None and score.error else "no value"
                return Score(error=Failure("evaluator_error", f"{name} has no score: {why}"))
            total, weight = total + share * score.value, weight + share
            said.append(f"{name} {score.value:.4g} × {share:g}")
        if not weight:
            return Score(error=Failure(NOTHING, f"no part applies to this case: {', '.join(said)}"))
        value = total / weight
        passed = None if self.threshold is None else value >= self.threshold
        least = "" if self.threshold is None else f", {'at least' if passed else 'below'} {self.threshold:g}"
        return Score(value=value, passed=passed, reason=f"{', '.join(said)}: {value:.4g}{least}")

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Refuse: it is made of other scores, not of inputs.

        Raises:
            TypeError: always.
        """
        raise TypeError("combined is made of the other scores of a case, with combine(scores, applies)")


def _check(node: Any, depth: int, seen: list[int]) -> None:
    seen[0] += 1
    if depth > MOST_DEPTH or seen[0] > MOST_NODES:
        raise ValueError(f"at most {MOST_NODES} conditions, {MOST_DEPTH} deep")
    if isinstance(node, str) and node:
        return
    if not isinstance(node, Mapping) or not node:
        raise ValueError(f"a condition is the name of a metric or a mapping, not {str(node)[:80]!r}")
    if "metric" in node:
        bounds = node.keys() - {"metric"}
        if not isinstance(node["metric"], str) or len(bounds) != 1 or not bounds <= set(_BOUNDS):
            raise ValueError(
                f"a condition on a score is {{metric: NAME}} with one of {', '.join(_BOUNDS)}, as in "
                f"{{metric: rouge, at_least: 0.5}}, not {str(dict(node))[:120]}"
            )
        (bound,) = bounds
        value = node[bound]
        if bound != "is" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{bound} is a number, not {str(value)[:80]!r}")
        return
    kind = next(iter(node))
    if len(node) != 1 or kind not in ("all", "any", "not"):
        raise ValueError(
            "a condition has one of all, any, not, or metric with a bound, not "
            f"{', '.join(map(str, node))[:80]}"
        )
    if kind == "not":
        _check(node[kind], depth + 1, seen)
        return
    if not isinstance(node[kind], list) or not node[kind]:
        raise ValueError(f"{kind} is a list of conditions, at least one")
    for one in node[kind]:
        _check(one, depth + 1, seen)


def _holds(node: Any, scores: Mapping[str, Score], applies: Mapping[str, bool]) -> Said:
    if isinstance(node, str) or "metric" in node:
        name = node if isinstance(node, str) else node["metric"]
        if not applies[name]:
            return Said(None, f"– {name} (does not apply)", applies=False)
        return _one(name, {} if isinstance(node, str) else node, scores.get(name))
    ((kind, value),) = node.items()
    if kind == "not":
        said = _holds(value, scores, applies)
        passed = None if said.passed is None else not said.passed
        return Said(passed, f"{_mark(passed)} not ({said.words})", said.applies)
    found = [_holds(one, scores, applies) for one in value]
    there = [one.passed for one in found if one.applies]
    if not there:
        return Said(None, f"{kind} ({', '.join(one.words for one in found)})", applies=False)
    passed = _decided(kind, there)
    return Said(passed, f"{_mark(passed)} {kind} ({', '.join(one.words for one in found)})")


def _decided(kind: str, found: Sequence[bool | None]) -> bool | None:
    decisive = kind == "any"
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _one(name: str, bound: Mapping[str, Any], score: Score | None) -> Said:
    if score is None or score.error:
        return Said(None, f"? {name} (no score)")
    if "is" in bound:
        passed = score.label == str(bound["is"])
        return Said(passed, f"{_mark(passed)} {name} ({score.label or 'no label'})")
    if not bound:
        known = score.passed
        if known is None and score.value in (0.0, 1.0):
            known = score.value == 1.0
        if known is None:
            return Said(
                None, f"? {name} ({score.value if score.label is None else score.label}: give a bound)"
            )
        return Said(known, f"{_mark(known)} {name}")
    if score.value is None:
        return Said(None, f"? {name} (no value)")
    at_least = "at_least" in bound
    limit = bound["at_least"] if at_least else bound["at_most"]
    passed = score.value >= limit if at_least else score.value <= limit
    return Said(
        passed,
        f"{_mark(passed)} {name} ({score.value:.4g}, {'at least' if at_least else 'at most'} {limit:g})",
    )


def _mark(passed: bool | None) -> str:
    return "?" if passed is None else "✓" if passed else "✕"
