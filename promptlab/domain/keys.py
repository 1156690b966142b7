"""The rule that every blob key keeps, wherever blobs are."""

from __future__ import annotations

import re

_PART = re.compile(r"[A-Za-z0-9._=-]+")


def media_key(sha256: str) -> str:
    """The key of the blob that has a medium."""
    return f"media/{sha256}"


def is_part(part: str) -> bool:
    """Whether it can stand between the slashes of a key."""
    return part not in (".", "..") and _PART.fullmatch(part) is not None


def is_key(key: str) -> bool:
    """Whether it is one or more parts, joined by `/`."""
    return all(map(is_part, key.split("/")))


def parts_of(key: str) -> list[str]:
    """The parts of a key.

    Raises:
        ValueError: it breaks the rule; the message names the key and the part.
    """
    parts = key.split("/")
    for part in parts:
        if not is_part(part):
            raise ValueError(
                f"blob key {key!r}: each part between slashes must be of A-Z a-z 0-9 . _ = - and not . or "
                f".., got {part!r}"
            )
    return parts
