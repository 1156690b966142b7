"""Texts that a tokenizer can read, and the warning where it cannot."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import cache

logger = logging.getLogger(__name__)

UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}ー"
)
"""Scripts that do not part words by spaces, for a character class of the regex package."""
_PARTED = {
    "zh": (r"\p{Han}",),
    "ja-mecab": (r"\p{Han}", r"\p{Hiragana}", r"\p{Katakana}", "ー"),
}
"""Scripts without spaces that a tokenizer parts all the same."""
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
    if tokenizer == "char" or tokenizer.startswith(("spm", "flores")) or text.isascii():
        return False
    import regex

    scripts = UNSPACED
    for script in _PARTED.get(tokenizer, ()):
        scripts = scripts.replace(script, "")
    return bool(regex.search(f"[{scripts}]", text))


def fitting(texts: Iterable[str]) -> str:
    """The tokenizer of sacreBLEU that can part the words of all texts: 13a, or for Chinese zh, else char."""
    texts = list(texts)
    return next((t for t in ("13a", "zh") if not any(cannot_part(text, t) for text in texts)), "char")


def chose(metric: str, tokenizer: str, why: str) -> str:
    """Say in the log, once a process, and as a score's reason that another tokenizer than usual was taken."""
    words = f"tokenizer {tokenizer!r} was taken: {why}"
    _once(f"{metric}: {words}")
    return words


def warn(metric: str, tokenizer: str, why: str, remedy: str) -> str:
    """Say in the log, once a process, and as a score's reason that a tokenizer cannot read a text; `remedy`
    is the parameter, or the metric, to use."""
    words = f"tokenizer {tokenizer!r} {why}: use {remedy}"
    _once(f"{metric}: {words}")
    return words


@cache
def _once(words: str) -> None:
    logger.warning("%s", words)
