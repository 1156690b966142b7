"""choice: the letter that the response chooses is the right one."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.extraction import LETTERS
from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.choices import chosen
from promptlab.evaluators.text import STRICT, quote, references_of, response_of, short


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Choice(Evaluator):
    """The response chooses the right letter of a question with several choices."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    letters: str = Field(LETTERS, pattern=r"^[A-Z]{2,26}$", description="The letters that can be chosen.")

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: 1 if the letter that is read from the response is that of a reference."""
        response, references = response_of(data), references_of(data)
        right = [self._right(reference) for reference in references]
        letter = chosen(response, self.letters)
        if letter is None:
            return Score(
                passed=False,
                reason=short(f"expected {' or '.join(right)}, but none is chosen: {quote(response)}"),
            )
        if letter in right:
            return Score(passed=True, judged=letter)
        return Score(passed=False, judged=letter, reason=f"expected {' or '.join(right)}, got {letter}")

    def _right(self, reference: str) -> str:
        letter = chosen(reference, self.letters)
        if letter is None:
            raise ValueError(
                f"the reference {quote(reference)} is none of the letters {self.letters}: the dataset, "
                "`letters` or extract_reference is wrong"
            )
        return letter
