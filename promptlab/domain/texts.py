"""Texts as a store can hold them."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: a lone half of a surrogate pair, which JSON allows and UTF-8 does not,
    becomes �."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut(text: str, most: int) -> str:
    """The text as a store can hold it, of at most `most` characters and a note of how long it was."""
    return storable(text if len(text) <= most else f"{text[:most]}… (cut: {len(text):,} characters)")
