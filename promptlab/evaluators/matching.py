"""Metrics that pass or fail by matching text: exact_match, contains, starts_with, regex_match."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.text import (
    STRICT,
    TextMetric,
    quote,
    quotes,
    references_of,
    response_of,
    short,
    squad,
    text_of,
    without_articles,
)

Scalar = str | int | float | bool
_PASSED = Score(passed=True)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class ExactMatch(TextMetric):
    """The response is the reference, or one of them."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    fold_whitespace: bool = Field(False, description="Whether runs of white space count as one space.")
    ignore_articles: bool = Field(False, description="Whether the words a, an, the are left out.")
    normalize: Literal["nfkc", "squad"] | None = Field(
        None,
        description="nfkc makes compatible characters equal first (ﬁ and fi, full width and half width); "
        "squad is SQuAD's: lower case, without ASCII punctuation, articles and spare white space.",
    )

    def prepare(self, text: str) -> str:
        if self.normalize == "squad":
            text = squad(text)
        elif self.normalize == "nfkc":
            text = unicodedata.normalize("NFKC", text)
        if self.ignore_articles:
            text = without_articles(text)
        text = super().prepare(text)
        return " ".join(text.split()) if self.fold_whitespace or self.ignore_articles else text

    def evaluate(self, data: dict[str, Any]) -> Score:
        response, references = response_of(data), references_of(data)
        got = self.prepare(response)
        if any(got == self.prepare(reference) for reference in references):
            return _PASSED
        return Score(passed=False, reason=short(f"expected {quotes(references)}, got {quote(response)}"))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class _Needles(TextMetric):
    """A metric that looks for texts in the response: fixed `values`, or else the reference."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    values: Scalar | list[Scalar] | None = Field(
        None, description="The text or texts to look for, in place of the reference."
    )
    negate: bool = Field(False, description="Pass when they are not there.")

    def __post_init__(self) -> None:
        if self.values is None:
            return
        if not self._fixed:
            raise ValueError("values must have at least one text (got an empty list)")
        self._prepared(self._fixed, "values")
        object.__setattr__(self, "inputs", {"response": "$inference"})

    @cached_property
    def _fixed(self) -> list[str]:
        values = self.values if isinstance(self.values, list) else [self.values]
        return [text_of(value, "values") for value in values]

    @cached_property
    def _fixed_prepared(self) -> list[str]:
        return self._prepared(self._fixed, "values")

    def _prepared(self, texts: list[str], name: str) -> list[str]:
        prepared = [self.prepare(text) for text in texts]
        if "" in prepared:
            raise ValueError(
                f"{name} must not be empty: every text has the empty text in it (got "
                f"{quote(texts[prepared.index('')])})"
            )
        return prepared

    def needles(self, data: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The texts to look for, as given and prepared.

        Raises:
            ValueError: there are none, or one is empty.
        """
        if self.values is not None:
            return self._fixed, self._fixed_prepared
        texts = references_of(data)
        return texts, self._prepared(texts, "reference")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Contains(_Needles):
    """The response has a text in it: the reference, or fixed values."""

    mode: Literal["any", "all"] = Field(
        "any", description="Whether one of several texts is enough, or all must be there."
    )

    def evaluate(self, data: dict[str, Any]) -> Score:
        response = response_of(data)
        texts, needles = self.needles(data)
        haystack = self.prepare(response)
        there = [needle in haystack for needle in needles]
        found = all(there) if self.mode == "all" else any(there)
        if found != self.negate:
            return _PASSED
        if found:
            return Score(passed=False, reason=short(f"contains {quote(texts[there.index(True)])}"))
        missing = [text for text, is_there in zip(texts, there, strict=True) if not is_there]
        return Score(passed=False, reason=short(f"does not contain {quotes(missing)}"))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class StartsWith(_Needles):
    """The response begins with a text: the reference, or one of fixed values."""

    def evaluate(self, data: dict[str, Any]) -> Score:
        response = response_of(data)
        texts, needles = self.needles(data)
        found = self.prepare(response).startswith(tuple(needles))
        if found != self.negate:
            return _PASSED
        return Score(
            passed=False,
            reason=short(
                f"{'starts' if found else 'does not start'} with {quotes(texts)}: {quote(response)}"
            ),
        )


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class RegexMatch(Evaluator):
    """The response matches a regular expression."""

    inputs = {"response": "$inference"}
    value_range: ClassVar = (0.0, 1.0)
    decides: ClassVar = True

    pattern: str = Field(description="The regular expression (of the regex package, a superset of re).")
    match: Literal["search", "start", "full"] = Field(
        "search", description="Where it must match: anywhere, at the start, or the whole response."
    )
    case_sensitive: bool = Field(True, description="Whether upper and lower case differ.")
    negate: bool = Field(False, description="Pass when it does not match.")
    timeout_s: float = Field(
        1.0, gt=0, le=60, description="Seconds that one match may take; beyond, the score is a failed one."
    )

    def __post_init__(self) -> None:
        _ = self._pattern  # an invalid pattern is an error now, not at the first case

    @cached_property
    def _pattern(self) -> SafePattern:
        return SafePattern(
            self.pattern, name="pattern", timeout_s=self.timeout_s, ignore_case=not self.case_sensitive
        )

    def evaluate(self, data: dict[str, Any]) -> Score:
        response = response_of(data)
        found = self._pattern.matches(response, self.match)
        if found != self.negate:
            return _PASSED
        return Score(
            passed=False,
            reason=short(
                f"{'matches' if found else 'does not match'} {quote(self.pattern)}: {quote(response)}"
            ),
        )
