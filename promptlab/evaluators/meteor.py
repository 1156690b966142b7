"""METEOR: words that response and reference share, also by their stems, in chunks of the same order."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.errors import ConfigError, MissingExtraError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.scripts import cannot_part, warn
from promptlab.evaluators.sizes import check_lengths, check_product
from promptlab.evaluators.text import STRICT, nfc, references_of, response_of

# nltk compares every word with every other one in Python: 1,000 × 1,000 words took 0.4 s.
_MAX_CELLS = 1_000_000


class _NoSynonyms:
    """WordNet without a word: what is left of METEOR are its exact and its stem stage."""

    def synsets(self, word: str) -> list[Any]:
        """Find nothing."""
        return []


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Meteor(Evaluator):
    """METEOR by nltk: shared words and stems, less the more they are out of order."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)

    alpha: float = Field(0.9, gt=0, lt=1, description="How much recall counts against precision.")
    beta: float = Field(3.0, gt=0, le=10, description="How fast the penalty grows with the number of chunks.")
    gamma: float = Field(0.5, ge=0, le=1, description="The greatest penalty.")
    synonyms: bool = Field(
        False,
        description="Whether synonyms of WordNet match, too: its data must be installed "
        "(python -m nltk.downloader wordnet).",
    )

    def __post_init__(self) -> None:
        _ = self._wordnet, self._stemmer  # what is missing is an error now, not at the first case

    @cached_property
    def _stemmer(self) -> Any:
        try:
            from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("Metric 'meteor'", "metrics") from error
        return PorterStemmer()

    @cached_property
    def _wordnet(self) -> Any:
        if not self.synonyms:
            return _NoSynonyms()
        try:
            from nltk.corpus import wordnet  # type: ignore[import-untyped]

            wordnet.ensure_loaded()
        except ImportError as error:
            raise MissingExtraError("Metric 'meteor'", "metrics") from error
        except LookupError as error:
            raise ConfigError(
                "Metric 'meteor': synonyms need the data of WordNet: python -m nltk.downloader wordnet, or "
                "leave synonyms out"
            ) from error
        return wordnet

    @cached_property
    def _words(self) -> Any:
        import regex

        return regex.compile(r"[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]")

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case (Banerjee & Lavie 2005, with the parameters of Lavie & Agarwal 2007); the best of
        several references counts."""
        from nltk.translate.meteor_score import single_meteor_score  # type: ignore[import-untyped]

        response, references = response_of(data), references_of(data)
        check_lengths(response, *references)
        said = self._words.findall(nfc(response))
        found = []
        for reference in references:
            wanted = self._words.findall(nfc(reference))
            check_product(len(said), len(wanted), limit=_MAX_CELLS, unit="words", remedy="use chrf")
            if not said or not wanted:
                found.append(float(said == wanted))
                continue
            found.append(
                single_meteor_score(
                    wanted,
                    said,
                    stemmer=self._stemmer,
                    wordnet=self._wordnet,
                    alpha=self.alpha,
                    beta=self.beta,
                    gamma=self.gamma,
                )
            )
        why = "parts words by spaces, which the text lacks"
        unspaced = any(cannot_part(text, "none") for text in (response, *references))
        return Score(
            value=max(found), reason=warn("meteor", "words", why, "the metric chrf") if unspaced else None
        )
