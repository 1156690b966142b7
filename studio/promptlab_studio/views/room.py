"""The room that a page has for texts: of long ones it shows the beginnings, and says where the rest is."""

from __future__ import annotations

from dataclasses import dataclass

MOST_CHARS = 400_000
"""Characters of data on a page: escaped, each may take five bytes, and a page may have 4 MB."""
MOST_OF_ONE = 100_000
"""Characters of one text."""
LEAST = 100
"""Characters that every text has, however full the page is: a row has up to 2,000."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A text as a page shows it."""

    text: str
    more: int = 0
    """How many characters are left out."""
    url: str = ""
    """Where the whole text is."""

    def __bool__(self) -> bool:
        return bool(self.text)


class Room:
    """Gives texts their room, one after the other.

    Args:
        chars: the room for all of them.
    """

    def __init__(self, chars: int = MOST_CHARS) -> None:
        self._left = chars

    def take(self, text: str, url: str = "", most: int = MOST_OF_ONE) -> Beginning:
        """The text, or the beginning of it that there is room for."""
        shown = text[: max(LEAST, min(most, self._left))]
        self._left -= len(shown)
        more = len(text) - len(shown)
        return Beginning(shown, more, url if more else "")
