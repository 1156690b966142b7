"""semantic_similarity: how near the embeddings of response and reference are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.text import STRICT, references_of, response_of


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle between two vectors, `a·b / (|a| |b|)`, from -1 to 1.

    Raises:
        ValueError: they differ in length, or one is all zeros or has a number that is not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"embeddings of different lengths cannot be compared: {len(a)} and {len(b)} numbers")
    norms = math.hypot(*a) * math.hypot(*b)
    if not (norms > 0 and math.isfinite(norms)):
        raise ValueError(
            "an embedding of zeros, or with numbers that are not finite, has no direction: the embedding "
            "model gave no usable vector"
        )
    product: float = sum(map(mul, a, b))
    return max(-1.0, min(1.0, product / norms))


# Not frozen: a copy of it is given the embedding model.
@dataclass(kw_only=True, eq=False, config=STRICT)
class SemanticSimilarity(Evaluator):
    """The cosine similarity of response and reference, by the experiment's embedding model."""

    inputs = {"response": "$inference", "reference": None}
    needs_embedding = True
    value_range: ClassVar = (-1.0, 1.0)

    threshold: float | None = Field(
        None, ge=-1, le=1, description="Pass only if the similarity is at least this."
    )

    async def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: the nearest reference. One call embeds the response and its references."""
        response, references = response_of(data), references_of(data)
        if not all(map(str.strip, references)):
            raise ValueError("reference is empty: an empty text has no embedding")
        if not response.strip():
            return self._score(0.0, "the response is empty")
        if self.embedding_model is None:
            raise ValueError(
                "semantic_similarity needs an embedding model: set embedding_model in the experiment"
            )
        vector, *others = await self.embedding_model.aembed([response, *references])
        return self._score(max(cosine(vector, other) for other in others), None)

    def _score(self, value: float, reason: str | None) -> Score:
        if self.threshold is None:
            return Score(value=value, reason=reason)
        passed = value >= self.threshold
        return Score(
            value=value,
            passed=passed,
            reason=reason
            if passed or reason
            else f"similarity {value:.4g}, less than threshold {self.threshold:g}",
        )
