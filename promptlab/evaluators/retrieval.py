"""retrieval: how well a ranked list of ids finds the relevant ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.text import STRICT, text_of

MAX_IDS = 10_000


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Retrieval(Evaluator):
    """How well a ranked list of ids finds the relevant ones: recall@k, precision@k, MRR, nDCG@k, hit@k."""

    inputs = {"retrieved": None, "reference": None}
    scores = ("recall", "precision", "mrr", "ndcg", "hit")
    value_range: ClassVar = (0.0, 1.0)

    k: int = Field(10, ge=1, le=10_000, description="How many ids of the list count, from its top.")
    id_field: str | None = Field(
        None, description="The key of the id, where the list is of objects; by default id, else doc_id."
    )

    def evaluate(self, data: dict[str, Any]) -> dict[str, Score]:
        """Score one case.

        An id that comes again in the list is no further hit: its first place counts.
        """
        ranked = list(dict.fromkeys(self._ids(data.get("retrieved"), "retrieved")))
        gains = self._gains(data.get("reference"))
        relevant = {name for name, gain in gains.items() if gain > 0}
        if not relevant:
            raise ValueError("reference names no relevant id: there is nothing to find")
        top = ranked[: self.k]
        hits = [name in relevant for name in top]
        found = sum(hits)
        first = next((place for place, hit in enumerate(ranked, 1) if hit in relevant), None)
        missed = sorted(relevant - set(top))
        why = None if not missed else f"not among the first {self.k}: {', '.join(missed[:10])[:150]}"
        return {
            "recall": Score(value=found / len(relevant), reason=why),
            "precision": Score(value=found / self.k),
            "mrr": Score(value=0.0 if first is None else 1 / first),
            "ndcg": Score(value=_dcg([gains.get(name, 0.0) for name in top]) / self._ideal(gains)),
            "hit": Score(passed=found > 0),
        }

    def _ideal(self, gains: Mapping[str, float]) -> float:
        return _dcg(sorted(gains.values(), reverse=True)[: self.k])

    def _gains(self, value: Any) -> dict[str, float]:
        """The relevant ids with their gains: 1 for each of a list, else as an object says."""
        value = _read(value)
        if isinstance(value, Mapping):
            try:
                gains = {str(name): float(gain) for name, gain in value.items()}
            except (TypeError, ValueError):
                raise ValueError(
                    "reference must have a number for each id, as in {doc1: 3, doc2: 1}"
                ) from None
            if not all(0 <= gain <= 1_000 for gain in gains.values()):
                raise ValueError("a gain of reference must be from 0 to 1,000")
            return gains
        return dict.fromkeys(self._ids(value, "reference"), 1.0)

    def _ids(self, value: Any, name: str) -> list[str]:
        value = _read(value)
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if value is None or len(items) > MAX_IDS:
            what = (
                "is missing (null)" if value is None else f"has {len(items):,} ids; at most {MAX_IDS:,} count"
            )
            raise ValueError(f"{name} {what}")
        return [self._id(item, f"{name}[{number}]") for number, item in enumerate(items)]

    def _id(self, item: Any, where: str) -> str:
        if isinstance(item, Mapping):
            keys = (self.id_field,) if self.id_field else ("id", "doc_id")
            found = next((item[key] for key in keys if key in item), None)
            if found is None:
                raise ValueError(f"{where} has no {' or '.join(map(str, keys))}: name its key with id_field")
            item = found
        return text_of(item, where)


def _read(value: Any) -> Any:
    """A list or an object that comes as its JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _dcg(gains: Sequence[float]) -> float:
    """Σ gainᵢ / log₂(i + 1), as trec_eval and scikit-learn have it."""
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))
