"""Texts as evaluators see them: what a value reads as, how two texts are made comparable,
how a reason quotes one."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.base import Evaluator

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""How parameters are checked: no silent conversions ("no" is not False), no unknown names, no NaN."""

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.IGNORECASE)
_SMALL_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
REASON_LIMIT = 200
_QUOTE_LIMIT = 80


def text_of(value: Any, name: str) -> str:
    """A value as text: strings as they are, numbers, booleans, lists and objects as their JSON.

    Raises:
        ValueError: there is no value.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError(f"{name} is missing (null), so there is nothing to compare: every case needs one")
    if isinstance(value, bool | int | float | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def response_of(data: Mapping[str, Any]) -> str:
    """The response's text.

    Raises:
        ValueError: there is none.
    """
    return text_of(data.get("response"), "response")


def references_of(data: Mapping[str, Any]) -> list[str]:
    """The acceptable texts: the reference, or each of them when it is a list.

    Raises:
        ValueError: there is none, or one of them is null.
    """
    value = data.get("reference")
    if not isinstance(value, list | tuple):
        return [text_of(value, "reference")]
    if not value:
        raise ValueError("reference is an empty list: every case needs at least one")
    return [text_of(item, f"reference[{i}]") for i, item in enumerate(value)]


def without_punctuation(text: str) -> str:
    """The text without ASCII punctuation (`string.punctuation`) and every character of
    Unicode's categories P*."""
    return "".join(c for c in text if c not in string.punctuation and unicodedata.category(c)[0] != "P")


def without_articles(text: str) -> str:
    """The text with a space in place of each of the words a, an, the."""
    return _ARTICLES.sub(" ", text)


def squad(text: str) -> str:
    """The text as SQuAD's evaluation compares it (`normalize_answer`, Rajpurkar et al. 2016)."""
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_SMALL_ARTICLES.sub(" ", text).split())


def nfc(text: str) -> str:
    """The text in Unicode's canonical composition: `e` + combining acute is `é`."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def quote(text: str) -> str:
    """A text in quotes, cut to at most 80 characters, for a reason or an error."""
    return repr(text if len(text) <= _QUOTE_LIMIT else f"{text[: _QUOTE_LIMIT - 1]}…")


def quotes(texts: Iterable[str]) -> str:
    """Texts in quotes, as in `'a' or 'b'`."""
    return " or ".join(map(quote, texts))


def short(reason: str) -> str:
    """A reason cut to at most 200 characters."""
    return reason if len(reason) <= REASON_LIMIT else f"{reason[: REASON_LIMIT - 1]}…"


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class TextMetric(Evaluator):
    """A metric that compares texts, and the parameters that say what does not count as a difference."""

    case_sensitive: bool = Field(
        True, description="Whether upper and lower case differ (else compared by Unicode case folding)."
    )
    strip: bool = Field(True, description="Whether white space at both ends is left out.")
    ignore_whitespace: bool = Field(False, description="Whether all white space is left out.")
    ignore_punctuation: bool = Field(False, description="Whether punctuation is left out.")
    normalize_unicode: bool = Field(
        True,
        description="Whether texts are brought to Unicode NFC first, so that é is é however it is encoded.",
    )

    def prepare(self, text: str) -> str:
        """The text with everything left out that does not count."""
        if not self.case_sensitive:
            text = text.casefold()
        if self.normalize_unicode:
            text = nfc(text)
        if self.ignore_punctuation:
            text = without_punctuation(text)
        if self.ignore_whitespace:
            return "".join(text.split())
        return text.strip() if self.strip else text
