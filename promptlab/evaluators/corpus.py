"""BLEU and chrF of a run as one corpus: from the summed counts of its cases, not the mean of their scores."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.of_runs import Additive, RunCase
from promptlab.evaluators.sacre import TOKENIZERS, forget, sacrebleu_metric
from promptlab.evaluators.sizes import check_lengths
from promptlab.evaluators.text import STRICT, nfc, references_of, text_of


class _Corpus(Additive):
    """What the metrics on sacreBLEU's corpus statistics share."""

    inputs = {"response": "$inference", "reference": None}

    _metric: Any

    def counts(self, case: RunCase) -> Mapping[str, float]:
        """Count one case; an answer that is missing is an empty one."""
        given = case.get("response")
        answer = "" if given is None else nfc(text_of(given, "response"))
        references = [nfc(one) for one in references_of(case)]
        check_lengths(answer, *references)
        try:
            # What its corpus_score sums up, too.
            ((*found,),) = self._metric._extract_corpus_statistics([answer], [[one] for one in references])
        finally:
            forget(self._metric)
        return {f"{place:02}": float(value) for place, value in enumerate(found)}

    def _score(self, sums: Mapping[str, float]) -> float | None:
        if not sums:
            return None
        places = 1 + max(map(int, sums))
        found = [sums.get(f"{place:02}", 0.0) for place in range(places)]
        return min(1.0, float(self._metric._compute_score_from_stats(found).score) / 100)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class CorpusBleu(_Corpus):
    """BLEU of the run as one corpus by sacreBLEU, from 0 to 1."""

    value_range: ClassVar = (0.0, 1.0)

    max_order: int = Field(4, ge=1, le=9, description="The longest n-gram.")
    smoothing: Literal["exp", "floor", "add-k", "none"] = Field(
        "exp", description="How an n-gram order without a match is smoothed."
    )
    tokenizer: Literal[TOKENIZERS] = Field(  # type: ignore[valid-type]
        "13a",
        description="sacreBLEU's tokenizer: zh for Chinese, char for other scripts without spaces between "
        "words. ja-mecab, ko-mecab and the spm ones need packages or models of their own.",
    )
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ.")

    def __post_init__(self) -> None:
        _ = self._metric  # a missing package is an error now, not at the end of the run

    @cached_property
    def _metric(self) -> Any:
        return sacrebleu_metric(
            "bleu",
            self.tokenizer,
            lowercase=not self.case_sensitive,
            smooth_method=self.smoothing,
            max_ngram_order=self.max_order,
        )

    def values(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute BLEU of the sums (Papineni et al. 2002), as sacreBLEU's `corpus_bleu`, divided by 100."""
        return {"": self._score(sums)}


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class CorpusChrf(_Corpus):
    """chrF of the run as one corpus by sacreBLEU, from 0 to 1; chrF++ with `word_order: 2`."""

    value_range: ClassVar = (0.0, 1.0)

    char_order: int = Field(6, ge=1, le=10, description="The longest n-gram of characters.")
    word_order: int = Field(0, ge=0, le=5, description="The longest n-gram of words; 2 gives chrF++.")
    beta: int = Field(2, ge=1, le=10, description="How much recall counts against precision.")
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ.")

    def __post_init__(self) -> None:
        _ = self._metric  # a missing package is an error now, not at the end of the run

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

    def values(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute chrF of the sums (Popović 2015), as sacreBLEU's `corpus_chrf`, divided by 100."""
        return {"": self._score(sums)}
