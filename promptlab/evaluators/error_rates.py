"""Metrics of edits: wer, cer, ter; and chrf, of shared characters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.sacre import sacrebleu_metric
from promptlab.evaluators.scripts import cannot_part, warn
from promptlab.evaluators.sizes import check_lengths, check_product
from promptlab.evaluators.text import STRICT, TextMetric, references_of, response_of

_MAX_TER = 1_000_000
"""Words of one text × words of the other: sacreBLEU's search takes 1 s for 1,000 × 1,000, measured."""


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class _ErrorRate(TextMetric, ABC):
    """Edits that make the response the reference, as a share of the reference's length."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, None)
    higher_is_better = False

    @abstractmethod
    def tokens(self, text: str) -> list[str]:
        """The text in its units."""

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: `(S + D + I) / N`, the least over the references."""
        from rapidfuzz.distance import Levenshtein

        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        said = self.tokens(self.prepare(response))
        rates = []
        for reference in references:
            wanted = self.tokens(self.prepare(reference))
            check_product(len(said), len(wanted), unit="tokens", remedy="shorten the texts")
            if not wanted:
                rates.append(float(bool(said)))
                continue
            rates.append(Levenshtein.distance(said, wanted) / len(wanted))
        return Score(value=min(rates), reason=self.warning((response, *references)))

    def warning(self, texts: tuple[str, ...]) -> str | None:
        """Return what to say where the units do not suit the texts."""
        return None


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Wer(_ErrorRate):
    """The word error rate: words to substitute, delete and insert, per word of the reference."""

    def tokens(self, text: str) -> list[str]:
        return text.split()

    def warning(self, texts: tuple[str, ...]) -> str | None:
        if not any(cannot_part(text, "none") for text in texts):
            return None
        return warn("wer", "words", "parts words by spaces, which the text lacks", "the metric cer")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Cer(_ErrorRate):
    """The character error rate: characters to substitute, delete and insert, per one of the reference."""

    def tokens(self, text: str) -> list[str]:
        return list(text)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Chrf(Evaluator):
    """The F-score of the character n-grams that response and reference share, by sacreBLEU, from 0 to 1."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    char_order: int = Field(6, ge=1, le=10, description="The longest n-gram of characters.")
    word_order: int = Field(0, ge=0, le=4, description="The longest n-gram of words; 2 is chrF++.")
    beta: int = Field(2, ge=1, le=10, description="How much more recall counts than precision.")
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ.")

    def __post_init__(self) -> None:
        _ = self._metric  # a missing package is an error now, not at the first case

    @cached_property
    def _metric(self) -> Any:
        return sacrebleu_metric(
            "chrf",
            char_order=self.char_order,
            word_order=self.word_order,
            beta=self.beta,
            lowercase=not self.case_sensitive,
            eps_smoothing=False,
        )

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case as sacreBLEU's `sentence_chrf`, divided by 100; the best reference counts."""
        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        return Score(value=min(1.0, self._metric.sentence_score(response, references).score / 100))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Ter(Evaluator):
    """The translation edit rate by sacreBLEU: edits and shifts of words, per word of the reference."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, None)
    higher_is_better = False

    case_sensitive: bool = Field(False, description="Whether upper and lower case differ.")
    ignore_punctuation: bool = Field(False, description="Whether punctuation is left out.")
    asian_support: bool = Field(
        False, description="Whether Chinese and Japanese characters are words of their own."
    )

    def __post_init__(self) -> None:
        _ = self._metric  # a missing package is an error now, not at the first case

    @cached_property
    def _metric(self) -> Any:
        return sacrebleu_metric(
            "ter",
            normalized=self.asian_support,
            no_punct=self.ignore_punctuation,
            asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: Snover et al. 2006, as sacreBLEU's `sentence_ter`, divided by 100."""
        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        for reference in references:
            check_product(
                len(response) if self.asian_support else len(response.split()),
                len(reference) if self.asian_support else len(reference.split()),
                limit=_MAX_TER,
                unit="words",
                remedy="use wer",
            )
        value = self._metric.sentence_score(response, references).score / 100
        unspaced = not self.asian_support and any(cannot_part(t, "none") for t in (response, *references))
        why = "parts words by spaces, which the text lacks"
        return Score(
            value=value, reason=warn("ter", "words", why, "asian_support: true") if unspaced else None
        )
