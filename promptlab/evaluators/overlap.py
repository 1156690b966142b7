"""Metrics of shared words: token_f1, bleu, rouge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.errors import MissingExtraError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.sacre import TOKENIZERS, forget, sacrebleu_metric
from promptlab.evaluators.scripts import (
    UNSPACED,
    cannot_part,
    chose,
    fitting,
    has_other_letters,
    mostly_other_letters,
    warn,
)
from promptlab.evaluators.sizes import check_lengths, check_product
from promptlab.evaluators.text import STRICT, nfc, references_of, response_of, without_punctuation

_ARTICLES = frozenset({"a", "an", "the"})
# rouge_score fills a table of Python lists for rougeLsum: 2,000 × 2,000 words took 1.05 s and 32 MB.
_MAX_SUMMARY_CELLS = 4_000_000


def f_measure(precision: float, recall: float) -> float:
    """The harmonic mean of the two; 0 when both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class TokenF1(Evaluator):
    """The F1 of the words that response and reference share, as in SQuAD."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    case_sensitive: bool = Field(False, description="Whether upper and lower case differ.")
    ignore_punctuation: bool = Field(True, description="Whether punctuation is left out.")
    ignore_articles: bool = Field(True, description="Whether the words a, an, the are left out.")
    unit: Literal["auto", "words", "characters"] = Field(
        "auto",
        description="What a token is. auto takes words, and characters where a text is of a script without "
        "spaces between words (Chinese, Japanese, Thai, …).",
    )

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: `F1 = 2PR / (P + R)` over the bags of tokens (Rajpurkar et al. 2016)."""
        text, references = response_of(data), references_of(data)
        check_lengths(text, *references)
        unspaced = any(cannot_part(each, "none") for each in (text, *references))
        by_characters = self.unit == "characters" or (self.unit == "auto" and unspaced)
        response = self._tokens(text, by_characters)
        value = max(_f1(response, self._tokens(reference, by_characters)) for reference in references)
        if not unspaced or self.unit == "characters":
            return Score(value=value)
        if self.unit == "words":
            return Score(
                value=value,
                reason=warn(
                    "token_f1", "words", "parts words by spaces, which the text lacks", "unit: characters"
                ),
            )
        return Score(
            value=value, reason=chose("token_f1", "characters", "the text has no spaces between words")
        )

    def _tokens(self, text: str, by_characters: bool) -> list[str]:
        text = nfc(text if self.case_sensitive else text.casefold())
        if self.ignore_punctuation:
            text = without_punctuation(text)
        words = text.split()
        if self.ignore_articles:
            words = [word for word in words if word.casefold() not in _ARTICLES]
        return list("".join(words)) if by_characters else words


