"""Texts that a tokenizer can read, and the warning where it cannot."""

from __future__ import annotations

import logging
import re
from functools import cache

logger = logging.getLogger(__name__)

UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}ー"
)
"""Scripts that do not part words by spaces, for a character class of the regex package."""
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_LETTER = re.compile(r"[^\W\d_a-zA-Z]")


def has_other_letters(text: str) -> bool:
    """Whether a text has letters besides a to z."""
    return not text.isascii() and bool(_OTHER_LETTER.search(text))


def mostly_other_letters(text: str) -> bool:
    """Whether more than half of a text's letters are none of a to z."""
    if text.isascii():
        return False
    others = len(_OTHER_LETTER.findall(text))
    return others > len(_LETTER.findall(text)) / 2


def cannot_part(text: str, tokenizer: str) -> bool:
    """Whether a tokenizer of sacreBLEU leaves words of a text together, because its script has no spaces."""
    if tokenizer == "char" or text.isascii():
        return False
    import regex

    scripts = UNSPACED.replace(r"\p{Han}", "") if tokenizer == "zh" else UNSPACED
    return bool(regex.search(f"[{scripts}]", text))


def warn(metric: str, tokenizer: str, why: str, remedy: str) -> str:
    """Say in the log, once a process, and as a score's reason that a tokenizer cannot read a text."""
    words = f"tokenizer {tokenizer!r} {why}: use tokenizer: {remedy}"
    _once(f"{metric}: {words}")
    return words


@cache
def _once(words: str) -> None:
    logger.warning("%s", words)
