"""edit_distance: how many edits lie between response and reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.sizes import check_lengths, check_product
from promptlab.evaluators.text import STRICT, TextMetric, references_of, response_of


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class EditDistance(TextMetric):
    """The Levenshtein distance between response and reference, or the similarity that follows from it."""

    inputs = {"response": "$inference", "reference": None}
    higher_is_better = False
    value_range: ClassVar = (0.0, None)

    normalized: bool = Field(
        False, description="Score 1 − distance / longer length instead: 1 is equal, and higher is better."
    )
    unit: Literal["characters", "words"] = Field(
        "characters", description="What an edit inserts, deletes or replaces."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "higher_is_better", self.normalized)

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: the closest reference (Levenshtein 1966)."""
        from rapidfuzz.distance import Levenshtein

        check_lengths(response_of(data), *references_of(data))
        response = self._sequence(response_of(data))
        measure = Levenshtein.normalized_similarity if self.normalized else Levenshtein.distance
        values = []
        for reference in map(self._sequence, references_of(data)):
            remedy = (
                "use token_f1 or rouge with variant rouge1" if self.unit == "words" else "use unit: words"
            )
            check_product(len(response), len(reference), unit=self.unit, remedy=remedy)
            values.append(float(measure(response, reference)))
        return Score(value=max(values) if self.normalized else min(values))

    def _sequence(self, text: str) -> Sequence[str]:
        text = self.prepare(text)
        return text.split() if self.unit == "words" else text