def _f1(response: list[str], reference: list[str]) -> float:
    if not response or not reference:
        return float(response == reference)  # as SQuAD 2.0: no answer is right only where none is wanted
    shared = (Counter(response) & Counter(reference)).total()
    return f_measure(shared / len(response), shared / len(reference))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Bleu(Evaluator):
    """Sentence BLEU by sacreBLEU, from 0 to 1."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    max_order: int = Field(4, ge=1, le=9, description="The longest n-gram.")
    smoothing: Literal["exp", "floor", "add-k", "none"] = Field(
        "exp", description="How an n-gram order without a match is smoothed."
    )
    tokenizer: Literal["auto", *TOKENIZERS] = Field(  # type: ignore[valid-type]
        "auto",
        description="sacreBLEU's tokenizer. auto takes 13a, zh where a text is Chinese, and char where it is "
        "of another script without spaces between words. ja-mecab, ko-mecab and the spm ones need packages "
        "or models of their own.",
    )
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ.")

    def __post_init__(self) -> None:
        _ = self._metric(
            "13a" if self.tokenizer == "auto" else self.tokenizer
        )  # what is missing is an error now

    @cached_property
    def _metrics(self) -> dict[str, Any]:
        return {}

    def _metric(self, tokenizer: str) -> Any:
        """sacreBLEU's metric with a tokenizer, made once."""
        if tokenizer not in self._metrics:
            self._metrics[tokenizer] = sacrebleu_metric(
                "bleu",
                tokenizer,
                lowercase=not self.case_sensitive,
                smooth_method=self.smoothing,
                max_ngram_order=self.max_order,
                effective_order=True,
            )
        return self._metrics[tokenizer]

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: Papineni et al. 2002, with effective order, as sacreBLEU's `sentence_bleu`, divided
        by 100."""
        response, references = nfc(response_of(data)), [nfc(reference) for reference in references_of(data)]
        check_lengths(response, *references)
        texts = (response, *references)
        tokenizer = fitting(texts) if self.tokenizer == "auto" else self.tokenizer
        metric = self._metric(tokenizer)
        try:
            result = metric.sentence_score(response, references)
        finally:
            forget(metric)
        value = min(1.0, result.score / 100)
        if self.tokenizer == "auto":
            why = "the text has no spaces between words"
            return Score(value=value, reason=None if tokenizer == "13a" else chose("bleu", tokenizer, why))
        if not any(cannot_part(text, tokenizer) for text in texts):
            return Score(value=value)
        return Score(
            value=value,
            reason=warn("bleu", tokenizer, "parts words by spaces, which the text lacks", "tokenizer: char"),
        )


class _UnicodeWords:
    """A tokenizer for rouge_score that keeps every script: its own keeps a-z and 0-9 only.

    Scripts that do not part words by spaces (Chinese, Japanese, Thai, …) give a token a character.
    """

    def __init__(self, stem: Callable[[str], str] | None) -> None:
        import regex

        self._stem = stem
        self._words = regex.compile(rf"(?V1)[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]+")

    def tokenize(self, text: str) -> list[str]:
        words: list[str] = self._words.findall(nfc(text.casefold()))
        return [self._stem(w) if self._stem and len(w) > 3 else w for w in words]


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Rouge(Evaluator):
    """ROUGE by the rouge-score package: n-grams or subsequences shared with the reference."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = Field(
        "rougeL", description="Words, pairs of words, longest common subsequence, or that by line."
    )
    measure: Literal["fmeasure", "precision", "recall"] = Field(
        "fmeasure", description="Which of the three is the score."
    )
    stemmer: bool = Field(False, description="Whether English words are cut to their stem (Porter) first.")
    tokenizer: Literal["auto", "ascii", "unicode"] = Field(
        "auto",
        description="ascii is the package's own and sees a-z and 0-9 only; unicode sees every script; auto "
        "takes unicode where most letters of a text are others.",
    )

    def __post_init__(self) -> None:
        _ = self._scorers  # a missing package is an error now, not at the first case

    @cached_property
    def _tokenizers(self) -> tuple[Any, Any]:
        """The package's own tokenizer, and the one for all scripts."""
        try:
            from rouge_score.tokenizers import DefaultTokenizer
        except ImportError as error:
            raise MissingExtraError("Metric 'rouge'", "metrics") from error
        from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

        return DefaultTokenizer(self.stemmer), _UnicodeWords(PorterStemmer().stem if self.stemmer else None)

    @cached_property
    def _scorers(self) -> dict[bool, Any]:
        """The scorers by whether they see every script."""
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise MissingExtraError("Metric 'rouge'", "metrics") from error
        return {bool(i): RougeScorer([self.variant], tokenizer=own) for i, own in enumerate(self._tokenizers)}

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case (Lin 2004): the best over the references, each by its own measure."""
        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        texts = (response, *references)
        every_script = self.tokenizer == "unicode" or (
            self.tokenizer == "auto" and any(map(mostly_other_letters, texts))
        )
        value = max(self._score(reference, response, every_script) for reference in references)
        if not every_script and any(map(has_other_letters, texts)):
            return Score(
                value=value, reason=warn("rouge", "ascii", "sees a-z and 0-9 only", "tokenizer: unicode")
            )
        return Score(value=value)

    def _score(self, reference: str, response: str, every_script: bool) -> float:
        tokenizer = self._tokenizers[every_script]
        if self.variant == "rougeL":
            precision, recall = self._common_subsequence(tokenizer, reference, response)
            return {"precision": precision, "recall": recall, "fmeasure": f_measure(precision, recall)}[
                self.measure
            ]
        if self.variant == "rougeLsum":
            lengths = (len(tokenizer.tokenize(text)) for text in (response, reference))
            check_product(*lengths, limit=_MAX_SUMMARY_CELLS, unit="words", remedy="use rougeL")
        result = self._scorers[every_script].score(reference, response)[self.variant]
        return float(getattr(result, self.measure))

    def _common_subsequence(self, tokenizer: Any, reference: str, response: str) -> tuple[float, float]:
        """rougeL's precision and recall. The same numbers as rouge_score's, whose table takes 0.25 s for
        1,000 words; this takes 0.1 ms."""
        from rapidfuzz.distance import LCSseq

        wanted, got = tokenizer.tokenize(reference), tokenizer.tokenize(response)
        if not wanted or not got:
            return 0.0, 0.0
        check_product(len(got), len(wanted), unit="words", remedy="use rouge1 or rouge2")
        common = LCSseq.similarity(wanted, got)
        return common / len(got), common / len(wanted)
