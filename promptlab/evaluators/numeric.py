"""numeric_match: the number in the response is the number in the reference."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.numerals import MOST_DIGITS, Number, Which, brief, number_at, number_in, only_number
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.text import STRICT, quote, references_of, response_of, short, text_of

__all__ = ["NumericMatch", "number_in"]

_PASSED = Score(passed=True)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class NumericMatch(Evaluator):
    """The number in the response is the number in the reference, exactly or within a tolerance."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    response_pattern: str | None = Field(
        None,
        description="Regular expression whose group captures the number in the response; else any number "
        "counts.",
    )
    reference_pattern: str | None = Field(None, description="The same for the reference.")
    take: Which = Field("last", description="Which match (and which number) counts where there are several.")
    tolerance: float = Field(0.0, ge=0, description="How far apart the two may be.")
    relative_tolerance: float = Field(
        0.0, ge=0, description="How far apart, as a share of the reference. The larger tolerance holds."
    )
    decimal_comma: bool = Field(
        False, description="Whether 1.234,5 is how numbers are written, rather than 1,234.5."
    )
    thousands_space: bool = Field(True, description="Whether 1 234 is one number.")
    timeout_s: float = Field(
        1.0, gt=0, le=60, description="Seconds that one pattern may take; beyond, the score is a failed one."
    )

    def __post_init__(self) -> None:
        _ = self._patterns  # an invalid pattern is an error now, not at the first case

    @cached_property
    def _patterns(self) -> dict[str, SafePattern]:
        given = {"response": self.response_pattern, "reference": self.reference_pattern}
        return {
            k: SafePattern(v, name=f"{k}_pattern", timeout_s=self.timeout_s)
            for k, v in given.items()
            if v is not None
        }

    def evaluate(self, data: dict[str, Any]) -> Score:
        response_of(data)
        expected = self._expected(data)
        number, why = self._found(data["response"])
        if number is None:
            return Score(passed=False, reason=short(f"expected {_listed(expected)}, but {why}"))
        if any(self._equal(number, reference) for reference in expected):
            return _PASSED
        return Score(passed=False, reason=short(f"expected {_listed(expected)}, got {brief(number)}"))

    def _expected(self, data: Mapping[str, Any]) -> list[Number]:
        """The numbers of the references.

        Raises:
            ValueError: one is not one number.
        """
        value = data.get("reference")
        many = value if isinstance(value, list | tuple) and value else [value]
        return [self._reference(item, text) for item, text in zip(many, references_of(data), strict=True)]

    def _reference(self, value: Any, text: str) -> Number:
        if "reference" in self._patterns:
            found = self._patterns["reference"].extract(text, self.take)
            if found is None:
                raise ValueError(
                    f"{self._unmatched('reference', text)}: the dataset or reference_pattern is wrong"
                )
            text = found
        number = only_number(text, **self._writing(value))
        if isinstance(number, str):
            raise ValueError(
                f"the reference {quote(text)} {number}: the dataset or reference_pattern is wrong"
            )
        return number

    def _found(self, value: Any) -> tuple[Number | None, str]:
        """The number of the response that counts, or None and why there is none."""
        text = text_of(value, "response")
        if "response" in self._patterns:
            found = self._patterns["response"].extract(text, self.take)
            if found is None:
                return None, self._unmatched("response", text)
            text = found
        place = number_at(text, self.take, **self._writing(value))
        if place is None:
            return None, f"there is no number in the response {quote(text)}"
        if place.value is None and len(place.text) > MOST_DIGITS:
            return None, f"a number has more than {MOST_DIGITS:,} digits"
        return place.value, f"{quote(place.text)} in the response is not one number"

    def _writing(self, value: Any) -> dict[str, bool]:
        """How numbers are written: in a JSON number always with a point, whatever the texts have."""
        written = not isinstance(value, int | float)
        return {"decimal_comma": self.decimal_comma and written, "thousands_space": self.thousands_space}

    def _unmatched(self, name: str, text: str) -> str:
        return f"{name}_pattern {quote(self._patterns[name].pattern)} is not in the {name} {quote(text)}"

    def _equal(self, number: Number, reference: Number) -> bool:
        if number == reference:
            return True
        # str() of a float gives the decimal that was written: 0.1 is meant as 0.1.
        allowed = max(
            Fraction(str(self.tolerance)), Fraction(str(self.relative_tolerance)) * abs(Fraction(reference))
        )
        return bool(allowed) and abs(Fraction(number) - Fraction(reference)) <= allowed


def _listed(values: list[Number]) -> str:
    return " or ".join(map(brief, values))
