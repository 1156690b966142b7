"""What every name that people give keeps to: it is shown on pages, in terminals and in headers."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from promptlab.errors import ConfigError

# Control characters, half of a surrogate pair, ends of lines and paragraphs, and what turns the direction of
# the text around it. The joiners of Persian and Indic scripts (U+200C, U+200D) are letters' own.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_NO_LABEL = re.compile(r"[@#/\\ \t\n]")
LABEL_CHARS = 100


def visible(text: str) -> str:
    """Give a name back, if nothing hidden is in it.

    Raises:
        ValueError: it has a control character; the message names it and where it stands.
    """
    if found := _HIDDEN.search(text):
        character = found.group()
        name = unicodedata.name(character, "a control character")
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(
            f"{shown!r} has U+{ord(character):04X} ({name}) at position {found.start() + 1}: leave it out"
        )
    return text


def checked_label(text: str) -> str:
    """Give a label back, of an asset's version or of a run, if it can be told from a version and from a path.

    Raises:
        ConfigError: it cannot; the message names it and what a label is.
    """
    if not 1 <= len(text) <= LABEL_CHARS or text.isdecimal() or text == "latest" or _NO_LABEL.search(text):
        shown = text if len(text) <= LABEL_CHARS else f"{text[:20]}…"
        raise ConfigError(
            f"{shown!r} is not a usable label: 1 to {LABEL_CHARS} letters, digits, - _ . and not only "
            "digits, not 'latest'"
        )
    try:
        return visible(text)
    except ValueError as error:
        raise ConfigError(f"label {error}") from None


Visible = Annotated[str, AfterValidator(visible)]
"""A name without hidden characters."""
