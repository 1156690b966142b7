"""BERTScore: how close the words of response and reference are, by the vectors that a language model has for
them."""

from __future__ import annotations

import threading
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.errors import ConfigError, MissingExtraError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.sizes import check_lengths
from promptlab.evaluators.text import STRICT, references_of, response_of

_ONE = threading.Lock()
"""One at a time: a model computes with all cores."""


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class BertScore(Evaluator):
    """BERTScore by the bert-score package: words of both matched by the vectors of a language model."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (-1.0, 1.0)

    model: str = Field(
        "roberta-large",
        min_length=1,
        description="The model: a name that transformers downloads, or the path of a folder with one.",
    )
    num_layers: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Which layer's vectors; required for a path, else the package's choice.",
    )
    measure: Literal["f1", "precision", "recall"] = Field(
        "f1", description="Which of the three is the score."
    )
    device: str = Field("cpu", min_length=1, description="Where the model computes: cpu, cuda, cuda:0, mps.")

    def __post_init__(self) -> None:
        if find_spec("bert_score") is None:
            raise MissingExtraError("Metric 'bertscore'", "bertscore")
        if self.num_layers is None and Path(self.model).is_dir():
            raise ConfigError(f"Metric 'bertscore': {self.model} is a folder: give num_layers, too")

    @cached_property
    def _scorer(self) -> Any:
        from bert_score import BERTScorer  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from bert_score.utils import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            model2layers,
        )

        if self.num_layers is None and self.model not in model2layers:
            raise ValueError(f"bert-score knows no layer of {self.model}: give num_layers, too")
        return BERTScorer(model_type=self.model, num_layers=self.num_layers, device=self.device)

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case (Zhang et al. 2020), without idf weights and without rescaling; the best of several
        references counts."""
        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        with _ONE:
            found = self._scorer.score([response], [references])
        return Score(value=float(found[("precision", "recall", "f1").index(self.measure)][0]))
