"""What every name that people give keeps to: it is shown on pages, in terminals and in headers."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

# Control characters, half of a surrogate pair, ends of lines and paragraphs, and what turns the direction of
# the text around it. The joiners of Persian and Indic scripts (U+200C, U+200D) are letters' own.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


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


Visible = Annotated[str, AfterValidator(visible)]
"""A name without hidden characters."""
