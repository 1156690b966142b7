"""numeric_match: the number in the response is the number in the reference."""

from __future__ import annotations

import re
from collections import deque
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.text import STRICT, quote, references_of, response_of, short

Which = Literal["last", "first"]
# Groups are bounded (to 10^38) because a model that repeats "12,12,12,…" forever would else cost quadratic time.
_MAX_GROUPS = 12
_PASSED = Score(passed=True)


@lru_cache(maxsize=4)
def _grammar(decimal_comma: bool, thousands_space: bool) -> re.Pattern[str]:
    """One number: sign, currency, grouped or plain digits, decimals, exponent.

    A hyphen after a letter, digit or bracket is no sign: 10-5 holds 10 and 5. Groups joined by the
    thousands mark may have two digits but for the last (Indian: 12,34,567).
    """
    point, mark = (",", r"\.") if decimal_comma else (r"\.", ",")
    gaps = r"'’\u00a0\u2009\u202f" + (" " if thousands_space else "")
    marked = rf"\d{{1,3}}(?:{mark}\d{{2,3}}){{0,{_MAX_GROUPS}}}{mark}\d{{3}}(?!\d)"
    spaced = rf"\d{{1,3}}(?P<gap>[{gaps}])\d{{3}}(?:(?P=gap)\d{{3}}){{0,{_MAX_GROUPS}}}(?!\d)"
    whole = rf"(?:{marked}|{spaced}|\d+)(?:{point}\d+)?"
    return re.compile(
        rf"(?P<sign>(?<![\w)\]%])[-+−])?(?:[$€£¥₹]\s?)?(?P<digits>{whole}|(?<![\d.,]){point}\d+)(?P<exponent>[eE][-+]?\d{{1,4}}(?![\w]))?",
    )


def number_in(
    text: str, take: Which, *, decimal_comma: bool = False, thousands_space: bool = True
) -> Decimal | None:
    """The first or last number in a text, exact, or None. Currency and percent signs are skipped: 50% is 50.

    Args:
        decimal_comma: read 1.234,5 rather than 1,234.5.
        thousands_space: read 1 234 as one number (with no-break and thin spaces, always).
    """
    every = _grammar(decimal_comma, thousands_space).finditer(text)
    match = next(every, None) if take == "first" else next(iter(deque(every, maxlen=1)), None)
    if match is None:
        return None
    point = "," if decimal_comma else "."
    digits = "".join(c if c.isdigit() else "." for c in match["digits"] if c.isdigit() or c == point)
    sign = "-" if match["sign"] in ("-", "−") else ""
    return Decimal(f"{sign}{digits}{match['exponent'] or ''}")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class NumericMatch(Evaluator):
    """The number in the response is the number in the reference, exactly or within a tolerance."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    response_pattern: str | None = Field(
        None,
        description="Regular expression whose group captures the number in the response; else any number counts.",
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
        text = response_of(data)
        expected = [self._expected(reference) for reference in references_of(data)]
        number, why = self._number(text, "response")
        if number is None:
            return Score(passed=False, reason=short(f"expected {_listed(expected)}, but {why}"))
        if any(self._equal(number, reference) for reference in expected):
            return _PASSED
        return Score(passed=False, reason=short(f"expected {_listed(expected)}, got {_brief(number)}"))

    def _expected(self, reference: str) -> Decimal:
        number, why = self._number(reference, "reference")
        if number is None:
            raise ValueError(f"{why}: the dataset or reference_pattern is wrong")
        return number

    def _number(self, text: str, name: str) -> tuple[Decimal | None, str]:
        """The number that counts, or None and why there is none."""
        pattern = self._patterns.get(name)
        if pattern is not None:
            found = pattern.extract(text, self.take)
            if found is None:
                return None, f"{name}_pattern {quote(pattern.pattern)} is not in the {name} {quote(text)}"
            text = found
        number = number_in(
            text, self.take, decimal_comma=self.decimal_comma, thousands_space=self.thousands_space
        )
        return number, f"there is no number in the {name} {quote(text)}"

    def _equal(self, number: Decimal, reference: Decimal) -> bool:
        if number == reference:
            return True
        # str() of a float gives the decimal that was written: 0.1 is meant as 0.1.
        allowed = max(Decimal(str(self.tolerance)), Decimal(str(self.relative_tolerance)) * abs(reference))
        return bool(allowed) and abs(number - reference) <= allowed


def _brief(number: Decimal) -> str:
    return str(number) if len(number.as_tuple().digits) <= 40 else f"{number:.6e}"


def _listed(values: list[Decimal]) -> str:
    return " or ".join(map(_brief, values))
