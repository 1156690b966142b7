"""Which media of a store a value refers to: a row's columns, a metric's inputs, the parts of messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MOST_MEDIUM = 20 << 20
"""Bytes of one file: what providers take in one request, in base64."""
MOST_GIVEN = 64 << 20
"""Bytes of media that a process is given with one case."""
TOO_MUCH = (
    f"is too much: a case's process is given {MOST_GIVEN >> 20} MB of media, of {MOST_MEDIUM >> 20} MB each"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def blobs_in(value: Any) -> dict[str, int]:
    """Find the media that are blobs anywhere in a value, in their JSON form (`Media.to_json`).

    Returns:
        Their sizes in bytes by their SHA-256 (hex); 0 where the size is not told.
    """
    found: dict[str, int] = {}
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            sha256 = one.get("sha256")
            if one.get("type") == "blob" and isinstance(sha256, str) and _SHA256.fullmatch(sha256):
                size = one.get("size")
                found[sha256] = size if type(size) is int and size > 0 else 0
            else:
                left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
    return found
