"""Whether two mathematical answers are equal, however they are written: math-verify, in a child process."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.bounded import Bounded, BoundExceededError, Bounds, RefusedError
from promptlab.domain.results import Score
from promptlab.errors import MissingExtraError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.text import STRICT, quote, references_of, response_of

MOST_CHARS = 50_000
"""Characters of an answer that are looked at: its end, where answers stand."""
MOST_REFERENCE = 2_000
# sympy takes 60 MB and 0.5 s to be loaded, which the first call of a child pays for.
_CHILD = Bounded(Bounds(cpu_s=10.0, memory_bytes=1 << 30, wall_s=40.0), children=1)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class MathEqual(Evaluator):
    """The mathematical expression in the response equals the reference's, however the two are written."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)
    decides = True

    decimals: int = Field(6, ge=0, le=15, description="Decimals to which numbers must agree.")
    sets_by_relation: bool = Field(
        False, description="Whether a set may be answered as a relation: 1 < x < 2 for the interval (1, 2)."
    )

    def __post_init__(self) -> None:
        if find_spec("math_verify") is None:
            raise MissingExtraError("Metric 'math_equal'", "math")

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: math-verify reads both (LaTeX, boxed answers, plain numbers) and has sympy compare
        them; the last, or boxed, expression of the response counts.

        Raises:
            ValueError: a reference has no expression.
        """
        response, references = response_of(data)[-MOST_CHARS:], references_of(data)
        for reference in references:
            if len(reference) > MOST_REFERENCE:
                raise ValueError(f"a reference has {len(reference):,} characters; at most {MOST_REFERENCE:,}")
        try:
            equal, read, unread = _CHILD.call(
                "promptlab.evaluators.math_child:equal",
                response,
                references,
                self.decimals,
                self.sets_by_relation,
            )
        except BoundExceededError as error:
            return Score(passed=False, reason=f"the response could not be compared: {error}")
        except RefusedError as error:
            return Score(passed=False, reason=f"the response could not be read: {error}")
        if unread is not None:
            raise ValueError(f"the reference {quote(unread)} has no mathematical expression")
        if read is None:
            return Score(passed=False, reason="the response has no mathematical expression")
        return Score(passed=equal, judged=read, reason=None if equal else f"it is not {quote(references[0])}")
